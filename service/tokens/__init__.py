"""Tokens, and the keys that sign them. Sessions and users do not exist here: a token is text and claims.

Read `tokens`, which writes and reads access, pending and refresh tokens, and `keys`, the signing keys.
"""
