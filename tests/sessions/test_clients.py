"""Registering and removing clients, and the events of it. SQLite and PostgreSQL."""

import json
import logging
from typing import Any

import pytest

from service.components import Components
from service.origin import OPERATOR, Actor
from service.sessions.registration import MAX_OVERLAP_HOURS
from service.users import user_roles, users
from service.users.administrators import ADMINISTRATOR
from tests.harness.webhooks import Outbox


async def recorded(parts: Components) -> list[tuple[str | None, str, dict[str, Any]]]:
    rows = await parts.database.fetch_all("SELECT user_id, event, details FROM events ORDER BY id")
    return [(row["user_id"], row["event"], json.loads(row["details"])) for row in rows]


@pytest.mark.parametrize(
    ("client_id", "scopes"),
    [("keyturn", ()), ("ab", ()), ("Billing", ()), ("a b c", ()), ("x" * 65, ()), ("billing", ('quo"te',)),
     ("billing", ("x" * 65,)), ("billing", tuple(f"scope{n}" for n in range(33)))],
)  # fmt: skip
async def test_an_id_or_a_scope_that_cannot_exist_is_refused(
    outbox: Outbox, client_id: str, scopes: tuple[str, ...]
) -> None:
    """Nothing is registered and nothing is recorded, wherever the operation is called."""
    with pytest.raises(ValueError, match=r"needs|is the client_id"):
        await outbox.parts.clients.add(client_id, scopes, by=OPERATOR)
    assert ([], []) == (await outbox.parts.clients.list_all(), await recorded(outbox.parts))


@pytest.mark.parametrize("hours", [-1, -0.001, MAX_OVERLAP_HOURS + 0.001, float("nan"), float("inf")])
async def test_an_overlap_has_limits(outbox: Outbox, hours: float) -> None:
    """The secret stays as it is."""
    await outbox.parts.clients.add("billing", (), by=OPERATOR)
    with pytest.raises(ValueError, match="must be 0 to 2160 hours"):
        await outbox.parts.clients.rotate_secret("billing", overlap_hours=hours, by=OPERATOR)
    assert ["client.added"] == [event for _, event, _ in await recorded(outbox.parts)]


async def test_what_changes_nothing_is_no_event(outbox: Outbox) -> None:
    """An id that is taken, and clients that do not exist."""
    clients = outbox.parts.clients
    await clients.add("billing", (), by=OPERATOR)
    before = await recorded(outbox.parts)
    assert await clients.add("billing", ("read",), by=OPERATOR) is None
    assert await clients.rotate_secret("gateway", by=OPERATOR) is None
    assert not await clients.remove("gateway", by=OPERATOR)
    assert before == await recorded(outbox.parts)


async def test_each_change_is_one_event_about_no_user(outbox: Outbox, caplog: pytest.LogCaptureFixture) -> None:
    """It names the client and the actor, in the database and in one line of the log, which has no `sub`."""
    caplog.set_level(logging.INFO, "keyturn")
    clients, admin = outbox.parts.clients, Actor.client("admin-tool")
    async with outbox.parts.database.begin() as transaction:
        root = await users.add(transaction, "root", "", outbox.parts.clock())
        assert root is not None
        await user_roles.change_roles(transaction, root, add=ADMINISTRATOR, remove=None)
    await clients.add("billing", ("write", "read"), by=OPERATOR)
    await clients.rotate_secret("billing", overlap_hours=1, by=admin)
    await clients.remove("billing", by=Actor.user(root.id))
    expected = [
        ("client.added", {"client_id": "billing", "scopes": "read write", "by": "operator"}),
        ("client.secret_rotated", {"client_id": "billing", "by": "client:admin-tool"}),
        ("client.removed", {"client_id": "billing", "by": f"user:{root.id}"}),
    ]
    assert [(None, *event) for event in expected] == await recorded(outbox.parts)
    lines = [(record.getMessage(), getattr(record, "details", {})) for record in caplog.records]
    assert expected == [line for line in lines if line[0].startswith("client.")]


async def test_the_webhook_delivers_the_events_of_clients(outbox: Outbox) -> None:
    """Without `sub` and username."""
    await outbox.parts.clients.add("billing", (), by=OPERATOR)
    assert 1 == await outbox.deliver(outbox.deliverer())
    (event,) = outbox.receiver.accepted
    assert ("client.added", {"client_id": "billing", "scopes": "", "by": "operator"}) == (
        event["type"],
        event["data"],
    )


async def test_a_user_sees_no_event_of_a_client(outbox: Outbox) -> None:
    """The events of a user are those with their `sub`."""
    await outbox.sign_up("alice")
    await outbox.parts.clients.add("billing", (), by=OPERATOR)
    sub = (await outbox.parts.administration.get("alice")).id
    assert ["signup"] == [event.event for event in await outbox.parts.events.list_latest(sub)]
