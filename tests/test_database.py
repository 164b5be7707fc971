"""One contract for both databases; then what each must bear: several processes, cancellation, and being gone."""

import asyncio
import contextlib
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import pytest
from sqlalchemy.exc import OperationalError

from service import migrations
from service.components import connect_database
from service.database import SCHEMA, Database, Transaction, schema_revision
from service.errors import MissingTable, StoreUnavailable
from tests.conftest import SECRET
from tests.servers import REPOSITORY, PostgreSQLServer, clean_environment, wait_until

GONE_WITHIN = 1.0
"""Seconds after which a database that does not answer has been given up (law 7: no fail-open, no hang)."""

T = TypeVar("T")
TABLE = "CREATE TABLE counters (name TEXT PRIMARY KEY, value BIGINT NOT NULL, note BYTEA)"
ADD_ONE = "INSERT INTO counters (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING"


@dataclass(frozen=True)
class Backend:
    """A database with a table of counters, and the URL that another process reaches it by."""

    name: str
    url: str


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Both databases, one after the other, empty."""
    if request.param == "sqlite":
        return Backend("sqlite", f"sqlite:///{tmp_path / 'test.sqlite3'}")
    server: PostgreSQLServer = request.getfixturevalue("postgresql_server")
    return Backend("postgresql", server.url(server.new_database()))


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = connect_database(url)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


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
    """What goes wrong in the middle."""


async def test_a_transaction_commits_at_its_end(database: Database) -> None:
    """What was written is there for everybody, and was not before."""
    async with database.begin() as transaction:
        await transaction.execute(ADD_ONE, "a", 1)
        assert 1 == await value_of(transaction, "a"), "it sees what it wrote"
        assert await value_of(database, "a") is None, "nobody else does"
    assert 1 == await value_of(database, "a")


async def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    """Every statement of it is undone, whatever went wrong, and the error comes out as it was."""
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
    """A broken constraint, or our own bad SQL: nothing of the transaction stays, and the next one works."""
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
    """Neither one without statements nor one that only reads holds anything up."""
    async with database.begin():
        pass
    async with database.begin() as transaction:
        assert await value_of(transaction, "a") is None
    with pytest.raises(Broken):
        async with database.begin():
            raise Broken
    await add(database, a=1)


async def test_the_number_of_rows_is_the_answer(database: Database) -> None:
    """A guarded UPDATE, INSERT or DELETE says how many rows it touched: none, one or several."""
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


async def test_who_gets_the_row_has_won(database: Database) -> None:
    """Of fifty that write one guarded statement at once one gets the row, and the others nothing."""
    await add(database, a=0)
    claim = "UPDATE counters SET value = $1 WHERE name = 'a' AND value < $1 RETURNING value"
    rows = await asyncio.gather(*(patiently(lambda: database.write_one(claim, 7)) for _ in range(50)))
    assert [7] == [row["value"] for row in rows if row is not None]
    insert = "INSERT INTO counters (name, value) VALUES ('b', $1) ON CONFLICT (name) DO NOTHING RETURNING value"
    rows = await asyncio.gather(*(patiently(lambda n=n: database.write_one(insert, n)) for n in range(50)))  # type: ignore[misc]
    assert [await value_of(database, "b")] == [row["value"] for row in rows if row is not None]


async def test_values_come_back_as_they_went(database: Database) -> None:
    """Bytes, great numbers, text of every script, nothing; by position, and one parameter used twice."""
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
    """Reading, writing and in a transaction: the schema was never made, which is for the operator."""
    for act in (database.fetch_one, database.fetch_all, database.write_one):
        with pytest.raises(MissingTable):
            await act("SELECT 1 FROM no_such_table")
    with pytest.raises(MissingTable):
        async with database.begin() as transaction:
            await transaction.execute("DELETE FROM no_such_table")
    assert await schema_revision(database) is None
    await add(database, a=1)


async def patiently(act: Callable[[], Awaitable[T]]) -> T:
    """Try again where the queue was too long: a refusal is honest, a loss is not."""
    for _ in range(50):
        with contextlib.suppress(StoreUnavailable):
            return await act()
    raise AssertionError("the database was never available")


async def increment(database: Database) -> None:
    """Read, think, write: as every act does that holds its row first."""
    async with database.begin() as transaction:
        await transaction.execute("UPDATE counters SET value = value WHERE name = 'a'")
        value = await value_of(transaction, "a")
        assert value is not None
        await asyncio.sleep(0)
        await transaction.execute("UPDATE counters SET value = $1 WHERE name = 'a'", value + 1)


async def test_fifty_increments_make_fifty(database: Database) -> None:
    """Read, then write, fifty at once: with the row held first, none is lost."""
    await add(database, a=0)
    await asyncio.gather(*(patiently(lambda: increment(database)) for _ in range(50)))
    assert 50 == await value_of(database, "a")


async def test_on_sqlite_a_commit_that_fails_leaves_nothing_open(tmp_path: Path) -> None:
    """Its rows are gone for the next transaction of the same process: a new username is not taken by one of them."""
    (tmp_path / "data").mkdir()
    url = f"sqlite:///{tmp_path / 'data' / 'keyturn.sqlite3'}"
    await migrate(url)
    add_alice = "INSERT INTO users (id, username, password_hash, created_at) VALUES ($1, 'alice', 'x', 0)"

    async def add_and_fail(database: Database) -> None:
        async with database.begin() as transaction:
            await transaction.execute("PRAGMA defer_foreign_keys = ON")  # what fails, fails at COMMIT
            await transaction.execute(add_alice, "1")
            await transaction.execute("INSERT INTO recovery_budgets (id) VALUES ('of nobody')")

    async with opened(url) as database:
        with pytest.raises(sqlite3.IntegrityError):
            await add_and_fail(database)
        async with database.begin() as transaction:
            taken = await transaction.fetch_one("SELECT id FROM users WHERE username = 'alice'")
            assert (None, 1) == (taken, await transaction.execute(add_alice, "2"))
        assert "2" == (await database.fetch_all("SELECT id FROM users"))[0]["id"]


async def test_on_sqlite_a_transaction_that_only_read_yet_has_its_turn(tmp_path: Path) -> None:
    """BEGIN IMMEDIATE: who reads before he writes is neither overtaken nor refused, by another process either."""
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


async def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    """While a transaction is open everybody reads what was before it."""
    await add(database, a=1)
    async with database.begin() as transaction:
        await transaction.execute("UPDATE counters SET value = 2")
        assert [1] * 20 == list(await asyncio.gather(*(value_of(database, "a") for _ in range(20))))
    assert 2 == await value_of(database, "a")


# Cancellation: a client that goes away


async def test_a_cancelled_transaction_leaves_nothing(database: Database) -> None:
    """Thirty requests go away in the middle: nothing of theirs stays, and no connection is lost or still in use."""
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


async def test_cancelled_anywhere_a_transfer_happens_whole_or_not_at_all(database: Database) -> None:
    """A hundred transfers, cancelled at any moment, also while they begin or commit: the sum never changes."""
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
    assert finished <= moved <= 100, "who was told that it happened was told the truth"
    await increment(database)


async def test_a_cancelled_statement_of_its_own_is_done_or_not(database: Database) -> None:
    """`write_one` cancelled at any moment leaves a database that works, and counted at most once."""
    await add(database, a=0)
    told = 0
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
            told += 1
    value = await value_of(database, "a")
    assert value is not None
    assert told <= value <= 60
    await increment(database)
    assert value + 1 == await value_of(database, "a")


async def test_those_who_wait_for_their_turn_may_go_away(database: Database) -> None:
    """Twenty wait behind a slow transaction and are cancelled: none of them runs, and the next one does."""
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


async def test_a_transaction_that_never_ends_stops_nobody_for_long(database: Database) -> None:
    """Who waits behind it has his turn or is told within a second; when it is over, everybody goes on."""
    await add(database, a=0)
    release = asyncio.Event()

    async def linger() -> None:
        async with database.begin() as transaction:
            await transaction.execute("UPDATE counters SET value = 0 WHERE name = 'a'")
            await release.wait()

    task = asyncio.create_task(linger())
    await asyncio.sleep(0.02)
    begun = time.perf_counter()
    with contextlib.suppress(StoreUnavailable):  # on PostgreSQL the other one may be ended just before
        await increment(database)
    assert time.perf_counter() - begun < GONE_WITHIN
    release.set()
    await asyncio.gather(task, return_exceptions=True)
    assert await patiently(lambda: database.write_one("UPDATE counters SET value = 7 RETURNING value"))
    assert 7 == await value_of(database, "a")


# Several processes


WORKER = """
import asyncio, sys
from service.components import connect_database
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
    """Run the same Python program in several processes; what each wrote on standard error."""
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
    said = [process.communicate(timeout=60)[1] for process in running]
    assert [0] * processes == [process.returncode for process in running], said
    return said


