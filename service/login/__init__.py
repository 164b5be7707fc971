"""Logging in, and everything that changes what a login needs.

Read `login`: the password, then the second factor. `pending` has the tokens between the two, and `admission` opens
the session. Then `enrolment`, which turns the second factor on; `step_up`; and `recovery`, the delayed way back for a
user who lost everything.
"""
