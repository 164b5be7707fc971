"""Users: accounts, passwords, known devices, and the policy that names who must have a second factor.

Read `users`, the table; `passwords`, the hashing pool, with `hash_memory` and `foreign_hashes`;
`normalisation` and `password_policy`; `policy`; and `devices`. Then `credentials`, which proves a
password.
"""
