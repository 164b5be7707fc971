"""Real servers for tests: PostgreSQL, Redis and Keyturn itself, on free ports, in temporary folders.

Every process is a child of the test run, or of the launcher that the test run starts (`launcher`), and is stopped by
its own id.
"""

import asyncio
import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
import redis

from service.settings import Settings
from service.storage.migrations import migrate
from tests.harness.children import children_of, freeze, has_ended
from tests.harness.emptying import Emptier
from tests.harness.launcher import Child, launcher
from tests.harness.ports import free_port

REPOSITORY = Path(__file__).parents[2]

READY_WITHIN = 60.0
"""Seconds after which a server that is not ready counts as broken, on a slow machine too."""
STOPPED_WITHIN = 20.0
"""Seconds after which a server that was told to stop is killed."""
ANSWERS_WITHIN = 2.0
"""Seconds after which a server that does not answer a check counts as not ready; the check is repeated."""


def missing(program: str) -> None:
    """Report an absent program: fail in CI, skip visibly elsewhere."""
    sentence = f"{program} is not installed: the tests that need it did not run"
    if os.environ.get("CI"):
        pytest.fail(sentence)
    pytest.skip(sentence)


def find_program(name: str, *places: str) -> str:
    """Return the path of a program, on PATH or in Debian's versioned folders."""
    found = shutil.which(name)
    if found:
        return found
    for place in places:
        for candidate in sorted(Path("/").glob(place.lstrip("/")), reverse=True):
            if (candidate / name).exists():
                return str(candidate / name)
    missing(name)
    raise AssertionError


