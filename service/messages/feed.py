"""The events as the admin API gives them: those of one user, and all of them in the order of their commits.

An event gets its number before its transaction commits, so that one with a lower number may become visible later. A
reader that asks for what comes after the last number it has seen would skip it. `read_after` therefore returns only
events up to a number that was the highest at least `SETTLE_SECONDS` ago: every transaction with a lower number has
ended since (`delivery`). If there are fewer of these than were asked for, and newer ones, it waits that long.
"""

from asyncio import sleep
from dataclasses import dataclass

from service.errors import InvalidRequest
from service.messages import events
from service.messages.delivery import SETTLE_SECONDS
from service.messages.events import NumberedEvent
from service.storage.database import Database
from service.storage.page import Cursors, Page

MAX_NUMBER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Batch:
    """Events in the order of their numbers, and the number after which the next reading begins."""

    events: list[NumberedEvent]
    next_after: int


class EventFeed:
    def __init__(self, database: Database, cursors: Cursors) -> None:
        self._database = database
        self._cursors = cursors
        self._settled = 0
        """Every event up to this number is visible, or never will be."""

    async def list_of_user(self, sub: str, *, limit: int, cursor: str | None = None) -> Page[NumberedEvent]:
        """Return the events of a user, the newest first. Raises `InvalidRequest` for a cursor of another list."""
        before = MAX_NUMBER if cursor is None else int(self._cursors.read(cursor, filters=sub))
        found = await events.list_before(self._database, sub, before, limit=limit + 1)
        shown = found[:limit]
        more = len(found) > limit
        return Page(tuple(shown), self._cursors.write(str(shown[-1].id), filters=sub) if more else None)

    async def read_after(self, after: int, *, limit: int) -> Batch:
        """Return the next events in the order of their numbers; this may take `SETTLE_SECONDS`.

        Raises `InvalidRequest` if `after` is greater than every number: a backup was restored, whose numbers are used
        again, and the reader would miss the events until they reach its number.
        """
        found = await events.list_between(self._database, after, self._settled, limit=limit)
        if len(found) < limit:
            newest = await events.newest_number(self._database)
            if newest is None:
                return Batch([], after)
            if after > newest:
                raise InvalidRequest((("query.after", "No event has this number: begin again with an earlier one"),))
            if newest > max(after, self._settled):
                await sleep(SETTLE_SECONDS)
                self._settled = max(self._settled, newest)
                found = await events.list_between(self._database, after, self._settled, limit=limit)
        return Batch(found, found[-1].id if found else after)
