"""SQLite: one file, for one machine.

Every writing transaction is `BEGIN IMMEDIATE`: with the driver's own deferred BEGIN, two of them could read the same
value and one update would be lost silently. WAL lets the reader continue during a write; `synchronous=FULL` makes a
commit durable. A write waits for another transaction for a limited time only (law 7: no fail-open, no hang).
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from service.errors import MissingTable, StoreUnavailable
from service.storage.database import (
    Availability,
    CommitCallbacks,
    Row,
    Running,
    Transaction,
    unavailable,
)
from service.storage.timeouts import DATABASE_TIMEOUT_SECONDS

_T = TypeVar("_T")


def make_private(path: Path) -> None:
    """Create the SQLite file if it does not exist, readable by its owner only; its WAL inherits the mode."""
    with suppress(FileExistsError):
        path.touch(mode=0o600, exist_ok=False)


class SQLite:
    """One thread writes and one reads, both outside of the event loop.

    With `read_only` nothing is written: neither a row nor a file.
    """

    def __init__(self, path: Path, *, read_only: bool = False, timeout: float = DATABASE_TIMEOUT_SECONDS) -> None:
        self._path = path
        self._is_read_only = read_only
        self._timeout = timeout
        self._writer = _ConnectionThread(path, "sqlite-write", timeout=timeout)
        self._reader = _ConnectionThread(path, "sqlite-read", timeout=timeout, read_only=read_only)
        self._lock = asyncio.Lock()
        self._availability = Availability()

    async def open(self) -> None:
        for connection_thread in (self._reader,) if self._is_read_only else (self._writer, self._reader):
            await connection_thread.open()

    async def close(self) -> None:
        for connection_thread in (self._reader, self._writer):
            await connection_thread.close()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Transaction]:
        async with self._write_lock() as deadline:
            transaction = _SQLiteTransaction(self._writer, deadline)
            try:
                yield transaction
            except BaseException:
                await _even_if_cancelled(self._writer.run(_rollback))
                raise
            await _even_if_cancelled(self._writer.run(_commit))
            transaction.run_after_commit()

    async def fetch_one(self, sql: str, *parameters: object) -> Row | None:
        return await self._reader.run(lambda c: _one(_run(c, sql, parameters)))

    async def fetch_all(self, sql: str, *parameters: object) -> list[Row]:
        return await self._reader.run(lambda c: _run(c, sql, parameters).fetchall())

    async def write_one(self, sql: str, *parameters: object) -> Row | None:
        async with self._write_lock() as deadline:

            def write(connection: sqlite3.Connection) -> Any:
                _wait_until(connection, deadline)
                return _one(_run(connection, sql, parameters))

            row: Row | None = await _even_if_cancelled(self._writer.run(write))
            return row

    async def read_running(self) -> Running:
        """Transactions write one after the other, and have no numbers."""
        return Running(0, 0)

    async def probe(self) -> None:
        try:
            if not (os.access(self._path, os.W_OK) and os.access(self._path.parent, os.W_OK | os.X_OK)):
                raise unavailable(f"User {os.getuid()} cannot write {self._path} or its folder.", is_lasting=True)
            await self.fetch_one("SELECT kid FROM signing_keys LIMIT 1")
        except StoreUnavailable as error:
            self._availability.mark_unavailable(error.why)
            raise
        self._availability.mark_available()

    @asynccontextmanager
    async def _write_lock(self) -> AsyncIterator[float]:
        """Wait for the transactions of this process, and yield the end of the wait for those of other processes.

        It is a time of `time.monotonic`. Both waits together end after the timeout (law 7: no fail-open, no hang).
        """
        deadline = time.monotonic() + self._timeout
        try:
            async with asyncio.timeout(self._timeout):
                await self._lock.acquire()
        except TimeoutError:
            raise unavailable("SQLite: another transaction takes too long.") from None
        try:
            yield deadline
        finally:
            self._lock.release()


class _ConnectionThread:
    """A connection to the SQLite file and the one thread that uses it."""

    def __init__(self, path: Path, name: str, *, timeout: float, read_only: bool = False) -> None:
        self._path = path
        self._timeout = timeout
        self._is_read_only = read_only
        self._thread = ThreadPoolExecutor(1, name)
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        try:
            self._connection = await self._in_thread(self._connect)
        except (sqlite3.DatabaseError, OSError) as error:
            raise self._unavailable(error) from error

    async def close(self) -> None:
        if self._connection is not None:
            await self._in_thread(self._connection.close)
            self._connection = None  # a second call does nothing
        self._thread.shutdown()

    async def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        connection = self._connection
        if connection is None:
            raise unavailable("SQLite: the file is not open.")
        try:
            return await self._in_thread(lambda: work(connection))
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                raise MissingTable(f"SQLite: {error}. Run: keyturn migrate.", is_lasting=True) from None
            raise self._unavailable(error) from error
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:
                raise  # a violated constraint, or a defect of this service
            raise self._unavailable(error) from error  # the file is damaged, or is not a database

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        return unavailable(f"SQLite cannot use {self._path}: {error} ({type(error).__name__}).")

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _connect(self) -> sqlite3.Connection:
        if self._path.is_dir():
            raise IsADirectoryError("it is a folder")
        return self._connect_read_only() if self._is_read_only else self._connect_to_write()

    def _connect_read_only(self) -> sqlite3.Connection:
        """Open the file without creating a WAL.

        If no process has the database open, an ordinary reader would create a WAL and leave it behind. The file would
        belong to the user that runs the reader, perhaps not to that of the service. `immutable` prevents that.
        If there is a WAL, the service is running or was killed, and the WAL is read.
        """
        has_wal = self._path.with_name(f"{self._path.name}-wal").exists()
        uri = f"{self._path.absolute().as_uri()}?mode=ro{'' if has_wal else '&immutable=1'}"
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, timeout=self._timeout, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        return connection

    def _connect_to_write(self) -> sqlite3.Connection:
        make_private(self._path)
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=self._timeout, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        return connection


class _SQLiteTransaction(CommitCallbacks):
    """A transaction that begins with its first statement, because each call of the thread costs time."""

    def __init__(self, connection_thread: _ConnectionThread, deadline: float) -> None:
        """`deadline`: the time (`time.monotonic`) until which BEGIN may wait for another process."""
        super().__init__()
        self._connection_thread = connection_thread
        self._deadline = deadline

    async def fetch_one(self, sql: str, *parameters: object) -> Row | None:
        return await self._connection_thread.run(lambda c: _one(_run(self._begun(c), sql, parameters)))

    async def fetch_all(self, sql: str, *parameters: object) -> list[Row]:
        return await self._connection_thread.run(lambda c: _run(self._begun(c), sql, parameters).fetchall())

    async def execute(self, sql: str, *parameters: object) -> int:
        return await self._connection_thread.run(lambda c: _run(self._begun(c), sql, parameters).rowcount)

    def _begun(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        if not connection.in_transaction:
            _wait_until(connection, self._deadline)
            connection.execute("BEGIN IMMEDIATE")
        return connection


def _wait_until(connection: sqlite3.Connection, deadline: float) -> None:
    """Let the next statement wait for another process until `deadline` (`time.monotonic`)."""
    milliseconds = max(0, round((deadline - time.monotonic()) * 1000))
    connection.execute(f"PRAGMA busy_timeout = {milliseconds}")


def _run(connection: sqlite3.Connection, sql: str, parameters: tuple[object, ...]) -> sqlite3.Cursor:
    # SQLite takes $1 for a parameter *named* 1; binding a sequence to it is deprecated.
    return connection.execute(sql, {str(n): value for n, value in enumerate(parameters, 1)})


def _one(cursor: sqlite3.Cursor) -> Any:
    row = cursor.fetchone()
    cursor.close()  # a RETURNING statement that is not finished would keep its lock
    return row


def _commit(connection: sqlite3.Connection) -> None:
    """Commit, or roll back if COMMIT fails: otherwise the next transaction would continue in this one."""
    if connection.in_transaction:
        try:
            connection.execute("COMMIT")
        except sqlite3.Error:
            _rollback(connection)
            raise


def _rollback(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


async def _even_if_cancelled(work: Any) -> Any:
    """Finish `work` before the connection is used again, even if the request is cancelled."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
