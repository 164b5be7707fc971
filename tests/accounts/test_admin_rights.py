"""What an administrator may do to another one, and what a registered client may not. SQLite and PostgreSQL."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.errors import NotFound
from service.origin import OPERATOR, Actor
from service.users.administrators import ADMINISTRATOR
from tests.harness.administrators import SCOPES, administrator, sub_of, token_of_client
from tests.harness.clients import Client, Opener
from tests.harness.people import PASSWORD, MovableClock

WRITES: list[tuple[str, str, Any]] = [
    ("PATCH", "", {"roles": []}),
    ("PATCH", "", {"roles": [ADMINISTRATOR]}),
    ("PATCH", "", {"disabled": True}),
    ("PATCH", "", {"email": "eve@example.com"}),
    ("PATCH", "", {"email": None}),
    ("PATCH", "", {"locale": "fr"}),
    ("PATCH", "", {}),
    ("POST", "/password-reset", None),
    ("POST", "/reset-mfa", None),
    ("DELETE", "/sessions", None),
    ("DELETE", "/sessions/" + "0" * 22, None),
    ("DELETE", "", None),
]


@pytest.fixture
async def api(world: dict[str, Any], open_client: Opener) -> AsyncIterator[Client]:
    async with open_client({**world, "admin_api": "on"}) as client:
        yield client


async def state(client: Client) -> list[str]:
    """Return what the acts could change: users, sessions and events."""
    tables = ("users", "sessions", "events", "totp_authenticators", "invitations")
    return [repr([dict(row) for row in await client.parts.database.fetch_all(f"SELECT * FROM {t}")]) for t in tables]


async def test_a_client_changes_no_administrator(api: Client, clock: MovableClock) -> None:
    """Nor one who is disabled. With every scope each act is refused, and changes nothing."""
    root, desk = await administrator(api, clock), await token_of_client(api, clock, "desk", SCOPES)
    for _ in range(2):
        before = await state(api)
        for method, path, body in WRITES:
            assert (403, "forbidden") == await desk.refused(method, f"users/{root.sub}{path}", body), (path, body)
        assert before == await state(api)
        await api.parts.administration.set_disabled("root", disabled=True, by=OPERATOR)


async def test_an_administrator_changes_another_one(api: Client, clock: MovableClock) -> None:
    """Each act succeeds, the deletion last."""
    root, other = await administrator(api, clock), await administrator(api, clock, "other")
    for method, path, body in WRITES:
        if body == {"email": "eve@example.com"}:
            assert 409 == (await root.call(method, f"users/{other.sub}{path}", body)).status_code  # is disabled
            await root.call("PATCH", f"users/{other.sub}", {"disabled": False})
        answer = await root.call(method, f"users/{other.sub}{path}", body)
        assert answer.status_code in {200, 202, 204, 404}, (path, body, answer.text)
    assert (404, "not_found") == await root.refused("GET", f"users/{other.sub}")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("users", {"username": "eve", "password": PASSWORD, "roles": [ADMINISTRATOR]}),
        ("users", {"email": "eve@example.com", "roles": ["support", ADMINISTRATOR]}),
        ("invitations", {"roles": [ADMINISTRATOR]}),
    ],
)
async def test_a_client_gives_nobody_the_role(
    api: Client, clock: MovableClock, path: str, body: dict[str, Any]
) -> None:
    """Neither to a new account nor by an invitation. A user who is an administrator may."""
    desk, root = await token_of_client(api, clock, "desk", SCOPES), await administrator(api, clock)
    before = await state(api)
    assert (403, "forbidden") == await desk.refused("POST", path, body)
    assert before == await state(api)
    assert 201 == (await root.call("POST", path, body)).status_code


async def test_a_client_gives_an_account_other_roles_only(api: Client, clock: MovableClock) -> None:
    desk, bob = await token_of_client(api, clock, "desk", SCOPES), await sub_of(api, clock, "bob")
    assert (403, "forbidden") == await desk.refused("PATCH", f"users/{bob}", {"roles": ["support", ADMINISTRATOR]})
    answer = await desk.call("PATCH", f"users/{bob}", {"roles": ["support", "keyturn-admins"]})
    assert ["keyturn-admins", "support"] == answer.json()["roles"]


@pytest.mark.parametrize(
    ("method", "body"), [("PATCH", {"roles": ["support"]}), ("PATCH", {"disabled": True}), ("DELETE", None)]
)
async def test_the_last_administrator_stays(
    api: Client, clock: MovableClock, method: str, body: dict[str, Any] | None
) -> None:
    """One who is disabled does not count, nor a similar role; another one who is enabled does."""
    root, other = await administrator(api, clock), await administrator(api, clock, "other")
    await sub_of(api, clock, "bob")
    await api.parts.administration.set_roles("bob", add="keyturn_admin", by=OPERATOR)
    await api.parts.administration.set_disabled("other", disabled=True, by=OPERATOR)
    before = await state(api)
    assert (409, "last_administrator") == await root.refused(method, f"users/{root.sub}", body)
    assert before == await state(api)
    assert 200 == (await root.call("PATCH", f"users/{root.sub}", {"roles": [ADMINISTRATOR, "x"]})).status_code
    await api.parts.administration.set_disabled("other", disabled=False, by=OPERATOR)
    assert other.sub
    assert (await root.call(method, f"users/{root.sub}", body)).status_code in {200, 204, 404}
    assert 0 < (await root.call("GET", "users")).status_code - 400 < 4, "no access any more"


async def test_the_operator_may_remove_the_last_administrator(api: Client, clock: MovableClock) -> None:
    await administrator(api, clock)
    await api.parts.administration.set_roles("root", remove=ADMINISTRATOR, by=OPERATOR)
    assert () == (await api.parts.administration.get("root")).roles


async def test_every_write_is_an_event_with_its_actor(api: Client, clock: MovableClock) -> None:
    """By a client and by a user; what a user does to themself names nobody, as their own act."""
    desk, root = await token_of_client(api, clock, "desk", SCOPES), await administrator(api, clock)
    bob = await sub_of(api, clock, "bob")
    first = (await api.parts.database.fetch_one("SELECT MAX(id) AS id FROM events") or {})["id"]
    answer = await desk.call("PATCH", f"users/{bob}", {"roles": ["x"], "disabled": True, "email": None})
    assert answer.status_code == 200, answer.text
    await desk.call("PATCH", f"users/{bob}", {"disabled": False, "email": "bob@example.com"})
    for method, path in (("POST", "password-reset"), ("POST", "reset-mfa"), ("DELETE", "sessions")):
        await desk.call(method, f"users/{bob}/{path}")
    made = (await desk.call("POST", "invitations", {})).json()["invitation"]["id"]
    await root.call("DELETE", f"invitations/{made}")
    await root.call("POST", "clients", {"client_id": "billing"})
    await root.call("POST", "clients/billing/rotate-secret")
    await root.call("DELETE", "clients/billing")
    await root.call("POST", "users", {"username": "carol", "password": PASSWORD, "roles": ["x"]})
    await root.call("DELETE", f"users/{bob}")
    rows = await api.parts.database.fetch_all("SELECT event, details FROM events WHERE id > $1 ORDER BY id", first)
    by_client, by_user = "client:desk", f"user:{root.sub}"
    named = [(row["event"], json.loads(row["details"]).get("by")) for row in rows]
    assert [
        ("user.roles_changed", None), ("user.disabled", None), ("user.enabled", None),
        ("email.change_requested", None), ("password.reset_requested", None), ("mfa.reset", None),
        ("session.ended", None),  # the deletion removed the details of these
        ("invitation.created", by_client), ("invitation.revoked", by_user),
        ("client.added", by_user), ("client.secret_rotated", by_user), ("client.removed", by_user),
        ("signup", by_user), ("user.roles_changed", by_user), ("user.deleted", by_user),
    ] == named  # fmt: skip


async def test_every_act_on_a_user_says_by_whom(api: Client, clock: MovableClock) -> None:
    desk, bob = await token_of_client(api, clock, "desk", SCOPES), await sub_of(api, clock, "bob")
    for method, path, body in WRITES[2:-1]:
        await desk.call("PATCH", f"users/{bob}", {"disabled": False})
        await desk.call(method, f"users/{bob}{path}", body)
    rows = await api.parts.database.fetch_all("SELECT event, details FROM events WHERE user_id = $1", bob)
    named = {row["event"]: json.loads(row["details"]).get("by") for row in rows}
    assert {
        "user.disabled", "user.enabled", "email.change_requested", "email.removed", "password.reset_requested",
        "mfa.reset", "session.ended", "user.locale_changed",
    } == {name for name, by in named.items() if by == "client:desk"}  # fmt: skip


async def test_an_unknown_actor_may_do_nothing(api: Client, clock: MovableClock) -> None:
    """A user who is not an administrator, or was deleted, changes nothing even if a route forgot to check."""
    from service.errors import Forbidden

    bob = await sub_of(api, clock, "bob")
    for actor in (Actor.user("nobody"), Actor.user(bob)):
        with pytest.raises(Forbidden):
            await api.parts.administration.delete("bob", by=actor)
    with pytest.raises(NotFound):
        await api.parts.administration.delete("nobody", by=Actor.client("desk"))
