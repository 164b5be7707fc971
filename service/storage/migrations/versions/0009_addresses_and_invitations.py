"""Add e-mail addresses, invitations, and the times of a password reset and of a requested deletion.

The table `addresses` has each text with an `@` that names an account at login: a username, or a confirmed address.
If two accounts claim one at the same time, its primary key lets one of them succeed.

Messages to users may leave by mail, a second transport, whose deliveries need a lease of their own.

The previous version goes on serving on PostgreSQL while the replicas are replaced, and does not know the table. A
trigger claims the usernames that it inserts. The trigger is to be dropped in the minor version after this one.
"""

from alembic import op

revision = "0009"
down_revision = "0008"

TEXT_KEY = {"postgresql": 'TEXT COLLATE "C"', "sqlite": "TEXT"}

# `email` is confirmed; `new_email` is not confirmed yet, and was requested at `new_email_at`. `password_reset_at` is
# the time of a password reset with a link, if since then no login with a second factor has succeeded, and no
# administrator or operator has set a password. `deletion_due_at` is when the account is to be deleted.
# `deletion_requested_at` equals `disabled_at` while the request of the user is the only reason why the account is
# disabled: a version that does not know the column breaks the equality if it disables.
COLUMNS = (
    "email TEXT",
    "new_email TEXT",
    "new_email_at BIGINT",
    "locale TEXT",
    "password_reset_at BIGINT",
    "deletion_due_at BIGINT",
    "deletion_requested_at BIGINT",
)

TABLES = (
    """
    CREATE TABLE addresses (
        address {text_key} PRIMARY KEY,
        user_id {text_key} NOT NULL
    )
    """,
    "INSERT INTO addresses (address, user_id) SELECT username, id FROM users WHERE username LIKE '%@%'",
    "CREATE INDEX addresses_of_user ON addresses (user_id)",
    # `created_by` is the actor as events record it: `operator`, `client:...` or `user:...`.
    """
    CREATE TABLE invitations (
        id {text_key} PRIMARY KEY,
        email TEXT,
        locale TEXT,
        roles TEXT NOT NULL DEFAULT '',
        created_at BIGINT NOT NULL,
        created_by TEXT NOT NULL,
        expires_at BIGINT NOT NULL,
        used_at BIGINT,
        used_by TEXT
    )
    """,
    "CREATE INDEX invitations_by_age ON invitations (created_at, id)",
    "CREATE INDEX invitations_by_user ON invitations (used_by) WHERE used_by IS NOT NULL",
    "CREATE INDEX users_to_delete ON users (deletion_due_at) WHERE deletion_due_at IS NOT NULL",
    # One event may be reported to a user in several messages, such as one to the new address and one to the former.
    "DROP INDEX outbox_of_event",
    "CREATE UNIQUE INDEX outbox_of_event ON outbox (event_id, transport, kind)",
    # One lease for each transport. The previous version takes that of the webhook by its id, 1.
    "ALTER TABLE deliverer ADD COLUMN transport TEXT NOT NULL DEFAULT 'webhook'",
    "CREATE UNIQUE INDEX deliverer_of_transport ON deliverer (transport)",
    "INSERT INTO deliverer (id, holder, holds_until, transport) VALUES (2, '', 0, 'mail')",
)

TRIGGER = (
    """
    CREATE FUNCTION claim_username() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path FROM CURRENT AS $body$
    BEGIN
        INSERT INTO addresses (address, user_id) VALUES (NEW.username, NEW.id) ON CONFLICT DO NOTHING;
        RETURN NULL;
    END
    $body$
    """,
    "CREATE TRIGGER claim_username AFTER INSERT ON users FOR EACH ROW WHEN (NEW.username LIKE '%@%')"
    " EXECUTE FUNCTION claim_username()",
)


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    if dialect == "postgresql":
        # From here on no user is inserted until the trigger exists.
        op.execute("LOCK TABLE users, outbox IN ACCESS EXCLUSIVE MODE")
    for column in COLUMNS:
        op.execute(f"ALTER TABLE users ADD COLUMN {column}")
    for statement in TABLES:
        op.execute(statement.format(text_key=TEXT_KEY[dialect]))
    if dialect == "postgresql":
        for statement in TRIGGER:
            op.execute(statement)
