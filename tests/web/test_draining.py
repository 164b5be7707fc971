"""A service that stops loses no request: under load, with two workers, alone and behind a load balancer."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.load import ALIVE, CHANCE, REFRESH, Connection, Gone, Load, once
from tests.harness.ports import free_port
from tests.harness.rounds import rounds
from tests.harness.servers import REPOSITORY, clean_environment, keyturn

pytestmark = pytest.mark.heavy


@pytest.fixture
def environment(production: dict[str, Any]) -> dict[str, str]:
    return {f"KEYTURN_{name.upper()}": str(value) for name, value in production.items()}


READY_WITHIN = 180.0
"""Seconds that a service may take to start under the load."""


@pytest.fixture
def embedded(tmp_path: Path) -> dict[str, str]:
    return {"KEYTURN_DATA_DIR": str(tmp_path / "data")}


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
            assert time.monotonic() - began < 4
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


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("missing", "PROMETHEUS_MULTIPROC_DIR"),
        ("a file", "PROMETHEUS_MULTIPROC_DIR"),
        ("missing", "prometheus_multiproc_dir"),
    ],
)
def test_an_invalid_folder_for_metrics_is_refused(
    embedded: dict[str, str], tmp_path: Path, kind: str, name: str
) -> None:
    """The variable, or its former name, is read while the metrics are imported: one sentence, no traceback."""
    folder = tmp_path / "metrics"
    if kind == "a file":
        folder.write_text("")
    refused = subprocess.run(
        [sys.executable, "-m", "service", "serve"],
        env={**clean_environment(), **embedded, name: str(folder)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (2, 1) == (refused.returncode, len(refused.stderr.splitlines()))
    assert refused.stderr.startswith(f"keyturn: {name} names ")


@contextlib.asynccontextmanager
async def replica(environment: dict[str, str], port: int) -> AsyncIterator[None]:
    """Run a service of two workers, started and stopped outside the event loop of the load."""
    service = keyturn(environment, "--workers", "2", port=port, ready_within=READY_WITHIN)
    await asyncio.to_thread(service.__enter__)
    try:
        yield
    finally:
        await asyncio.to_thread(service.__exit__, None, None, None)


@pytest.mark.rounds
async def test_restarts_under_load_lose_no_request(environment: dict[str, str]) -> None:
    """In each restart of two workers, every request sent on an accepted connection is answered."""
    load = Load(free_port())
    async with load.running(*[load.fresh] * 4, *[load.kept] * 8, *[load.idle] * 30):
        for _ in range(rounds(2, long=5, everything=5)):
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


@pytest.mark.rounds
async def test_a_rolling_restart_behind_a_load_balancer_loses_no_request(environment: dict[str, str]) -> None:
    """Two replicas of two workers are restarted in turn: every client is served all the time."""
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
            for port in [*ports, *ports, ports[0]][: rounds(1, long=5, everything=5)]:
                await running[port].aclose()
                await running[port].enter_async_context(replica(environment, port))
                await balancer.see_all_ready()
    assert [] == balancer.in_vain
    load.check()
    assert 0 == load.outcomes["not accepted"]
