"""Accounts in a list, for administration."""

from dataclasses import dataclass

from service.storage.database import Database, Row
from service.users import mfa
from service.users.addresses import fold
from service.users.mfa import MfaState
from service.users.users import NOT_DELETED, User

_COLUMNS = (
    "users.username, users.id, users.roles, users.created_at, users.disabled_at, users.deletion_due_at,"
    f" users.deletion_requested_at, {mfa.COLUMN}"
)


@dataclass(frozen=True, slots=True)
class AccountSummary:
    """An account in a list; `created_at` in epoch seconds."""

    sub: str
    username: str
    created_at: int
    is_disabled: bool
    mfa: MfaState
    roles: tuple[str, ...]
    deletion_due_at: int | None = None
    """When the account is to be deleted, as its user requested (epoch seconds). Until then it is disabled."""
    is_disabled_by_user: bool = False
    """Whether it is disabled only because its user requested the deletion. Then the user can take that back."""


def summary_of(user: User) -> AccountSummary:
    return AccountSummary(
        user.id,
        user.username,
        user.created_at,
        user.is_disabled,
        user.mfa,
        user.roles,
        user.deletion_due_at,
        user.is_disabled_by_user,
    )


async def list_after(database: Database, username: str, *, prefix: str = "", limit: int) -> list[AccountSummary]:
    """Return the accounts whose usernames begin with `prefix` and come after `username`, in the order of usernames.

    At most `limit`.
    """
    if not prefix.isascii() or not prefix.isprintable():
        return []  # no username has such a character, and PostgreSQL refuses a NUL
    # One lower bound: SQLite uses only the first of two for its index, and would read every username before `prefix`.
    first, relation = (username, ">") if username >= prefix else (prefix, ">=")
    rows = await database.fetch_all(
        f"SELECT {_COLUMNS} FROM users"
        f" WHERE users.username {relation} $1 AND users.username < $2 AND {NOT_DELETED}"
        " ORDER BY users.username LIMIT $3",
        first, prefix + "\x7f", limit,  # compared byte by byte; each character of a username is less than DEL
    )  # fmt: skip
    return [_summary(row) for row in rows]


async def find_by_email(database: Database, email: str) -> list[AccountSummary]:
    """Return the account with this confirmed address, if there is one. Upper and lower case count as the same."""
    rows = await database.fetch_all(
        f"SELECT {_COLUMNS} FROM users WHERE users.id = (SELECT user_id FROM addresses WHERE address = $1)"
        f" AND LOWER(users.email) = $1 AND {NOT_DELETED}",
        fold(email),
    )
    return [_summary(row) for row in rows]


def _summary(row: Row) -> AccountSummary:
    return AccountSummary(
        sub=row["id"],
        username=row["username"],
        created_at=row["created_at"],
        is_disabled=row["disabled_at"] is not None,
        mfa=mfa.from_row(row),
        roles=tuple(row["roles"].split()),
        deletion_due_at=row["deletion_due_at"],
        is_disabled_by_user=row["disabled_at"] is not None and row["deletion_requested_at"] == row["disabled_at"],
    )
