"""The pool of PostgreSQL connections, on connections that are nothing but their state."""

import asyncio
from collections.abc import Callable

import pytest

from service import postgresql_pool
from service.postgresql_pool import Pool


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
    """Answers handshakes when it is told to: with a connection, or with an error."""

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
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def server() -> Server:
    return Server()


async def test_there_are_as_many_attempts_as_callers_wait_and_no_more_than_its_size(server: Server) -> None:
    """Five callers and a size of three: three handshakes, and the others wait for what comes back."""
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


async def test_a_handshake_outlives_the_caller_who_gave_up(server: Server) -> None:
    """Its connection serves the next caller, and no second handshake is begun."""
    pool = Pool(server.connect, size=3)
    waiter = pool.request()
    await settle()
    pool.withdraw(waiter)
    connection = await server.answer()
    assert connection is pool.take_idle()
    assert 1 == len(server.handshakes)
    await pool.close()


async def test_a_connection_that_arrives_as_its_caller_gives_up_is_not_lost(server: Server) -> None:
    """The next caller gets it."""
    pool = Pool(server.connect, size=1)
    early, late = pool.request(), pool.request()
    await settle()
    connection = await server.answer()
    assert early.done()
    pool.withdraw(early)
    assert connection is late.result()
    await pool.close()


async def test_a_failed_handshake_is_one_callers_error(server: Server) -> None:
    """The others that wait get an attempt of their own."""
    pool = Pool(server.connect, size=1)
    one, other = pool.request(), pool.request()
    await settle()
    await server.answer(error=OSError("refused"))
    assert isinstance(one.exception(), OSError)
    assert not other.done()
    connection = await server.answer()
    assert connection is other.result()
    await pool.close()


async def test_a_failed_handshake_that_nobody_waits_for_is_forgotten(server: Server) -> None:
    """It raises nowhere, and the next caller makes a new attempt."""
    pool = Pool(server.connect, size=1)
    waiter = pool.request()
    await settle()
    pool.withdraw(waiter)
    await server.answer(error=OSError("refused"))
    again = pool.request()
    await settle()
    assert await server.answer() is again.result()
    await pool.close()


async def test_what_is_discarded_makes_room(server: Server) -> None:
    """A caller that waits gets a new connection, never the one that was discarded."""
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
    """Whether it broke while it was lent, or while nobody used it."""
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


async def test_the_connection_used_last_is_lent_first_and_an_old_one_ends(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that those which a burst needed become old, and go before a firewall forgets them."""
    pool = Pool(server.connect, size=2)
    pool.request()
    pool.request()
    await settle()
    one, other = await server.answer(0), await server.answer(1)
    pool.release(one)
    pool.release(other)
    assert other is pool.take_idle()
    monkeypatch.setattr(postgresql_pool, "MAX_IDLE_SECONDS", -1.0)
    assert pool.take_idle() is None
    assert (True, False) == (one.is_gone, other.is_gone)
    await pool.close()


async def test_closing_ends_what_is_idle_lent_and_under_way(server: Server) -> None:
    """Nothing is left open, and whoever waits is told."""
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
