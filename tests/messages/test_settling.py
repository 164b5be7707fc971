"""Which events are settled while transactions run: no reader skips one, and none waits for ever."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import asyncpg
import pytest

from service.messages import events
from service.messages.settling import LONGEST_TRANSACTION_SECONDS, Settling
from service.origin import OPERATOR, Act
from service.storage.database import Transaction
from service.storage.database_postgresql import MAX_ROUND_TRIPS
from service.storage.timeouts import DATABASE_TIMEOUT_SECONDS
from service.telemetry.event_names import EventName
from tests.harness.clients import Client, Opener
from tests.harness.people import MovableClock
from tests.harness.servers import PostgreSQLServer
from tests.harness.webhooks import Ticks


class Numbers:
    """Events of a service, and what one process knows about their numbers."""

    def __init__(self, client: Client, clock: MovableClock) -> None:
        self._parts, self._clock = client.parts, clock
        self.ticks = Ticks()
        self.settling = Settling(client.parts.database, ticks=self.ticks)

    async def record(self) -> int:
        """Record an event and return its number."""
        async with self.transaction() as transaction:
            await self.record_in(transaction)
        return await self.newest()

    async def record_in(self, transaction: Transaction) -> None:
        act = Act(OPERATOR, self._clock())
        await self._parts.events.record(transaction, EventName.CLIENT_REMOVED, None, act, client_id="one")

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        return self._parts.database.begin()

    async def fill(self, count: int) -> None:
        """Record many events, faster than through the service."""
        async with self.transaction() as transaction:
            await transaction.execute(
                "INSERT INTO events (user_id, event, occurred_at, details)"
                " SELECT NULL, 'client.removed', 0, '{}' FROM generate_series(1, $1)",
                count,
            )

    async def newest(self) -> int:
        newest = await events.newest_number(self._parts.database)
        assert newest is not None
        return newest

    async def settled_after(self, seconds: float) -> int:
        """See the newest number, and return which one is settled after a time."""
        self.settling.see(await self.newest())
        self.ticks.now += seconds
        return await self.settling.settle()

    @contextlib.asynccontextmanager
    async def slow_transaction(self, *, fails: bool = False) -> AsyncIterator[None]:
        """A transaction that records an event and does not end before the block does."""
        has_number, may_end = asyncio.Event(), asyncio.Event()

        async def run() -> None:
            async with self.transaction() as transaction:
                await self.record_in(transaction)
                has_number.set()
                await may_end.wait()
                if fails:
                    raise ZeroDivisionError

        running = asyncio.create_task(run())
        await has_number.wait()
        try:
            yield
        finally:
            may_end.set()
            with contextlib.suppress(ZeroDivisionError):
                await running


@pytest.fixture
async def numbers(production: dict[str, Any], open_client: Opener, clock: MovableClock) -> AsyncIterator[Numbers]:
    async with open_client(production) as client:
        yield Numbers(client, clock)


async def test_an_event_is_settled_a_second_after_it_was_seen(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """On both databases, and whatever was swept before it."""
    async with open_client(world) as client:
        numbers = Numbers(client, clock)
        await numbers.record()
        async with numbers.transaction() as transaction:
            await transaction.execute("DELETE FROM events")
        newest = await numbers.record()
        assert 0 == await numbers.settled_after(0.9)
        assert newest == await numbers.settled_after(0.1)
        assert newest == await numbers.settled_after(0)


@pytest.mark.parametrize("seconds", [1, 5, LONGEST_TRANSACTION_SECONDS - 0.1])
async def test_an_event_of_a_transaction_that_runs_is_waited_for(numbers: Numbers, seconds: float) -> None:
    """A transaction of a replica far from the database takes longer than the second that others need."""
    before = await numbers.record()
    async with numbers.slow_transaction():
        await numbers.record()
        assert before == await numbers.settled_after(seconds)
    assert before + 2 == await numbers.settled_after(0)


async def test_the_order_of_transactions_need_not_be_that_of_their_events(numbers: Numbers) -> None:
    """A transaction that wrote first may record its event last."""
    before = await numbers.record()
    async with contextlib.AsyncExitStack() as running:
        async with numbers.transaction() as first:
            await first.execute("UPDATE deliverer SET holds_until = holds_until")
            await running.enter_async_context(numbers.slow_transaction())
            await numbers.record_in(first)
        assert before == await numbers.settled_after(1)
        assert before == await numbers.settled_after(1)
    assert before + 2 == await numbers.settled_after(0)


async def test_a_number_of_a_failed_transaction_is_not_waited_for(numbers: Numbers) -> None:
    """Its number stays free for ever."""
    async with numbers.slow_transaction(fails=True):
        newest = await numbers.record()
        assert newest > await numbers.settled_after(1)
    assert newest == await numbers.settled_after(0)


async def test_no_transaction_is_waited_for_longer_than_one_can_last(numbers: Numbers) -> None:
    """Another program on the server may never end its transaction."""
    assert LONGEST_TRANSACTION_SECONDS > DATABASE_TIMEOUT_SECONDS + MAX_ROUND_TRIPS * DATABASE_TIMEOUT_SECONDS / 2
    async with numbers.slow_transaction():
        newest = await numbers.record()
        assert newest > await numbers.settled_after(1)
        assert newest == await numbers.settled_after(LONGEST_TRANSACTION_SECONDS)


async def test_a_transaction_of_another_program_delays_no_event(
    numbers: Numbers, postgresql_server: PostgreSQLServer
) -> None:
    """If each number up to that of the newest event has an event, no transaction that runs has one of them."""
    other = await asyncpg.connect(postgresql_server.url("postgres"))
    try:
        async with other.transaction():
            await other.execute("SELECT txid_current()")
            for _ in range(3):
                newest = await numbers.record()
                assert newest == await numbers.settled_after(1)
            async with numbers.slow_transaction(fails=True):
                pass
            after_gap = await numbers.record()
            assert newest == await numbers.settled_after(1)
        assert after_gap == await numbers.settled_after(0)
    finally:
        await other.close()


async def test_a_database_that_keeps_writing_delays_no_event(numbers: Numbers) -> None:
    """An event outlasts the transactions that ran when it was a second old, not those that began later."""
    first = numbers.slow_transaction(fails=True)
    await first.__aenter__()
    newest = await numbers.record()
    assert newest > await numbers.settled_after(1)
    async with numbers.slow_transaction():
        await first.__aexit__(None, None, None)
        assert newest == await numbers.settled_after(0)


async def test_many_events_at_once_are_settled(numbers: Numbers, postgresql_server: PostgreSQLServer) -> None:
    """Without a transaction at once; beside one a thousand at a time."""
    other = await asyncpg.connect(postgresql_server.url("postgres"))
    try:
        async with other.transaction():
            await other.execute("SELECT txid_current()")
            first = await numbers.record()
            await numbers.settled_after(1)
            await numbers.fill(1500)
            assert first + 1000 == await numbers.settled_after(1)
            assert first + 1500 == await numbers.settled_after(0)
            await numbers.fill(1500)
            assert first + 2500 == await numbers.settled_after(1)
        assert first + 3000 == await numbers.settled_after(0)
    finally:
        await other.close()
