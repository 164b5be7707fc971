"""PostgreSQL: one database for any number of replicas, with the driver asyncpg.

A connection that timed out is discarded; no other request uses it.

A read or a transaction has a timeout (law 7: no fail-open, no hang). A distant database may need longer although it
is available. If `MAX_ROUND_TRIPS` round trips to it take longer than `DISTANT_ALLOWANCE_SECONDS`, every answer of the
server starts the timeout again, and the read or the transaction may take that much longer altogether.

A pooler in transaction mode may use another server connection for every transaction, and a statement that was
prepared on one does not exist on another. A pooler is recognised because the process id given at the handshake is not
that of the server process that answers. Behind a pooler, no statement stays prepared: each is sent in full.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Literal

import asyncpg

from service.errors import MissingTable, StoreUnavailable
from service.storage.database import (
    Availability,
    CommitCallbacks,
    Row,
    Running,
    Transaction,
    unavailable,
)
from service.storage.postgresql_checks import PROBE, REQUIRED_PRIVILEGES, find_fault
from service.storage.postgresql_connect import CannotConnect, Connection, cannot_connect, connect
from service.storage.postgresql_errors import Outage, explain, is_of_prepared_statements, read_outage
from service.storage.postgresql_pool import Pool
from service.storage.postgresql_url import read_postgresql_url
from service.storage.timeouts import DATABASE_TIMEOUT_SECONDS

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
"""The guarded updates are written for this level. Under another one, which the role or the database may have as its
default, PostgreSQL would fail concurrent transactions that only have to wait for each other."""

CONNECT_TIMEOUT_SECONDS = 5.0
"""Seconds until a handshake is given up, unless the URL sets another `connect_timeout`.

A request stops waiting earlier, and the handshake continues (see `Pool`).
"""

MAX_ROUND_TRIPS = 48
"""Round trips to a distant database for which a read or a transaction gets time beyond its timeout.

