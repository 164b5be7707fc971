"""Add a mark for authenticators with secrets of less than 112 bits, and one table that claims ids.

The table has each id that both a user and a client could have.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

STATEMENTS = (
    "ALTER TABLE factors ADD COLUMN is_weak BIGINT NOT NULL DEFAULT 0",
    # Tokens name both users and clients by `sub`: the first insert of an id into this table claims it.
    "CREATE TABLE subjects (id TEXT PRIMARY KEY)",
    "INSERT INTO subjects (id) SELECT id FROM clients",
    # The id of a client has no upper-case letters; nearly every id of a user that Keyturn makes has some.
    "INSERT INTO subjects (id) SELECT id FROM users WHERE id = lower(id) ON CONFLICT DO NOTHING",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
