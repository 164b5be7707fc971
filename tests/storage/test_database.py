"""One suite for both databases. Then: several processes, cancellation, and outages."""

import asyncio
import contextlib
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import pytest
from sqlalchemy.exc import OperationalError

from service.errors import MissingTable, StoreUnavailable
from service.storage import migrations
from service.storage.database import SCHEMA, Database, Transaction, schema_revision
from service.storage.timeouts import DATABASE_TIMEOUT_SECONDS
from tests.harness.clients import SECRET
from tests.harness.databases import opened
from tests.harness.servers import REPOSITORY, PostgreSQLServer, clean_environment, frozen, killed

GONE_WITHIN = 1.0
"""Seconds within which a database that does not answer is given up (law 7: no fail-open, no hang)."""

T = TypeVar("T")
TABLE = "CREATE TABLE counters (name TEXT PRIMARY KEY, value BIGINT NOT NULL, note BYTEA)"
ADD_ONE = "INSERT INTO counters (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING"


@dataclass(frozen=True)
class Backend:
    """A database with a table of counters, and its URL for other processes."""

    name: str
    url: str


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """SQLite, then PostgreSQL, each empty."""
    if request.param == "sqlite":
        return Backend("sqlite", f"sqlite:///{tmp_path / 'test.sqlite3'}")
    server: PostgreSQLServer = request.getfixturevalue("postgresql_server")
    return Backend("postgresql", server.url(server.new_database()))


@pytest.fixture
async def database(backend: Backend) -> AsyncIterator[Database]:
    async with opened(backend.url) as made:
        await made.write_one(TABLE)
        yield made


async def value_of(database: Database | Transaction, name: str) -> int | None:
    row = await database.fetch_one("SELECT value FROM counters WHERE name = $1", name)
    return None if row is None else int(row["value"])


async def add(database: Database, **counters: int) -> None:
    async with database.begin() as transaction:
        for name, value in counters.items():
            assert 1 == await transaction.execute(ADD_ONE, name, value)


class Broken(Exception):
    """An error in the middle of a transaction."""


async def test_a_transaction_commits_at_its_end(database: Database) -> None:
    """Other connections see what it wrote after the commit, and not before."""
    async with database.begin() as transaction:
        await transaction.execute(ADD_ONE, "a", 1)
        assert 1 == await value_of(transaction, "a"), "it sees what it wrote"
        assert await value_of(database, "a") is None, "other connections do not"
    assert 1 == await value_of(database, "a")


async def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    """All its statements are rolled back, whatever went wrong, and the error is raised unchanged."""
    await add(database, a=1)

    async def fail() -> None:
        async with database.begin() as transaction:
            await transaction.execute(ADD_ONE, "b", 2)
            await transaction.execute("UPDATE counters SET value = 9")
            raise Broken

    with pytest.raises(Broken):
        await fail()
    assert await value_of(database, "b") is None
    assert 1 == await value_of(database, "a")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO counters (name, value) VALUES ('a', 2)",
        "INSERT INTO counters (name) VALUES ('c')",
        "UPDATE counters SET no_such_column = 1",
        "not SQL at all",
    ],
)
async def test_a_statement_that_fails_undoes_those_before_it(database: Database, statement: str) -> None:
    """After a violated constraint or invalid SQL nothing of the transaction remains, and the next one works."""
    await add(database, a=1)

    async def fail() -> None:
        async with database.begin() as transaction:
            await transaction.execute(ADD_ONE, "b", 2)
            await transaction.execute(statement)

    with pytest.raises(Exception, match=r"\w"):
        await fail()
    assert await value_of(database, "b") is None
    await add(database, b=3)
    assert 3 == await value_of(database, "b")


async def test_an_empty_transaction_does_nothing(database: Database) -> None:
    """A transaction without statements, or with reads only, blocks nothing."""
    async with database.begin():
        pass
    async with database.begin() as transaction:
        assert await value_of(transaction, "a") is None
    with pytest.raises(Broken):
        async with database.begin():
            raise Broken
    await add(database, a=1)


