"""Add deleted accounts: the row remains and reserves the username and the `sub`."""

from alembic import op

revision = "0004"
down_revision = "0003"

# A deleted account is also disabled and cannot be enabled, so statements for enabled users never find one.
STATEMENTS = ("ALTER TABLE users ADD COLUMN deleted_at BIGINT CHECK (deleted_at IS NULL OR disabled_at IS NOT NULL)",)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
