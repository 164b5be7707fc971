"""Checks of PostgreSQL: the rights that serving needs, where the schema is, and whether a collation has changed.

`keyturn doctor` makes all of these checks. `/readyz` checks the rights, and the start of the service checks the
rights and where the schema is. Every statement in this module reads catalogues that any role may read.
"""

from typing import Protocol

from service.storage.database import Row

PRIVILEGES = {
    "addresses": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "alembic_version": ("SELECT",),
    "clients": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "deliverer": ("SELECT", "UPDATE"),
    "events": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "invitations": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "outbox": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "recovery_budgets": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "recovery_codes": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "sessions": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "signing_keys": ("SELECT", "INSERT", "UPDATE"),
    "subjects": ("SELECT", "INSERT", "DELETE"),
    "totp_authenticators": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "users": ("SELECT", "INSERT", "UPDATE"),
}
"""The rights on each table that serving needs; a test compares them with the statements. Commands need more:
see docs/guides/postgresql.md."""

REQUIRED_PRIVILEGES = ",".join(f"{table} {right}" for table, rights in PRIVILEGES.items() for right in rights)

PROBE = """
    WITH needed AS (
        SELECT split_part(entry, ' ', 1) AS name, split_part(entry, ' ', 2) AS privilege,
               to_regclass(split_part(entry, ' ', 1)) AS place
        FROM unnest(string_to_array($1, ',')) AS entry
    )
    SELECT current_user AS role, current_setting('transaction_read_only') AS read_only,
           (SELECT string_agg(DISTINCT name, ', ') FROM needed WHERE place IS NULL) AS absent,
           (SELECT string_agg(privilege || ' on ' || name, ', ') FROM needed
            WHERE place IS NOT NULL AND NOT has_table_privilege(place, privilege)) AS forbidden
"""
"""Returns one row. The parameter is `REQUIRED_PRIVILEGES`."""

_PLACE = """
    SELECT current_user AS role, nspname AS schema, pg_get_userbyid(relowner) AS owner,
           CASE WHEN has_schema_privilege(pg_namespace.oid, 'USAGE') THEN 1 ELSE 0 END AS usable
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relname = 'recovery_budgets' AND relkind IN ('r', 'p') ORDER BY usable DESC, nspname LIMIT 1
"""
_CREATION = """
    SELECT current_user AS role, current_schema() AS schema, current_setting('search_path') AS path,
           CASE WHEN has_schema_privilege(current_schema(), 'CREATE') THEN 1 ELSE 0 END AS allowed
"""
_COLLATION = """
    SELECT datname AS name, datcollversion AS made, pg_database_collation_actual_version(oid) AS now
    FROM pg_database WHERE datname = current_database()
"""


class _Reader(Protocol):
    async def fetch_one(self, sql: str, *parameters: object) -> Row | None: ...


def find_fault(row: Row | None) -> str | None:
    """Return what `PROBE` found to be wrong, in sentences for operators, or `None`."""
    if row is None:
        return "PostgreSQL does not return the rights of the role."
    if row["absent"] is not None:
        return (
            f"PostgreSQL has no table {row['absent']} in the search path of the role {row['role']}. Run: "
            "keyturn migrate, or grant USAGE on the tables' schema."
        )
    if row["forbidden"] is not None:
        return (
            f"The role {row['role']} of PostgreSQL has no right to {row['forbidden']}. Grant it: "
            "docs/guides/postgresql.md, section Rights."
        )
    if row["read_only"] == "on":
        return (
            "PostgreSQL is read-only: it is a standby, or a setting makes it so. Name the primary in "
            "KEYTURN_DATABASE_URL, or add target_session_attrs=read-write."
        )
    return None


async def explain_missing_schema(database: _Reader) -> str | None:
    """Explain why existing tables are not found, or why none can be created, and what to do; else `None`."""
    row = await database.fetch_one(_PLACE)
    if row is None:
        return await _explain_creation(database)
    if not row["usable"]:
        return (
            f"Keyturn's tables are in the schema {row['schema']}, owned by {row['owner']}, which the role "
            f"{row['role']} may not use. As its owner run: GRANT USAGE ON SCHEMA {row['schema']} TO {row['role']}"
        )
    return (
        f"Keyturn's tables are in the schema {row['schema']}, which is not in the search path of the role "
        f"{row['role']}. Add options=-csearch_path%3D{row['schema']} to KEYTURN_DATABASE_URL"
    )


async def _explain_creation(database: _Reader) -> str | None:
    row = await database.fetch_one(_CREATION)
    if row is None or row["allowed"]:
        return None
    if row["schema"] is None:
        return (
            f"No schema of the search path ({row['path']}) exists or may be used by the role {row['role']}. Create "
            "one, or name another: options=-csearch_path%3DNAME in KEYTURN_DATABASE_URL. Then run: keyturn migrate"
        )
    return (
        f"The role {row['role']} may not create tables in the schema {row['schema']}. As its owner run: GRANT USAGE, "
        f"CREATE ON SCHEMA {row['schema']} TO {row['role']}. Then run: keyturn migrate"
    )


async def compare_collations(database: _Reader) -> tuple[str, str, str] | None:
    """Return the database, the recorded version of its collation, and that of the server, if the two differ."""
    version = await database.fetch_one("SELECT CAST(current_setting('server_version_num') AS BIGINT) AS number")
    if version is None or version["number"] < 150000:  # before 15 a database's own version is not recorded
        return None
    row = await database.fetch_one(_COLLATION)
    if row is None or row["made"] is None or row["made"] == row["now"]:
        return None
    return str(row["name"]), str(row["made"]), str(row["now"])