async def test_the_number_of_rows_is_the_answer(database: Database) -> None:
    """A guarded UPDATE, INSERT or DELETE returns how many rows it changed: none, one or several."""
    async with database.begin() as transaction:
        for name in ("a", "b", "c"):
            assert 1 == await transaction.execute(ADD_ONE, name, 1)
        assert 0 == await transaction.execute(ADD_ONE, "a", 9)
        assert 0 == await transaction.execute("UPDATE counters SET value = 2 WHERE value > $1", 1)
        assert 1 == await transaction.execute("UPDATE counters SET value = 2 WHERE name = $1", "a")
        assert 1 == await transaction.execute("UPDATE counters SET value = value WHERE name = $1", "a")
        assert 3 == await transaction.execute("UPDATE counters SET value = 2")
        assert 0 == await transaction.execute("DELETE FROM counters WHERE name = $1", "z")
        assert 2 == await transaction.execute("DELETE FROM counters WHERE name <> $1", "a")


async def test_one_of_many_concurrent_guarded_statements_returns_the_row(database: Database) -> None:
    """Of fifty concurrent statements one returns the row, and the others return nothing."""
    await add(database, a=0)
    claim = "UPDATE counters SET value = $1 WHERE name = 'a' AND value < $1 RETURNING value"
    rows = await asyncio.gather(*(patiently(lambda: database.write_one(claim, 7)) for _ in range(50)))
    assert [7] == [row["value"] for row in rows if row is not None]
    insert = "INSERT INTO counters (name, value) VALUES ('b', $1) ON CONFLICT (name) DO NOTHING RETURNING value"
    rows = await asyncio.gather(*(patiently(partial(database.write_one, insert, n)) for n in range(50)))
    assert [await value_of(database, "b")] == [row["value"] for row in rows if row is not None]


async def test_values_are_read_as_they_were_written(database: Database) -> None:
    """Bytes, large numbers, text of every script and NULL are passed by position; one parameter is used twice."""
    sealed = bytes(range(256))
    name = "Zo\u00eb \u5bc6\u7801 \U0001f511 '; DROP TABLE counters; --"
    row = await database.write_one(
        "INSERT INTO counters (name, value, note) VALUES ($1, $2, $3) RETURNING name, value, note",
        name, 2**62, sealed,
    )  # fmt: skip
    assert row is not None
    assert (name, 2**62, sealed) == (row["name"], row["value"], bytes(row["note"]))
    rows = await database.fetch_all("SELECT name, note FROM counters WHERE value >= $1 AND value <= $1", 2**62)
    assert [(name, sealed)] == [(row["name"], bytes(row["note"])) for row in rows]
    assert await database.fetch_one("SELECT name FROM counters WHERE name = $1", "") is None
    assert [] == await database.fetch_all("SELECT name FROM counters WHERE note IS NULL")
    await database.write_one("UPDATE counters SET note = $1 RETURNING name", None)
    row = await database.fetch_one("SELECT note FROM counters")
    assert row is not None
    assert row["note"] is None


async def test_a_missing_table_has_its_own_error(database: Database) -> None:
    """Reads, writes and transactions raise it: the schema was never made, which is the operator's task."""
    for act in (database.fetch_one, database.fetch_all, database.write_one):
        with pytest.raises(MissingTable):
            await act("SELECT 1 FROM no_such_table")
    with pytest.raises(MissingTable):
        async with database.begin() as transaction:
            await transaction.execute("DELETE FROM no_such_table")
    assert await schema_revision(database) is None
    await add(database, a=1)


async def patiently(act: Callable[[], Awaitable[T]]) -> T:
    """Retry while the queue is too long: a refusal is allowed, a loss is not."""
    for _ in range(50):
        with contextlib.suppress(StoreUnavailable):
            return await act()
    raise AssertionError("the database was never available")


async def increment(database: Database) -> None:
    """Read, wait, write, as every operation does after it has locked its row."""
    async with database.begin() as transaction:
        await transaction.execute("UPDATE counters SET value = value WHERE name = 'a'")
        value = await value_of(transaction, "a")
        assert value is not None
        await asyncio.sleep(0)
        await transaction.execute("UPDATE counters SET value = $1 WHERE name = 'a'", value + 1)


async def test_fifty_concurrent_increments_add_fifty(database: Database) -> None:
    """Fifty transactions read and then write at once. Each locks the row first, so none is lost."""
    await add(database, a=0)
    await asyncio.gather(*(patiently(lambda: increment(database)) for _ in range(50)))
    assert 50 == await value_of(database, "a")


