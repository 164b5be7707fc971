"""E-mail addresses of accounts: set, confirmed, refused, removed, and used at login."""

import asyncio
from typing import Any

import pytest

from service.origin import OPERATOR
from service.users import users
from tests.harness.addresses import (
    ADDRESS,
    access_token,
    cancellation,
    confirmation,
    request_address,
    set_address,
)
from tests.harness.clients import Client, Opener
from tests.harness.people import PASSWORD, MovableClock, Person, sign_up
from tests.harness.sessions import bearer


@pytest.fixture
async def plain(client: Client, clock: MovableClock) -> Person:
    """A user without a second factor."""
    return await sign_up(client, clock, "alice", mfa=False)


async def test_an_address_is_used_for_nothing_until_it_is_confirmed(client: Client, plain: Person) -> None:
    """A login takes it only afterwards, in any case."""
    token = await access_token(plain)
    answer = await request_address(client, token, "Alice@Example.com")
    assert answer.status_code == 202
    by_address = {"username": ADDRESS, "password": PASSWORD}
    assert (await client.post("/login", json=by_address)).status_code == 401
    body = {"token": await confirmation(client, "alice", "Alice@Example.com")}
    assert (await client.post("/email/confirm", json=body)).status_code == 204
    assert (await client.post("/login", json=by_address)).status_code == 200
    names = [event["event"] for event in (await client.get("/events", headers=bearer(token))).json()["events"]]
    assert names.index("email.changed") < names.index("email.change_requested")


