"""Add the outbox: a table of its own for what is due, in place of two columns of `events`.

Events become an audit trail that outlives accounts: `user_id` is no foreign key any more, and may be null.

The previous version goes on serving while the replicas are replaced, and writes events that are due into the columns
`due_at` and `attempts`. So the columns stay until the minor version after this one. Their index stays, too: it is
empty, but the previous version reads it twice a second. A trigger moves an event that the previous version writes
into the outbox, where a replica of this version finds it, in order with the events of its own. The trigger runs with
the rights of its owner, because the role that writes the event may have none on the new table yet.
"""

from alembic import op

revision = "0007"
down_revision = "0006"

IDENTITY = {
    "postgresql": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "sqlite": "INTEGER PRIMARY KEY AUTOINCREMENT",
}
TEXT_KEY = {"postgresql": 'TEXT COLLATE "C"', "sqlite": "TEXT"}

# Locks the tables in the order in which requests use them, so that the migration and a request do not wait for each
# other; `factors` is for the next revision, in the same transaction. From here on no event is written until the
# trigger exists.
POSTGRESQL = (
    "LOCK TABLE users, factors, events IN ACCESS EXCLUSIVE MODE",
    "ALTER TABLE events DROP CONSTRAINT events_user_id_fkey",
    "ALTER TABLE events ALTER COLUMN user_id DROP NOT NULL",
)

_COLUMNS = "id, user_id, event, occurred_at, details, due_at, attempts"

# SQLite cannot drop a foreign key and rebuilds the table. The numbers go on where they were, also where the newest
# events have been swept.
SQLITE = (
    """
    CREATE TABLE new_events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        user_id TEXT,
        event TEXT NOT NULL,
        occurred_at BIGINT NOT NULL,
        details TEXT NOT NULL,
        due_at BIGINT,
        attempts BIGINT NOT NULL DEFAULT 0
    )
    """,
    f"INSERT INTO new_events ({_COLUMNS}) SELECT {_COLUMNS} FROM events ORDER BY id",
    "DELETE FROM sqlite_sequence WHERE name = 'new_events'",
    "INSERT INTO sqlite_sequence (name, seq) SELECT 'new_events', seq FROM sqlite_sequence WHERE name = 'events'",
    "DROP TABLE events",
    "ALTER TABLE new_events RENAME TO events",
    "CREATE INDEX events_of_user ON events (user_id, id)",
    "CREATE INDEX events_due ON events (user_id, id) WHERE due_at IS NOT NULL",
)

# A row reports the event to the recipient (a user's id; null: the event is about no user) by the transport. What is
# due to one recipient is sent in the order of the events. `created_at` is the time of the event.
OUTBOX = """
    CREATE TABLE outbox (
        id {identity},
        kind TEXT NOT NULL,
        recipient {text_key},
        transport {text_key} NOT NULL,
        event_id BIGINT NOT NULL REFERENCES events (id) ON DELETE CASCADE,
        created_at BIGINT NOT NULL,
        due_at BIGINT NOT NULL,
        attempts BIGINT NOT NULL DEFAULT 0
    )
"""

_MOVE = "INSERT INTO outbox (kind, recipient, transport, event_id, created_at, due_at, attempts)"

STATEMENTS = (
    "CREATE UNIQUE INDEX outbox_of_event ON outbox (event_id, transport)",
    "CREATE INDEX outbox_of_recipient ON outbox (transport, recipient, event_id)",
    f"{_MOVE} SELECT 'event', user_id, 'webhook', id, occurred_at, due_at, attempts FROM events"
    " WHERE due_at IS NOT NULL ORDER BY id",
    "UPDATE events SET due_at = NULL, attempts = 0 WHERE due_at IS NOT NULL",
)

TRIGGER = {
    "postgresql": (
        f"""
        CREATE FUNCTION move_due_event() RETURNS trigger LANGUAGE plpgsql
        SECURITY DEFINER SET search_path FROM CURRENT AS $body$
        BEGIN
            {_MOVE} VALUES ('event', NEW.user_id, 'webhook', NEW.id, NEW.occurred_at, NEW.due_at, 0);
            UPDATE events SET due_at = NULL WHERE id = NEW.id;
            RETURN NULL;
        END
        $body$
        """,
        "CREATE TRIGGER move_due_event AFTER INSERT ON events FOR EACH ROW WHEN (NEW.due_at IS NOT NULL)"
        " EXECUTE FUNCTION move_due_event()",
    ),
    "sqlite": (
        f"""
        CREATE TRIGGER move_due_event AFTER INSERT ON events WHEN NEW.due_at IS NOT NULL
        BEGIN
            {_MOVE} VALUES ('event', NEW.user_id, 'webhook', NEW.id, NEW.occurred_at, NEW.due_at, 0);
            UPDATE events SET due_at = NULL WHERE id = NEW.id;
        END
        """,
    ),
}


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    for statement in POSTGRESQL if dialect == "postgresql" else SQLITE:
        op.execute(statement)
    op.execute(OUTBOX.format(identity=IDENTITY[dialect], text_key=TEXT_KEY[dialect]))
    for statement in (*STATEMENTS, *TRIGGER[dialect]):
        op.execute(statement)
