"""Users: accounts, passwords, known devices, and the policy that names who must have a second factor.

Read `users`, the table; `passwords`, the hashing pool and the rules of passwords, with `foreign_hashes` and
`hash_memory`; `policy`; and `devices`.
"""
