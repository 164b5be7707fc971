"""The outbox: what is in its rows, what they cost, and what becomes of them when an account or an event goes."""

import json
import sqlite3
from functools import partial
from typing import Any

import pytest

from service.components import Components
from service.messages.outbox import max_attempts, oldest
from service.origin import OPERATOR
from service.settings import Settings
from tests.harness.clients import Opener
from tests.harness.people import MovableClock, sign_up
from tests.harness.servers import make_schema
from tests.harness.webhooks import Outbox
from tests.previous_version import serving


async def rows(parts: Components, sql: str) -> list[dict[str, Any]]:
    return [dict(row) for row in await parts.database.fetch_all(sql)]


async def test_a_row_names_an_event_and_has_no_content(outbox: Outbox, clock: MovableClock) -> None:
    """It has the recipient's `sub`, the transport and the times; what is sent is read when it is sent."""
    await outbox.sign_up("alice")
    (row,) = await rows(outbox.parts, "SELECT * FROM outbox")
    (user,) = await rows(outbox.parts, "SELECT id FROM users")
    now = int(clock().timestamp())
    assert {
        "id": row["id"],
        "kind": "event",
        "recipient": user["id"],
        "transport": "webhook",
        "event_id": row["event_id"],
        "created_at": now,
        "due_at": now,
        "attempts": 0,
        "address": None,
    } == row
    assert [{"id": row["event_id"]}] == await rows(outbox.parts, "SELECT id FROM events")


async def test_an_event_is_due_once_for_each_transport(outbox: Outbox) -> None:
    """The schema refuses a second row."""
    await outbox.sign_up("alice")
    for transport, is_refused in (("webhook", True), ("another", False)):
        insert = (
            "INSERT INTO outbox (kind, recipient, transport, event_id, created_at, due_at)"
            " SELECT kind, recipient, $1, event_id, created_at, due_at FROM outbox WHERE transport = 'webhook'"
            " RETURNING id"
        )
        if is_refused:
            with pytest.raises(Exception, match=r"(?i)unique"):
                await outbox.parts.database.write_one(insert, transport)
        else:
            await outbox.parts.database.write_one(insert, transport)
    assert 1 == await outbox.deliver(outbox.deliverer())
    assert ["another"] == [row["transport"] for row in await rows(outbox.parts, "SELECT transport FROM outbox")]


async def test_the_order_is_that_of_the_events(outbox: Outbox) -> None:
    """Two transactions of one user may put their events into the outbox the other way round."""
    await outbox.sign_up("alice")
    async with outbox.parts.database.begin() as transaction:
        await transaction.execute("DELETE FROM outbox")
        await transaction.execute("UPDATE events SET event = 'first'")
        await transaction.execute(
            "INSERT INTO events (user_id, event, occurred_at, details) SELECT user_id, 'second', 1, '{}' FROM events"
        )
        for name in ("second", "first"):
            await transaction.execute(
                "INSERT INTO outbox (kind, recipient, transport, event_id, created_at, due_at)"
                " SELECT 'event', user_id, 'webhook', id, 1, 1 FROM events WHERE event = $1",
                name,
            )
    webhook = outbox.deliverer()
    assert 1 == await outbox.deliver(webhook)
    assert 1 == await outbox.deliver(webhook)
    assert ["first", "second"] == [event["type"] for event in outbox.receiver.accepted]


async def test_the_backlog_of_another_transport_is_not_the_webhooks(outbox: Outbox, clock: MovableClock) -> None:
    """The age of the oldest event and the number of attempts are those of one transport."""
    await outbox.sign_up("alice")
    database = outbox.parts.database
    assert (int(clock().timestamp()), 0) == (
        await oldest(database, "webhook"),
        await max_attempts(database, "webhook"),
    )
    assert (None, 0) == (await oldest(database, "another"), await max_attempts(database, "another"))


async def test_a_swept_event_takes_its_row_with_it(outbox: Outbox) -> None:
    """After ninety days an event that no receiver accepted is given up."""
    await outbox.sign_up("alice")
    outbox.receiver.status = 503
    await outbox.deliver(outbox.deliverer())
    outbox.clock.advance(days=90, seconds=1)
    await outbox.sign_up("bob")
    assert 1 == await outbox.parts.events.sweep(outbox.clock())
    outbox.receiver.status = 204
    assert 1 == await outbox.deliver(outbox.deliverer())
    assert ["bob"] == [event["data"]["username"] for event in outbox.receiver.accepted]


# --- deleted accounts ---


async def details_of(parts: Components) -> list[tuple[str, dict[str, Any]]]:
    found = await rows(parts, "SELECT event, details FROM events ORDER BY id")
    return [(row["event"], json.loads(row["details"])) for row in found]


