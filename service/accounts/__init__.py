"""Accounts as a whole: sign-up, what users do with their account, what operators do, import and export.

An operation on a whole account belongs here, also one for a user without a session. No module of this package owns a
table: the rows are in `users`, `sessions` and `factors`. Read `signup`, `accounts` and `own_factors`;
`administration`; and `moving` with `import_files` and `import_records`.
"""
