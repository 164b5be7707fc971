"""Rename `factors` to `totp_authenticators`: other kinds of second factor have tables of their own.

The previous version goes on serving on PostgreSQL while the replicas are replaced. It reads and writes as before,
through a view with the old name. The roles that could use the table may use the view. The view is to be dropped in
the minor version after this one. SQLite has one process, which is of this version.
"""

from alembic import op

revision = "0008"
down_revision = "0007"

RENAME = "ALTER TABLE factors RENAME TO totp_authenticators"

VIEW = (
    "CREATE VIEW factors AS SELECT * FROM totp_authenticators",
    """
    DO $body$
    DECLARE granted record;
    BEGIN
        FOR granted IN
            SELECT grantee, privilege_type FROM information_schema.role_table_grants
            WHERE table_schema = current_schema() AND table_name = 'totp_authenticators'
                AND grantee <> current_user AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
        LOOP
            EXECUTE format(
                'GRANT %s ON factors TO %s', granted.privilege_type,
                CASE WHEN granted.grantee = 'PUBLIC' THEN 'PUBLIC' ELSE quote_ident(granted.grantee) END
            );
        END LOOP;
    END
    $body$
    """,
)


def upgrade() -> None:
    op.execute(RENAME)
    if op.get_bind().dialect.name == "postgresql":
        for statement in VIEW:
            op.execute(statement)
