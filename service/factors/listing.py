"""The authenticators of an account in a list, without their secrets."""

from dataclasses import dataclass

from service.factors import totp
from service.storage.database import Database


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
    """Whether its secret has less than 112 bits. Only an import brings such secrets."""


async def list_all(database: Database, user_id: str) -> list[AuthenticatorSummary]:
    """Return the user's authenticators, the oldest first."""
    rows = await database.fetch_all(
        "SELECT id, name, created_at, confirmed_at, last_used_at, drift_steps, is_weak"
        " FROM totp_authenticators WHERE user_id = $1 ORDER BY created_at, id",
        user_id,
    )
    return [
        AuthenticatorSummary(
            id=row["id"],
            name=row["name"],
            created_at=row["created_at"],
            confirmed_at=row["confirmed_at"],
            last_used_at=row["last_used_at"],
            offset_seconds=row["drift_steps"] * totp.PERIOD,
            is_weak=bool(row["is_weak"]),
        )
        for row in rows
    ]
