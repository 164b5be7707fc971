"""Fixtures: services with embedded settings (SQLite, in process) and production settings (PostgreSQL, Redis)."""

import contextlib
import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.app import create_app
from service.operations.tracing import Tracing
from service.settings import Settings
from service.storage.migrations import migrate
from service.storage.timeouts import StoreTimeouts
from service.users.passwords import CHEAPEST
from service.waits import WAITS, Waits
from tests.harness.adapters import share_adapters
from tests.harness.authorities import read_authorities_once
from tests.harness.canaries import Watch
from tests.harness.clients import PEER, SECRET, Client, Opener
from tests.harness.commands import Here
from tests.harness.databases import PATIENT
from tests.harness.launcher import launcher
from tests.harness.memory import keep_temporary_files_in_memory
from tests.harness.people import MovableClock, Person, sign_up
from tests.harness.routes import complete_routes_late
from tests.harness.servers import REPOSITORY, PostgreSQLServer, RedisServer, make_schema
from tests.harness.webhooks import Outbox, receiving, without_background

share_adapters()
complete_routes_late()
read_authorities_once()


HASH_QUEUE = 64
"""Password hashes that may wait, unless a test sets it: a slow machine must not refuse what a fast one accepts."""

WORKING_DATA = REPOSITORY / "data"
"""The data folder of a service that is started here without KEYTURN_DATA_DIR. Tests have folders of their own."""
_HAS_DATA = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    keep_temporary_files_in_memory()
    config.stash[_HAS_DATA] = WORKING_DATA.exists()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real Redis, shared by the tests; each test flushes it first."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQLServer]:
    """A real PostgreSQL with a migrated template, from which every test gets its own database."""
    server = PostgreSQLServer(tmp_path_factory.mktemp("postgresql"))
    server.start()
    server.run("CREATE DATABASE migrated")
    migrate(server.url("migrated"))
    yield server
    server.stop()


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def embedded(tmp_path: Path) -> dict[str, Any]:
    """Embedded settings: only a folder."""
    return {"data_dir": tmp_path / "data"}


@pytest.fixture
def production(
    redis_server: RedisServer, postgresql_server: PostgreSQLServer, tmp_path: Path
) -> Iterator[dict[str, Any]]:
    """Production settings: an empty database and an empty Redis. Messages to users are files in the folder."""
    redis_server.flush()
    database = postgresql_server.lend()
    yield {
        "data_dir": tmp_path / "data",
        "database_url": postgresql_server.url(database),
        "redis_url": redis_server.url,
        "master_secrets": SECRET,
    }
    postgresql_server.take_back(database)


@pytest.fixture(params=["embedded", "production"])
def world(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Embedded settings, then production settings."""
    settings: dict[str, Any] = request.getfixturevalue(request.param)
    return settings


@pytest.fixture
def open_client(clock: MovableClock) -> Opener:
    """A function that opens a service with the given settings in this process and yields a client of it."""

    @contextlib.asynccontextmanager
    async def opening(
        settings: dict[str, Any],
        *,
        peer: str = PEER,
        tracing: Tracing | None = None,
        timeouts: StoreTimeouts = PATIENT,
        waits: Waits = WAITS,
    ) -> AsyncIterator[Client]:
        chosen = Settings(**{"hash_queue": HASH_QUEUE, **settings})
        if chosen.database_url is None:
            make_schema(chosen)
        watch = Watch()
        app = create_app(
            chosen,
            clock,
            hash_cost=CHEAPEST,
            timeouts=timeouts,
            waits=waits,
            tracing=tracing or watch.tracing,
        )
        watch.begin()
        try:
            async with app.router.lifespan_context(app):
                async with Client(app, clock, watch, peer=peer) as client:
                    yield client
                await watch.search(client.parts)
        finally:
            watch.end()

    return opening


@pytest.fixture
async def client(world: dict[str, Any], open_client: Opener) -> AsyncIterator[Client]:
    """A client of a service with embedded settings, then with production settings."""
    async with open_client(world) as opened:
        yield opened


@pytest.fixture
async def alice(client: Client, clock: MovableClock) -> Person:
    """A user with a confirmed second factor whose current code is unused."""
    person = await sign_up(client, clock, "alice")
    await person.confirm()
    clock.next_step()
    return person


@pytest.fixture
def here(tmp_path: Path) -> Here:
    """Commands on a SQLite database that has its schema and is otherwise empty."""
    make_schema(Settings(data_dir=tmp_path / "data"))
    return Here({"KEYTURN_DATA_DIR": str(tmp_path / "data")})


@pytest.fixture
async def outbox(world: dict[str, Any], clock: MovableClock) -> AsyncIterator[Outbox]:
    with receiving() as receiver:
        async with without_background({**world, "webhook_url": receiver.url}, clock) as parts:
            yield Outbox(parts, receiver, clock)


SLOWEST = (
    "test_fault_suite",
    "test_account_page_in_chromium",
    "test_account_page_under_stress",
    "test_account_page_for_everyone",
    "test_account_page_between_users",
    "test_previous_version",
    "test_workers",
    "test_races",
    "test_refresh_races",
    "test_attack",
    "test_draining",
    "test_webhook",
    "test_openapi",
    "test_other_clients",
    "test_browser_client",
    "test_resealing",
    "test_mailbox_alone",
    "test_cli",
    "test_cli_accounts",
    "test_deploy_backup",
    "test_token_kinds",
    "test_model_and_service",
    "test_guides",
    "test_examples",
    "test_state_machine",
    "test_moving",
    "test_tracing",
    "test_deploy_monitoring",
    "test_postgresql",
    "test_doctor",
    "test_database",
)
"""Files with tests that take long. They run first: a worker that began one last would finish alone.

With `--dist worksteal` a worker that has nothing left takes the later half of what another has, so that a file is run
by one worker for the most part, which then starts its servers once.
"""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the slowest files come first."""
    ranks = {name: rank for rank, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep the garbage collector from looking at what is loaded now: it stays until the end of the run."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop the process that forks commands and servers. The run fails if a test made the folder of `make run`."""
    launcher().stop()
    if _has_left_data(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _has_left_data(config: pytest.Config) -> bool:
    """Return whether this run made the folder: one that was there before may belong to a service that runs."""
    is_worker = hasattr(config, "workerinput")
    return WORKING_DATA.exists() and not config.stash[_HAS_DATA] and not is_worker


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Report a folder that a test has left, and the number of secrets that were searched for: see canaries.py."""
    if _has_left_data(config):
        left = sorted(str(path.relative_to(REPOSITORY)) for path in (WORKING_DATA, *WORKING_DATA.rglob("*")))
        terminalreporter.write_line(
            f"A test has a service whose settings have no data_dir. Give it one, and remove: {', '.join(left[:9])}",
            red=True,
        )
    if Watch.searched_for:
        terminalreporter.write_line(f"Searched for {Watch.searched_for} canary secrets. No canary secret was found.")
