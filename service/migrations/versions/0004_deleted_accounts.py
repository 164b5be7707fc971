"""Accounts that an operator deleted: the row stays and reserves the username and the `sub`."""

from alembic import op

revision = "0004"
down_revision = "0003"

# A deleted account is disabled, too, and cannot be enabled: what asks for enabled users never finds one.
STATEMENTS = ("ALTER TABLE users ADD COLUMN deleted_at BIGINT CHECK (deleted_at IS NULL OR disabled_at IS NOT NULL)",)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
