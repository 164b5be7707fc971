"""SQL: SQLite for one machine, PostgreSQL for many; the same statements on both.

Statements use `$1` parameters, `RETURNING` and `ON CONFLICT`, epoch seconds as `BIGINT` and bytes as `BYTEA`.
A `Transaction` is short: no hashing, no network, nothing slow happens inside. When the database does not
answer, `StoreUnavailable` is raised within a second and nothing was granted (law 7: no fail-open, no hang).
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from service import metrics
from service.errors import MissingTable, StoreUnavailable
from service.log import emit, warn

SCHEMA = "0006"
"""The newest revision in `migrations/versions`; a test holds it to Alembic's head."""

DATABASE_TIMEOUT_SECONDS = 0.8
"""Seconds that a read or a whole transaction may take before the database counts as gone."""

Row = Mapping[str, Any]


class Transaction(Protocol):
    """Statements that happen together or not at all."""

    async def fetch_one(self, sql: str, *parameters: object) -> Row | None: ...
    async def fetch_all(self, sql: str, *parameters: object) -> list[Row]: ...
    async def execute(self, sql: str, *parameters: object) -> int:
        """Run a statement and give the number of rows it touched: for a guarded UPDATE that is the answer."""
        ...

    def on_commit(self, act: Callable[[], None]) -> None:
        """Call `act` once the transaction is committed, and never otherwise."""
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

    async def probe(self) -> None:
        """Raise `StoreUnavailable` unless everything that serving does with the database is possible."""
        ...


class ReadOnly:
    """A database of which only the reading half works: a diagnosis must not change what it looks at."""

    def __init__(self, database: Database) -> None:
        self.open, self.close = database.open, database.close
        self.fetch_one, self.fetch_all, self.probe = database.fetch_one, database.fetch_all, database.probe

    def begin(self) -> AbstractAsyncContextManager[Transaction]:
        raise RuntimeError("this database is for reading only")

    async def write_one(self, sql: str, *parameters: object) -> Row | None:
        raise RuntimeError("this database is for reading only")


def unavailable(why: str = "", *, is_lasting: bool = False) -> StoreUnavailable:
    """What to raise when the database cannot be used; that is counted."""
    metrics.STORE_ERRORS.labels("sql").inc()
    return StoreUnavailable(why, is_lasting=is_lasting)


class Availability:
    """Whether the database can be used. Each change of state is one line of the log, each reason too.

    Only a probe says that it can be used again: while some statements succeed and others fail, every request would
    else write two lines.
    """

    def __init__(self) -> None:
        self._reported: set[str] = set()

    def mark_unavailable(self, reason: str) -> None:
        if reason not in self._reported:
            self._reported.add(reason)
            warn("database.unreachable", reason=reason)

    def mark_available(self) -> None:
        if self._reported:
            self._reported.clear()
            emit("database.reachable")


class CommitCallbacks:
    """Callbacks to run after the commit."""

    def __init__(self) -> None:
        self._acts: list[Callable[[], None]] = []

    def on_commit(self, act: Callable[[], None]) -> None:
        self._acts.append(act)

    def run_after_commit(self) -> None:
        for act in self._acts:
            act()


async def schema_revision(database: Database) -> str | None:
    """The revision that the database is at, or `None` if it was never migrated."""
    try:
        row = await database.fetch_one("SELECT version_num FROM alembic_version")
    except MissingTable:
        return None
    return None if row is None else str(row["version_num"])
