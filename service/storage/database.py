"""SQL: SQLite for one machine, PostgreSQL for many; the same statements on both.

Statements use `$1` parameters, `RETURNING` and `ON CONFLICT`, epoch seconds as `BIGINT` and bytes as `BYTEA`.
A `Transaction` is short: it contains no hashing, no network call and nothing else that is slow. If the database does
not answer, `StoreUnavailable` is raised within a second and nothing is granted (law 7: no fail-open, no hang). Only a
distant PostgreSQL has longer (`database_postgresql`).
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from service.errors import MissingTable, StoreUnavailable
from service.telemetry import metrics
from service.telemetry.event_names import LogName
from service.telemetry.log import emit, warn

SCHEMA = "0010"
"""The newest revision in `migrations/versions`; a test compares it with Alembic's head."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Running:
    """Numbers of transactions: the oldest one that has written and still runs, and the next free number.

    They are equal if no such transaction runs.
    """

    oldest: int
    next: int


class Transaction(Protocol):
    """Statements that are committed together or not at all."""

    async def fetch_one(self, sql: str, *parameters: object) -> Row | None: ...
    async def fetch_all(self, sql: str, *parameters: object) -> list[Row]: ...
    async def execute(self, sql: str, *parameters: object) -> int:
        """Run a statement and return the number of rows it changed: 0 means that a guarded UPDATE was refused."""
        ...

    def on_commit(self, callback: Callable[[], None]) -> None:
        """Call `callback` after the commit, and not after a rollback."""
        ...


class Database(Protocol):
    async def open(self) -> None: ...
    async def close(self) -> None: ...

    def begin(self) -> AbstractAsyncContextManager[Transaction]:
        """Begin a writing transaction; it commits at the end of the block and rolls back on any exception.

        Lock or guard a row before you read a value from which you compute what to write: PostgreSQL does not lock the
        rows that a SELECT reads.
        """
        ...

    async def fetch_one(self, sql: str, *parameters: object) -> Row | None:
        """Read outside a transaction."""
        ...

    async def fetch_all(self, sql: str, *parameters: object) -> list[Row]: ...

    async def write_one(self, sql: str, *parameters: object) -> Row | None:
        """Run one writing statement with RETURNING and commit it.

        If the statement has a guard, exactly one of several callers gets the row.
        """
        ...

    async def read_running(self) -> Running:
        """Return the numbers of the transactions that run on the server, those of other programs included."""
        ...

    async def probe(self) -> None:
        """Raise `StoreUnavailable` unless the database allows everything that requests need."""
        ...


class ReadOnly:
    """A database that can only be read: a diagnosis must not change the data that it inspects."""

    def __init__(self, database: Database) -> None:
        self.open, self.close = database.open, database.close
        self.fetch_one, self.fetch_all = database.fetch_one, database.fetch_all
        self.read_running, self.probe = database.read_running, database.probe

    def begin(self) -> AbstractAsyncContextManager[Transaction]:
        raise RuntimeError("this database is read-only")

    async def write_one(self, sql: str, *parameters: object) -> Row | None:
        raise RuntimeError("this database is read-only")


def unavailable(why: str = "", *, is_lasting: bool = False) -> StoreUnavailable:
    """Return the error to raise when the database cannot be used, and count it."""
    metrics.STORE_ERRORS.labels("sql").inc()
    return StoreUnavailable(why, is_lasting=is_lasting)


class Availability:
    """Whether the database can be used. Each change of state and each new reason writes one line of the log.

    Only a probe reports that it can be used again: otherwise, while some statements succeed and others fail, every
    request would write two lines.
    """

    def __init__(self) -> None:
        self._reported: set[str] = set()

    def mark_unavailable(self, reason: str) -> None:
        if reason not in self._reported:
            self._reported.add(reason)
            warn(LogName.DATABASE_UNREACHABLE, reason=reason)

    def mark_available(self) -> None:
        if self._reported:
            self._reported.clear()
            emit(LogName.DATABASE_REACHABLE)


class CommitCallbacks:
    """Callbacks to run after the commit."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []

    def on_commit(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def run_after_commit(self) -> None:
        for callback in self._callbacks:
            callback()


async def schema_revision(database: Database) -> str | None:
    """The revision that the database is at, or `None` if it was never migrated."""
    try:
        row = await database.fetch_one("SELECT version_num FROM alembic_version")
    except MissingTable:
        return None
    return None if row is None else str(row["version_num"])
