"""The pool of PostgreSQL connections, tested with connections that have a state only."""

import asyncio
from collections.abc import Callable

import pytest

from service.storage.postgresql_pool import MAX_IDLE_SECONDS, Pool
from tests.harness.webhooks import Ticks


class Connection:
    def __init__(self) -> None:
        self.is_gone = False

    def is_closed(self) -> bool:
        return self.is_gone

    def terminate(self) -> None:
        self.is_gone = True

    async def close(self) -> None:
        self.is_gone = True


class Server:
    """A server that answers handshakes when a test demands it: with a connection, or with an error."""

    def __init__(self) -> None:
        self.handshakes: list[asyncio.Future[Connection]] = []

    async def connect(self) -> Connection:
        handshake: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self.handshakes.append(handshake)
        return await handshake

    async def answer(self, number: int = -1, *, error: Exception | None = None) -> Connection:
        connection = Connection()
        if error is None:
            self.handshakes[number].set_result(connection)
        else:
            self.handshakes[number].set_exception(error)
        await settle()
        return connection


async def settle() -> None:
    """Let all pending callbacks run."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def server() -> Server:
    return Server()


async def test_attempts_are_limited_by_waiting_callers_and_by_the_size(server: Server) -> None:
    """Five callers and a size of three make three handshakes; the other callers wait for released connections."""
    pool = Pool(server.connect, size=3)
    waiters = [pool.request() for _ in range(5)]
    await settle()
    assert 3 == len(server.handshakes)
    first = await server.answer(0)
    assert [True, False, False, False, False] == [waiter.done() for waiter in waiters]
    pool.release(first)
    assert first is waiters[1].result()
    await server.answer(1)
    await server.answer(2)
    pool.release(first)
    assert first is waiters[4].result()
    assert (3, 3) == (len(pool), len(server.handshakes))
    await pool.close()


async def test_a_handshake_outlives_a_caller_that_gives_up(server: Server) -> None:
    """Its connection serves the next caller without a second handshake."""
    pool = Pool(server.connect, size=3)
    waiter = pool.request()
    await settle()
    pool.withdraw(waiter)
    connection = await server.answer()
    assert connection is pool.take_idle()
    assert 1 == len(server.handshakes)
    await pool.close()


async def test_a_connection_that_arrives_after_its_caller_gave_up_is_not_lost(server: Server) -> None:
    """The next caller gets the connection."""
    pool = Pool(server.connect, size=1)
    early, late = pool.request(), pool.request()
    await settle()
    connection = await server.answer()
    assert early.done()
    pool.withdraw(early)
    assert connection is late.result()
    await pool.close()


async def test_a_failed_handshake_is_the_error_of_one_caller(server: Server) -> None:
    """The next waiting caller gets a new attempt."""
    pool = Pool(server.connect, size=1)
    one, other = pool.request(), pool.request()
    await settle()
    await server.answer(error=OSError("refused"))
    assert isinstance(one.exception(), OSError)
    assert not other.done()
    connection = await server.answer()
    assert connection is other.result()
    await pool.close()


async def test_a_failed_handshake_without_a_caller_is_ignored(server: Server) -> None:
    """No exception is raised, and the next caller makes a new attempt."""
    pool = Pool(server.connect, size=1)
    waiter = pool.request()
    await settle()
    pool.withdraw(waiter)
    await server.answer(error=OSError("refused"))
    again = pool.request()
    await settle()
    assert await server.answer() is again.result()
    await pool.close()


async def test_a_discarded_connection_makes_room(server: Server) -> None:
    """A waiting caller gets a new connection, never the discarded one."""
    pool = Pool(server.connect, size=1)
    pool.request()
    await settle()
    broken = await server.answer()
    waiting = pool.request()
    pool.discard(broken)
    await settle()
    assert broken.is_gone
    fresh = await server.answer()
    assert fresh is waiting.result()
    assert fresh is not broken
    await pool.close()


@pytest.mark.parametrize("give_back", [Pool.release, Pool.discard])
async def test_a_closed_connection_is_never_lent(
    server: Server, give_back: Callable[[Pool[Connection], Connection], None]
) -> None:
    """It may have broken while it was lent, or while it was idle."""
    pool = Pool(server.connect, size=2)
    pool.request()
    await settle()
    connection = await server.answer()
    connection.is_gone = True
    give_back(pool, connection)
    assert pool.take_idle() is None
    pool.request()
    await settle()
    idle = await server.answer()
    pool.release(idle)
    idle.is_gone = True
    assert pool.take_idle() is None
    assert 0 == len(pool)
    await pool.close()


async def test_the_connection_used_last_is_lent_first_and_an_old_one_is_closed(server: Server) -> None:
    """The connections of a burst become old, and are closed before a firewall drops them."""
    ticks = Ticks()
    pool = Pool(server.connect, size=2, ticks=ticks)
    pool.request()
    pool.request()
    await settle()
    one, other = await server.answer(0), await server.answer(1)
    pool.release(one)
    pool.release(other)
    assert other is pool.take_idle()
    ticks.now += MAX_IDLE_SECONDS + 1
    assert pool.take_idle() is None
    assert (True, False) == (one.is_gone, other.is_gone)
    await pool.close()


async def test_closing_ends_idle_lent_and_pending_connections(server: Server) -> None:
    """No connection stays open, and waiting callers are cancelled."""
    pool = Pool(server.connect, size=3)
    for _ in range(2):
        pool.request()
    await settle()
    idle, lent = await server.answer(0), await server.answer(1)
    pool.release(idle)
    waiter = pool.request()
    assert idle is pool.take_idle() or waiter.done()
    waiting = pool.request()
    await settle()
    await pool.close()
    assert (True, True) == (idle.is_gone, lent.is_gone)
    assert waiting.cancelled()
    assert all(handshake.done() for handshake in server.handshakes)