@dataclass
class Process:
    """A child process that can be stopped, continued, killed and started again with the same arguments."""

    arguments: list[str]
    user: str | None = None
    environment: Mapping[str, str] | None = None
    log: Path | None = None
    own_group: bool = False
    """Whether it leads a process group of its own, as a service of systemd does."""
    child: "subprocess.Popen[bytes] | Child | None" = field(default=None, init=False)

    def start(self) -> None:
        out = self.log.open("ab") if self.log else subprocess.DEVNULL
        self.child = subprocess.Popen(
            self.arguments,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            user=self.user,
            env=self.environment,
            cwd=REPOSITORY,
            process_group=0 if self.own_group else None,
        )
        if not isinstance(out, int):
            out.close()

    def send(self, number: signal.Signals) -> None:
        assert self.child is not None
        self.child.send_signal(number)

    def freeze(self) -> None:
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(signal.SIGCONT)
            self.child.kill()
            self.child.wait()

    def stop(self, *, within: float = STOPPED_WITHIN, by: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal to stop and return its exit status; kill it after `within` seconds."""
        assert self.child is not None
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGCONT)
            self.child.send_signal(by)
            try:
                self.child.wait(within)
            except subprocess.TimeoutExpired:
                self.kill()
        assert self.child.returncode is not None
        return self.child.returncode


@contextlib.contextmanager
def frozen(process: Process) -> Iterator[None]:
    """Stop a process, and let it continue after the block."""
    process.freeze()
    try:
        yield
    finally:
        process.thaw()


@contextlib.contextmanager
def killed(process: Process) -> Iterator[None]:
    """Kill a process, and start it again after the block."""
    process.kill()
    try:
        yield
    finally:
        process.start()


class Forked(Process):
    """A `keyturn` command that is forked from a process which has loaded the program."""

    def start(self) -> None:
        assert self.environment is not None
        self.child = launcher().start(self.arguments, environment=self.environment, log=self.log)


def wait_until(works: Callable[[], object], *, seconds: float = READY_WITHIN) -> None:
    """Call `works` until it does not raise."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            works()
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


class RedisServer(Process):
    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        program = find_program("redis-server")
        super().__init__(
            [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), *options]
        )

    def start(self) -> None:
        super().start()
        wait_until(self.ping)

    def ping(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.ping()

    def flush(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.flushall()


class PostgreSQLServer(Process):
    """A cluster of its own, run by an unprivileged user, because PostgreSQL refuses to run as root."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.data = folder / "data"
        initdb = find_program("initdb", "/usr/lib/postgresql/*/bin")
        user = None
        if os.geteuid() == 0:
            user = "postgres"
            shutil.chown(folder, user)
            for parent in folder.parents:  # pytest's temporary folders are 0700
                if "/pytest-of-" in str(parent):
                    parent.chmod(0o755)
        subprocess.run(
            [initdb, "-D", str(self.data), "-U", "keyturn", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True,
            stdout=subprocess.DEVNULL,
            user=user,
            cwd="/",
        )
        postgres = find_program("postgres", "/usr/lib/postgresql/*/bin")
        options = [f"port={self.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={folder}"]
        options += ["max_connections=200", "logging_collector=off", "fsync=off", "full_page_writes=off"]
        arguments = [postgres, "-D", str(self.data)]
        for option in options:
            arguments += ["-c", option]
        super().__init__(arguments, user=user)
        self.databases = 0
        self._emptier: Emptier | None = None
        self.spare: list[str] = []

    def start(self) -> None:
        super().start()
        wait_until(self.serves)

    def serves(self) -> None:
        """Raise unless it answers. After a kill it may refuse to start while an old backend is still ending."""
        if self.child is not None and self.child.poll() is not None:
            super().start()
        self.run("SELECT 1")

    def stop(self, *, within: float = STOPPED_WITHIN, by: signal.Signals = signal.SIGINT) -> int:
        if self._emptier is not None:
            self._emptier.close()
            self._emptier = None
        return super().stop(within=within, by=by)  # SIGINT is the fast shutdown

    def send(self, number: signal.Signals) -> None:
        """Send the signal to the backends, which would outlive the postmaster for a while, and to the postmaster.

        The postmaster is stopped first, so that it starts no other backend meanwhile.
        """
        assert self.child is not None
        freeze(self.child.pid)
        for backend in children_of(self.child.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(backend, number)
        super().send(number)

    def kill(self) -> None:
        """Kill it and wait for its backends: while one of them exists, its shared memory prevents a new start."""
        if self.child is not None and self.child.poll() is None:
            freeze(self.child.pid)
            backends = children_of(self.child.pid)
            self.send(signal.SIGKILL)
            self.child.wait()

            def have_ended() -> None:
                assert all(map(has_ended, backends))

            wait_until(have_ended)

    def url(self, database: str, *, user: str = "keyturn", host: str = "127.0.0.1") -> str:
        return f"postgresql://{user}@{host}:{self.port}/{database}"

    def run(self, sql: str, database: str = "postgres", *, connected_within: float = 5) -> None:
        async def once() -> None:
            connection = await asyncpg.connect(self.url(database), timeout=connected_within)
            try:
                await connection.execute(sql)
            finally:
                await connection.close()

        self._in_thread(once())

    @staticmethod
    def _in_thread(work: Coroutine[Any, Any, None]) -> None:
        with ThreadPoolExecutor(1) as thread:  # a test's event loop may be running in this thread
            thread.submit(asyncio.run, work).result()

    def lend(self) -> str:
        """Hand out a migrated, empty database, which `take_back` accepts again."""
        return self.spare.pop() if self.spare else self.new_database("migrated")

    def take_back(self, name: str) -> None:
        """Empty it for the next test, which takes less than a tenth of the time of making another database."""
        self._emptier = self._emptier or Emptier()
        with contextlib.suppress(asyncpg.PostgresError, OSError):  # in use or broken: no other test gets it
            self._emptier.empty(self.url(name))
            self.spare.append(name)

    def new_database(self, template: str | None = None) -> str:
        self.databases += 1
        name = f"world{self.databases}"
        self.run(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
        return name


class PgBouncer(Process):
    """A pooler in front of `server`, in transaction mode by default."""

    def __init__(
        self, folder: Path, server: PostgreSQLServer, *, pool_size: int = 2, mode: str = "transaction"
    ) -> None:
        self.port = free_port()
        configuration = folder / "pgbouncer.ini"
        configuration.write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port} user=keyturn\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = any\nauth_file =\npool_mode = {mode}\ndefault_pool_size = {pool_size}\n"
            "max_client_conn = 500\n"
        )
        if server.user is not None:  # it refuses to run as root, like PostgreSQL
            for parent in (folder, *folder.parents):
                if "/pytest-of-" in str(parent):
                    parent.chmod(0o755)
        program = find_program("pgbouncer", "/usr/sbin")
        super().__init__([program, str(configuration)], user=server.user, log=folder / "log")

    def start(self) -> None:
        super().start()
        wait_until(lambda: socket.create_connection(("127.0.0.1", self.port), ANSWERS_WITHIN).close())

    def url(self, database: str) -> str:
        return f"postgresql://keyturn@127.0.0.1:{self.port}/{database}"


def make_schema(settings: Settings) -> None:
    """Migrate an empty database to the newest schema; an embedded one by a copy of a file that was migrated once."""
    if settings.database_url is not None:
        migrate(settings.resolved_database_url)
        return
    settings.make_data_dir()
    with contextlib.suppress(FileExistsError):
        settings.sqlite_file.touch(mode=0o600, exist_ok=False)
        settings.sqlite_file.write_bytes(_migrated_file())


@functools.cache
def _migrated_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "keyturn.sqlite3"
        migrate(f"sqlite:///{file}")
        return file.read_bytes()


@dataclass
class Served:
    """A running Keyturn."""

    url: str
    process: Process


@contextlib.contextmanager
def keyturn(
    environment: Mapping[str, str],
    *arguments: str,
    log: Path | None = None,
    port: int | None = None,
    ready_within: float = READY_WITHIN,
    makes_schema: bool = False,
    own_group: bool = False,
) -> Iterator[Served]:
    """Run `keyturn serve` in its own process until the block ends.

    The embedded database has its schema already, unless the server has to make it, which takes another process.
    """
    if not makes_schema and "KEYTURN_DATABASE_URL" not in environment and "KEYTURN_DATA_DIR" in environment:
        make_schema(Settings(data_dir=Path(environment["KEYTURN_DATA_DIR"])))
    port = port or free_port()
    command = ["serve", "--port", str(port), *arguments]
    settings = {**clean_environment(), **environment}
    # Several workers are started by a server of their own, as in production.
    process = (
        Process([sys.executable, "-m", "service", *command], environment=settings, log=log, own_group=own_group)
        if "--workers" in arguments
        else Forked(command, environment=settings, log=log)
    )
    process.start()
    url = f"http://127.0.0.1:{port}"

    def healthy() -> None:
        if process.child is not None and process.child.poll() is not None:
            raise RuntimeError(f"keyturn exited with {process.child.returncode}")
        assert 200 == httpx2.get(f"{url}/readyz", timeout=ANSWERS_WITHIN).status_code

    try:
        wait_until(healthy, seconds=ready_within)
        yield Served(url, process)
    finally:
        process.stop()


def clean_environment() -> dict[str, str]:
    """This process's environment without its Keyturn settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("KEYTURN_")}
