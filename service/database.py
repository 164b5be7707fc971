"""SQL: SQLite for one machine, PostgreSQL for many; the same statements on both.

Statements use `$1` parameters, `RETURNING` and `ON CONFLICT`, epoch seconds as `BIGINT` and bytes as `BYTEA`.
A `Transaction` is short: no hashing, no network, nothing slow happens inside. When the database does not
answer, `StoreUnavailable` is raised within a second and nothing was granted (law 7).
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from service.errors import ConfigurationError, StoreUnavailable

if TYPE_CHECKING:
    import asyncpg

SCHEMA = "0003"
"""The newest revision in `migrations/versions`; a test holds it to Alembic's head."""

PATIENCE = 0.8
"""Seconds that a read or a whole transaction may take before the database counts as gone."""

UNREADABLE_URL = "KEYTURN_DATABASE_URL cannot be read: is its port a number?"
"""The driver's own words may quote a part of the URL, and so of a password."""

Row = Mapping[str, Any]
_T = TypeVar("_T")


class Transaction(Protocol):
    """Statements that happen together or not at all."""

    async def fetch_one(self, sql: str, *parameters: object) -> Row | None: ...
    async def fetch_all(self, sql: str, *parameters: object) -> list[Row]: ...
    async def execute(self, sql: str, *parameters: object) -> int:
        """Run a statement and give the number of rows it touched: for a guarded UPDATE that is the answer."""
        ...

    def afterwards(self, act: Callable[[], None]) -> None:
        """Do this once the transaction is committed, and never otherwise."""
        ...


class Database(Protocol):
    async def open(self) -> None: ...
    async def close(self) -> None: ...

    def begin(self) -> AbstractAsyncContextManager[Transaction]:
        """A writing transaction; commits at the end of the block, rolls back on any exception.

        Hold or guard a row before reading what you will write to it: PostgreSQL does not do it for you.
        """
        ...

    async def fetch_one(self, sql: str, *parameters: object) -> Row | None:
        """Read outside a transaction."""
        ...

    async def fetch_all(self, sql: str, *parameters: object) -> list[Row]: ...

    async def write_one(self, sql: str, *parameters: object) -> Row | None:
        """One writing statement with RETURNING, committed on its own: whoever gets the row has won."""
        ...


def connect(url: str) -> "Database":
    """The database that `url` names: `sqlite:///path` or `postgresql://...`. Nothing is opened yet."""
    if url.startswith("sqlite:///"):
        return SQLite(Path(url.removeprefix("sqlite:///")))
    return PostgreSQL(url)


def make_private(path: Path) -> None:
    """Make the SQLite file, if there is none, readable by its owner only; its WAL inherits the mode."""
    with suppress(FileExistsError):
        path.touch(mode=0o600, exist_ok=False)


async def schema_revision(database: Database) -> str | None:
    """The revision that the database is at, or `None` if it was never migrated."""
    try:
        row = await database.fetch_one("SELECT version_num FROM alembic_version")
    except MissingTable:
        return None
    return None if row is None else str(row["version_num"])


async def dial(url: str) -> "asyncpg.Connection":
    """One connection of the PostgreSQL driver, outside any pool: for migrations."""
    import asyncpg

    try:
        return await asyncpg.connect(url)
    except (ValueError, asyncpg.ClientConfigurationError):
        raise ConfigurationError(UNREADABLE_URL) from None
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise ConfigurationError(
            f"The database cannot be opened ({type(error).__name__}). Is KEYTURN_DATABASE_URL right? Does it run?"
        ) from error


class MissingTable(Exception):
    """A table does not exist: the schema was never made."""


