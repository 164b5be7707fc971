"""The pages of `docs/reference/` that are made from the code: `make reference` writes them.

A page says what the code says: names, defaults, sentences and claims are read from it. What the code cannot say, such
as what a caller does about an error, is in the modules here, and a test holds each of their tables to the code.
"""
