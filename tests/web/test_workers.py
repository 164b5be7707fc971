"""Several workers and their parent: what signals, crashes and failed starts do."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.storage.database import SCHEMA
from tests.harness.children import children_of
from tests.harness.clients import SECRET
from tests.harness.load import ALIVE, REFRESH, Connection, Load, once
from tests.harness.ports import free_port
from tests.harness.servers import REPOSITORY, PostgreSQLServer, Served, clean_environment, keyturn

pytestmark = pytest.mark.heavy

READY = ALIVE.replace(b"/livez", b"/readyz")
WITHIN_SECONDS = 90.0
"""Seconds for what takes a start of Python and of the application, on a busy machine."""


@dataclass
class Service:
    """A running service of two workers, in a process group of its own."""

    port: int
    served: Served
    log: Path
    secrets: Path

    @property
    def parent(self) -> int:
        assert self.served.process.child is not None
        return self.served.process.child.pid

    def workers(self) -> set[int]:
        """Return the processes of the workers, also of those that start."""
        return {child for child in children_of(self.parent) if b"spawn_main" in read_proc(child, "cmdline")}

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of the log with that event."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]


def read_proc(pid: int, name: str) -> bytes:
    """Return a file of /proc, which is empty for a process that has ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


async def until(holds: Callable[[], object], *, seconds: float = WITHIN_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.fixture
async def serve(production: dict[str, Any], tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Return a function that starts a service of two workers with further settings."""
    secrets = tmp_path / "secrets"
    secrets.write_text(SECRET)
    environment = {
        "KEYTURN_DATABASE_URL": production["database_url"],
        "KEYTURN_REDIS_URL": production["redis_url"],
        "KEYTURN_MASTER_SECRETS_FILE": str(secrets),
    }
    async with contextlib.AsyncExitStack() as stack:

        async def start(**settings: str) -> Service:
            port, log = free_port(), tmp_path / "log"
            serving = keyturn(
                {**environment, **settings}, "--workers", "2", port=port, log=log, ready_within=180, own_group=True
            )
            served = await asyncio.to_thread(serving.__enter__)
            service = Service(port, served, log, secrets)
            stack.callback(kill_group, service.parent)
            stack.push_async_callback(asyncio.to_thread, serving.__exit__, None, None, None)
            await until(lambda: len(started(service)) == 2)
            return service

        yield start


def kill_group(leader: int) -> None:
    """Kill workers that a failed test has left without a parent."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def started(service: Service) -> set[int]:
    """Return the workers that the parent knows to be ready."""
    lines = service.log.read_text().splitlines()
    named = {json.loads(line)["event"] for line in lines if line.startswith("{")}
    return {pid for pid in service.workers() if f"Worker {pid} is ready." in named}


async def test_a_signal_to_the_whole_group_loses_no_request(serve: Callable[..., Any]) -> None:
    """systemd sends SIGTERM to all processes: they serve for KEYTURN_DRAIN_DELAY, and /readyz answers 503."""
    service = await serve(KEYTURN_DRAIN_DELAY="3")
    load = Load(service.port)
    async with load.running(*[load.fresh] * 3, *[load.kept] * 3):
        await asyncio.sleep(1)
        began = time.monotonic()
        os.killpg(service.parent, signal.SIGTERM)
        await asyncio.sleep(0.5)
        while time.monotonic() < began + 2.5:
            assert b" 503 " in (await once(service.port, READY)).splitlines()[0]
            await asyncio.sleep(0.1)
        assert 0 == load.outcomes["not accepted"]
        assert 0 == await asyncio.to_thread(service.served.process.stop)
        assert 3 <= time.monotonic() - began
    assert [] == load.lost
    assert load.outcomes["fresh"] > 20


async def test_a_second_interrupt_of_the_group_ends_running_requests(serve: Callable[..., Any]) -> None:
    """Ctrl+C twice ends two workers at once, without an error in the log."""
    service = await serve(KEYTURN_DRAIN_DELAY="60")
    connection = Connection(service.port)
    await connection.open()
    connection.end.send(REFRESH[:-1])  # the application waits for the last byte
    await asyncio.sleep(0.3)
    os.killpg(service.parent, signal.SIGINT)
    await asyncio.sleep(1)
    began = time.monotonic()
    os.killpg(service.parent, signal.SIGINT)
    assert service.served.process.child is not None
    await asyncio.to_thread(service.served.process.child.wait, 20)
    assert time.monotonic() - began < 5
    connection.close()
    assert '"level": "error"' not in service.log.read_text()
    assert "Traceback" not in service.log.read_text()


async def test_signals_to_a_worker_have_no_effect(serve: Callable[..., Any]) -> None:
    """The parent alone decides when a worker stops."""
    service = await serve()
    before = service.workers()
    for worker in before:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            os.kill(worker, number)
    await asyncio.sleep(1)
    assert b" 200 " in await once(service.port, READY)
    assert before == service.workers()


@pytest.mark.parametrize("obstacle", ["the schema", "the secrets"])
async def test_a_failed_replacement_leaves_the_other_worker(
    serve: Callable[..., Any], postgresql_server: PostgreSQLServer, production: dict[str, Any], obstacle: str
) -> None:
    """The parent tries again after 1 s, 2 s and so on, with one line and its reason each time, until it succeeds."""
    service = await serve()
    database = production["database_url"].rpartition("/")[2]
    dies, stays = service.workers()
    try:
        if obstacle == "the schema":
            await asyncio.to_thread(write_version, postgresql_server, database, "9999")
        else:
            service.secrets.rename(service.secrets.with_name("moved"))
        os.kill(dies, signal.SIGKILL)
        await until(lambda: len(service.lines("worker.not_started")) >= 2)
        assert stays in service.workers()
        assert b" 200 " in await once(service.port)
    finally:
        await asyncio.to_thread(write_version, postgresql_server, database, SCHEMA)
    if obstacle != "the schema":
        service.secrets.with_name("moved").rename(service.secrets)
    await until(lambda: len(started(service)) == 2)
    lines = service.lines("worker.not_started")
    assert [1, 2] == [line["retry_seconds"] for line in lines][:2]
    expected = "9999" if obstacle == "the schema" else "KEYTURN_MASTER_SECRETS_FILE"
    assert all(expected in line["reason"] for line in lines)
    assert "Traceback" not in service.log.read_text()
    assert '"level": "error"' not in service.log.read_text()
    assert stays in service.workers()


def write_version(server: PostgreSQLServer, database: str, version: str) -> None:
    """Let the database say that it has another schema."""
    server.run(f"UPDATE alembic_version SET version_num = '{version}'", database)


FAILING = """
import sys
from service import app
from service.cli import main
from service.errors import ConfigurationError

def fail(_settings):
    raise ConfigurationError("The file with the secrets is missing.")

app.create_app = fail  # a worker loads this file again, by another name

if __name__ == "__main__":
    sys.exit(main(["serve", "--workers", "2"]))
"""


def test_a_failure_at_the_first_start_ends_the_command(production: dict[str, Any], tmp_path: Path) -> None:
    """The last line is the reason, and the exit status is that of a mistake in the configuration."""
    script = tmp_path / "failing.py"
    script.write_text(FAILING)
    environment = {f"KEYTURN_{name.upper()}": str(value) for name, value in production.items()}
    ended = subprocess.run(
        [sys.executable, str(script)],
        env={**clean_environment(), **environment, "KEYTURN_PORT": str(free_port()), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=WITHIN_SECONDS,
        check=False,
    )
    assert 2 == ended.returncode
    assert "keyturn: The file with the secrets is missing." == ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


async def test_sighup_replaces_all_workers_and_loses_no_request(serve: Callable[..., Any]) -> None:
    """An old worker is stopped when its successor is ready, even if that takes longer than 6 s."""
    service = await serve(KEYTURN_DRAIN_DELAY="60")
    service.secrets.unlink()
    os.mkfifo(service.secrets)
    load = Load(service.port)
    async with load.running(load.fresh, load.fresh, load.kept):
        before = service.workers()
        service.served.process.send(signal.SIGHUP)
        await asyncio.sleep(6)
        assert before < service.workers()
        writing = asyncio.create_task(write_when_read(service.secrets))
        await until(lambda: len(started(service) - before) == 2 and not service.workers() & before)
        assert len(service.workers()) == 2
        await asyncio.sleep(0.5)
        writing.cancel()
    assert [] == load.lost
    assert 0 == load.outcomes["not accepted"]
    assert load.outcomes["fresh"] > 20
    service.served.process.send(signal.SIGINT)


async def write_when_read(pipe: Path) -> None:
    """Write the secret to each process that reads the named pipe."""
    while True:
        with contextlib.suppress(OSError):  # ENXIO: no process reads it
            end = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            os.write(end, SECRET.encode() + b"\n")
            os.close(end)
        await asyncio.sleep(0.5)


async def test_sighup_with_a_mistake_leaves_the_old_workers(serve: Callable[..., Any]) -> None:
    """The reason is logged, and nothing is tried again until the next SIGHUP."""
    service = await serve()
    before = service.workers()
    service.secrets.rename(service.secrets.with_name("moved"))
    service.served.process.send(signal.SIGHUP)
    await until(lambda: service.lines("worker.not_started"))
    await asyncio.sleep(3)
    assert before == service.workers()
    assert b" 200 " in await once(service.port, READY)
    (line,) = service.lines("worker.not_started")
    assert line["retry_seconds"] is None
    assert "KEYTURN_MASTER_SECRETS_FILE" in line["reason"]


async def test_sigterm_ends_a_restart_by_sighup(serve: Callable[..., Any]) -> None:
    """The parent does not wait for a worker that starts: this one waits for a reader of its secrets."""
    service = await serve()
    service.secrets.unlink()
    os.mkfifo(service.secrets)
    service.served.process.send(signal.SIGHUP)
    await until(lambda: len(service.workers()) == 3)
    await asyncio.sleep(0.5)
    began = time.monotonic()
    assert 0 == await asyncio.to_thread(service.served.process.stop)
    assert time.monotonic() - began < 5


async def test_workers_stop_when_their_parent_is_killed(serve: Callable[..., Any]) -> None:
    """They answer the requests that run, give the port back, and remove the folder of the metrics."""
    service = await serve(KEYTURN_DRAIN_DELAY="60")
    workers = service.workers()
    environment = read_proc(next(iter(workers)), "environ").split(b"\0")
    (folder,) = [Path(line.partition(b"=")[2].decode()) for line in environment if line.startswith(b"PROMETHEUS_")]
    assert list(folder.iterdir()) != []
    connection = Connection(service.port)
    await connection.open()
    connection.end.send(REFRESH[:-1])
    await asyncio.sleep(0.3)
    await asyncio.to_thread(service.served.process.kill)
    await until(lambda: can_listen(service.port), seconds=8)
    head = await connection.ask(REFRESH[-1:])
    assert b" 400 " in head.splitlines()[0] + b" "
    await until(lambda: not any(read_proc(worker, "cmdline") for worker in workers), seconds=20)
    assert not folder.exists()


def can_listen(port: int) -> bool:
    """Return whether a successor could have the port."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen()
        except OSError:
            return False
    return True


def test_sighup_ends_a_service_of_one_process_in_order(tmp_path: Path) -> None:
    """As SIGTERM does. The end of a terminal sends it."""
    with keyturn({"KEYTURN_DATA_DIR": str(tmp_path / "data")}) as served:
        served.process.send(signal.SIGHUP)
        assert served.process.child is not None
        assert 0 == served.process.child.wait(20)


def test_sigusr1_has_no_effect_on_a_service_of_one_process(tmp_path: Path) -> None:
    """Programs that rotate log files send it."""
    with keyturn({"KEYTURN_DATA_DIR": str(tmp_path / "data")}) as served:
        served.process.send(signal.SIGUSR1)
        time.sleep(0.5)
        assert 200 == httpx2.get(f"{served.url}/readyz", timeout=5).status_code