The longest transaction, for the first code of an authenticator, has 25 statements with a webhook, and 23 without. On
a new connection twelve of them are prepared first, with a round trip each; behind a pooler 23.
"""

DISTANT_ALLOWANCE_SECONDS = 0.1
"""The database counts as distant if `MAX_ROUND_TRIPS` take longer than this."""

_RUNNING = "SELECT txid_snapshot_xmin(txid_current_snapshot()) AS oldest, txid_current() AS next"
"""`txid_current` assigns a new number. The `xmax` of the snapshot would not do: a transaction with that number, or a
higher one, may already run."""

PreparedStatements = Literal["auto", "on", "off"]


class PostgreSQL:
    """A `Database` on a pool of connections."""

    def __init__(
        self,
        url: str,
        *,
        connections: int = 10,
        prepared_statements: PreparedStatements = "auto",
        timeout: float = DATABASE_TIMEOUT_SECONDS,
    ) -> None:
        self._target = read_postgresql_url(url)
        self._timeout = timeout
        self._size = connections
        self._pool: Pool[Connection] | None = None
        self._detects_pooler = prepared_statements == "auto"
        self._keeps_statements = prepared_statements != "off"
        self._round_trip_seconds = 0.0
        self._answered_at = 0.0
        self._availability = Availability()

    async def open(self) -> None:
        """Make the first connection, and wait until its handshake has ended or `connect_timeout` is over.

        A failure is reported by the first use.
        """
        self._pool = Pool(self._connect, size=self._size)
        waiter = self._pool.request()
        with suppress(CannotConnect):
            self._pool.release(await waiter)

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Transaction]:
        async with self._connection() as in_use:
            await in_use.execute(BEGIN)
            transaction = _PostgreSQLTransaction(in_use)
            try:
                yield transaction
            except Exception as error:
                if self._read_outage(error) is None:  # otherwise the connection is discarded, which rolls back
                    await in_use.execute("ROLLBACK")
                raise
            await in_use.execute("COMMIT")
            transaction.run_after_commit()

    async def fetch_one(self, sql: str, *parameters: object) -> Row | None:
        async with self._connection() as in_use:
            return await in_use.fetch_one(sql, *parameters)

    async def fetch_all(self, sql: str, *parameters: object) -> list[Row]:
        async with self._connection() as in_use:
            return await in_use.fetch_all(sql, *parameters)

    write_one = fetch_one  # a statement outside a transaction is its own transaction

    async def read_running(self) -> Running:
        row = await self.fetch_one(_RUNNING)
        assert row is not None
        return Running(row["oldest"], row["next"])

    async def probe(self) -> None:
        fault = find_fault(await self.fetch_one(PROBE, REQUIRED_PRIVILEGES))
        if fault is not None:
            raise self._unavailable(Outage(fault, is_lasting=True))
        self._availability.mark_available()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator["_ConnectionInUse"]:
        pool = self._pool
        if pool is None:
            raise unavailable("The database is not open.")
        connection: Connection | None = None
        try:
            began = asyncio.get_running_loop().time()
            connection = await self._acquire(pool, began)
            async with asyncio.timeout_at(began + self._timeout) as limit:
                in_use = _ConnectionInUse(connection, self._extend_deadline(limit, began))
                in_use.answered()  # the wait for a connection is over
                yield in_use
        except CannotConnect as error:
            raise self._unavailable(error.outage) from error.__cause__
        except asyncpg.UndefinedTableError as error:
            raise MissingTable(explain(error, "Run: keyturn migrate."), is_lasting=True) from None
        except asyncio.CancelledError:
            if connection is not None:
                pool.discard(connection)
                connection = None
            raise
        except Exception as error:
            outage = self._read_outage(error)
            if outage is None:
                raise
            if connection is not None:
                pool.discard(connection)
                connection = None
            if is_of_prepared_statements(error):
                self._keeps_statements = False
            raise self._unavailable(outage) from error
        finally:
            if connection is not None:
                self._give_back(pool, connection)

    async def _acquire(self, pool: Pool[Connection], began: float) -> Connection:
        """Wait for a connection that is free or new.

        Raises `TimeoutError` at the `_wait_deadline`, and the error of a failed attempt to connect (`CannotConnect`).
        """
        while (connection := pool.take_idle()) is not None:
            if not self._is_outdated(connection):
                return connection
            pool.discard(connection)
        time = asyncio.get_running_loop().time
        waiter = pool.request()
        while (remaining := self._wait_deadline(began) - time()) > 0:
            try:
                await asyncio.wait({waiter}, timeout=remaining)
            except BaseException:
                pool.withdraw(waiter)
                raise
            if waiter.done():
                return waiter.result()
        pool.withdraw(waiter)
        raise TimeoutError

    def _wait_deadline(self, began: float) -> float:
        """Return when a wait for a connection times out. Answers to other requests extend it, up to the allowance."""
        return min(began + self._timeout + self._allowance, max(began, self._answered_at) + self._timeout)

    @property
    def _allowance(self) -> float:
        """Seconds that a read or a transaction may take beyond the timeout, for its round trips to the server."""
        return MAX_ROUND_TRIPS * self._round_trip_seconds

    def _extend_deadline(self, limit: asyncio.Timeout, began: float) -> Callable[[], None]:
        time = asyncio.get_running_loop().time
        allowance = self._allowance

        def answered() -> None:
            self._answered_at = now = time()
            if allowance > DISTANT_ALLOWANCE_SECONDS:
                limit.reschedule(min(began + self._timeout + allowance, now + self._timeout))

        return answered

    async def _connect(self) -> Connection:
        timeout = self._target.connect_timeout or CONNECT_TIMEOUT_SECONDS
        try:
            async with asyncio.timeout(timeout):
                connection = await connect(self._target, seconds=timeout, keeps_statements=self._keeps_statements)
                if await self._is_direct(connection) or not (self._detects_pooler and self._keeps_statements):
                    return connection
                self._keeps_statements = False
                connection.terminate()
                return await connect(self._target, seconds=timeout, keeps_statements=False)
        except TimeoutError as error:
            raise cannot_connect(self._target, error) from error

    async def _is_direct(self, connection: Connection) -> bool:
        """Whether the process id that the handshake gave is that of the server process that answers: see the module.

        Also measures the round trip. Prepares no statement.
        """
        time = asyncio.get_running_loop().time
        began = time()
        try:
            status = await connection.execute(f"SELECT 1 WHERE pg_backend_pid() = {connection.get_server_pid()}")
        except BaseException as error:
            connection.terminate()
            if not isinstance(error, Exception) or isinstance(error, TimeoutError):
                raise
            raise cannot_connect(self._target, error) from error
        elapsed = min(time() - began, self._timeout / 2)
        is_first = self._pool is None or not len(self._pool)
        # A pooler may have made the statement wait. So a later, shorter time replaces the first one.
        self._round_trip_seconds = elapsed if is_first else min(elapsed, self._round_trip_seconds)
        return bool(status == "SELECT 1")

    def _is_outdated(self, connection: Connection) -> bool:
        """Whether it keeps prepared statements although a pooler was recognised after it was made."""
        return connection.keeps_statements and not self._keeps_statements

    def _give_back(self, pool: Pool[Connection], connection: Connection) -> None:
        if connection.is_in_transaction() or self._is_outdated(connection):
            pool.discard(connection)
        else:
            pool.release(connection)

    def _read_outage(self, error: BaseException) -> Outage | None:
        return read_outage(error, place=self._target.place)

    def _unavailable(self, outage: Outage) -> StoreUnavailable:
        if not outage.is_momentary:
            self._availability.mark_unavailable(outage.reason)
        return unavailable(outage.reason, is_lasting=outage.is_lasting)


class _ConnectionInUse:
    """A connection in use. Each answer extends the deadline if the database is distant."""

    def __init__(self, connection: Connection, answered: Callable[[], None]) -> None:
        self._connection = connection
        self.answered = answered

    async def fetch_one(self, sql: str, *parameters: object) -> Row | None:
        row: Row | None = await self._connection.fetchrow(sql, *parameters)
        self.answered()
        return row

    async def fetch_all(self, sql: str, *parameters: object) -> list[Row]:
        rows = await self._connection.fetch(sql, *parameters)
        self.answered()
        return list(rows)

    async def execute(self, sql: str, *parameters: object) -> str:
        status: str = await self._connection.execute(sql, *parameters)
        self.answered()
        return status


class _PostgreSQLTransaction(CommitCallbacks):
    def __init__(self, in_use: _ConnectionInUse) -> None:
        super().__init__()
        self.fetch_one = in_use.fetch_one
        self.fetch_all = in_use.fetch_all
        self._execute = in_use.execute

    async def execute(self, sql: str, *parameters: object) -> int:
        status = await self._execute(sql, *parameters)
        return int(status.rsplit(" ", 1)[-1])  # "UPDATE 1", "INSERT 0 1"
