"""The rows of a user's sessions, live or not, for the export by the user."""

from dataclasses import dataclass

from service.sessions.sessions import SUMMARY_COLUMNS, SessionSummary
from service.storage.database import Database


@dataclass(frozen=True, slots=True)
class StoredSession(SessionSummary):
    """A session whose row is kept, live or not; times in epoch seconds."""

    ends_at: int
    """When it ends however much it is used."""
    generation: int
    """How often its refresh token was replaced."""
    replaced_at: int | None
    raised: int
    """How often it was stepped up."""
    ended_at: int | None
    ended_reason: str | None


async def list_after(database: Database, user_id: str, sid: str, *, limit: int) -> list[StoredSession]:
    """Return the user's sessions after an id, in the order of their ids, also those that ended or expired."""
    rows = await database.fetch_all(
        f"SELECT {SUMMARY_COLUMNS}, ends_at, generation, replaced_at, raised, ended_at, ended_reason FROM sessions"
        " WHERE user_id = $1 AND id > $2 ORDER BY id LIMIT $3",
        user_id, sid, limit,
    )  # fmt: skip
    return [StoredSession(**{**row, "amr": tuple(row["amr"].split())}) for row in rows]
