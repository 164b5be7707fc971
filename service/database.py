"""SQL: SQLite for one machine, PostgreSQL for many; the same statements on both.

Statements use `$1` parameters, `RETURNING` and `ON CONFLICT`, epoch seconds as `BIGINT` and bytes as `BYTEA`.
A `Transaction` is short: no hashing, no network, nothing slow happens inside. When the database does not
answer, `StoreUnavailable` is raised within a second and nothing was granted (law 7).
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from service import metrics
from service.errors import StoreUnavailable

SCHEMA = "0005"
"""The newest revision in `migrations/versions`; a test holds it to Alembic's head."""

PATIENCE = 0.8
"""Seconds that a read or a whole transaction may take before the database counts as gone."""

Row = Mapping[str, Any]


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


class ReadOnly:
    """A database of which only the reading half works: a diagnosis must not change what it looks at."""

    def __init__(self, database: Database) -> None:
        self.open, self.close = database.open, database.close
        self.fetch_one, self.fetch_all = database.fetch_one, database.fetch_all

    def begin(self) -> AbstractAsyncContextManager[Transaction]:
        raise RuntimeError("this database is for reading only")

    async def write_one(self, sql: str, *parameters: object) -> Row | None:
        raise RuntimeError("this database is for reading only")


def unavailable() -> StoreUnavailable:
    """What to raise when the database did not answer; that is counted."""
    metrics.STORE_ERRORS.labels("sql").inc()
    return StoreUnavailable()


class MissingTable(Exception):
    """A table does not exist: the schema was never made."""


class Afterwards:
    """What is to be done after the commit."""

    def __init__(self) -> None:
        self._acts: list[Callable[[], None]] = []

    def afterwards(self, act: Callable[[], None]) -> None:
        self._acts.append(act)

    def is_committed(self) -> None:
        for act in self._acts:
            act()


async def schema_revision(database: Database) -> str | None:
    """The revision that the database is at, or `None` if it was never migrated."""
    try:
        row = await database.fetch_one("SELECT version_num FROM alembic_version")
    except MissingTable:
        return None
    return None if row is None else str(row["version_num"])
