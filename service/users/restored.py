"""Accounts and invitations after a restored backup, for the restore guard."""

from datetime import datetime

from service.clock import unix_seconds
from service.storage.database import Database, Transaction
from service.users.users import NOT_DELETED

_IS_OPEN = "used_at IS NULL AND expires_at > $1"
"""WHERE an invitation could be used at this time."""


async def list_ids_after(database: Database, user_id: str, *, limit: int) -> list[str]:
    """Return the ids of the next accounts, in their order; the first ones after an empty text."""
    rows = await database.fetch_all(
        f"SELECT id FROM users WHERE id > $1 AND {NOT_DELETED} ORDER BY id LIMIT $2", user_id, limit
    )
    return [row["id"] for row in rows]


async def advance_credential_versions(transaction: Transaction, id_range: tuple[str, str], now: datetime) -> None:
    """Set credential versions to the Unix time or higher; cancel delayed recoveries and requests for a new address.

    A version counts changes, so that only an earlier guard can have set one that high. Such a version is incremented.
    The accounts are those after the first id of the range, up to the second one.
    """
    await transaction.execute(
        "UPDATE users SET epoch = CASE WHEN epoch < $3 THEN $3 ELSE epoch + 1 END, recovery_due_at = NULL,"
        " new_email = NULL, new_email_at = NULL"
        " WHERE id > $1 AND id <= $2",
        *id_range, unix_seconds(now),
    )  # fmt: skip


async def revoke_open_invitations(transaction: Transaction, now: datetime, *, limit: int) -> list[str]:
    """Delete invitations that could be used; return their ids, at most `limit`.

    The caller repeats it until `has_open_invitations` says that there are none.
    """
    rows = await transaction.fetch_all(
        f"DELETE FROM invitations WHERE id IN (SELECT id FROM invitations WHERE {_IS_OPEN} ORDER BY id LIMIT $2)"
        " RETURNING id",
        unix_seconds(now), limit,
    )  # fmt: skip
    return [str(row["id"]) for row in rows]


async def has_open_invitations(database: Database, now: datetime) -> bool:
    row = await database.fetch_one(f"SELECT 1 AS one FROM invitations WHERE {_IS_OPEN} LIMIT 1", unix_seconds(now))
    return row is not None
