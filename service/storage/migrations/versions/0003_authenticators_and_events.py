"""Add several authenticators per user, clock drift, delayed recovery, and events with columns for their delivery."""

from alembic import op

revision = "0003"
down_revision = "0002"

_NEW_COLUMNS = (
    "name TEXT NOT NULL DEFAULT 'Authenticator'",
    "last_used_at BIGINT",
    # The offset of the authenticator's clock, in time steps, by which its window is shifted after a re-alignment.
    "offset_steps BIGINT NOT NULL DEFAULT 0",
    # By how many time steps the clock was ahead at the last accepted code (negative: behind). It
    # differs from `offset_steps` by at most KEYTURN_TOTP_SKEW_STEPS.
    "drift_steps BIGINT NOT NULL DEFAULT 0",
    # When a refused code was reported as out of step; 0 if none was since the last accepted code.
    "told_at BIGINT NOT NULL DEFAULT 0",
)
_OLD_COLUMNS = (
    "id, user_id, epoch, secret, created_at, confirmed_at, last_step, failures, waits_until, recent_failures"
)

# A user may have several factors, so UNIQUE (user_id) is dropped. SQLite cannot drop it and rebuilds the table.
POSTGRESQL = (
    "ALTER TABLE factors DROP CONSTRAINT factors_user_id_key",
    *(f"ALTER TABLE factors ADD COLUMN {column}" for column in _NEW_COLUMNS),
)
SQLITE = (
    f"""
    CREATE TABLE new_factors (
        id TEXT PRIMARY KEY,
        user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        epoch BIGINT NOT NULL,
        secret BYTEA NOT NULL,
        created_at BIGINT NOT NULL,
        confirmed_at BIGINT,
        last_step BIGINT NOT NULL DEFAULT 0,
        failures BIGINT NOT NULL DEFAULT 0,
        waits_until BIGINT NOT NULL DEFAULT 0,
        recent_failures TEXT NOT NULL DEFAULT '',
        {", ".join(_NEW_COLUMNS)}
    )
    """,
    f"INSERT INTO new_factors ({_OLD_COLUMNS}) SELECT {_OLD_COLUMNS} FROM factors",
    "DROP TABLE factors",
    "ALTER TABLE new_factors RENAME TO factors",
)

EVENTS = """
    CREATE TABLE events (
        id {identity},
        user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        event TEXT NOT NULL,
        occurred_at BIGINT NOT NULL,
        details TEXT NOT NULL,
        due_at BIGINT,
        attempts BIGINT NOT NULL DEFAULT 0
    )
"""
IDENTITY = {
    "postgresql": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "sqlite": "INTEGER PRIMARY KEY AUTOINCREMENT",
}

STATEMENTS = (
    "CREATE INDEX factors_of_user ON factors (user_id)",
    # A user has one unconfirmed factor at most: one enrolment at a time.
    "CREATE UNIQUE INDEX factors_unconfirmed ON factors (user_id) WHERE confirmed_at IS NULL",
    "ALTER TABLE users ADD COLUMN recovery_due_at BIGINT",
    "CREATE INDEX events_of_user ON events (user_id, id)",
    "CREATE INDEX events_due ON events (user_id, id) WHERE due_at IS NOT NULL",
    # The lease of the replica that delivers events to the webhook. There is only this row, so only one delivers.
    "CREATE TABLE deliverer (id BIGINT PRIMARY KEY, holder TEXT NOT NULL, holds_until BIGINT NOT NULL)",
    "INSERT INTO deliverer (id, holder, holds_until) VALUES (1, '', 0)",
)


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    for statement in POSTGRESQL if dialect == "postgresql" else SQLITE:
        op.execute(statement)
    op.execute(EVENTS.format(identity=IDENTITY[dialect]))
    for statement in STATEMENTS:
        op.execute(statement)
