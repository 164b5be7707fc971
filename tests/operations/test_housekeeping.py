"""Background work between requests: any replica deletes dead sessions, in small steps."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from service.components import Components, open_components
from service.origin import Caller
from service.sessions import sessions
from service.sessions.bearers import EndedSessions
from service.settings import Settings
from service.storage.database import Transaction
from service.users.passwords import CHEAPEST
from service.users.users import User
from tests.harness.databases import PATIENT
from tests.harness.people import MovableClock
from tests.harness.servers import make_schema


@pytest.fixture
async def parts(world: dict[str, Any], clock: MovableClock) -> AsyncIterator[Components]:
    settings = Settings(**world)
    if settings.database_url is None:
        make_schema(settings)
    async with open_components(settings, clock, hash_cost=CHEAPEST, timeouts=PATIENT) as made:
        yield made


async def open_session(transaction: Transaction, user: User, at: datetime, *, seconds: int) -> str:
    """Open a session that expires after these seconds, and return its id."""
    lifetime = timedelta(seconds=seconds)
    session = await sessions.open_session(
        transaction,
        user,
        amr=("pwd",),
        caller=Caller("::1"),
        lifetimes=sessions.Lifetimes(lifetime, lifetime),
        now=at,
    )
    assert session is not None
    return session.id


async def fill(parts: Components, *, live: int, expired: int, ended: int) -> User:
    """Open sessions of one user, in the three states, with ids in random order; return the user."""
    user = (await parts.sign_up.sign_up("alice", "a long passphrase", enable_mfa=False, caller=None)).user
    opened, ends = parts.clock() - timedelta(seconds=8000), parts.clock() - timedelta(days=2)
    async with parts.database.begin() as transaction:
        for _ in range(live):
            await open_session(transaction, user, opened, seconds=8600)
        for _ in range(expired):
            await open_session(transaction, user, opened, seconds=800)
        for _ in range(ended):
            sid = await open_session(transaction, user, opened, seconds=8600)
            await sessions.end(transaction, sid, reason="logout", now=ends)
    return user


async def count(parts: Components) -> int:
    row = await parts.database.fetch_one("SELECT COUNT(*) AS n FROM sessions")
    assert row is not None
    return int(row["n"])


async def test_dead_sessions_are_deleted_and_live_ones_stay(parts: Components) -> None:
    """Each step reads a thousand rows, and starts again at the end."""
    await fill(parts, live=700, expired=900, ended=800)
    steps = [await parts.housekeeping.sweep() for _ in range(3)]
    assert 1700 == sum(steps)
    assert max(steps) <= 1000
    assert 700 == await count(parts)
    assert 0 == sum([await parts.housekeeping.sweep() for _ in range(3)])


async def test_two_replicas_sweep_the_same_rows_once(parts: Components) -> None:
    """No replica leads, and none blocks another."""
    await fill(parts, live=10, expired=500, ended=0)
    steps = await asyncio.gather(*(parts.housekeeping.sweep() for _ in range(4)))
    assert 500 == sum(steps)
    assert 10 == await count(parts)


async def test_a_dead_session_is_kept_while_it_is_needed(parts: Components, clock: MovableClock) -> None:
    """Its row prevents a pending token from opening another session, and lets /verify know that it ended."""
    await fill(parts, live=1, expired=0, ended=0)
    clock.advance(seconds=600 + 3599)
    assert 0 == await parts.housekeeping.sweep()
    clock.advance(seconds=1)
    assert 1 == await parts.housekeeping.sweep()


async def test_the_sweep_runs_in_the_background(parts: Components) -> None:
    """It runs in a serving process and stops with it; an outage of the database does not stop it."""
    await fill(parts, live=1, expired=20, ended=0)
    async with parts.housekeeping.running(), asyncio.timeout(10):
        while await count(parts) > 1:
            pass  # other tasks run during the query
    assert not [task for task in asyncio.all_tasks() if "_repeat" in repr(task)]


async def test_the_short_tasks_do_not_begin_at_the_same_moment(
    parts: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each of them would open a connection to PostgreSQL at every start."""
    begun: list[str] = []
    running: set[str] = set()

    def observed(name: str) -> Callable[[], Awaitable[None]]:
        async def work() -> None:
            assert not running
            running.add(name)
            await asyncio.sleep(0.01)
            running.remove(name)
            begun.append(name)

        return work

    names = ["read_ended", "read_keys", "sweep", "sweep_events"]
    for name in names:
        monkeypatch.setattr(parts.housekeeping, name, observed(name))
    async with parts.housekeeping.running(), asyncio.timeout(10):
        while begun[1:5] != names:  # noqa: ASYNC110 -- the tasks do not say when they have worked
            await asyncio.sleep(0.001)


async def test_verify_forgets_sessions_that_ended_long_ago(parts: Components, clock: MovableClock) -> None:
    """Their access tokens have expired, so the list only has the sessions of the last minutes."""
    ended = EndedSessions(parts.database, access_ttl=timedelta(seconds=parts.settings.access_ttl))
    user = await fill(parts, live=0, expired=0, ended=0)
    for _ in range(5):
        async with parts.database.begin() as transaction:
            sid = await open_session(transaction, user, clock(), seconds=86400)
            await sessions.end(transaction, sid, reason="logout", now=clock())
        await ended.read(clock())
        assert sid in ended
        for _ in range(120):
            clock.advance(seconds=30)
            await ended.read(clock())
    assert len(ended) <= 1


async def test_an_ended_session_is_kept_however_long_ago_it_expired(
    world: dict[str, Any], clock: MovableClock
) -> None:
    """Its tokens may live longer than an unused session, and /verify must find that it ended."""
    settings = Settings(**world, access_ttl=86400, refresh_idle_ttl=3600)
    if settings.database_url is None:
        make_schema(settings)
    async with open_components(settings, clock, hash_cost=CHEAPEST, timeouts=PATIENT) as parts:
        signed_up = await parts.sign_up.sign_up("alice", "a long passphrase", enable_mfa=False, caller=None)
        async with parts.database.begin() as transaction:
            for is_ended in (True, False):
                sid = await open_session(transaction, signed_up.user, clock(), seconds=3600)
                if is_ended:
                    await sessions.end(transaction, sid, reason="logout", now=clock() + timedelta(seconds=300))
        clock.advance(seconds=9 * 3600)
        assert 1 == await parts.housekeeping.sweep(), "the one that merely expired"
        clock.advance(days=2)
        assert 1 == await parts.housekeeping.sweep()
