"""Add refresh, step-up, clients, revoked signing keys, and recovery codes that survive a new master secret."""

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS = (
    # Each refresh now postpones `expires_at`, but not beyond `ends_at`.
    "ALTER TABLE sessions ADD COLUMN ends_at BIGINT NOT NULL DEFAULT 0",
    "UPDATE sessions SET ends_at = expires_at",
    "ALTER TABLE sessions ADD COLUMN raised BIGINT NOT NULL DEFAULT 0",
    # Without this index a refresh changes no indexed column, and PostgreSQL updates no index (HOT). The sweep reads
    # in the order of ids.
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
        op.execute(
            "ALTER TABLE sessions SET (fillfactor = 80)"
        )  # leaves room on the page for the next version of a row