async def test_on_sqlite_a_commit_that_fails_leaves_nothing_open(tmp_path: Path) -> None:
    """Its rows are invisible to the next transaction of the same process: the username is still free."""
    (tmp_path / "data").mkdir()
    url = f"sqlite:///{tmp_path / 'data' / 'keyturn.sqlite3'}"
    await migrate(url)
    add_alice = "INSERT INTO users (id, username, password_hash, created_at) VALUES ($1, 'alice', 'x', 0)"

    async def add_and_fail(database: Database) -> None:
        async with database.begin() as transaction:
            await transaction.execute("PRAGMA defer_foreign_keys = ON")  # so that the failure happens at COMMIT
            await transaction.execute(add_alice, "1")
            await transaction.execute("INSERT INTO recovery_budgets (id) VALUES ('of nobody')")

    async with opened(url) as database:
        with pytest.raises(sqlite3.IntegrityError):
            await add_and_fail(database)
        async with database.begin() as transaction:
            taken = await transaction.fetch_one("SELECT id FROM users WHERE username = 'alice'")
            assert (None, 1) == (taken, await transaction.execute(add_alice, "2"))
        assert "2" == (await database.fetch_all("SELECT id FROM users"))[0]["id"]


async def test_on_sqlite_a_transaction_that_has_only_read_can_still_write(tmp_path: Path) -> None:
    """BEGIN IMMEDIATE: another process neither overtakes nor blocks a transaction that reads before it writes."""
    url = f"sqlite:///{tmp_path / 'test.sqlite3'}"
    async with opened(url) as one, opened(url) as two:
        await one.write_one(TABLE)
        await add(one, a=0)

        async def read_and_write(database: Database) -> None:
            async with database.begin() as transaction:
                value = await value_of(transaction, "a")
                assert value is not None
                await asyncio.sleep(0)
                await transaction.execute("UPDATE counters SET value = $1", value + 1)

        await asyncio.gather(*(read_and_write(database) for database in (one, two) * 5))
        assert 10 == await value_of(one, "a")


async def test_on_sqlite_both_waits_of_a_write_end_after_one_timeout(tmp_path: Path) -> None:
    """A write waits for another one of this process, and then for one of another process."""
    url = f"sqlite:///{tmp_path / 'test.sqlite3'}"
    async with opened(url) as other, opened(url, seconds=1) as database:
        await other.write_one(TABLE)
        await add(other, a=0)

        async def refused_after(pause: float, write: Callable[[], Awaitable[object]]) -> float:
            await asyncio.sleep(pause)
            begun = time.perf_counter()
            with pytest.raises(StoreUnavailable):
                await write()
            return time.perf_counter() - begun

        writes = [
            lambda: increment(database),
            lambda: database.write_one("UPDATE counters SET value = 9 RETURNING value"),
        ]
        async with other.begin() as transaction:
            await transaction.execute("UPDATE counters SET value = 1")
            waits = [refused_after(n / 4, writes[n % 2]) for n in range(4)]
            assert max(await asyncio.gather(*waits)) < 1.5
        await increment(database)


async def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    """While a transaction is open, readers see the state before it."""
    await add(database, a=1)
    async with database.begin() as transaction:
        await transaction.execute("UPDATE counters SET value = 2")
        assert [1] * 20 == list(await asyncio.gather(*(value_of(database, "a") for _ in range(20))))
    assert 2 == await value_of(database, "a")


# Cancellation: a client that disconnects


async def test_a_cancelled_transaction_leaves_nothing(database: Database) -> None:
    """Thirty requests are cancelled in the middle: nothing of them remains, and no connection is lost or in use."""
    for n in range(30):
        reached = asyncio.Event()

        async def stall(name: str = f"gone{n}", reached: asyncio.Event = reached) -> None:
            async with database.begin() as transaction:
                await transaction.execute(ADD_ONE, name, 1)
                reached.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(stall())
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [] == await database.fetch_all("SELECT name FROM counters")
    begun = time.perf_counter()
    await asyncio.gather(*(add(database, **{f"here{n}": 1}) for n in range(10)))
    assert 10 == len(await database.fetch_all("SELECT name FROM counters"))
    assert time.perf_counter() - begun < GONE_WITHIN


