"""Create users, factors, recovery codes, sessions and signing keys."""

from alembic import op

revision = "0001"
down_revision = None

TABLES = (
    """
    CREATE TABLE users (
        id TEXT PRIMARY KEY,
        username TEXT NOT NULL UNIQUE,
        password_hash TEXT NOT NULL,
        epoch BIGINT NOT NULL DEFAULT 1,
        roles TEXT NOT NULL DEFAULT '',
        created_at BIGINT NOT NULL,
        disabled_at BIGINT
    )
    """,
    """
    CREATE TABLE factors (
        id TEXT PRIMARY KEY,
        user_id TEXT NOT NULL UNIQUE REFERENCES users (id) ON DELETE CASCADE,
        epoch BIGINT NOT NULL,
        secret BYTEA NOT NULL,
        created_at BIGINT NOT NULL,
        confirmed_at BIGINT,
        last_step BIGINT NOT NULL DEFAULT 0,
        failures BIGINT NOT NULL DEFAULT 0,
        waits_until BIGINT NOT NULL DEFAULT 0,
        recent_failures TEXT NOT NULL DEFAULT ''
    )
    """,
    """
    CREATE TABLE recovery_codes (
        user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        digest BYTEA NOT NULL,
        created_at BIGINT NOT NULL,
        used_at BIGINT,
        PRIMARY KEY (user_id, digest)
    )
    """,
    """
    CREATE TABLE recovery_budgets (
        id TEXT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
        failures BIGINT NOT NULL DEFAULT 0,
        waits_until BIGINT NOT NULL DEFAULT 0,
        recent_failures TEXT NOT NULL DEFAULT ''
    )
    """,
    """
    CREATE TABLE sessions (
        id TEXT PRIMARY KEY,
        user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        pending_jti TEXT UNIQUE,
        amr TEXT NOT NULL,
        acr TEXT NOT NULL,
        auth_time BIGINT NOT NULL,
        created_at BIGINT NOT NULL,
        last_used_at BIGINT NOT NULL,
        expires_at BIGINT NOT NULL,
        generation BIGINT NOT NULL DEFAULT 0,
        replaced_at BIGINT,
        ended_at BIGINT,
        ended_reason TEXT,
        address TEXT NOT NULL,
        user_agent TEXT NOT NULL
    )
    """,
    "CREATE INDEX sessions_of_user ON sessions (user_id)",
    "CREATE INDEX sessions_by_expiry ON sessions (expires_at)",
    """
    CREATE TABLE signing_keys (
        kid TEXT PRIMARY KEY,
        serial BIGINT NOT NULL UNIQUE,
        algorithm TEXT NOT NULL,
        private_key BYTEA NOT NULL,
        public_jwk TEXT NOT NULL,
        created_at BIGINT NOT NULL,
        activates_at BIGINT NOT NULL,
        retires_at BIGINT
    )
    """,
)


def upgrade() -> None:
    for statement in TABLES:
        op.execute(statement)
