"""Logging in: the two steps, the enrolment that they may need, the step-up, and delayed recovery.

Passwords are changed, and factors are removed, in `accounts`. Read `login`: the password, then the second factor.
`pending` has the tokens between the two, and `admission` opens the session. Then `enrolment`, which turns the
second factor on; `step_up`; and `recovery`, the delayed way back for a user who lost everything.
"""
