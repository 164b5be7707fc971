"""Logging in: the two steps, the enrolment that they may need, the step-up, delayed recovery, and restore.

Passwords are changed, and factors are removed, in `accounts`. Read `login`: the password, then the second factor.
`pending` has the tokens between the two, and `admission` opens the session. Then `enrolment`, which turns the
second factor on; `step_up`; `recovery`, for a user who lost every authenticator and recovery code; and `restore`, the
login that takes back a scheduled deletion.
"""
