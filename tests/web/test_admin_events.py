"""Events by the admin API: those of a user, and all of them for a reader that must miss none."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.messages.feed import EventFeed
from service.origin import OPERATOR, Act
from service.storage.page import Cursors
from service.telemetry.event_names import EventName
from service.waits import SETTLE_SECONDS
from tests.harness.administrators import Caller, sub_of, token_of_client
from tests.harness.clients import AT_ONCE, Client, Opener
from tests.harness.people import MovableClock
from tests.harness.webhooks import Ticks


@pytest.fixture
async def api(world: dict[str, Any], open_client: Opener) -> AsyncIterator[Client]:
    """A client of a service with the admin API. Its readings do not wait: nothing else is committed."""
    async with open_client({**world, "admin_api": "on"}, waits=AT_ONCE) as client:
        yield client


@pytest.fixture
async def siem(api: Client, clock: MovableClock) -> Caller:
    return await token_of_client(api, clock, "siem", ["keyturn:events.read"])


async def test_every_event_is_read_once_and_in_order(api: Client, siem: Caller, clock: MovableClock) -> None:
    """Those about no user too; at the end the answer is empty and `after` stays."""
    bob = await sub_of(api, clock, "bob")
    for number in range(5):
        await api.parts.clients.add(f"client-{number}", (), by=OPERATOR)
    rows = await api.parts.database.fetch_all("SELECT id, event, user_id FROM events ORDER BY id")
    read: list[tuple[int, str, str | None]] = []
    after = 0
    while True:
        batch = await siem.get(f"events?after={after}&limit=3")
        if not batch["events"]:
            assert after == batch["next_after"]
            break
        after = batch["next_after"]
        read += [(event["id"], event["event"], event["sub"]) for event in batch["events"]]
    assert [(row["id"], row["event"], row["user_id"]) for row in rows] == read
    assert bob in {sub for _, _, sub in read}


@pytest.mark.parametrize("seconds", [0.5, 1.5])
async def test_an_event_that_is_committed_late_is_not_skipped(
    production: dict[str, Any], open_client: Opener, clock: MovableClock, seconds: float
) -> None:
    """A transaction has its number and commits after one with a greater number: the reader waits for it.

    SQLite has one writer, so that numbers are in the order of commits.
    """
    async with open_client({**production, "admin_api": "on"}) as api:
        siem = await token_of_client(api, clock, "siem", ["keyturn:events.read"])
        parts, act = api.parts, Act(OPERATOR, clock())
        start = (await siem.get("events"))["next_after"]
        has_number, may_commit = asyncio.Event(), asyncio.Event()

        async def commit_late() -> None:
            async with parts.database.begin() as transaction:
                await parts.events.record(transaction, EventName.CLIENT_REMOVED, None, act, client_id="late")
                has_number.set()
                await may_commit.wait()

        late = asyncio.create_task(commit_late())
        await has_number.wait()
        await parts.clients.add("early", (), by=OPERATOR)
        reading = asyncio.create_task(siem.get(f"events?after={start}"))
        await asyncio.sleep(seconds)
        may_commit.set()
        await late
        batches = [await reading]
        batches.append(await siem.get(f"events?after={batches[0]['next_after']}"))
        assert ["late", "early"] == [event["details"]["client_id"] for batch in batches for event in batch["events"]]


async def test_what_has_settled_is_read_at_once(api: Client, siem: Caller) -> None:
    """Only a reading that ends in new events waits."""
    waits: list[float] = []
    ticks = Ticks()

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        ticks.now += seconds

    reader = EventFeed(api.parts.database, Cursors(api.parts.sealer, "events"), ticks=ticks, wait=wait)
    first = await reader.read_after(0, limit=200)
    assert 1 == len(waits)
    assert SETTLE_SECONDS < waits[0] < SETTLE_SECONDS + 0.1
    await reader.read_after(0, limit=200)
    await reader.read_after(first.next_after, limit=200)
    assert 1 == len(waits)
    await api.parts.clients.add("another", (), by=OPERATOR)
    await reader.read_after(0, limit=len(first.events))
    assert 1 == len(waits), "the page is full of events that have settled"
    assert 1 == len((await reader.read_after(first.next_after, limit=200)).events)
    assert 2 == len(waits)


async def test_a_number_that_no_event_has_yet_is_refused(api: Client, siem: Caller) -> None:
    """After a restored backup numbers are used again: the reader learns it, and misses nothing in silence."""
    newest = (await siem.get("events"))["next_after"]
    assert [] == (await siem.get(f"events?after={newest}"))["events"]
    assert (422, "invalid_request") == await siem.refused("GET", f"events?after={newest + 1}")
    for wrong in ("-1", "x", str(2**63), "", "1.5", "%00"):
        assert (422, "invalid_request") == await siem.refused("GET", f"events?after={wrong}"), wrong


async def test_the_events_of_a_user_have_pages(api: Client, siem: Caller, clock: MovableClock) -> None:
    """The newest first; a cursor is of its user only, and a new event moves none."""
    bob, carol = await sub_of(api, clock, "bob"), await sub_of(api, clock, "carol")
    for name in "abcde":
        await api.parts.administration.set_roles("bob", add=name, by=OPERATOR)
    first = await siem.get(f"users/{bob}/events?limit=4")
    cursor = first["next_cursor"]
    await api.parts.administration.set_roles("bob", add="f", by=OPERATOR)
    second = await siem.get(f"users/{bob}/events?limit=4&cursor={cursor}")
    assert second["next_cursor"] is None
    numbers = [event["id"] for event in (*first["events"], *second["events"])]
    assert (6, sorted(numbers, reverse=True)) == (len(set(numbers)), numbers)
    assert {bob} == {event["sub"] for event in second["events"]}
    assert "signup" == second["events"][-1]["event"]
    assert (422, "invalid_request") == await siem.refused("GET", f"users/{carol}/events?cursor={cursor}")
    assert (404, "not_found") == await siem.refused("GET", "users/nobody/events")