async def test_several_processes_share_one_database(backend: Backend, database: Database) -> None:
    """Two processes that increment one counter, twenty-five times each, make fifty, on one SQLite file too."""
    await add(database, a=0)
    await asyncio.to_thread(run_at_once, ["-c", WORKER, backend.url], processes=2)
    assert 50 == await value_of(database, "a")


async def migrate(url: str, *, to: str = "head") -> None:
    """Alembic wants a thread without an event loop; and its tracebacks are longer than pytest can print."""
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


async def test_four_migrate_at_once(backend: Backend, tmp_path: Path) -> None:
    """Four replicas that start together on an empty database all succeed, and the schema is made once."""
    environment = environment_of(backend, tmp_path)
    said = await asyncio.to_thread(run_at_once, ["-m", "service", "migrate"], processes=4, environment=environment)
    assert [f"The schema is at {SCHEMA}.\n"] * 4 == said
    async with opened(url_of(backend, tmp_path)) as database:
        assert SCHEMA == await schema_revision(database)
        assert 1 == len(await database.fetch_all("SELECT version_num FROM alembic_version"))
        assert [] == await database.fetch_all("SELECT id FROM users")


async def test_a_migration_is_run_again_without_harm(backend: Backend, tmp_path: Path) -> None:
    """What is there stays; also while another process has the database open."""
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