async def test_a_transfer_cancelled_anywhere_is_complete_or_absent(database: Database) -> None:
    """A hundred transfers are cancelled at any moment, also while they begin or commit: the sum never changes."""
    await add(database, a=1000, b=1000)

    async def transfer() -> None:
        async with database.begin() as transaction:
            await transaction.execute("UPDATE counters SET value = value - 1 WHERE name = 'a'")
            await transaction.execute("UPDATE counters SET value = value + 1 WHERE name = 'b'")

    finished = 0
    for n in range(100):
        task = asyncio.create_task(transfer())
        for _ in range(n % 12):
            await asyncio.sleep(0)
        if n % 3:
            await asyncio.sleep(0.0001 * (n * 37 % 40))
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
            finished += 1
        rows = await database.fetch_all("SELECT value FROM counters")
        assert 2000 == sum(row["value"] for row in rows)
    moved = 1000 - (await value_of(database, "a") or 0)
    assert finished <= moved <= 100, "a transfer that was reported as done is done"
    await increment(database)


async def test_a_cancelled_single_statement_is_done_at_most_once(database: Database) -> None:
    """After cancelling `write_one` at any moment the database works, and the statement ran at most once."""
    await add(database, a=0)
    reported = 0
    for n in range(60):
        task = asyncio.create_task(
            database.write_one("UPDATE counters SET value = value + 1 WHERE name = 'a' RETURNING value")
        )
        for _ in range(n % 15):
            await asyncio.sleep(0)
        if n % 2:
            await asyncio.sleep(0.0001 * n)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
            reported += 1
    value = await value_of(database, "a")
    assert value is not None
    assert reported <= value <= 60
    await increment(database)
    assert value + 1 == await value_of(database, "a")


async def test_waiting_transactions_can_be_cancelled(database: Database) -> None:
    """Twenty transactions wait behind a slow one and are cancelled: none of them runs, and the next one does."""
    await add(database, a=0)
    async with database.begin() as transaction:
        await transaction.execute("UPDATE counters SET value = 0 WHERE name = 'a'")
        tasks = [asyncio.create_task(increment(database)) for _ in range(20)]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await increment(database)
    assert 1 == await value_of(database, "a")


async def test_a_transaction_that_never_ends_blocks_others_only_for_a_second(backend: Backend) -> None:
    """A transaction that waits behind it runs or fails within a second; when it is over, all others run."""
    async with opened(backend.url, seconds=DATABASE_TIMEOUT_SECONDS) as database:
        await database.write_one(TABLE)
        await add(database, a=0)
        release = asyncio.Event()

        async def linger() -> None:
            async with database.begin() as transaction:
                await transaction.execute("UPDATE counters SET value = 0 WHERE name = 'a'")
                await release.wait()

        task = asyncio.create_task(linger())
        await asyncio.sleep(0.02)
        begun = time.perf_counter()
        with contextlib.suppress(StoreUnavailable):  # PostgreSQL may end the other one just before
            await increment(database)
        assert time.perf_counter() - begun < GONE_WITHIN
        release.set()
        await asyncio.gather(task, return_exceptions=True)
        assert await patiently(lambda: database.write_one("UPDATE counters SET value = 7 RETURNING value"))
        assert 7 == await value_of(database, "a")


# Several processes


WORKER = """
import asyncio, sys
from service.storage.connecting import connect_database
from service.errors import StoreUnavailable

async def main():
    database = connect_database(sys.argv[1])
    await database.open()
    done = 0
    while done < 25:
        try:
            async with database.begin() as transaction:
                await transaction.execute("UPDATE counters SET value = value WHERE name = 'a'")
                row = await transaction.fetch_one("SELECT value FROM counters WHERE name = 'a'")
                await transaction.execute("UPDATE counters SET value = $1 WHERE name = 'a'", row["value"] + 1)
        except StoreUnavailable:
            continue
        done += 1
    await database.close()

asyncio.run(main())
"""


