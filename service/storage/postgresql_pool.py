"""A pool of connections that keeps opening a connection when the request that waited for it has given up.

A request waits for a connection for a limited time only (law 7: no fail-open, no hang). The handshake with a distant
server can take longer. It continues after the request has given up, and the connection then serves the next request.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

MAX_IDLE_SECONDS = 300.0
"""Seconds that a connection may stay unused: firewalls drop silent ones after five minutes or more."""

CLOSE_TIMEOUT_SECONDS = 2.0


class Connection(Protocol):
    """The methods of a connection that the pool uses."""

    def is_closed(self) -> bool: ...
    def terminate(self) -> None: ...
    async def close(self) -> None: ...


C = TypeVar("C", bound=Connection)


class Pool(Generic[C]):
    """A pool of up to `size` connections, opened with `connect`. The most recently used one is lent first."""

    def __init__(
        self, connect: Callable[[], Awaitable[C]], *, size: int, ticks: Callable[[], float] = time.monotonic
    ) -> None:
        self._connect = connect
        self._size = size
        self._ticks = ticks
        self._idle: deque[tuple[C, float]] = deque()
        self._lent: set[C] = set()
        self._attempts: set[asyncio.Task[None]] = set()
        self._waiters: deque[asyncio.Future[C]] = deque()
        self._is_closed = False

    def __len__(self) -> int:
        """The number of open connections."""
        return len(self._idle) + len(self._lent)

    def take_idle(self) -> C | None:
        """Return an idle connection, or `None`."""
        oldest_kept = self._ticks() - MAX_IDLE_SECONDS
        while self._idle and self._idle[0][1] < oldest_kept:
            self._idle.popleft()[0].terminate()
        while self._idle:
            connection, _ = self._idle.pop()
            if not connection.is_closed():
                self._lent.add(connection)
                return connection
            connection.terminate()
        return None

    def request(self) -> "asyncio.Future[C]":
        """Return a future for the next free or new connection, or for the error. Pass it to `withdraw` to give up."""
        waiter: asyncio.Future[C] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._connect_if_needed()
        return waiter

    def withdraw(self, waiter: "asyncio.Future[C]") -> None:
        """Stop waiting. If a connection arrived at the same moment, it goes to the next waiter."""
        with suppress(ValueError):
            self._waiters.remove(waiter)
        if not waiter.done():
            waiter.cancel()
        elif not waiter.cancelled() and waiter.exception() is None:
            self.release(waiter.result())

    def release(self, connection: C) -> None:
        """Give back a connection that may be used again."""
        self._lent.discard(connection)
        if connection.is_closed() or self._is_closed:
            connection.terminate()
            self._connect_if_needed()
        else:
            self._offer(connection)

    def discard(self, connection: C) -> None:
        """Give back a connection that must not be used again. It is cut, since the server may not answer."""
        self._lent.discard(connection)
        connection.terminate()
        self._connect_if_needed()

    async def close(self) -> None:
        self._is_closed = True
        for attempt in self._attempts:
            attempt.cancel()
        await asyncio.gather(*self._attempts, return_exceptions=True)
        for waiter in self._waiters:
            waiter.cancel()
        idle = [connection for connection, _ in self._idle]
        self._idle.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await asyncio.gather(*(connection.close() for connection in idle), return_exceptions=True)
        for connection in (*idle, *self._lent):
            connection.terminate()
        self._lent.clear()

    def _connect_if_needed(self) -> None:
        """Start one attempt for each waiter, up to the size of the pool."""
        while (
            not self._is_closed
            and len(self._attempts) < len(self._waiters)
            and len(self) + len(self._attempts) < self._size
        ):
            attempt = asyncio.create_task(self._attempt())
            self._attempts.add(attempt)
            attempt.add_done_callback(self._end_attempt)

    async def _attempt(self) -> None:
        try:
            connection = await self._connect()
        except Exception as error:  # noqa: BLE001 -- it is raised in the request that waits for the connection
            waiter = self._next_waiter()
            if waiter is not None:
                waiter.set_exception(error)
        else:
            self._offer(connection)

    def _end_attempt(self, attempt: "asyncio.Task[None]") -> None:
        self._attempts.discard(attempt)
        self._connect_if_needed()

    def _offer(self, connection: C) -> None:
        waiter = self._next_waiter()
        if waiter is not None:
            self._lent.add(connection)
            waiter.set_result(connection)
        else:
            self._idle.append((connection, self._ticks()))

    def _next_waiter(self) -> "asyncio.Future[C] | None":
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                return waiter
        return None
