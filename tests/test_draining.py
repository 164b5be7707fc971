"""A service that stops loses no request: under load, with two workers, alone and behind a load balancer."""

import asyncio
import contextlib
import json
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.servers import REPOSITORY, clean_environment, free_port, keyturn

pytestmark = pytest.mark.heavy

CHANCE = random.Random(24)  # noqa: S311 -- pauses, not secrets

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

    async def open(self) -> None:
        """Connect. Raise `OSError` or `TimeoutError` if the connection is not accepted."""
        self.end.setblocking(False)
        async with asyncio.timeout(3):
            await asyncio.get_running_loop().sock_connect(self.end, ("127.0.0.1", self.port))
        self.is_open = True

    def may_send(self) -> bool:
        """Return whether the server has not closed its side."""
        with contextlib.suppress(BlockingIOError):
            return self.is_open and self.end.recv(1, socket.MSG_PEEK) != b""
        return self.is_open

    async def ask(self, request: bytes) -> bytes:
        """Return the head of the answer. Raise `Gone`, `OSError` or `TimeoutError` if it is incomplete."""
        self.end.send(request)
        answer = b""
        async with asyncio.timeout(ANSWERED_WITHIN):
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


@pytest.fixture
def environment(production: dict[str, Any]) -> dict[str, str]:
    return {f"KEYTURN_{name.upper()}": str(value) for name, value in production.items()}


READY_WITHIN = 180.0
"""Seconds that a service may take to start under the load."""


@pytest.fixture
def embedded(tmp_path: Path) -> dict[str, str]:
    return {"KEYTURN_DATA_DIR": str(tmp_path / "data")}


async def once(port: int, request: bytes = ALIVE) -> bytes:
    connection = Connection(port)
    await connection.open()
    head = await connection.ask(request)
    connection.close()
    return head


async def test_a_service_keeps_serving_after_sigterm(embedded: dict[str, str]) -> None:
    """For `KEYTURN_DRAIN_DELAY` /readyz answers 503, and all other answers are as before with `Connection: close`."""
    port = free_port()
    ready = ALIVE.replace(b"/livez", b"/readyz")
    with keyturn({**embedded, "KEYTURN_DRAIN_DELAY": "3"}, port=port) as served:
        kept = Connection(port)
        await kept.open()
        assert b" 200 " in await kept.ask(ready)
        began = time.monotonic()
        served.process.send(signal.SIGTERM)
        while b" 503 " not in (head := await once(port, ready)):
            assert time.monotonic() - began < 2
        assert b"connection: close" in head
        for head in (await once(port), await kept.ask(ALIVE)):
            assert b" 200 " in head
            assert b"connection: close" in head
        assert 0 == await asyncio.to_thread(served.process.stop)
        assert 3 <= time.monotonic() - began


async def test_a_slow_body_is_waited_for_while_the_service_drains(embedded: dict[str, str]) -> None:
    """A request that begins during `KEYTURN_DRAIN_DELAY` has as long to arrive as before."""
    port = free_port()
    with keyturn({**embedded, "KEYTURN_DRAIN_DELAY": "6"}, port=port) as served:
        served.process.send(signal.SIGTERM)
        began = time.monotonic()
        while b" 503 " not in await once(port, ALIVE.replace(b"/livez", b"/readyz")):
            assert time.monotonic() - began < 2
        slow = Connection(port)
        await slow.open()
        slow.end.send(REFRESH[:-1])
        await asyncio.sleep(2)
        head = await slow.ask(REFRESH[-1:])
        assert b" 400 " in head.splitlines()[0] + b" "
        assert b"connection: close" in head
        assert 0 == await asyncio.to_thread(served.process.stop)


async def test_a_connection_that_the_kernel_has_accepted_is_served(embedded: dict[str, str]) -> None:
    """The connections were made while the process could not accept them, before it got SIGTERM."""
    port = free_port()
    with keyturn(embedded, port=port) as served:
        served.process.freeze()
        connections = [Connection(port) for _ in range(20)]
        for connection in connections:
            await connection.open()
        asking = [asyncio.create_task(connection.ask(ALIVE)) for connection in connections]
        await asyncio.sleep(0.1)
        served.process.send(signal.SIGTERM)
        served.process.thaw()
        heads = await asyncio.gather(*asking)
        assert 0 == await asyncio.to_thread(served.process.stop)
    assert all(b" 200 " in head and b"connection: close" in head for head in heads)


async def test_a_second_interrupt_ends_running_requests(embedded: dict[str, str], tmp_path: Path) -> None:
    """It does so at once, whatever the delay, and without an error in the log."""
    port, log = free_port(), tmp_path / "log"
    with keyturn({**embedded, "KEYTURN_DRAIN_DELAY": "60"}, port=port, log=log) as served:
        connection = Connection(port)
        await connection.open()
        connection.end.send(REFRESH[:-1])  # the application waits for the last byte
        await asyncio.sleep(0.3)
        served.process.send(signal.SIGINT)
        await asyncio.sleep(0.5)
        began = time.monotonic()
        await asyncio.to_thread(lambda: served.process.stop(by=signal.SIGINT))
        assert time.monotonic() - began < 5
        connection.close()
    levels = [json.loads(line)["level"] for line in log.read_text().splitlines() if line.startswith("{")]
    assert "error" not in levels
    assert "Traceback" not in log.read_text()


