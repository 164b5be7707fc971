"""What is stored about the second factors of an account, without secrets: for the export by the user."""

from dataclasses import dataclass

from service.factors.attempts import Budget
from service.storage.database import Database


@dataclass(frozen=True, slots=True)
class StoredAuthenticator:
    """The row of an authenticator; times in epoch seconds, offsets and steps in time steps of 30 s."""

    id: str
    name: str
    created_at: int
    confirmed_at: int | None
    last_used_at: int | None
    last_step: int
    """The newest time step that counts as used.

    Its code was accepted or reported as out of step, or an import or the restore guard set it.
    """
    offset_steps: int
    """By how many steps the window of acceptable codes is shifted."""
    drift_steps: int
    """By how many steps its clock was ahead at its last accepted code; negative: behind."""
    out_of_step_reported_at: int
    is_weak: bool
    budget: Budget


@dataclass(frozen=True, slots=True)
class StoredRecoveryCode:
    """The row of a recovery code; times in epoch seconds."""

    created_at: int
    used_at: int | None


async def list_authenticators(database: Database, user_id: str) -> list[StoredAuthenticator]:
    """Return the user's authenticators, the oldest first."""
    rows = await database.fetch_all(
        "SELECT id, name, created_at, confirmed_at, last_used_at, last_step, offset_steps, drift_steps, told_at,"
        " is_weak, failures, waits_until, recent_failures"
        " FROM totp_authenticators WHERE user_id = $1 ORDER BY created_at, id",
        user_id,
    )
    return [
        StoredAuthenticator(
            id=row["id"],
            name=row["name"],
            created_at=row["created_at"],
            confirmed_at=row["confirmed_at"],
            last_used_at=row["last_used_at"],
            last_step=row["last_step"],
            offset_steps=row["offset_steps"],
            drift_steps=row["drift_steps"],
            out_of_step_reported_at=row["told_at"],
            is_weak=bool(row["is_weak"]),
            budget=Budget.from_row(row),
        )
        for row in rows
    ]


async def list_recovery_codes(database: Database, user_id: str) -> list[StoredRecoveryCode]:
    """Return the times of the user's recovery codes, the used ones first."""
    rows = await database.fetch_all(
        "SELECT created_at, used_at FROM recovery_codes WHERE user_id = $1 ORDER BY used_at IS NULL, used_at", user_id
    )
    return [StoredRecoveryCode(row["created_at"], row["used_at"]) for row in rows]


async def find_recovery_budget(database: Database, user_id: str) -> Budget | None:
    """Return the budget of guesses at the user's recovery codes; `None` without recovery codes."""
    row = await database.fetch_one(
        "SELECT failures, waits_until, recent_failures FROM recovery_budgets WHERE id = $1", user_id
    )
    return None if row is None else Budget.from_row(row)
