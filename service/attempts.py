"""The budget of guesses at a second factor, in SQL, where nothing can lose it.

Law 6: codes are budgeted per factor in SQL.

A row that can be guessed at (a factor, a person's recovery codes) carries three columns: the consecutive
failures, until when it waits, and the failures of the last 30 days, newest first, ten digits each. The last one
makes "the fiftieth newest is older than 30 days" a condition of the same single UPDATE that pays for an attempt:
no two replicas can both be the fiftieth.

Paying commits on its own; no rollback un-counts it (law 4: reserve, then verify).
"""

from datetime import datetime, timedelta
from typing import Literal

from service.clock import epoch
from service.database import Database
from service.errors import TooManyAttempts

FREE = 5
"""Consecutive failures before the wait begins: 30 s, doubling with each further one, an hour at most."""
FIRST_WAIT, DOUBLINGS, LONGEST_WAIT = 30, 7, 3600

BUDGET = 50
"""Failures in `WINDOW`. With three acceptable codes of a million that is a chance of 1 in 6,667."""
WINDOW = timedelta(days=30)

Table = Literal["factors", "recovery_budgets"]

_DIGITS = 10  # of an epoch second, until the year 2286
_FIFTIETH = f"substr(recent_failures, {_DIGITS * (BUDGET - 1) + 1}, {_DIGITS})"

RESTORED = f"failures = 0, waits_until = 0, recent_failures = substr(recent_failures, {_DIGITS + 1})"
"""The SET clause of a success: the wait is forgiven, and one payment given back.

The newest entry is dropped for ours; both were paid within the same moment. What was paid before stays.
"""


async def reserve(database: Database, table: Table, row_id: str, now: datetime) -> int | None:
    """Pay for one look at a code; how many failures in a row there are with it, were it wrong.

    `None` if the row is gone. Raises `TooManyAttempts` while it waits.
    """
    moment, cutoff = epoch(now), epoch(now - WINDOW)
    paid = await database.write_one(
        f"UPDATE {table} SET failures = failures + 1,"
        f" waits_until = CASE WHEN failures + 1 < {FREE} THEN 0"
        f" WHEN failures + 1 < {FREE + DOUBLINGS} THEN $2 + ({FIRST_WAIT} << CAST(failures + 1 - {FREE} AS INTEGER))"
        f" ELSE $2 + {LONGEST_WAIT} END,"
        f" recent_failures = $3 || substr(recent_failures, 1, {_DIGITS * (BUDGET - 1)})"
        f" WHERE id = $1 AND waits_until <= $2 AND {_FIFTIETH} <= $4 RETURNING failures",
        row_id, moment, f"{moment:0{_DIGITS}d}", f"{cutoff:0{_DIGITS}d}",
    )  # fmt: skip
    if paid is not None:
        return int(paid["failures"])
    row = await database.fetch_one(f"SELECT waits_until, {_FIFTIETH} AS fiftieth FROM {table} WHERE id = $1", row_id)
    if row is None:
        return None
    wait = row["waits_until"] - moment
    if row["fiftieth"]:
        wait = max(wait, int(row["fiftieth"]) - cutoff)
    raise TooManyAttempts(max(1, wait))
