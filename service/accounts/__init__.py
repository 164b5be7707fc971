"""Accounts as a whole: sign-up, what users do with their account, what operators do, import and export.

Read `signup`, `accounts` and `own_factors`; `administration`; and `moving` with `import_files` and `import_records`.
"""