class SQLite:
    """One file. One thread writes, one reads; both off the event loop.

    Every writing transaction is `BEGIN IMMEDIATE`: with the driver's own lazy BEGIN two of them read the same
    value and one update is lost, silently. WAL lets the reader go on; `synchronous=FULL` makes a commit last.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = _Lane(path, "sqlite-write")
        self._reader = _Lane(path, "sqlite-read")
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        for lane in (self._writer, self._reader):
            await lane.open()

    async def close(self) -> None:
        for lane in (self._reader, self._writer):
            await lane.close()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Transaction]:
        async with self._my_turn():
            transaction = _SQLiteTransaction(self._writer)
            try:
                yield transaction
            except BaseException:
                await _even_if_cancelled(self._writer.run(_rollback))
                raise
            await _even_if_cancelled(self._writer.run(_commit))
            transaction.is_committed()

    async def fetch_one(self, sql: str, *parameters: object) -> Row | None:
        return await self._reader.run(lambda c: _one(_run(c, sql, parameters)))

    async def fetch_all(self, sql: str, *parameters: object) -> list[Row]:
        return await self._reader.run(lambda c: _run(c, sql, parameters).fetchall())

    async def write_one(self, sql: str, *parameters: object) -> Row | None:
        async with self._my_turn():
            row: Row | None = await _even_if_cancelled(self._writer.run(lambda c: _one(_run(c, sql, parameters))))
            return row

    @asynccontextmanager
    async def _my_turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._turn.acquire()
        except TimeoutError:
            raise StoreUnavailable from None
        try:
            yield
        finally:
            self._turn.release()


class _Lane:
    """A connection to the SQLite file and the one thread that uses it."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, name)
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        try:
            self._connection = await self._in_thread(self._connect)
        except (sqlite3.DatabaseError, OSError) as error:
            raise StoreUnavailable from error

    async def close(self) -> None:
        if self._connection is not None:
            await self._in_thread(self._connection.close)
        self._thread.shutdown()

    async def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        connection = self._connection
        if connection is None:
            raise StoreUnavailable
        try:
            return await self._in_thread(lambda: work(connection))
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                raise MissingTable(str(error)) from None
            raise StoreUnavailable from error
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:
                raise  # a constraint or a mistake of ours
            raise StoreUnavailable from error  # the file is damaged, or no database

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _connect(self) -> sqlite3.Connection:
        make_private(self._path)
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=PATIENCE, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        return connection


class _Afterwards:
    """What is to be done after the commit."""

    def __init__(self) -> None:
        self._acts: list[Callable[[], None]] = []

    def afterwards(self, act: Callable[[], None]) -> None:
        self._acts.append(act)

    def is_committed(self) -> None:
        for act in self._acts:
            act()


class _SQLiteTransaction(_Afterwards):
    """BEGIN IMMEDIATE goes with the first statement, since every hop to the thread costs."""

    def __init__(self, lane: _Lane) -> None:
        super().__init__()
        self._lane = lane

    async def fetch_one(self, sql: str, *parameters: object) -> Row | None:
        return await self._lane.run(lambda c: _one(_run(_begun(c), sql, parameters)))

    async def fetch_all(self, sql: str, *parameters: object) -> list[Row]:
        return await self._lane.run(lambda c: _run(_begun(c), sql, parameters).fetchall())

    async def execute(self, sql: str, *parameters: object) -> int:
        return await self._lane.run(lambda c: _run(_begun(c), sql, parameters).rowcount)


def _begun(connection: sqlite3.Connection) -> sqlite3.Connection:
    if not connection.in_transaction:
        connection.execute("BEGIN IMMEDIATE")
    return connection


def _run(connection: sqlite3.Connection, sql: str, parameters: tuple[object, ...]) -> sqlite3.Cursor:
    # SQLite takes $1 for a parameter *named* 1; binding a sequence to it is deprecated.
    return connection.execute(sql, {str(n): value for n, value in enumerate(parameters, 1)})


def _one(cursor: sqlite3.Cursor) -> Any:
    row = cursor.fetchone()
    cursor.close()  # a RETURNING statement that is not finished would keep its lock
    return row


