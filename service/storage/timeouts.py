"""The time after which the service stops waiting for a store (law 7: no fail-open, no hang)."""

from dataclasses import dataclass

DATABASE_TIMEOUT_SECONDS = 0.8
"""Seconds that a read or a whole transaction may take before the database counts as unavailable.

A distant PostgreSQL has longer (`database_postgresql`). With SQLite this is the time that a statement may wait for
other transactions.
"""

REDIS_TIMEOUT_SECONDS = 0.2
"""Seconds that one command of Redis or one attempt to connect may take.

If two of them in a row time out, the caller still gets its answer within half a second.
"""


@dataclass(frozen=True, slots=True)
class StoreTimeouts:
    """The timeouts of both stores, in seconds. Tests that do not measure time have longer ones."""

    database: float = DATABASE_TIMEOUT_SECONDS
    redis: float = REDIS_TIMEOUT_SECONDS


STORE_TIMEOUTS = StoreTimeouts()
