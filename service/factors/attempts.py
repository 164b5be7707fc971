"""The budget of guesses at a second factor. It is kept in SQL, so that losing Redis does not reset it.

Law 6: codes are budgeted per factor in SQL.

Each row with a budget (an authenticator, a user's recovery codes) has three columns: the consecutive failures, the
time until which it waits, and the times of the last fifty failures, newest first, ten digits each. The third column
makes "the fiftieth newest is older than 30 days" a condition of the single UPDATE that charges an attempt: two
replicas cannot both charge the fiftieth.

A charge commits on its own, so that no rollback removes it (law 4: reserve, then verify).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from service.clock import unix_seconds
from service.errors import TooManyAttempts
from service.storage.database import Database, Row

FREE_FAILURES = 5
"""Consecutive failures before the wait begins: 30 s, doubling with each further one, an hour at most."""
FIRST_WAIT_SECONDS, DOUBLINGS, MAX_WAIT_SECONDS = 30, 7, 3600

MAX_FAILURES = 50
"""Failures in `BUDGET_WINDOW`. With three acceptable codes of a million (`KEYTURN_TOTP_SKEW_STEPS` 1), fifty guesses
find one with a probability of 1 in 6,667."""
BUDGET_WINDOW = timedelta(days=30)

Table = Literal["totp_authenticators", "recovery_budgets"]

_DIGITS = 10  # of a Unix time, until the year 2286
_FIFTIETH = f"substr(recent_failures, {_DIGITS * (MAX_FAILURES - 1) + 1}, {_DIGITS})"

REFUND = f"failures = 0, waits_until = 0, recent_failures = substr(recent_failures, {_DIGITS + 1})"
"""The SET clause after a success: it ends the wait and refunds one charge.

It removes the newest entry, which may be that of a concurrent attempt: both were charged at about the same time.
Earlier charges stay.
"""


@dataclass(frozen=True, slots=True)
class Budget:
    """The three columns of a row with a budget, to be shown; times in epoch seconds."""

    failures: int
    """Failures in a row."""
    waits_until: int
    recent_failures: tuple[int, ...]
    """The times of the last `MAX_FAILURES` failures, the newest first."""

    @classmethod
    def from_row(cls, row: Row) -> "Budget":
        times = row["recent_failures"]
        return cls(
            failures=row["failures"],
            waits_until=row["waits_until"],
            recent_failures=tuple(int(times[at : at + _DIGITS]) for at in range(0, len(times), _DIGITS)),
        )


async def charge(database: Database, table: Table, row_id: str, now: datetime) -> int | None:
    """Charge one attempt at a code. Return the number of failures in a row, counting this attempt as one.

    Return `None` if the row does not exist any more. Raises `TooManyAttempts` while the row waits, or while it has
    `MAX_FAILURES` in `BUDGET_WINDOW`.
    """
    moment, cutoff = unix_seconds(now), unix_seconds(now - BUDGET_WINDOW)
    charged = await database.write_one(
        f"UPDATE {table} SET failures = failures + 1,"
        f" waits_until = CASE WHEN failures + 1 < {FREE_FAILURES} THEN 0"
        f" WHEN failures + 1 < {FREE_FAILURES + DOUBLINGS}"
        f" THEN $2 + ({FIRST_WAIT_SECONDS} << CAST(failures + 1 - {FREE_FAILURES} AS INTEGER))"
        f" ELSE $2 + {MAX_WAIT_SECONDS} END,"
        f" recent_failures = $3 || substr(recent_failures, 1, {_DIGITS * (MAX_FAILURES - 1)})"
        f" WHERE id = $1 AND waits_until <= $2 AND {_FIFTIETH} <= $4 RETURNING failures",
        row_id, moment, f"{moment:0{_DIGITS}d}", f"{cutoff:0{_DIGITS}d}",
    )  # fmt: skip
    if charged is not None:
        return int(charged["failures"])
    row = await database.fetch_one(f"SELECT waits_until, {_FIFTIETH} AS fiftieth FROM {table} WHERE id = $1", row_id)
    if row is None:
        return None
    wait = row["waits_until"] - moment
    if row["fiftieth"]:
        wait = max(wait, int(row["fiftieth"]) - cutoff)
    raise TooManyAttempts(max(1, wait))
