"""Sessions: what a login opens, and what relying services and registered clients do with it.

Read `sessions`, the table and its guarded statements; `issuing`, which makes the tokens of a session; `bearers`,
which authenticates access tokens; `grants`, which refreshes, revokes and introspects; and `clients`, the registered
programs.
"""
