"""Second factors: authenticators (TOTP), recovery codes, and the budget of failures.

Read `second_factor`, which says what each kind of second factor offers; `totp_authenticators`, whose docstring has
the protocol that accepts a code once; `totp`, the algorithm; `recovery_codes`; and `attempts`, the budget. `names`
and `listing` are what users see of their authenticators. A new kind is a module here, with a class
in `KINDS` of `second_factor`.
"""