async def test_deleting_an_account_keeps_its_audit_trail(
    world: dict[str, Any], open_client: Opener, clock: Any
) -> None:
    """The names, the times and the `sub` of its events stay; addresses and names of devices go."""
    async with open_client(world) as client:
        alice = await sign_up(client, clock, "alice")
        await alice.confirm()
        await sign_up(client, clock, "bob", mfa=False)
        parts = client.parts
        before = await rows(parts, "SELECT user_id, event, occurred_at FROM events ORDER BY id")
        sub = (await parts.administration.delete("alice", by=OPERATOR)).id
        after = await rows(parts, "SELECT user_id, event, occurred_at FROM events ORDER BY id")
        assert [*before, {"user_id": sub, "event": "user.deleted", "occurred_at": int(clock().timestamp())}] == after
        assert [
            ("signup", {}),
            ("mfa.enabled", {}),
            ("login.admitted", {}),
            ("signup", {"mfa": False, "address": "203.0.113.7"}),
            ("user.deleted", {"by": "operator"}),
        ] == await details_of(parts)


async def test_events_that_are_due_when_the_account_is_deleted_arrive_whole(outbox: Outbox) -> None:
    """Their details go once the last event of the account, its deletion, is delivered."""
    await outbox.sign_up("alice")
    await outbox.parts.administration.set_roles("alice", add="admin", by=OPERATOR)
    await outbox.parts.administration.delete("alice", by=OPERATOR)
    webhook, kept = (
        outbox.deliverer(),
        [("signup", {"mfa": False}), ("user.roles_changed", {"roles": "admin", "by": "operator"})],
    )
    assert [*kept, ("user.deleted", {"by": "operator"})] == await details_of(outbox.parts)
    assert 1 == await outbox.deliver(webhook)
    assert kept == (await details_of(outbox.parts))[:2]
    assert 2 == await outbox.deliver(webhook)
    events = [(event["type"], event["data"]) for event in outbox.receiver.accepted]
    assert ["signup", "user.roles_changed", "user.deleted"] == [name for name, _ in events]
    assert {"alice"} == {data["username"] for _, data in events}
    assert ("admin", False) == (events[1][1]["roles"], events[0][1]["mfa"])
    assert [{}, {}, {"by": "operator"}] == [details for _, details in await details_of(outbox.parts)]


async def test_events_outlive_the_row_of_their_user(outbox: Outbox) -> None:
    """They keep the `sub`, and one that is due is delivered without a username.

    No operation deletes the row of a user; an operator may.
    """
    await outbox.sign_up("alice")
    async with outbox.parts.database.begin() as transaction:
        await transaction.execute("DELETE FROM users")
    (event,) = await rows(outbox.parts, "SELECT user_id FROM events")
    assert 1 == await outbox.deliver(outbox.deliverer())
    assert {"sub": event["user_id"], "mfa": False} == outbox.receiver.accepted[0]["data"]


async def test_an_event_may_be_about_no_user(outbox: Outbox) -> None:
    """It is delivered without `sub` and username, and waits for no other.

    The second row is due in the far future, as only many failures would make it.
    """
    insert = "INSERT INTO events (event, occurred_at, details) VALUES ('client.added', 1, '{}') RETURNING id"
    for due_at, attempts in ((1, 0), (2**40, 30), (1, 0)):
        row = await outbox.parts.database.write_one(insert)
        assert row is not None
        await outbox.parts.database.write_one(
            "INSERT INTO outbox (kind, transport, event_id, created_at, due_at, attempts)"
            " VALUES ('event', 'webhook', $1, 1, $2, $3) RETURNING id",
            row["id"], due_at, attempts,
        )  # fmt: skip
    assert 2 == await outbox.deliver(outbox.deliverer())
    assert [{}, {}] == [event["data"] for event in outbox.receiver.accepted]


# --- cost ---


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that the embedded database runs."""
    sent: list[str] = []

    class Recorded(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if sql.startswith(("SELECT", "INSERT", "UPDATE", "DELETE")):
                sent.append(sql)
            return super().execute(sql, *parameters)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Recorded))
    return sent


@pytest.mark.parametrize(("with_webhook", "number"), [(False, 5), (True, 6)])
async def test_a_login_costs_one_statement_more_with_a_webhook(
    with_webhook: bool, number: int, embedded: dict[str, Any], clock: MovableClock, statements: list[str]
) -> None:
    """The second step reads the user, consumes the code, opens the session and records the event."""
    more = {"webhook_url": "http://127.0.0.1:9/", "webhook_secret": f"whsec_{'a' * 43}="} if with_webhook else {}
    settings = Settings(**embedded, **more)
    make_schema(settings)
    async with serving(settings, clock) as client:
        alice = await sign_up(client, clock)
        await alice.confirm()
        clock.next_step()
        pending = await alice.pending()
        statements.clear()
        assert 200 == (await alice.give_code(mfa_token=pending)).status_code
    assert number == len(statements)
    assert with_webhook == any("INTO outbox" in sql for sql in statements)
