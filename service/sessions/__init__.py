"""Sessions: what a login opens, and what relying services and registered clients do with it.

Read `sessions`, the table and its guarded statements; `issuing`, which makes the tokens of a session; `bearers`,
which authenticates access tokens and keeps the list of ended sessions for /verify; `grants`, every exchange at /token
and what else clients do with tokens; `clients`, the registered programs; and `registration`, which adds and removes
them. The formats of tokens are in `tokens`.
"""
