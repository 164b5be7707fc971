"""The stores, and what protects their contents. The rules of users, sessions and tokens are in other packages.

Read `database`, the interface of SQLite (`database_sqlite`) and of PostgreSQL (`database_postgresql`, whose parts
have names with `postgresql_`); and `ephemeral`, the interface of the ephemeral store, with the store in the process
(the one in Redis is `ephemeral_redis`, whose parts have names with `redis_`). Then `throttle`, the rate limits on the
ephemeral store; `timeouts`; `sealing`, the encryption of secrets at rest; and `page`, the cursors of long lists.
`connecting` makes the stores that the settings name. `migrations` has the schema.
"""
