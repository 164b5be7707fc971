"""Accounts as a whole: sign-up, what users do with their own account, administration, import and export.

An operation on a whole account belongs here, also one for a user without a session. No module of this package owns a
table: the rows are in `users`, `sessions` and `factors`. Read `signup` and `invitations`; `accounts`, `own_factors`,
`emails`, `password_resets` and `exports`; `deletions`, with `fresh`; `administration` and `user_sessions`; and
`moving`, with `import_files` and `import_records`.
"""
