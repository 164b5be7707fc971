"""Fairness between kinds of requests: two hundred logins at one moment do not stand in front of a single /verify.

The event loop begins whatever has arrived in the order of its arrival. So a burst of one kind, above all of logins
that will be shed, would be done as a whole before anything else is looked at. Here each kind has a turnstile of its
own, which lets one request through in each turn of the loop; in between the loop reads what else has come, goes on
with what has begun, and begins one of every other kind.
"""

import asyncio
from collections import deque
from collections.abc import Iterable


class Turnstile:
    """One a turn, in the order of arrival; who comes alone does not wait."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_turning = False

    async def let_in(self) -> None:
        loop = asyncio.get_running_loop()
        if self._is_turning:
            turn = loop.create_future()
            self._waiting.append(turn)
            await turn
        else:
            self._is_turning = True
            loop.call_soon(self._turn, loop)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else it was cancelled
                turn.set_result(None)
                loop.call_soon(self._turn, loop)
                return
        self._is_turning = False


class Turnstiles:
    """One for each kind of request: by the first segment of its path, if that is one of `paths`.

    Kinds of `at_once` have none. That is for what is cheaper than a turn of the loop is worth.
    """

    def __init__(self, paths: Iterable[str], *, at_once: Iterable[str] = ()) -> None:
        self._kinds: dict[str, Turnstile | None] = {_first_segment(path): Turnstile() for path in paths}
        self._kinds |= dict.fromkeys(map(_first_segment, at_once))
        self._elsewhere = Turnstile()

    async def let_in(self, path: str) -> None:
        turnstile = self._kinds.get(_first_segment(path), self._elsewhere)
        if turnstile is not None:
            await turnstile.let_in()


def _first_segment(path: str) -> str:
    return path[1:].partition("/")[0]
