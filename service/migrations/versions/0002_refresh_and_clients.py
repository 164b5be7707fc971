"""Refresh, step-up, registered clients, revoked signing keys, and recovery codes that survive a new master secret."""

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS = (
    # `expires_at` now moves with use; `ends_at` is when the session ends whatever its use.
    "ALTER TABLE sessions ADD COLUMN ends_at BIGINT NOT NULL DEFAULT 0",
    "UPDATE sessions SET ends_at = expires_at",
    "ALTER TABLE sessions ADD COLUMN raised BIGINT NOT NULL DEFAULT 0",
    # A refresh changes no indexed column, so PostgreSQL need not touch an index (HOT); the sweep goes by id.
    "DROP INDEX sessions_by_expiry",
    "CREATE INDEX sessions_ended ON sessions (ended_at) WHERE ended_at IS NOT NULL",
    "ALTER TABLE signing_keys ADD COLUMN revoked_at BIGINT",
    "ALTER TABLE recovery_budgets ADD COLUMN sealed_key BYTEA",
    """
    CREATE TABLE clients (
        id TEXT PRIMARY KEY,
        scopes TEXT NOT NULL,
        secret_digest BYTEA NOT NULL,
        previous_digest BYTEA,
        previous_until BIGINT,
        created_at BIGINT NOT NULL
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE sessions SET (fillfactor = 80)")  # room for the next version of a row on its page
