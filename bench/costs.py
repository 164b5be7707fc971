"""The cost of one request for the service, PostgreSQL and Redis: seconds of CPU, statements, commands, bytes.

The costs are counted over many requests of one kind: CPU seconds of all processes (/proc), `pg_stat_statements`, the
length of the WAL, Redis' own count. The seconds depend on the machine; statements, commands and bytes hardly do. They
include a little background work of the service.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
import redis.asyncio

from bench.load import form, get, in_turn, post
from bench.measures import Piece, code_requests, logins_of, passwords_of, refreshes, sent, verifications
from bench.processes import core_seconds, pid_of
from bench.worlds import People, Running, World

AT_ONCE = 8
STATISTICS = "shared_preload_libraries=pg_stat_statements"
"""The option with which PostgreSQL must be started."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Totals since the start of the servers."""

    service: float
    sql: float
    redis: float
    statements: int
    commands: int
    wal: int


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one request: milliseconds of a core of each server, statements, commands, and bytes of WAL."""

    what: str
    service: float
    sql: float
    redis: float
    statements: float
    commands: float
    wal: float


class Meter:
    def __init__(
        self, running: Running, world: World, sql: asyncpg.Connection, volatile: redis.asyncio.Redis
    ) -> None:
        self._pids = [running.pid, *(pid_of(world.stores[name]) for name in ("PostgreSQL", "Redis"))]
        self._sql, self._redis = sql, volatile

    async def read(self) -> Totals:
        service, sql, volatile = (core_seconds(pid) for pid in self._pids)
        statements = await self._sql.fetchval(
            "SELECT COALESCE(SUM(calls), 0)::bigint FROM pg_stat_statements"
            " WHERE query NOT LIKE '%pg_stat_statements%'"
        )
        wal = await self._sql.fetchval("SELECT (pg_current_wal_lsn() - '0/0')::bigint")
        commands = int((await self._redis.info("stats"))["total_commands_processed"])
        return Totals(service, sql, volatile, statements, commands, wal)

    async def bytes_of(self, table: str) -> float:
        """Return the bytes of a row, with its share of the indexes."""
        size = await self._sql.fetchval("SELECT pg_total_relation_size($1::regclass)", table)
        rows = await self._sql.fetchval(f"SELECT count(*) FROM {table}")
        return float(size / max(1, rows))


@asynccontextmanager
async def meter(running: Running, world: World) -> AsyncIterator[Meter]:
    sql = await asyncpg.connect(world.environment["KEYTURN_DATABASE_URL"], server_settings={"application_name": "m"})
    try:
        await sql.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        async with redis.asyncio.Redis.from_url(world.environment["KEYTURN_REDIS_URL"]) as client:
            yield Meter(running, world, sql, client)
    finally:
        await sql.close()


async def costs(running: Running, people: People, reading: Meter, how_many: int) -> list[Cost]:
    """Measure each kind of request, with fewer requests of the kinds that hash."""
    secret = await people.register()
    hashed = max(20, how_many // 10)

    async def kinds() -> AsyncIterator[tuple[str, Sequence[Piece]]]:
        yield "/login, the password", sent(passwords_of(await people.make(hashed)), 200)
        yield "/login-2fa", sent(await code_requests(people, how_many), 200)
        yield "/login and /login-2fa", logins_of(await people.make(hashed))
        yield (
            "/login, refused",
            sent(
                [post("/login", username=f"stranger{n}", password="not the password") for n in range(hashed)],  # noqa: S106
                401,
            ),
        )
        yield "/token", sent(await refreshes(people, how_many), 200)
        yield "/verify", sent(await verifications(people, how_many), 204)
        sessions = await people.log_in(how_many)
        client = {"client_id": "bench", "client_secret": secret}
        yield "/introspect", sent([form("/introspect", token=s.access_token, **client) for s in sessions], 200)
        yield "/me", sent([get("/me", bearer=s.access_token) for s in sessions], 200)
        yield "/logout", sent([post("/logout", bearer=s.access_token) for s in sessions], 204)

    found = []
    async for what, work in kinds():
        before = await reading.read()
        await in_turn(running.port, AT_ONCE, work)
        found.append(per_request(what, before, await reading.read(), len(work)))
    return found


def per_request(what: str, before: Totals, after: Totals, how_many: int) -> Cost:
    return Cost(
        what,
        service=1000 * (after.service - before.service) / how_many,
        sql=1000 * (after.sql - before.sql) / how_many,
        redis=1000 * (after.redis - before.redis) / how_many,
        statements=(after.statements - before.statements) / how_many,
        commands=(after.commands - before.commands - 1) / how_many,  # minus the command that read the figures
        wal=(after.wal - before.wal) / how_many,
    )