def test_a_process_that_still_imports_handles_sigterm(embedded: dict[str, str]) -> None:
    """The handler is set before the service's modules are imported: process 1 would otherwise ignore the signal."""
    held = subprocess.Popen(
        [sys.executable, "-c", IMPORTING],
        env={**clean_environment(), **embedded},
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
    )
    assert held.stdout is not None
    assert b"importing\n" == held.stdout.readline()
    held.send_signal(signal.SIGTERM)
    assert 0 == held.wait(20)
    held.stdout.close()


IMPORTING = """
import sys, time

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "service.cli":
            print("importing", flush=True)
            time.sleep(60)

sys.meta_path.insert(0, Slow())
sys.argv = ["keyturn", "serve"]
from service.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize("kind", ["missing", "a file"])
def test_an_invalid_folder_for_metrics_is_refused(embedded: dict[str, str], tmp_path: Path, kind: str) -> None:
    """PROMETHEUS_MULTIPROC_DIR is read while the metrics are imported: one sentence, no traceback."""
    folder = tmp_path / "metrics"
    if kind == "a file":
        folder.write_text("")
    refused = subprocess.run(
        [sys.executable, "-m", "service", "serve"],
        env={**clean_environment(), **embedded, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (2, 1) == (refused.returncode, len(refused.stderr.splitlines()))
    assert refused.stderr.startswith("keyturn: PROMETHEUS_MULTIPROC_DIR names ")


@contextlib.asynccontextmanager
async def replica(environment: dict[str, str], port: int) -> AsyncIterator[None]:
    """Run a service of two workers, started and stopped outside the event loop of the load."""
    service = keyturn(environment, "--workers", "2", port=port, ready_within=READY_WITHIN)
    await asyncio.to_thread(service.__enter__)
    try:
        yield
    finally:
        await asyncio.to_thread(service.__exit__, None, None, None)


async def test_restarts_under_load_lose_no_request(environment: dict[str, str]) -> None:
    """In five restarts of two workers, every request sent on an accepted connection is answered."""
    load = Load(free_port())
    async with load.running(*[load.fresh] * 4, *[load.kept] * 8, *[load.idle] * 30):
        for _ in range(5):
            async with replica(environment, load.port):
                await asyncio.sleep(1)
    load.check()


class Balancer:
    """A TCP load balancer: it connects to replicas whose `/readyz` is 200, and tries the next if one refuses."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self.ready: set[int] = set()
        self.in_vain: list[str] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        probing = [asyncio.create_task(self._probe(port)) for port in self.ports]
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in probing:
                task.cancel()
            await asyncio.gather(*probing, return_exceptions=True)

    async def see_all_ready(self) -> None:
        while len(self.ready) < len(self.ports):  # noqa: ASYNC110 -- probes come at intervals
            await asyncio.sleep(0.05)

    async def _probe(self, port: int) -> None:
        while True:
            connection = Connection(port)
            try:
                await connection.open()
                is_ready = b" 200 " in (await connection.ask(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            except (Gone, OSError, TimeoutError):
                is_ready = False
            finally:
                connection.close()
            (self.ready.add if is_ready else self.ready.discard)(port)
            await asyncio.sleep(0.1)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            replica = await self._connect()
            if replica is not None:
                await asyncio.gather(_pump(reader, replica[1]), _pump(replica[0], writer))
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        # With no replica ready it tries them all, as most load balancers do.
        ports = sorted(self.ready) or self.ports
        for port in CHANCE.sample(ports, len(ports)):
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(3):
                    return await asyncio.open_connection("127.0.0.1", port)
        self.in_vain.append(f"{len(self.ready)} ready")
        return None


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def test_a_rolling_restart_behind_a_load_balancer_loses_no_request(environment: dict[str, str]) -> None:
    """Two replicas of two workers are restarted in turn, five times: every client is served all the time."""
    environment = {**environment, "KEYTURN_DRAIN_DELAY": "1"}
    ports = [free_port(), free_port()]
    balancer = Balancer(ports)
    async with contextlib.AsyncExitStack() as stack:
        running = {}
        for port in ports:
            running[port] = await stack.enter_async_context(contextlib.AsyncExitStack())
            await running[port].enter_async_context(replica(environment, port))
        load = Load(await stack.enter_async_context(balancer.running()))
        await balancer.see_all_ready()
        async with load.running(*[load.fresh] * 6, *[load.kept] * 12):
            for port in [*ports, *ports, ports[0]]:
                await running[port].aclose()
                await running[port].enter_async_context(replica(environment, port))
                await balancer.see_all_ready()
    assert [] == balancer.in_vain
    load.check()
    assert 0 == load.outcomes["not accepted"]
