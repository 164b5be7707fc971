"""Sessions after a restored backup, for the restore guard."""

from datetime import datetime

from service.clock import unix_seconds
from service.storage.database import Database

_AT_ONCE = 1000
"""Sessions that one transaction ends: it must end within the timeout of the database, and users may have many."""


async def end_all(database: Database, id_range: tuple[str, str], now: datetime) -> int:
    """End all sessions of the users after the first id of the range, up to the second one; return how many."""
    ended = 0
    while True:
        async with database.begin() as transaction:
            changed = await transaction.execute(
                "UPDATE sessions SET ended_at = $3, ended_reason = 'restored' WHERE id IN (SELECT id FROM sessions"
                f" WHERE user_id > $1 AND user_id <= $2 AND ended_at IS NULL LIMIT {_AT_ONCE})",
                *id_range, unix_seconds(now),
            )  # fmt: skip
        ended += changed
        if changed < _AT_ONCE:
            return ended
