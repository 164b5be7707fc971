"""Second factors: authenticators (TOTP), recovery codes, and the budget of failures.

Read `authenticators`, whose docstring has the protocol that accepts a code once; `totp`, the algorithm;
`recovery_codes`; `attempts`, the budget; and `second_factor`, which removes all of it.
"""