def _commit(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("COMMIT")


def _rollback(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


async def _even_if_cancelled(work: Any) -> Any:
    """Finish `work` before giving the connection back, also when the request is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


class PostgreSQL:
    """A pool of connections. A connection that timed out is thrown away, not handed to the next request."""

    def __init__(self, url: str, *, connections: int = 10) -> None:
        import asyncpg  # 3 MB that an embedded service does not need

        self._driver = asyncpg
        self._url = url
        self._size = connections
        self._pool: asyncpg.Pool | None = None
        self._gone = (
            OSError,
            TimeoutError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,  # a connection whose end the driver has half noticed
            asyncpg.PostgresConnectionError,
            asyncpg.OperatorInterventionError,
            asyncpg.InsufficientResourcesError,
            asyncpg.TransactionRollbackError,
            asyncpg.ReadOnlySQLTransactionError,
            asyncpg.InvalidCatalogNameError,
            asyncpg.InvalidAuthorizationSpecificationError,
        )

    async def open(self) -> None:
        # min_size 0: a service that starts while its database is away says so at /readyz, and does not die.
        self._pool = await self._driver.create_pool(
            self._url, min_size=0, max_size=self._size, timeout=PATIENCE, command_timeout=PATIENCE,
            max_inactive_connection_lifetime=300, server_settings={"application_name": "keyturn"},
            reset=_leave_as_it_is,
        )  # fmt: skip

    async def close(self) -> None:
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), 2)
            except TimeoutError:
                self._pool.terminate()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Transaction]:
        async with self._connection() as connection:
            await connection.execute("BEGIN")
            transaction = _PostgreSQLTransaction(connection)
            try:
                yield transaction
            except Exception as error:
                if not isinstance(error, self._gone):  # then the connection is thrown away, which rolls back
                    await connection.execute("ROLLBACK")
                raise
            await connection.execute("COMMIT")
            transaction.is_committed()

    async def fetch_one(self, sql: str, *parameters: object) -> Row | None:
        async with self._connection() as connection:
            row: Row | None = await connection.fetchrow(sql, *parameters)
            return row

    async def fetch_all(self, sql: str, *parameters: object) -> list[Row]:
        async with self._connection() as connection:
            return list(await connection.fetch(sql, *parameters))

    write_one = fetch_one  # a statement outside a transaction is its own transaction

    @asynccontextmanager
    async def _connection(self) -> "AsyncIterator[asyncpg.Connection]":
        if self._pool is None:
            raise StoreUnavailable
        connection = None
        try:
            async with asyncio.timeout(PATIENCE):
                connection = await self._acquire(self._pool)
                yield connection
        except self._driver.UndefinedTableError as error:
            raise MissingTable(str(error)) from None
        except self._gone as error:
            self._throw_away(connection)  # no polite goodbye to a server that does not answer
            raise StoreUnavailable from error
        except asyncio.CancelledError:
            self._throw_away(connection)
            raise
        finally:
            if connection is not None:
                await self._pool.release(connection)

    async def _acquire(self, pool: "asyncpg.Pool") -> "asyncpg.Connection":
        try:
            return await pool.acquire()
        except (ValueError, self._driver.ClientConfigurationError):
            raise ConfigurationError(UNREADABLE_URL) from None

    def _throw_away(self, connection: "asyncpg.Connection | None") -> None:
        if connection is not None:
            with suppress(self._driver.InterfaceError):  # the pool has noticed first
                connection.terminate()


async def _leave_as_it_is(_connection: object) -> None:
    """asyncpg would reset a connection with a round trip at every release; ours leave nothing behind."""


class _PostgreSQLTransaction(_Afterwards):
    def __init__(self, connection: "asyncpg.Connection") -> None:
        super().__init__()
        self._connection = connection

    async def fetch_one(self, sql: str, *parameters: object) -> Row | None:
        row: Row | None = await self._connection.fetchrow(sql, *parameters)
        return row

    async def fetch_all(self, sql: str, *parameters: object) -> list[Row]:
        return list(await self._connection.fetch(sql, *parameters))

    async def execute(self, sql: str, *parameters: object) -> int:
        status: str = await self._connection.execute(sql, *parameters)
        return int(status.rsplit(" ", 1)[-1])  # "UPDATE 1", "INSERT 0 1"