async def test_factors_of_an_older_schema_stay_what_they_are(backend: Backend, tmp_path: Path) -> None:
    """Their last step, their budget and their epoch: a used code stays used, and a wait goes on."""
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
        row = await database.fetch_one("SELECT * FROM factors WHERE id = 'f'")
        assert row is not None
        assert {**kept, **made} == {name: row[name] for name in (*kept, *made)}
        async with database.begin() as transaction:
            await transaction.execute("DELETE FROM users WHERE id = '1'")
        assert [] == await database.fetch_all("SELECT id FROM factors"), "the foreign key is still there"


async def test_half_a_migration_is_none(tmp_path: Path) -> None:
    """A step that fails leaves SQLite where it was, without a trace of the statements before it."""
    url = f"sqlite:///{tmp_path}/keyturn.sqlite3"
    await migrate(url, to="0002")
    async with opened(url) as database, database.begin() as transaction:
        await transaction.execute("CREATE TABLE deliverer (id BIGINT)")  # the last that 0003 makes
    with pytest.raises(OperationalError, match="already exists"):
        await asyncio.to_thread(migrations.migrate, url)
    async with opened(url) as database:
        assert "0002" == await schema_revision(database)
        assert [] == await database.fetch_all("SELECT name FROM sqlite_master WHERE name LIKE '%events%'")
        assert [] == await database.fetch_all("SELECT name FROM sqlite_master WHERE name = 'new_factors'")


def test_the_schema_this_version_needs_is_the_newest() -> None:
    """The revision that `serve` asks for is the head of the migrations that it ships."""
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


async def test_files_are_their_owners_only(tmp_path: Path) -> None:
    """Under the usual umask, 022: the folder 0700, the database, its WAL and every other file 0600."""
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
    """The file that is migrated is the file that is served, whatever its path has in it."""
    folder = tmp_path / name
    folder.mkdir()
    url = f"sqlite:///{folder / 'keyturn.sqlite3'}"
    await migrate(url)
    async with opened(url) as database:
        assert SCHEMA == await schema_revision(database)
    assert [name] == await asyncio.to_thread(lambda: [path.name for path in tmp_path.iterdir()])


async def test_a_file_that_is_no_database_is_a_database_that_is_gone(tmp_path: Path) -> None:
    """Garbage, a folder, or a place where none can be made: `StoreUnavailable`, no driver's error."""
    garbage, folder = tmp_path / "garbage", tmp_path / "folder"
    garbage.write_bytes(b"not a database " * 100)
    folder.mkdir()
    for path in (garbage, folder, tmp_path / "missing" / "test.sqlite3"):
        with pytest.raises(StoreUnavailable):
            async with opened(f"sqlite:///{path}") as database:
                await database.fetch_one("SELECT 1 FROM counters")


# PostgreSQL, gone and back


