"""Logging in, and everything that changes what a login needs.

Read `login`: the password, the second factor, the step-up. Then `enrolment`, which turns the second factor on and
off, and `recovery`, the delayed way back for a user who lost everything.
"""
