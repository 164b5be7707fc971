"""The stores, and what protects their contents. The rules of users, sessions and tokens are in packages above it.

Read `database`, the contract of SQLite (`database_sqlite`) and of PostgreSQL (`database_postgresql`, whose parts have
names with `postgresql_`), and `ephemeral`, the contract of the in-process store and of Redis (`ephemeral_redis`,
`redis_`). Then `throttle`, the rate limits on the ephemeral store; `sealing`, the encryption of secrets at rest; and
`page`, the cursors of long lists. `connecting` makes the stores that the settings name. `migrations` has the schema.
"""
