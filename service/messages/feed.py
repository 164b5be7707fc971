"""The events as the admin API gives them: those of one user, and all of them in the order of their numbers.

`read_after` returns only events that are settled (`settling`), so that a reader that goes on after the last number
skips none. If there are fewer of these than were asked for, and newer ones, it waits until these have settled.
"""

import time
from asyncio import sleep
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from service.errors import InvalidRequest
from service.messages import events
from service.messages.events import NumberedEvent
from service.messages.settling import Settling
from service.storage.database import Database
from service.storage.page import Cursors, Page
from service.waits import SETTLE_SECONDS

MAX_NUMBER = 2**63 - 1

MARGIN_SECONDS = 0.01
"""Seconds that are added to the wait for events to settle: a timer of uvloop may fire a millisecond early."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Events in the order of their numbers, and the number after which the next reading begins."""

    events: list[NumberedEvent]
    next_after: int


class EventFeed:
    """Reads events. `wait` waits for a number of seconds, until events have settled by the clock `ticks`."""

    def __init__(
        self,
        database: Database,
        cursors: Cursors,
        *,
        ticks: Callable[[], float] = time.monotonic,
        wait: Callable[[float], Awaitable[None]] = sleep,
        settle: float = SETTLE_SECONDS,
    ) -> None:
        self._database = database
        self._cursors = cursors
        self._wait = wait
        self._settling = Settling(database, ticks=ticks, settle=settle)
        self._wait_seconds = settle + MARGIN_SECONDS

    async def list_of_user(self, sub: str, *, limit: int, cursor: str | None = None) -> Page[NumberedEvent]:
        """Return the events of a user, the newest first. Raises `InvalidRequest` for a cursor of another list."""
        before = MAX_NUMBER if cursor is None else int(self._cursors.read(cursor, filters=sub))
        found = await events.list_before(self._database, sub, before, limit=limit + 1)
        shown = found[:limit]
        more = len(found) > limit
        return Page(tuple(shown), self._cursors.write(str(shown[-1].id), filters=sub) if more else None)

    async def read_after(self, after: int, *, limit: int) -> Batch:
        """Return the next settled events in the order of their numbers. This may wait until they have settled.

        While a long transaction runs, later events are missing: the reader asks for them again.
        Raises `InvalidRequest` if `after` is greater than every number: a backup was restored, whose numbers are used
        again, and the reader would miss the events until they reach its number.
        """
        found = await events.list_between(self._database, after, self._settling.number, limit=limit)
        if len(found) < limit:
            newest = await events.newest_number(self._database)
            if newest is None:
                return Batch([], after)
            if after > newest:
                raise InvalidRequest((("query.after", "No event has this number: begin again with an earlier one"),))
            if newest > max(after, self._settling.number):
                self._settling.see(newest)
                await self._wait(self._wait_seconds)
                settled = await self._settling.settle()
                found = await events.list_between(self._database, after, settled, limit=limit)
        return Batch(found, found[-1].id if found else after)
