"""Many slow clients that hold connections open: `python -m bench.slow_clients PORT HOW_MANY SECONDS`.

For SECONDS it keeps HOW_MANY connections open: when the service closes one, it opens the next. Then it waits until
the last one is closed, for half a minute at most, and prints the results as JSON. It is a process of its own, with a
lower priority than the process that measures the service at the same time.
"""

import asyncio
import json
import os
import resource
import socket
import sys
from collections import Counter
from collections.abc import Callable
from time import perf_counter
from typing import Any

import uvloop

from bench.load import get
from service.web.wire import DEADLINE_SECONDS

TICKS = 250
"""Ticks per second. At each, a 250th of the connections send one byte, because real clients do not send in step."""
OPENED_PER_TICK = 2
"""Connections opened per tick, so 500 per second: more than twice what keeps 2,000 connections open."""
OTHER_FILES = 100
WAIT = 30.0

ALIVE = get("/livez")
HEAD = ALIVE[:-2] + b"X-Slow: "
BODY = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"

FIRST = {
    "silent": b"",
    "trickling a head": HEAD,
    "trickling a body": BODY,
    "idle after an answer": ALIVE,
    "trickling after an answer": ALIVE + HEAD,
}
"""The first bytes of each kind. (tests/web/test_wire.py tests clients that do not read their answers.)"""
TRICKLES = frozenset({"trickling a head", "trickling a body", "trickling after an answer"})


class Idler(asyncio.Protocol):
    """One connection, until the service closes it."""

    def __init__(self, kind: str, on_closed: Callable[["Idler"], None]) -> None:
        self.kind = kind
        self.since = perf_counter()
        """Start of its deadline: when it was opened, or the answer."""
        self.closed_after: float | None = None
        self._on_closed = on_closed
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.since = perf_counter()
        transport.write(FIRST[self.kind])

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 200"):
            self.since = perf_counter()

    def say_more(self) -> None:
        if self._transport is not None and not self._transport.is_closing() and self.kind in TRICKLES:
            self._transport.write(b"a")

    def eof_received(self) -> bool:
        self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        if self.closed_after is None:
            self.closed_after = perf_counter() - self.since
            self._on_closed(self)


class SlowClients:
    def __init__(self, port: int, how_many: int) -> None:
        self._port, self._how_many = port, how_many
        self._here: set[Idler] = set()
        self._kinds = list(FIRST)
        self._made = 0
        self.refused = 0
        self.closed: Counter[str] = Counter()
        self.longest: dict[str, float] = {}
        self.most = 0

    def _left(self, idler: Idler) -> None:
        self._here.discard(idler)
        assert idler.closed_after is not None
        self.closed[idler.kind] += 1
        self.longest[idler.kind] = max(self.longest.get(idler.kind, 0), idler.closed_after)

    async def stay(self, seconds: float) -> None:
        """Keep the connections open for `seconds`, then wait until all are closed."""
        begun, tick = perf_counter(), 0
        while (passed := perf_counter() - begun) < seconds + WAIT and (passed < seconds or self._here):
            if passed < seconds:
                await self._fill_up()
            for idler in list(self._here)[tick % TICKS :: TICKS]:
                idler.say_more()
            tick += 1
            await asyncio.sleep(max(0.0, begun + tick / TICKS - perf_counter()))

    async def _fill_up(self) -> None:
        missing = min(OPENED_PER_TICK, self._how_many - len(self._here))
        opened = [self._open(self._kinds[(self._made + n) % len(self._kinds)]) for n in range(missing)]
        self._made += missing
        await asyncio.gather(*opened)
        self.most = max(self.most, len(self._here))

    async def _open(self, kind: str) -> None:
        pair = socket.socket()
        pair.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(loop.sock_connect(pair, ("127.0.0.1", self._port)), 5)
            _, idler = await loop.create_connection(lambda: Idler(kind, self._left), sock=pair)
        except (OSError, TimeoutError):
            pair.close()
            self.refused += 1
        else:
            self._here.add(idler)

    def report(self) -> dict[str, object]:
        return {
            "most": self.most,
            "closed": sum(self.closed.values()),
            "left": len(self._here),
            "refused": self.refused,
            "latest": {kind: longest - DEADLINE_SECONDS for kind, longest in self.longest.items()},
        }


async def main(port: int, how_many: int, seconds: float) -> None:
    clients = SlowClients(port, how_many)
    await clients.stay(seconds)
    sys.stdout.write(json.dumps(clients.report()) + "\n")


def allow(how_many: int) -> None:
    """Raise the limit of file descriptors. Raises `RuntimeError` if the system does not allow it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < how_many + OTHER_FILES:
        raise RuntimeError(f"{how_many} sockets need more file descriptors than {hard} (see ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    os.nice(10)
    allow(int(sys.argv[2]))
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
