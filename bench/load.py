"""Load: requests written as bytes to persistent connections.

A Python HTTP client would be slower than the service, so this module implements the part of HTTP/1.1 that the service
uses: every answer with a body has a Content-Length. A loop ends when its list of requests ends.
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
"""Seconds after which a measurement is aborted."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    head: bytes = b""

    def header(self, name: str) -> str:
        """Return a header of the answer; empty if it is missing."""
        _, _, rest = self.head.lower().partition(f"\r\n{name.lower()}:".encode())
        return rest.partition(b"\r\n")[0].strip().decode()

    def json(self) -> Any:
        return json.loads(self.body)

    def need(self, status: int) -> "Answer":
        """Return the answer. Raises `RuntimeError`, which stops the run, if it has another status."""
        if self.status != status:
            raise RuntimeError(f"the service answered {self.status}: {self.body.decode()}")
        return self


class Connection:
    """One persistent connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, request: bytes) -> Answer:
        """Send one request and return its answer."""
        self._writer.write(request)
        return await self.receive()

    def write(self, data: bytes) -> None:
        """Write any bytes; `receive` reads the answer."""
        self._writer.write(data)

    async def receive(self) -> Answer:
        """Read the next answer. Raises `asyncio.IncompleteReadError` or `ConnectionError` if none comes."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        return Answer(int(head[9:12]), await self._reader.readexactly(int(length or 0)), head)

    async def receive_some(self, how_many: int) -> bytes:
        """Read at most so many bytes; none if the service has closed the connection."""
        return await self._reader.read(how_many)

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        """Reset the connection (RST), like a program that is killed with unread answers."""
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
    """Return a POST with a JSON body as bytes."""
    body = json.dumps(members).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n{_authorization(bearer)}\r\n".encode() + body


def tagged(request: bytes, identity: str) -> bytes:
    """Return the request with an id that its answer repeats."""
    line, _, rest = request.partition(b"\r\n")
    return b"%s\r\nX-Request-Id: %s\r\n%s" % (line, identity.encode(), rest)


def form(path: str, **members: str) -> bytes:
    """Return a POST with a form, for the OAuth 2.0 endpoints."""
    body = urlencode(members).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded"
    return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def get(path: str, *, bearer: str | None = None) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{_authorization(bearer)}\r\n".encode()


def _authorization(bearer: str | None) -> str:
    return f"Authorization: Bearer {bearer}\r\n" if bearer else ""


@contextmanager
def without_pauses() -> Iterator[None]:
    """Turn off garbage collection in this process, because it would delay answers by up to 80 ms."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def in_turn(port: int, how_many: int, work: Sequence[Callable[[Connection], Awaitable[object]]]) -> float:
    """Run a closed loop: `how_many` connections share the work, and each takes the next piece when it is done.

    Returns the pieces per second.
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
    """Run an open loop: request n is due n / `per_second` after the start, even if earlier ones are not done.

    Returns the seconds that each took. If a request had to wait for its connection, its time counts from when it was
    due; the delay of this process's timer (up to a millisecond) does not count.
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
class LoginBurst:
    """The results of a burst of logins."""

    answered: int = 0
    shed: int = 0


@asynccontextmanager
async def login_burst(
    port: int, how_many: int, requests: Sequence[bytes], *, pause: float
) -> AsyncIterator[LoginBurst]:
    """While the block runs, `how_many` connections repeat logins.

    A connection that is shed (503) tries again after about `pause` seconds, much sooner than its Retry-After. The
    pause varies from half to one and a half, else all would return at the same moment.
    """
    counted = LoginBurst()

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
