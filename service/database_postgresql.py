"""PostgreSQL: one database for any number of replicas, by its own driver.

A connection that timed out is thrown away, not handed to the next request.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg

from service.database import PATIENCE, Afterwards, MissingTable, Row, Transaction, unavailable
from service.errors import ConfigurationError

UNREADABLE_URL = "KEYTURN_DATABASE_URL cannot be read: is its port a number?"
"""The driver's own words may quote a part of the URL, and so of a password."""


async def dial(url: str) -> asyncpg.Connection:
    """One connection of the PostgreSQL driver, outside any pool: for migrations."""
    try:
        return await asyncpg.connect(url)
    except (ValueError, asyncpg.ClientConfigurationError):
        raise ConfigurationError(UNREADABLE_URL) from None
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise ConfigurationError(
            f"The database cannot be opened ({type(error).__name__}). Is KEYTURN_DATABASE_URL right? Does it run?"
        ) from error


class PostgreSQL:
    """A pool of connections. A connection that timed out is thrown away, not handed to the next request."""

    def __init__(self, url: str, *, connections: int = 10) -> None:
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
        self._pool = await asyncpg.create_pool(
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
    async def _connection(self) -> AsyncIterator[asyncpg.Connection]:
        if self._pool is None:
            raise unavailable()
        connection = None
        try:
            async with asyncio.timeout(PATIENCE):
                connection = await self._acquire(self._pool)
                yield connection
        except asyncpg.UndefinedTableError as error:
            raise MissingTable(str(error)) from None
        except self._gone as error:
            self._throw_away(connection)  # no polite goodbye to a server that does not answer
            raise unavailable() from error
        except asyncio.CancelledError:
            self._throw_away(connection)
            raise
        finally:
            if connection is not None:
                await self._pool.release(connection)

    async def _acquire(self, pool: asyncpg.Pool) -> asyncpg.Connection:
        try:
            return await pool.acquire()
        except (ValueError, asyncpg.ClientConfigurationError):
            raise ConfigurationError(UNREADABLE_URL) from None

    def _throw_away(self, connection: asyncpg.Connection | None) -> None:
        if connection is not None:
            with suppress(asyncpg.InterfaceError):  # the pool has noticed first
                connection.terminate()


async def _leave_as_it_is(_connection: object) -> None:
    """asyncpg would reset a connection with a round trip at every release; ours leave nothing behind."""


class _PostgreSQLTransaction(Afterwards):
    def __init__(self, connection: asyncpg.Connection) -> None:
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
