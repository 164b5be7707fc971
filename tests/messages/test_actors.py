"""Events name the actor where it is not the user of the event. SQLite and PostgreSQL."""

import json
from typing import Any

import pytest

from service.origin import ANONYMOUS, OPERATOR, Actor
from service.users.administrators import ADMINISTRATOR
from tests.harness.clients import Client
from tests.harness.people import MovableClock, Person, sign_up
from tests.harness.sessions import bearer


async def recorded(client: Client) -> list[tuple[str, str]]:
    """The events in their order, each as its name and its details as they are stored."""
    rows = await client.parts.database.fetch_all("SELECT event, details FROM events ORDER BY id")
    return [(row["event"], row["details"]) for row in rows]


async def make_administrator(client: Client, clock: MovableClock, name: str) -> str:
    """Return the `sub` of a new user with the role."""
    await sign_up(client, clock, name, mfa=False)
    await client.parts.administration.set_roles(name, add=ADMINISTRATOR, by=OPERATOR)
    return (await client.parts.administration.get(name)).id


@pytest.mark.parametrize(
    ("actor", "by"),
    [(OPERATOR, "operator"), (Actor.client("support-desk"), "client:support-desk"), (None, "user:{}")],
)
async def test_every_act_on_the_account_of_another_says_by_whom(
    client: Client, clock: MovableClock, actor: Actor | None, by: str
) -> None:
    """The operator by a command, a client, and another user with the role."""
    if actor is None:
        sub = await make_administrator(client, clock, "root")
        actor, by = Actor.user(sub), by.format(sub)
    await sign_up(client, clock, "bob", mfa=False)
    administration = client.parts.administration
    await administration.set_password("bob", "a new and unused password", by=actor)
    await administration.set_roles("bob", add="staff", by=actor)
    await administration.set_disabled("bob", disabled=True, by=actor)
    await administration.set_disabled("bob", disabled=False, by=actor)
    await administration.reset_mfa("bob", by=actor)
    assert [
        ("password.changed", {"by": by}),
        ("user.roles_changed", {"roles": "staff", "by": by}),
        ("user.disabled", {"by": by}),
        ("user.enabled", {"by": by}),
        ("mfa.reset", {"factors": 0, "by": by}),
    ] == [(name, json.loads(details)) for name, details in (await recorded(client))[-5:]]
    await administration.delete("bob", by=actor)
    assert ("user.deleted", json.dumps({"by": by})) == (await recorded(client))[-1]


async def test_a_users_own_act_names_nobody(client: Client, clock: MovableClock) -> None:
    """Not even where the user is an administrator and acts on their own account: the event has the `sub` already."""
    sub = await make_administrator(client, clock, "bob")
    before = len(await recorded(client))
    await client.parts.administration.set_roles("bob", add="staff", by=Actor.user(sub))
    access = (await Person(client, clock, "bob").give_password()).json()["access_token"]
    await client.post("/logout", headers=bearer(access))
    assert 3 == len(await recorded(client)) - before
    assert not [details for _, details in (await recorded(client))[before:] if "by" in json.loads(details)]


@pytest.mark.parametrize(
    ("actor", "by"), [(OPERATOR, {"by": "operator"}), (ANONYMOUS, {})], ids=["operator", "anonymous"]
)
async def test_an_account_that_the_operator_adds_says_so(client: Client, actor: Actor, by: dict[str, str]) -> None:
    """A sign-up by a request is anonymous, and so is one without an actor."""
    sign_ups = client.parts.sign_up
    await sign_ups.sign_up("carol", "a new and unused password", enable_mfa=False, caller=None, by=actor)
    assert [("signup", {"mfa": False, **by})] == [(n, json.loads(d)) for n, d in await recorded(client)]


async def test_the_details_of_a_users_own_events_keep_their_form(
    client: Client, clock: MovableClock, alice: Person
) -> None:
    """Names, order and values: only the events with an address have one, and none has anything new."""
    before = len(await recorded(client))
    tokens: dict[str, Any] = (await alice.log_in()).json()
    clock.next_step()
    codes = (await client.post("/recovery-codes", headers=bearer(tokens["access_token"]))).json()["recovery_codes"]
    body = {"mfa_token": await alice.pending(), "recovery_code": codes[0]}
    assert 200 == (await client.post("/login-2fa", json=body)).status_code
    for _ in range(3):
        await alice.log_in(alice.wrong_code())
    forms = [(name, list(json.loads(details))) for name, details in (await recorded(client))[before:]]
    assert [
        ("login.admitted", ["sid", "amr", "address"]),
        ("recovery_codes.replaced", ["sid"]),
        ("recovery_code.used", ["left"]),
        ("login.admitted", ["sid", "amr", "address"]),
        ("code.refused_repeatedly", ["failures", "address"]),
    ] == forms
