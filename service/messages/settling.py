"""Which events are settled: those up to a number below which no further event can become visible.

An event gets its number before its transaction commits, so that it may become visible after one with a higher number.
A reader that goes on after the highest number it has seen would skip it. On SQLite transactions write one after the
other. On PostgreSQL a transaction usually lasts milliseconds, but up to `LONGEST_TRANSACTION_SECONDS` from a replica
that is distant from the database.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from service.messages import events
from service.storage.database import Database
from service.waits import SETTLE_SECONDS

LONGEST_TRANSACTION_SECONDS = 30.0
"""Every transaction of the service ends earlier: see `_allowance` in `database_postgresql`. Other transactions on the
same server may last longer; events wait for them no longer than this."""


@dataclass(slots=True)
class _Sighting:
    """When the number of an event was seen.

    `outlasts` is the number of a transaction: all transactions with lower numbers must end before the event settles.
    """

    number: int
    at: float
    outlasts: int | None = None


class Settling:
    """Finds the number up to which events are settled, as one process sees them."""

    def __init__(
        self, database: Database, *, ticks: Callable[[], float] = time.monotonic, settle: float = SETTLE_SECONDS
    ) -> None:
        """`settle` is the number of seconds for which the number of an event must have been visible."""
        self._database = database
        self._settle_seconds = settle
        self._ticks = ticks
        self._seen: list[_Sighting] = []
        self.number = 0
        """The events up to this number are settled."""

    def see(self, number: int) -> None:
        """Note the number of a visible event."""
        if number > self.number:
            self._seen.append(_Sighting(number, self._ticks()))

    async def settle(self) -> int:
        """Return the number up to which events are settled. Raises `StoreUnavailable`."""
        moment = self._ticks()
        ripe = [seen for seen in self._seen if seen.at <= moment - self._settle_seconds]
        if ripe:
            self.number = max(self.number, await self._find_settled(ripe, moment))
            self._seen = [seen for seen in self._seen if seen.number > self.number]
        return self.number

    async def _find_settled(self, ripe: list[_Sighting], moment: float) -> int:
        running = await self._database.read_running()
        for seen in reversed(ripe):
            if seen.outlasts is None:
                seen.outlasts = running.next
            if seen.outlasts <= running.oldest or seen.at <= moment - LONGEST_TRANSACTION_SECONDS:
                return seen.number
        # A transaction runs. It has no number of an event if each number belongs to an event that is visible.
        return min(ripe[-1].number, await events.find_gap(self._database, self.number) - 1)
