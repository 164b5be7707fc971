"""Compare text keys byte by byte on PostgreSQL (`COLLATE "C"`), as SQLite always does.

With the database's own collation an index is in the order of the machine's library. If the library changes (with
another image or another operating system), the index is out of order: rows are not found, and a unique index accepts
duplicates.
"""

from alembic import op

revision = "0006"
down_revision = "0005"

KEYS = {
    "users": ("id", "username"),
    "factors": ("id", "user_id"),
    "recovery_codes": ("user_id",),
    "recovery_budgets": ("id",),
    "sessions": ("id", "user_id", "pending_jti"),
    "signing_keys": ("kid",),
    "clients": ("id",),
    "events": ("user_id",),
    "subjects": ("id",),
}
"""Each column with an index. The values are ASCII. PostgreSQL rebuilds the indexes, not the tables."""


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table, columns in KEYS.items():
            changes = ", ".join(f'ALTER COLUMN {column} TYPE TEXT COLLATE "C"' for column in columns)
            op.execute(f"ALTER TABLE {table} {changes}")
