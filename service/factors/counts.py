"""Counts over the authenticators of all accounts, for the metrics and `keyturn doctor`."""

from service.storage.database import Database

COUNT_PAGE_SIZE = 10_000
"""Authenticators that one statement counts: counting all of them would exceed the time limit of a statement."""


async def count_by_drift(
    database: Database, after: str, *, page_size: int = COUNT_PAGE_SIZE
) -> tuple[dict[int, int], str]:
    """Count the authenticators that were ever used, by the number of steps that the last code was ahead.

    Count those of one page (ids above `after`). Also return the id after which the next page begins; empty if this
    was the last page.
    """
    last = await database.fetch_one(
        f"SELECT id FROM totp_authenticators WHERE id > $1 ORDER BY id LIMIT 1 OFFSET {page_size - 1}", after
    )
    page, ids = ("id > $1", [after]) if last is None else ("id > $1 AND id <= $2", [after, last["id"]])
    rows = await database.fetch_all(
        f"SELECT drift_steps, COUNT(*) AS factors FROM totp_authenticators WHERE last_used_at IS NOT NULL AND {page}"
        " GROUP BY drift_steps",
        *ids,
    )
    return {row["drift_steps"]: row["factors"] for row in rows}, ids[1] if last is not None else ""


async def count_weak(database: Database) -> int:
    """Return how many authenticators have a secret of less than 112 bits."""
    row = await database.fetch_one("SELECT COUNT(*) AS weak FROM totp_authenticators WHERE is_weak = 1")
    return 0 if row is None else int(row["weak"])
