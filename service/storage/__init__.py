"""The stores, and what protects their contents: nothing here knows users, sessions or tokens.

Read `database`, the contract of SQLite (`database_sqlite`) and of PostgreSQL (`database_postgresql`, whose parts have
names with `postgresql_`), and `ephemeral`, the contract of the in-process store and of Redis (`ephemeral_redis`,
`redis_`). Then `throttle`, the rate limits on the ephemeral store, and `sealing`, the encryption of secrets at rest.
`migrations` has the schema.
"""