@pytest.fixture(scope="module")
def fragile_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQLServer]:
    server = PostgreSQLServer(tmp_path_factory.mktemp("fragile"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def fragile(fragile_server: PostgreSQLServer) -> AsyncIterator[Database]:
    async with opened(fragile_server.url(fragile_server.new_database())) as database:
        await database.write_one(TABLE)
        await add(database, a=0)
        yield database


@contextlib.contextmanager
def frozen(server: PostgreSQLServer) -> Iterator[None]:
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


@contextlib.contextmanager
def killed(server: PostgreSQLServer) -> Iterator[None]:
    kill(server)
    try:
        yield
    finally:
        server.start()


def kill(server: PostgreSQLServer) -> None:
    """Kill it and wait for its backends: as long as one lives, its shared memory forbids a new start."""
    assert server.child is not None
    pid = server.child.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    server.kill()

    def all_gone() -> None:
        for child in children:
            status = Path(f"/proc/{child}/stat")
            assert not status.exists() or ") Z " in status.read_text()

    wait_until(all_gone)


async def refused_soon(act: Callable[[], Awaitable[object]]) -> None:
    begun = time.perf_counter()
    with pytest.raises(StoreUnavailable):
        await act()
    assert time.perf_counter() - begun < GONE_WITHIN


@pytest.mark.parametrize("fault", [frozen, killed])
async def test_a_database_that_is_gone_is_given_up_within_a_second(
    fragile_server: PostgreSQLServer,
    fragile: Database,
    fault: Callable[[PostgreSQLServer], contextlib.AbstractContextManager[None]],
) -> None:
    """Reading, writing and in a transaction, alone and thirty at once; and it serves again three seconds after."""
    await asyncio.gather(*(value_of(fragile, "a") for _ in range(10)))  # ten connections are open
    acts: list[Callable[[], Awaitable[object]]] = [
        lambda: value_of(fragile, "a"),
        lambda: fragile.fetch_all("SELECT 1"),
        lambda: fragile.write_one("UPDATE counters SET value = 9 RETURNING value"),
        lambda: increment(fragile),
    ]
    with fault(fragile_server):
        await asyncio.gather(*(refused_soon(act) for act in acts))  # each has a connection that was good
        await asyncio.gather(*(refused_soon(act) for act in acts * 8))  # and now nobody gets one
    deadline = time.perf_counter() + 3
    while True:
        try:
            await increment(fragile)
            break
        except StoreUnavailable:
            assert time.perf_counter() < deadline, "it did not come back"
    assert time.perf_counter() < deadline
    await asyncio.gather(*(value_of(fragile, "a") for _ in range(20)))


async def test_a_transaction_that_loses_its_database_did_not_happen(
    fragile_server: PostgreSQLServer, fragile: Database
) -> None:
    """Killed between two statements: the caller is told, and nothing of it is there afterwards."""

    async def lose() -> None:
        async with fragile.begin() as transaction:
            await transaction.execute("UPDATE counters SET value = 7 WHERE name = 'a'")
            kill(fragile_server)
            await transaction.execute("UPDATE counters SET value = 8 WHERE name = 'a'")

    with pytest.raises(StoreUnavailable):
        await lose()
    fragile_server.start()
    assert 0 == await patiently(lambda: value_of(fragile, "a"))


async def test_a_frozen_transaction_is_rolled_back_when_the_server_goes_on(
    fragile_server: PostgreSQLServer, fragile: Database
) -> None:
    """Given up by us, it does not hold its rows against everybody else for ever."""

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
    """After a restart of PostgreSQL the first requests may be refused, and then all are served."""
    await asyncio.gather(*(value_of(fragile, "a") for _ in range(10)))
    terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'keyturn'"
    await asyncio.to_thread(fragile_server.run, terminate)
    for _ in range(20):
        await patiently(lambda: increment(fragile))
    assert 20 == await value_of(fragile, "a")


async def test_a_database_may_be_opened_before_it_is_there(fragile_server: PostgreSQLServer) -> None:
    """Opening asks nothing; the first request does, and the first after the start is served."""
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
async def test_a_database_that_lets_nobody_in_is_a_database_that_is_gone(
    postgresql_server: PostgreSQLServer, alter: Callable[[str], str]
) -> None:
    """A wrong name of database, role or host: `StoreUnavailable`, no driver's error."""
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
async def test_what_is_migrated_is_what_is_served_in_every_form_of_the_url(
    postgresql_server: PostgreSQLServer, form: str
) -> None:
    """libpq's parameters, the other scheme, a quoted password, a Unix socket: both sides read them alike."""
    name = postgresql_server.new_database()
    folder = quote(str(postgresql_server.data.parent), safe="")
    url = form.format(port=postgresql_server.port, name=name, folder=folder)
    await migrate(url)
    async with opened(url) as database:
        assert SCHEMA == await schema_revision(database)
