"""Add the static claims of users: a JSON object, which an administrator sets."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    # A constant default: neither database rewrites the table, and the version before inserts users without it.
    op.execute("ALTER TABLE users ADD COLUMN claims TEXT NOT NULL DEFAULT '{}'")
