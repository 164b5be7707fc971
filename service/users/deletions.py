"""The deletion of an account that its user requested: scheduled, taken back, or due.

A scheduled deletion disables the account. Two columns say why it is disabled: `deletion_requested_at` equals
`disabled_at` while the request is the only reason. If another actor disables the account too, the two differ, and the
user can no longer take the deletion back. It stays scheduled, because the user requested it.

Each change is one guarded UPDATE of the user's row, so that of a restore and a removal at the same time one succeeds.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from service.clock import unix_seconds
from service.storage.database import Database, Transaction
from service.users.users import EMPTIED, NOT_DELETED, User, propagate_to_factors

RESTORABLE = "users.deletion_requested_at = users.disabled_at AND users.deletion_due_at > $4"
"""WHERE the user can take the deletion back at $4 (now)."""

_IS_DUE = f"deletion_due_at <= $1 AND disabled_at IS NOT NULL AND {NOT_DELETED}"
"""WHERE the deletion is due at $1 (now). Older versions of Keyturn enable accounts without clearing the column."""

_HAS_REMAINS = (
    "users.deleted_at IS NOT NULL AND (users.claims <> '{}'"
    " OR COALESCE(users.email, new_email, users.locale) IS NOT NULL"
    " OR COALESCE(new_email_at, password_reset_at, deletion_due_at, deletion_requested_at) IS NOT NULL"
    " OR id IN (SELECT used_by FROM invitations WHERE invitations.email IS NOT NULL))"
)
"""WHERE the previous version deleted the account: it knows neither these columns nor invitations."""


@dataclass(frozen=True, slots=True)
class RemovedAccounts:
    """Of accounts that were to be removed: how many were, how many had been before, and how many do not exist."""

    removed: int
    deleted_before: int
    absent: int


def is_restorable(user: User, now: datetime) -> bool:
    """Whether the user can take the deletion back: it is not due, and nothing else has disabled the account."""
    due_at = user.deletion_due_at
    return user.is_disabled_by_user and due_at is not None and unix_seconds(now) < due_at


async def schedule(transaction: Transaction, user: User, *, now: datetime, due_at: int) -> bool:
    """Disable the account until it is deleted, and revoke its pending and device tokens.

    `False` if the account or its roles changed since it was read: whether the last administrator leaves depends on
    the roles. The caller ends its sessions.
    """
    scheduled = await transaction.execute(
        "UPDATE users SET epoch = epoch + 1, recovery_due_at = NULL, disabled_at = $3, deletion_requested_at = $3,"
        " deletion_due_at = $4 WHERE id = $1 AND epoch = $2 AND roles = $5 AND disabled_at IS NULL",
        user.id, user.credential_version, unix_seconds(now), due_at, " ".join(user.roles),
    )  # fmt: skip
    if scheduled == 1:
        await propagate_to_factors(transaction, replace(user, credential_version=user.credential_version + 1))
    return scheduled == 1


async def restore(transaction: Transaction, user: User, now: datetime) -> User | None:
    """Enable the account again and revoke its pending tokens.

    `None` if the account changed since it was read, or the deletion cannot be taken back any more.
    """
    restored = await transaction.execute(
        "UPDATE users SET epoch = epoch + 1, disabled_at = NULL, deletion_requested_at = NULL, deletion_due_at = NULL"
        f" WHERE id = $1 AND epoch = $2 AND roles = $3 AND {RESTORABLE}",
        user.id, user.credential_version, " ".join(user.roles), unix_seconds(now),
    )  # fmt: skip
    if restored == 0:
        return None
    enabled = replace(
        user,
        credential_version=user.credential_version + 1,
        is_disabled=False,
        is_disabled_by_user=False,
        deletion_due_at=None,
    )
    await propagate_to_factors(transaction, enabled)
    return enabled


async def lock_if_restorable(transaction: Transaction, user: User, now: datetime) -> bool:
    """Lock the user's row for this transaction; `False` in the cases in which `restore` returns `None`."""
    held = await transaction.execute(
        f"UPDATE users SET epoch = epoch WHERE id = $1 AND epoch = $2 AND roles = $3 AND {RESTORABLE}",
        user.id, user.credential_version, " ".join(user.roles), unix_seconds(now),
    )  # fmt: skip
    return held == 1


async def list_due(database: Database, now: datetime, *, limit: int) -> list[str]:
    """Return the `sub` of accounts whose deletion is due, the longest due first."""
    rows = await database.fetch_all(
        f"SELECT id FROM users WHERE {_IS_DUE} ORDER BY deletion_due_at LIMIT $2", unix_seconds(now), limit
    )
    return [str(row["id"]) for row in rows]


async def lock_if_due(transaction: Transaction, user_id: str, now: datetime) -> bool:
    """Lock the user's row for this transaction; `False` if the account was enabled or deleted meanwhile."""
    held = await transaction.execute(
        f"UPDATE users SET epoch = epoch WHERE {_IS_DUE} AND id = $2", unix_seconds(now), user_id
    )
    return held == 1


async def is_deleted(transaction: Transaction, user_id: str) -> bool:
    """Whether an account with this `sub` was deleted: its row reserves the `sub`."""
    row = await transaction.fetch_one("SELECT 1 AS one FROM users WHERE id = $1 AND deleted_at IS NOT NULL", user_id)
    return row is not None


async def list_with_remains(database: Database, *, after: str, limit: int) -> list[str]:
    """Return the `sub` of deleted accounts of which more is left than should be, in their order.

    Reads every deleted account.
    """
    rows = await database.fetch_all(
        f"SELECT id FROM users WHERE {_HAS_REMAINS} AND id > $1 ORDER BY id LIMIT $2", after, limit
    )
    return [str(row["id"]) for row in rows]


async def empty(transaction: Transaction, user_id: str) -> None:
    """Remove what a replica of Keyturn 0.1 left in the row of an account that it deleted."""
    await transaction.execute(f"UPDATE users SET {EMPTIED} WHERE id = $1 AND deleted_at IS NOT NULL", user_id)
