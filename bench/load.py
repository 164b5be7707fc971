"""Load: requests written as bytes to connections that are kept open.

A Python HTTP client would be slower than the service, so this is HTTP/1.1 as far as the service speaks it: every
answer has a Content-Length. Loops are bounded by what they are given to send.
"""

import asyncio
import gc
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any
from urllib.parse import urlencode

PATIENCE = 60.0
"""Seconds after which a measurement that does not end is broken."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    head: bytes = b""

    def header(self, name: str) -> str:
        """Of the answer; empty if there is none."""
        _, _, rest = self.head.lower().partition(f"\r\n{name.lower()}:".encode())
        return rest.partition(b"\r\n")[0].strip().decode()

    def json(self) -> Any:
        return json.loads(self.body)

    def need(self, status: int) -> "Answer":
        """Stop the run unless the answer is what the measurement is about."""
        if self.status != status:
            raise RuntimeError(f"the service answered {self.status}: {self.body.decode()}")
        return self


class Connection:
    """One kept-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, request: bytes) -> Answer:
        """One request at a time."""
        self._writer.write(request)
        return await self.receive()

    def write(self, data: bytes) -> None:
        """Any bytes; what the service says to them is for `receive`."""
        self._writer.write(data)

    async def receive(self) -> Answer:
        """The next answer. Raises `asyncio.IncompleteReadError` or `ConnectionError` if none comes any more."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        return Answer(int(head[9:12]), await self._reader.readexactly(int(length or 0)), head)

    async def receive_some(self, how_many: int) -> bytes:
        """At most so many bytes of what comes; none when the service has closed."""
        return await self._reader.read(how_many)

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        """Go away without a word, as a program does that is killed with unread answers (RST)."""
        pair = self._writer.get_extra_info("socket")
        pair.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.close()


@asynccontextmanager
async def connections(port: int, how_many: int) -> AsyncIterator[list[Connection]]:
    opened: list[Connection] = []
    try:
        for _ in range(how_many):
            opened.append(Connection(*await asyncio.open_connection("127.0.0.1", port)))
        yield opened
    finally:
        for connection in opened:
            connection.close()


def post(path: str, *, bearer: str | None = None, **members: str) -> bytes:
    """A request, ready to be written."""
    body = json.dumps(members).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n{_authorization(bearer)}\r\n".encode() + body


def tagged(request: bytes, identity: str) -> bytes:
    """The same request, with an id that its answer repeats."""
    line, _, rest = request.partition(b"\r\n")
    return b"%s\r\nX-Request-Id: %s\r\n%s" % (line, identity.encode(), rest)


def form(path: str, **members: str) -> bytes:
    """The same, as the OAuth 2.0 endpoints take it."""
    body = urlencode(members).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded"
    return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def get(path: str, *, bearer: str | None = None) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{_authorization(bearer)}\r\n".encode()


def _authorization(bearer: str | None) -> str:
    return f"Authorization: Bearer {bearer}\r\n" if bearer else ""


@contextmanager
def without_pauses() -> Iterator[None]:
    """Our own garbage is not collected meanwhile: that would be 80 ms in which no answer is noticed."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def in_turn(port: int, how_many: int, work: Sequence[Callable[[Connection], Awaitable[object]]]) -> float:
    """Closed loop: `how_many` connections share the work, each takes the next piece when it has done one.

    Pieces done per second.
    """
    async with connections(port, how_many) as opened, asyncio.timeout(PATIENCE):
        pieces = iter(work)

        async def do(connection: Connection) -> None:
            for piece in pieces:
                await piece(connection)

        begun = perf_counter()
        async with asyncio.TaskGroup() as group:
            for connection in opened:
                group.create_task(do(connection))
        return len(work) / (perf_counter() - begun)


async def at_rate(
    port: int, how_many: int, per_second: float, requests: Sequence[bytes], *, expected: int = 200
) -> list[float]:
    """Open loop: request n is due n / `per_second` after the start, whatever became of those before it.

    The seconds each took. A request that had to wait for its connection counts from when it was due; the
    lateness of our own timer (up to a millisecond) does not count.
    """
    async with connections(port, how_many) as opened, asyncio.timeout(PATIENCE):
        took: list[float] = []

        async def do(nth: int) -> None:
            for n in range(nth, len(requests), how_many):
                begun = start + n / per_second
                wait = begun - perf_counter()
                if wait > 0:
                    await asyncio.sleep(wait)
                    begun = perf_counter()
                (await opened[nth].send(requests[n])).need(expected)
                took.append(perf_counter() - begun)

        with without_pauses():
            start = perf_counter()
            async with asyncio.TaskGroup() as group:
                for nth in range(how_many):
                    group.create_task(do(nth))
        return took


@dataclass
class Storm:
    """What a storm of logins came to."""

    answered: int = 0
    shed: int = 0


@asynccontextmanager
async def storm(port: int, how_many: int, requests: Sequence[bytes], *, pause: float) -> AsyncIterator[Storm]:
    """As long as the block runs, `how_many` connections log in, again and again.

    One that is shed (503) tries again after `pause` seconds, much sooner than the Retry-After it was given; some
    after half of it, some after one and a half, or they would all come back in one moment.
    """
    counted = Storm()

    async def hammer(connection: Connection, nth: int) -> None:
        for n in range(nth, 1_000_000, how_many):
            answer = await connection.send(requests[n % len(requests)])
            if answer.status == 503:
                if not answer.header("retry-after"):
                    raise RuntimeError("a login was shed without a Retry-After")
                counted.shed += 1
                await asyncio.sleep(pause * (0.5 + nth / how_many))
            else:
                answer.need(200)
                counted.answered += 1

    async with connections(port, how_many) as opened:
        hammering = [asyncio.create_task(hammer(connection, nth)) for nth, connection in enumerate(opened)]
        try:
            yield counted
        finally:
            for task in hammering:
                task.cancel()
            for failure in await asyncio.gather(*hammering, return_exceptions=True):
                if isinstance(failure, Exception):
                    raise failure
