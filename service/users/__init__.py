"""Users: the rows of accounts and what belongs to them: passwords, known devices, the policy on second factors.

Read `users`, the table, with `mfa`, the state of a second factor, `listing`, `imported_accounts` and `restored`;
`addresses`, `emails`, `invitations` and `deletions`; `user_roles`, `user_claims`, `subjects` and `administrators`;
`passwords`, the hashing pool, with `hash_memory` and `foreign_hashes`; `normalisation`; `password_policy`, which
passwords may be chosen, with the package `breached`; `mfa_policy`, which users must have a second factor; and
`devices`. Then `credentials`, which proves a password.
"""
