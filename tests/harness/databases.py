"""Databases that pass every call to another one: tests derive from them what they count, delay or refuse."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from service.storage.connecting import connect_database
from service.storage.database import Database, Row, Running, Transaction
from service.storage.timeouts import StoreTimeouts

PATIENT_SECONDS = 30.0
"""The timeout of a store in tests that do not measure it: a slow machine is no failure, and decides no race."""

PATIENT = StoreTimeouts(PATIENT_SECONDS, PATIENT_SECONDS)


@asynccontextmanager
async def opened(url: str, *, seconds: float = PATIENT_SECONDS) -> AsyncIterator[Database]:
    """Open a database whose timeout is `seconds`, and close it after the block."""
    database = connect_database(url, timeout=seconds)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


class ForwardingTransaction:
    """A `Transaction` that passes every call to another one."""

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction

    async def fetch_one(self, sql: str, *parameters: object) -> Row | None:
        return await self.transaction.fetch_one(sql, *parameters)

    async def fetch_all(self, sql: str, *parameters: object) -> list[Row]:
        return await self.transaction.fetch_all(sql, *parameters)

    async def execute(self, sql: str, *parameters: object) -> int:
        return await self.transaction.execute(sql, *parameters)

    def on_commit(self, callback: Callable[[], None]) -> None:
        self.transaction.on_commit(callback)


class ForwardingDatabase:
    """A `Database` that passes every call to another one; `before` sees those that reach the store."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def before(self, call: str) -> None:
        """Observe or refuse a call: of a method of `Database` except `open` and `close`, by its name."""

    def wrap(self, transaction: Transaction) -> Transaction:
        """Return the transaction that `begin` gives."""
        return transaction

    async def open(self) -> None:
        await self.database.open()

    async def close(self) -> None:
        await self.database.close()

    def begin(self) -> AbstractAsyncContextManager[Transaction]:
        self.before("begin")
        return self._begun()

    async def fetch_one(self, sql: str, *parameters: object) -> Row | None:
        self.before("fetch_one")
        return await self.database.fetch_one(sql, *parameters)

    async def fetch_all(self, sql: str, *parameters: object) -> list[Row]:
        self.before("fetch_all")
        return await self.database.fetch_all(sql, *parameters)

    async def write_one(self, sql: str, *parameters: object) -> Row | None:
        self.before("write_one")
        return await self.database.write_one(sql, *parameters)

    async def read_running(self) -> Running:
        self.before("read_running")
        return await self.database.read_running()

    async def probe(self) -> None:
        self.before("probe")
        await self.database.probe()

    @asynccontextmanager
    async def _begun(self) -> AsyncIterator[Transaction]:
        async with self.database.begin() as transaction:
            yield self.wrap(transaction)
