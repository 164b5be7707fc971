"""The authenticators of an account in a list, without their secrets, and the names that its user gives them."""

from dataclasses import dataclass

from service.factors import totp
from service.storage.database import Database, Row, Transaction

_COLUMNS = "id, name, created_at, confirmed_at, last_used_at, drift_steps, is_weak"


@dataclass(frozen=True, slots=True)
class AuthenticatorSummary:
    """An authenticator in a list; times in epoch seconds."""

    id: str
    name: str
    created_at: int
    confirmed_at: int | None
    last_used_at: int | None
    offset_seconds: int
    """By how many seconds its clock was ahead at its last accepted code; negative: behind."""
    is_weak: bool
    """Whether its secret has less than 112 bits. Only imported authenticators have such secrets."""


async def list_all(database: Database, user_id: str) -> list[AuthenticatorSummary]:
    """Return the user's authenticators, the oldest first."""
    rows = await database.fetch_all(
        f"SELECT {_COLUMNS} FROM totp_authenticators WHERE user_id = $1 ORDER BY created_at, id", user_id
    )
    return [_summary(row) for row in rows]


async def find_name(transaction: Transaction, user_id: str, factor_id: str) -> str | None:
    row = await transaction.fetch_one(
        "SELECT name FROM totp_authenticators WHERE user_id = $1 AND id = $2", user_id, factor_id
    )
    return None if row is None else str(row["name"])


async def rename(transaction: Transaction, user_id: str, factor_id: str, name: str) -> AuthenticatorSummary | None:
    """Give one of the user's authenticators another name, and return it; `None` if there is none."""
    row = await transaction.fetch_one(
        f"UPDATE totp_authenticators SET name = $1 WHERE user_id = $2 AND id = $3 RETURNING {_COLUMNS}",
        name, user_id, factor_id,
    )  # fmt: skip
    return None if row is None else _summary(row)


def _summary(row: Row) -> AuthenticatorSummary:
    return AuthenticatorSummary(
        id=row["id"],
        name=row["name"],
        created_at=row["created_at"],
        confirmed_at=row["confirmed_at"],
        last_used_at=row["last_used_at"],
        offset_seconds=row["drift_steps"] * totp.PERIOD,
        is_weak=bool(row["is_weak"]),
    )