async def test_a_confirmation_works_once(client: Client, plain: Person) -> None:
    """It also confirms nothing that was not requested."""
    token = await access_token(plain)
    assert (
        await client.post("/email/confirm", json={"token": await confirmation(client, "alice")})
    ).status_code == 401
    await request_address(client, token)
    body = {"token": await confirmation(client, "alice")}
    answers = await asyncio.gather(*(client.post("/email/confirm", json=body) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [204] + [401] * 19


async def test_a_confirmation_is_valid_for_a_day_and_for_the_newest_request(
    client: Client, plain: Person, clock: MovableClock
) -> None:
    """A later request replaces an earlier one, for the same address too."""
    token = await access_token(plain)
    await request_address(client, token)
    first = await confirmation(client, "alice")
    clock.advance(seconds=5)
    await request_address(client, token)
    second = await confirmation(client, "alice")
    assert (await client.post("/email/confirm", json={"token": first})).status_code == 401
    clock.advance(days=1)
    assert (await client.post("/email/confirm", json={"token": second})).status_code == 401


async def test_a_new_password_cancels_a_requested_address(client: Client, plain: Person) -> None:
    """Someone with the former password may have requested it. Nothing of the request remains."""
    token = await access_token(plain)
    await request_address(client, token)
    link = await confirmation(client, "alice")
    changed = await client.post(
        "/password",
        json={"current_password": PASSWORD, "new_password": "another good passphrase"},
        headers=bearer(token),
    )
    assert changed.status_code == 204
    assert (await client.post("/email/confirm", json={"token": link})).status_code == 401
    account = (await client.get("/me/export", headers=bearer(token))).json()["account"]
    assert (account["new_email"], account["new_email_at"]) == (None, None)


async def test_the_enrolment_of_a_second_factor_leaves_a_requested_address(
    client: Client, clock: MovableClock
) -> None:
    """Users who sign up with both confirm them in any order."""
    body = {"username": "alice", "password": PASSWORD, "enable_mfa": True, "email": ADDRESS}
    answer = await client.post("/signup", json=body)
    assert answer.status_code == 201, answer.text
    link = await confirmation(client, "alice")
    person = Person(client, clock, "alice")
    person.secret = answer.json()["provisioning_uri"].partition("secret=")[2].partition("&")[0]
    await person.give_code(mfa_token=answer.json()["mfa_token"])
    assert (await client.post("/email/confirm", json={"token": link})).status_code == 204


async def test_the_reader_of_the_former_address_refuses_a_change(client: Client, plain: Person) -> None:
    """The link works once, and only while the new address is not confirmed."""
    token = await set_address(client, plain)
    other = "eve@example.net"
    assert (await request_address(client, token, other)).status_code == 202
    cancel, confirm = await cancellation(client, "alice", other), await confirmation(client, "alice", other)
    assert (await client.post("/email/cancel", json={"token": cancel})).status_code == 204
    assert (await client.post("/email/cancel", json={"token": cancel})).status_code == 401
    assert (await client.post("/email/confirm", json={"token": confirm})).status_code == 401
    user = await users.find(client.parts.database, ADDRESS)
    assert user is not None
    assert (user.email, user.new_email) == (ADDRESS, None)


async def test_a_refusal_is_of_the_newest_request(client: Client, plain: Person, clock: MovableClock) -> None:
    """The message of an earlier request refuses no later one: not for the same address, nor in the same second."""
    token = await set_address(client, plain)
    links = []
    for other, seconds in (("eve@example.net", 5), ("eve@example.net", 5), ("mallory@example.net", 0)):
        clock.advance(seconds=seconds)
        assert (await request_address(client, token, other)).status_code == 202
        links.append(await cancellation(client, "alice", other))
    statuses = [(await client.post("/email/cancel", json={"token": link})).status_code for link in links]
    assert statuses == [401, 401, 204]


async def test_the_notices_of_a_change_go_to_the_address_that_is_replaced(client: Client, plain: Person) -> None:
    """The first address replaces none; the removal is reported to the one that is removed."""
    token = await set_address(client, plain)
    other = "eve@example.net"
    await request_address(client, token, other)
    body = {"token": await confirmation(client, "alice", other)}
    assert (await client.post("/email/confirm", json=body)).status_code == 204
    removed = await client.request("DELETE", "/email", headers=bearer(token), json={"password": PASSWORD})
    assert removed.status_code == 204
    rows = await client.parts.database.fetch_all(
        "SELECT event, address FROM outbox JOIN events ON events.id = event_id"
        " WHERE kind = 'email_changed' ORDER BY event"
    )
    assert [(row["event"], row["address"]) for row in rows] == [
        ("email.change_requested", ADDRESS),
        ("email.changed", ADDRESS),
        ("email.removed", other),
    ]


async def test_an_address_of_another_account_is_refused_to_the_holder_of_the_link_only(
    client: Client, plain: Person, clock: MovableClock
) -> None:
    """The request gets the same answer as any other."""
    await set_address(client, plain)
    bob = await sign_up(client, clock, "bobby", mfa=False)
    free, taken = [
        await request_address(client, await access_token(bob), email)
        for email in ("bob@example.com", "ALICE@example.com")
    ]
    assert (free.status_code, free.json()) == (taken.status_code, taken.json())
    body = {"token": await confirmation(client, "bobby", "ALICE@example.com")}
    answer = await client.post("/email/confirm", json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "email_taken")


async def test_a_change_needs_the_password_and_another_address(client: Client, plain: Person) -> None:
    """A session alone does not suffice; the address that the account has needs no link."""
    token = await set_address(client, plain)
    assert (await request_address(client, token, "b@example.com", password="wrong password")).status_code == 401
    answer = await request_address(client, token, "ALICE@example.com")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "email"
    assert (await client.post("/email", json={"email": "b@example.com", "password": PASSWORD})).status_code == 401


async def test_a_user_requests_five_addresses_an_hour(client: Client, plain: Person, clock: MovableClock) -> None:
    """Each request sends a message to an address that nobody has confirmed."""
    token = await access_token(plain)
    statuses = [(await request_address(client, token, f"a{n}@example.com")).status_code for n in range(6)]
    assert statuses == [202] * 5 + [429]
    clock.advance(seconds=3601)
    assert (await request_address(client, await access_token(plain), "a9@example.com")).status_code == 202


async def test_removing_needs_the_password_or_a_fresh_second_factor(
    client: Client, plain: Person, clock: MovableClock
) -> None:
    """Afterwards the address names no account."""
    token = await set_address(client, plain)
    assert (await client.delete("/email", headers=bearer(token))).status_code == 422
    refused = await client.request("DELETE", "/email", json={"password": "wrong password"}, headers=bearer(token))
    assert refused.status_code == 401
    removed = await client.request("DELETE", "/email", json={"password": PASSWORD}, headers=bearer(token))
    assert removed.status_code == 204
    assert await users.find(client.parts.database, ADDRESS) is None
    bob = await sign_up(client, clock, "bobby")
    fresh = (await bob.confirm()).json()["access_token"]
    clock.advance(seconds=301)
    stale = await client.delete("/email", headers=bearer(fresh))
    assert (stale.status_code, stale.json()["code"]) == (401, "insufficient_user_authentication")
    fresh = (await bob.log_in()).json()["access_token"]
    assert (await client.delete("/email", headers=bearer(fresh))).status_code == 204


async def test_a_disabled_user_confirms_nothing(client: Client, plain: Person) -> None:
    """The link works again once the account is enabled."""
    token = await access_token(plain)
    await request_address(client, token)
    body = {"token": await confirmation(client, "alice")}
    await client.parts.administration.set_disabled("alice", disabled=True, by=OPERATOR)
    assert (await client.post("/email/confirm", json=body)).status_code == 401
    await client.parts.administration.set_disabled("alice", disabled=False, by=OPERATOR)
    assert (await client.post("/email/confirm", json=body)).status_code == 204


async def test_two_accounts_confirm_one_address_at_the_same_time(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """One of them gets it."""
    async with open_client(world) as client:
        links = []
        for name in ("alice", "bobby", "carol", "david"):
            person = await sign_up(client, clock, name, mfa=False)
            await request_address(client, await access_token(person), "shared@example.com")
            links.append(await confirmation(client, name, "shared@example.com"))
        answers = await asyncio.gather(*(client.post("/email/confirm", json={"token": link}) for link in links))
        assert sorted(answer.status_code for answer in answers) == [204, 409, 409, 409]


@pytest.mark.parametrize("path", ["/email/confirm", "/email/cancel"])
async def test_a_get_changes_nothing(client: Client, plain: Person, path: str) -> None:
    """Scanners of mail follow links."""
    await request_address(client, await access_token(plain))
    link = await confirmation(client, "alice")
    for method in ("GET", "HEAD", "OPTIONS", "PUT"):
        answer = await client.request(method, path, params={"token": link})
        assert answer.status_code == 405, method
    assert (await client.post("/email/confirm", json={"token": link})).status_code == 204
