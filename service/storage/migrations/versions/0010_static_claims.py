"""Add the static claims of users, the addresses of messages in the outbox, and an index of deleted accounts.

The claims are a JSON object, which an administrator sets. A message that the previous version put into the outbox has
no address, and goes to that of the account. On PostgreSQL every text with an index is compared byte by byte, as
revision 0006 explains; revision 0009 left three that are not.
"""

from alembic import op

revision = "0010"
down_revision = "0009"


BYTE_ORDER = (
    'ALTER TABLE invitations ALTER COLUMN used_by TYPE TEXT COLLATE "C"',
    'ALTER TABLE deliverer ALTER COLUMN transport TYPE TEXT COLLATE "C"',
    'ALTER TABLE outbox ALTER COLUMN kind TYPE TEXT COLLATE "C"',
)


def upgrade() -> None:
    # A constant default: neither database rewrites the table, and the previous version inserts users without it.
    op.execute("ALTER TABLE users ADD COLUMN claims TEXT NOT NULL DEFAULT '{}'")
    op.execute("ALTER TABLE outbox ADD COLUMN address TEXT")
    op.execute("CREATE INDEX users_deleted ON users (id) WHERE deleted_at IS NOT NULL")
    if op.get_bind().dialect.name == "postgresql":
        for statement in BYTE_ORDER:
            op.execute(statement)
