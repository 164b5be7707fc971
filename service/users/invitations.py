"""Invitations to sign up: one row each, consumed once.

The token of an invitation is that of a link (`tokens/links`). It names the row and, if the invitation is for one
address, that address; using it is one guarded update (law 16: derive, do not store; consume with one statement). The
row has what the new account gets. A used or expired invitation keeps its row until it is swept; a revoked one is
deleted.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime

from service.clock import unix_seconds
from service.storage.database import Database, Row, Transaction

_COLUMNS = "id, email, locale, roles, created_at, created_by, expires_at, used_at, used_by"


@dataclass(frozen=True, slots=True)
class Invitation:
    """One invitation; times in epoch seconds. `used_by` is the `sub` of the account that was made with it."""

    id: str
    email: str | None
    locale: str | None
    roles: tuple[str, ...]
    created_at: int
    created_by: str
    expires_at: int
    used_at: int | None
    used_by: str | None


async def add(
    transaction: Transaction,
    *,
    email: str | None,
    locale: str | None,
    roles: tuple[str, ...],
    created_by: str,
    now: datetime,
    expires_at: datetime,
) -> Invitation:
    """Insert an invitation with a new random id of 128 bits."""
    made = Invitation(
        id=secrets.token_hex(16),
        email=email,
        locale=locale,
        roles=roles,
        created_at=unix_seconds(now),
        created_by=created_by,
        expires_at=unix_seconds(expires_at),
        used_at=None,
        used_by=None,
    )
    await transaction.execute(
        "INSERT INTO invitations (id, email, locale, roles, created_at, created_by, expires_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        made.id, email, locale, " ".join(roles), made.created_at, created_by, made.expires_at,
    )  # fmt: skip
    return made


async def find(database: Database, invitation_id: str) -> Invitation | None:
    row = await database.fetch_one(f"SELECT {_COLUMNS} FROM invitations WHERE id = $1", invitation_id)
    return None if row is None else _invitation(row)


async def find_used_by(database: Database, user_id: str) -> Invitation | None:
    """Return the invitation with which this account was made, while its row is kept."""
    row = await database.fetch_one(f"SELECT {_COLUMNS} FROM invitations WHERE used_by = $1", user_id)
    return None if row is None else _invitation(row)


async def remove_address(transaction: Transaction, user_id: str) -> None:
    """Remove the address from the invitation with which a deleted account was made."""
    await transaction.execute("UPDATE invitations SET email = NULL WHERE used_by = $1 AND email IS NOT NULL", user_id)


async def consume(transaction: Transaction, invitation_id: str, *, user_id: str, now: datetime) -> bool:
    """Use the invitation for this account. `False` if it was used or revoked, or has expired."""
    used = await transaction.execute(
        "UPDATE invitations SET used_at = $2, used_by = $3 WHERE id = $1 AND used_at IS NULL AND expires_at > $2",
        invitation_id, unix_seconds(now), user_id,
    )  # fmt: skip
    return used == 1


async def revoke(transaction: Transaction, invitation_id: str) -> bool:
    """Delete an invitation that was not used; `False` if there is none."""
    revoked = await transaction.execute("DELETE FROM invitations WHERE id = $1 AND used_at IS NULL", invitation_id)
    return revoked == 1


async def list_after(database: Database, invitation_id: str, *, limit: int) -> list[Invitation]:
    """Return the invitations after an id, in the order of their ids."""
    rows = await database.fetch_all(
        f"SELECT {_COLUMNS} FROM invitations WHERE id > $1 ORDER BY id LIMIT $2", invitation_id, limit
    )
    return [_invitation(row) for row in rows]


async def sweep(database: Database, *, expired_by: datetime) -> None:
    """Delete the invitations that had expired at this time, used or not."""
    async with database.begin() as transaction:
        await transaction.execute("DELETE FROM invitations WHERE expires_at <= $1", unix_seconds(expired_by))


def _invitation(row: Row) -> Invitation:
    return Invitation(**{**row, "roles": tuple(row["roles"].split())})
