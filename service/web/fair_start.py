"""Fairness between kinds of requests: a /verify does not wait until two hundred logins have started.

The event loop starts requests in the order of their arrival. Without this module it would process a whole burst of
one kind, above all of logins that will be refused because the hashing queue is full, before it starts anything else
(law 9: hashing is a bounded resource). Here each kind has its own queue, which starts one request in each iteration
of the loop. Between two starts the loop reads new requests, continues running ones, and starts one request of every
other kind.
"""

import asyncio
from collections import deque
from collections.abc import Iterable


class FairStart:
    """Start one request per iteration of the loop, in the order of arrival. A single request does not wait."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_busy = False

    async def wait(self) -> None:
        loop = asyncio.get_running_loop()
        if self._is_busy:
            waiter = loop.create_future()
            self._waiting.append(waiter)
            await waiter
        else:
            self._is_busy = True
            loop.call_soon(self._release_next, loop)

    def _release_next(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():  # else it was cancelled
                waiter.set_result(None)
                loop.call_soon(self._release_next, loop)
                return
        self._is_busy = False


class FairStarts:
    """A `FairStart` for each kind of request: each first segment of `paths` is one kind, all other paths are another.

    The kinds of `unqueued` have no queue: their requests are cheaper than an iteration of the loop.
    """

    def __init__(self, paths: Iterable[str], *, unqueued: Iterable[str] = ()) -> None:
        self._kinds: dict[str, FairStart | None] = {_first_segment(path): FairStart() for path in paths}
        self._kinds |= dict.fromkeys(map(_first_segment, unqueued))
        self._elsewhere = FairStart()

    async def wait(self, path: str) -> None:
        fair_start = self._kinds.get(_first_segment(path), self._elsewhere)
        if fair_start is not None:
            await fair_start.wait()


def _first_segment(path: str) -> str:
    return path[1:].partition("/")[0]
