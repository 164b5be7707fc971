"""Clients that send requests to a running service all the time, and a record of the requests that are lost."""

import asyncio
import contextlib
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

CHANCE = random.Random(24)  # noqa: S311 -- pauses, not secrets

ACCEPTED_WITHIN = 3.0
"""Seconds after which a connection counts as not accepted."""
ANSWERED_WITHIN = 10.0
"""Seconds after which a sent request counts as lost."""

ALIVE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODY = b"grant_type=refresh_token&refresh_token=none&client_id=keyturn"
REFRESH = (
    b"POST /token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


class Gone(Exception):
    """The connection ended before the answer was complete."""


@dataclass
class Connection:
    """A client connection that checks for a close before it sends, as the pools of HTTP clients do."""

    port: int
    end: socket.socket = field(default_factory=socket.socket)
    is_open: bool = False

    async def open(self, *, within: float = ACCEPTED_WITHIN) -> None:
        """Connect. Raise `OSError` or `TimeoutError` if the connection is not accepted."""
        self.end.setblocking(False)
        async with asyncio.timeout(within):
            await asyncio.get_running_loop().sock_connect(self.end, ("127.0.0.1", self.port))
        self.is_open = True

    def may_send(self) -> bool:
        """Return whether the server has not closed its side."""
        with contextlib.suppress(BlockingIOError):
            return self.is_open and self.end.recv(1, socket.MSG_PEEK) != b""
        return self.is_open

    async def ask(self, request: bytes, *, within: float = ANSWERED_WITHIN) -> bytes:
        """Return the head of the answer. Raise `Gone`, `OSError` or `TimeoutError` if it is incomplete."""
        self.end.send(request)
        answer = b""
        async with asyncio.timeout(within):
            while not _is_whole(answer):
                received = await asyncio.get_running_loop().sock_recv(self.end, 65536)
                if not received:
                    raise Gone
                answer += received
        head = answer.partition(b"\r\n\r\n")[0].lower()
        if b"connection: close" in head:
            self.close()
        return head

    def close(self) -> None:
        self.is_open = False
        self.end.close()


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    lengths = [line.partition(b":")[2] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(end) and len(body) >= int(lengths[0])


@dataclass
class Load:
    """Clients that send requests all the time, and a record of the outcomes."""

    port: int
    outcomes: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    is_over: bool = False

    @contextlib.asynccontextmanager
    async def running(self, *clients: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        running = [asyncio.create_task(self._repeat(client)) for client in clients]
        try:
            yield
        finally:
            self.is_over = True
            await asyncio.gather(*running)

    async def _repeat(self, client: Callable[[], Awaitable[None]]) -> None:
        while not self.is_over:
            await client()

    def check(self) -> None:
        """Assert that there was a load and that no request was lost."""
        assert [] == self.lost
        assert self.outcomes["fresh"] > 50
        assert self.outcomes["kept"] > 100

    async def fresh(self) -> None:
        """Use a new connection for each request."""
        connection = await self._opened()
        if connection is not None:
            await self._ask(connection, "fresh", CHANCE.choice((ALIVE, REFRESH)))
            connection.close()
            await asyncio.sleep(CHANCE.uniform(0.02, 0.1))

    async def kept(self) -> None:
        """Use a connection for as long as the server keeps it, with occasional requests."""
        await self._keep("kept", lambda: CHANCE.uniform(0.02, 0.2))

    async def idle(self) -> None:
        """Do the same, with pauses of about the time for which a stopping server keeps an idle connection."""
        await self._keep("idle", lambda: CHANCE.uniform(0.5, 2.0))

    async def _keep(self, kind: str, pause: Callable[[], float]) -> None:
        connection = await self._opened()
        if connection is None:
            return
        while connection.may_send() and not self.is_over:
            await self._ask(connection, kind, CHANCE.choice((ALIVE, REFRESH)))
            await asyncio.sleep(pause())
        connection.close()

    async def _opened(self) -> Connection | None:
        connection = Connection(self.port)
        try:
            await connection.open()
        except (OSError, TimeoutError):
            self.outcomes["not accepted"] += 1
            connection.close()
            await asyncio.sleep(0.2)
            return None
        return connection

    async def _ask(self, connection: Connection, kind: str, request: bytes) -> None:
        try:
            head = await connection.ask(request)
        except (Gone, OSError, TimeoutError) as error:
            self.lost.append(f"{kind} {type(error).__name__}")
            connection.close()
        else:
            status = head.split(b" ")[1].decode()
            expected = "200" if request is ALIVE else "400"
            if status != expected:
                self.lost.append(f"{kind} {status}")
            self.outcomes[kind] += 1


async def once(port: int, request: bytes = ALIVE) -> bytes:
    connection = Connection(port)
    await connection.open()
    head = await connection.ask(request)
    connection.close()
    return head