def run_at_once(arguments: list[str], *, processes: int, environment: dict[str, str] | None = None) -> list[str]:
    """Run the same Python program in several processes; return what each wrote on standard error."""
    running = [
        subprocess.Popen(
            [sys.executable, *arguments],
            cwd=REPOSITORY,
            env={**clean_environment(), **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    output = [process.communicate(timeout=60)[1] for process in running]
    assert [0] * processes == [process.returncode for process in running], output
    return output


async def test_several_processes_can_share_one_database(backend: Backend, database: Database) -> None:
    """Two processes that increment one counter twenty-five times each add fifty, also on one SQLite file."""
    await add(database, a=0)
    await asyncio.to_thread(run_at_once, ["-c", WORKER, backend.url], processes=2)
    assert 50 == await value_of(database, "a")


async def migrate(url: str, *, to: str = "head") -> None:
    """Migrate in a thread, because Alembic needs one without an event loop; shorten its long tracebacks."""
    try:
        await asyncio.to_thread(migrations.migrate, url, to=to)
    except Exception as error:  # noqa: BLE001 -- it becomes the failure of the test
        pytest.fail(f"migrating raised {type(error).__name__}: {error}", pytrace=False)


def environment_of(backend: Backend, tmp_path: Path) -> dict[str, str]:
    if backend.name == "sqlite":
        return {"KEYTURN_DATA_DIR": str(tmp_path / "data")}
    return {"KEYTURN_DATABASE_URL": backend.url, "KEYTURN_MASTER_SECRETS": SECRET}


def url_of(backend: Backend, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/data/keyturn.sqlite3" if backend.name == "sqlite" else backend.url


async def test_four_processes_can_migrate_at_once(backend: Backend, tmp_path: Path) -> None:
    """Four replicas that start together on an empty database all succeed, and the schema is made once."""
    environment = environment_of(backend, tmp_path)
    output = await asyncio.to_thread(run_at_once, ["-m", "service", "migrate"], processes=4, environment=environment)
    assert [f"The schema is at {SCHEMA}.\n"] * 4 == output
    async with opened(url_of(backend, tmp_path)) as database:
        assert SCHEMA == await schema_revision(database)
        assert 1 == len(await database.fetch_all("SELECT version_num FROM alembic_version"))
        assert [] == await database.fetch_all("SELECT id FROM users")


async def test_a_migration_can_be_repeated(backend: Backend, tmp_path: Path) -> None:
    """Existing rows stay, also while another process has the database open."""
    url = url_of(backend, tmp_path)
    (tmp_path / "data").mkdir()
    await migrate(url)
    async with opened(url) as database:
        await database.write_one(
            "INSERT INTO users (id, username, password_hash, created_at) VALUES ('1', 'alice', 'x', 0) RETURNING id"
        )
        await migrate(url)
        assert 1 == len(await database.fetch_all("SELECT id FROM users"))


OF_0002 = (
    "INSERT INTO users (id, username, password_hash, created_at) VALUES ('1', 'alice', 'x', 0)",
    "INSERT INTO factors (id, user_id, epoch, secret, created_at, confirmed_at, last_step, failures, recent_failures)"
    " VALUES ('f', '1', 7, '\\x00', 5, 6, 59803200, 3, '1794000000')",
)


async def test_factors_of_an_older_schema_keep_their_state(backend: Backend, tmp_path: Path) -> None:
    """They keep last step, budget and credential version: a used code stays used, and a wait continues."""
    url = url_of(backend, tmp_path)
    (tmp_path / "data").mkdir()
    await migrate(url, to="0002")
    async with opened(url) as database, database.begin() as transaction:
        for statement in OF_0002:
            await transaction.execute(statement)
    await migrate(url)
    async with opened(url) as database:
        kept = {"user_id": "1", "epoch": 7, "confirmed_at": 6, "last_step": 59803200, "failures": 3}
        made = {"recent_failures": "1794000000", "name": "Authenticator", "offset_steps": 0, "told_at": 0}
        row = await database.fetch_one("SELECT * FROM totp_authenticators WHERE id = 'f'")
        assert row is not None
        assert {**kept, **made} == {name: row[name] for name in (*kept, *made)}
        async with database.begin() as transaction:
            await transaction.execute("DELETE FROM users WHERE id = '1'")
        assert [] == await database.fetch_all("SELECT id FROM totp_authenticators"), "the foreign key still exists"


async def test_a_failed_migration_changes_nothing(tmp_path: Path) -> None:
    """A step that fails leaves SQLite as it was, and undoes the statements before it."""
    url = f"sqlite:///{tmp_path}/keyturn.sqlite3"
    await migrate(url, to="0002")
    async with opened(url) as database, database.begin() as transaction:
        await transaction.execute("CREATE TABLE deliverer (id BIGINT)")  # the last statement of 0003
    with pytest.raises(OperationalError, match="already exists"):
        await asyncio.to_thread(migrations.migrate, url)
    async with opened(url) as database:
        assert "0002" == await schema_revision(database)
        assert [] == await database.fetch_all("SELECT name FROM sqlite_master WHERE name LIKE '%events%'")
        assert [] == await database.fetch_all("SELECT name FROM sqlite_master WHERE name = 'new_factors'")


def test_the_schema_this_version_needs_is_the_newest() -> None:
    """The revision that `serve` requires is the newest of the migrations that it contains."""
    assert migrations.head() == SCHEMA


# Files


def modes(folder: Path) -> dict[str, str]:
    return {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in folder.rglob("*")}


MIGRATE_AND_ADD = """
import os, sys
from service.cli import main
os.umask(0o022)
sys.exit(main(["migrate"]) or main(["users", "add", "alice"]))
"""


async def test_only_the_owner_can_read_the_files(tmp_path: Path) -> None:
    """Under the usual umask, 022, the folder has 0700, and the database, its WAL and every other file have 0600."""
    folder = tmp_path / "deep" / "data"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MIGRATE_AND_ADD,
        env={**clean_environment(), "KEYTURN_DATA_DIR": str(folder)},
        cwd=REPOSITORY,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    await process.communicate(b"correct horse battery staple\n")
    assert 0 == process.returncode
    async with opened(f"sqlite:///{folder}/keyturn.sqlite3") as database:
        await database.write_one("UPDATE users SET roles = 'staff' RETURNING id")
        found = modes(folder)
    assert "0o700" == oct(stat.S_IMODE(folder.stat().st_mode))
    assert {"keyturn.sqlite3", "keyturn.sqlite3-wal", "keyturn.sqlite3-shm", "master-secret"} <= set(found)
    assert {"0o600"} == set(found.values()), found


@pytest.mark.parametrize("name", ["with space", "100%20", "what?", "a#b", "Zo\u00eb", "semi;colon", "a=b&c"])
async def test_the_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    """The migrated file is the served file, whatever characters its path has."""
    folder = tmp_path / name
    folder.mkdir()
    url = f"sqlite:///{folder / 'keyturn.sqlite3'}"
    await migrate(url)
    async with opened(url) as database:
        assert SCHEMA == await schema_revision(database)
    assert [name] == await asyncio.to_thread(lambda: [path.name for path in tmp_path.iterdir()])


async def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    """Garbage, a folder, or a path where no file can be made raise `StoreUnavailable`, and no driver's error."""
    garbage, folder = tmp_path / "garbage", tmp_path / "folder"
    garbage.write_bytes(b"not a database " * 100)
    folder.mkdir()
    for path in (garbage, folder, tmp_path / "missing" / "test.sqlite3"):
        with pytest.raises(StoreUnavailable):
            async with opened(f"sqlite:///{path}") as database:
                await database.fetch_one("SELECT 1 FROM counters")


# PostgreSQL, unavailable and available again


@pytest.fixture(scope="module")
def fragile_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQLServer]:
    server = PostgreSQLServer(tmp_path_factory.mktemp("fragile"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def fragile(fragile_server: PostgreSQLServer) -> AsyncIterator[Database]:
    url = fragile_server.url(fragile_server.new_database())
    async with opened(url, seconds=DATABASE_TIMEOUT_SECONDS) as database:
        await database.write_one(TABLE)
        await add(database, a=0)
        yield database


async def refused_soon(act: Callable[[], Awaitable[object]]) -> None:
    begun = time.perf_counter()
    with pytest.raises(StoreUnavailable):
        await act()
    assert time.perf_counter() - begun < GONE_WITHIN


@pytest.mark.parametrize("fault", [frozen, killed])
async def test_an_unavailable_database_is_given_up_within_a_second(
    fragile_server: PostgreSQLServer,
    fragile: Database,
    fault: Callable[[PostgreSQLServer], contextlib.AbstractContextManager[None]],
) -> None:
    """Reads, writes and transactions fail, alone and thirty at once; all works again within three seconds."""
    await asyncio.gather(*(value_of(fragile, "a") for _ in range(10)))  # ten connections are open
    acts: list[Callable[[], Awaitable[object]]] = [
        lambda: value_of(fragile, "a"),
        lambda: fragile.fetch_all("SELECT 1"),
        lambda: fragile.write_one("UPDATE counters SET value = 9 RETURNING value"),
        lambda: increment(fragile),
    ]
    with fault(fragile_server):
        await asyncio.gather(*(refused_soon(act) for act in acts))  # each has a connection that worked
        await asyncio.gather(*(refused_soon(act) for act in acts * 8))  # now none of them gets a connection
    deadline = time.perf_counter() + 3
    while True:
        try:
            await increment(fragile)
            break
        except StoreUnavailable:
            assert time.perf_counter() < deadline, "it did not become available again"
    assert time.perf_counter() < deadline
    await asyncio.gather(*(value_of(fragile, "a") for _ in range(20)))


async def test_a_transaction_that_loses_its_database_is_rolled_back(
    fragile_server: PostgreSQLServer, fragile: Database
) -> None:
    """The server is killed between two statements: the caller gets an error, and nothing of them remains."""

    async def lose() -> None:
        async with fragile.begin() as transaction:
            await transaction.execute("UPDATE counters SET value = 7 WHERE name = 'a'")
            fragile_server.kill()
            await transaction.execute("UPDATE counters SET value = 8 WHERE name = 'a'")

    with pytest.raises(StoreUnavailable):
        await lose()
    fragile_server.start()
    assert 0 == await patiently(lambda: value_of(fragile, "a"))


async def test_a_frozen_transaction_is_rolled_back_when_the_server_continues(
    fragile_server: PostgreSQLServer, fragile: Database
) -> None:
    """A transaction that the service has given up does not keep its rows locked."""

    async def stall() -> None:
        async with fragile.begin() as transaction:
            await transaction.execute("UPDATE counters SET value = 7 WHERE name = 'a'")
            fragile_server.freeze()
            await transaction.execute("UPDATE counters SET value = 8 WHERE name = 'a'")

    try:
        with pytest.raises(StoreUnavailable):
            await stall()
    finally:
        fragile_server.thaw()
    await patiently(lambda: increment(fragile))
    assert 1 == await value_of(fragile, "a")


async def test_connections_ended_by_the_operator_are_replaced(
    fragile_server: PostgreSQLServer, fragile: Database
) -> None:
    """After a restart of PostgreSQL the first requests may fail, and then all succeed."""
    await asyncio.gather(*(value_of(fragile, "a") for _ in range(10)))
    terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'keyturn'"
    await asyncio.to_thread(fragile_server.run, terminate)
    for _ in range(20):
        await patiently(lambda: increment(fragile))
    assert 20 == await value_of(fragile, "a")


async def test_a_database_may_be_opened_before_it_is_available(fragile_server: PostgreSQLServer) -> None:
    """Opening sends nothing; the first request after the start of the server succeeds."""
    url = fragile_server.url(fragile_server.new_database())
    async with opened(url) as database:
        with killed(fragile_server):
            await refused_soon(lambda: database.fetch_one("SELECT 1"))
        assert await patiently(lambda: database.fetch_one("SELECT 1"))


@pytest.mark.parametrize(
    "alter",
    [
        lambda url: url.rpartition("/")[0] + "/no_such_database",
        lambda url: url.replace("keyturn@", "no_such_role@"),
        lambda url: url.replace("127.0.0.1", "no-such-host.invalid"),
    ],
    ids=["database", "role", "host"],
)
async def test_a_database_that_refuses_the_login_is_unavailable(
    postgresql_server: PostgreSQLServer, alter: Callable[[str], str]
) -> None:
    """A wrong name of a database, role or host raises `StoreUnavailable`, and no driver's error."""
    async with opened(alter(postgresql_server.url("postgres"))) as database:
        with pytest.raises(StoreUnavailable):
            await database.fetch_one("SELECT 1")


@pytest.mark.parametrize(
    "form",
    [
        "postgresql://keyturn@127.0.0.1:{port}/{name}?sslmode=disable",
        "postgres://keyturn@127.0.0.1:{port}/{name}",
        "postgresql://keyturn:p%40ss%2F1@localhost:{port}/{name}?application_name=keyturn",
        "postgresql:///{name}?host={folder}&port={port}&user=keyturn",
    ],
    ids=["sslmode", "postgres", "password", "unix socket"],
)
async def test_migrations_and_the_service_read_every_form_of_the_url_alike(
    postgresql_server: PostgreSQLServer, form: str
) -> None:
    """libpq's parameters, the other scheme, a quoted password and a Unix socket lead both to the same database."""
    name = postgresql_server.new_database()
    folder = quote(str(postgresql_server.data.parent), safe="")
    url = form.format(port=postgresql_server.port, name=name, folder=folder)
    await migrate(url)
    async with opened(url) as database:
        assert SCHEMA == await schema_revision(database)
