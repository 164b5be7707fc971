"""Messages to addresses that nobody has confirmed: how many, and what is not offered without a transport."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.users import users
from tests.harness.addresses import (
    ADDRESS,
    access_token,
    cancellation,
    confirmation,
    request_address,
    reset_link,
    set_address,
)
from tests.harness.administrators import token_of_client
from tests.harness.clients import Client, Opener
from tests.harness.people import PASSWORD, MovableClock, sign_up

STRANGER = "stranger@example.net"


@pytest.fixture
async def many(world: dict[str, Any], open_client: Opener) -> AsyncIterator[Client]:
    """A client of a service where one network may sign up often."""
    async with open_client({**world, "limit_signup": None}) as client:
        yield client


async def attempt(client: Client, username: str, email: str) -> Any:
    return await client.post("/signup", json={"username": username, "password": PASSWORD, "email": email})


async def test_an_address_gets_five_messages_an_hour_from_all_users(many: Client, clock: MovableClock) -> None:
    """Six users with one request each do not exceed it, from several networks and in any case of the letters."""
    answers = []
    for n in range(6):
        person = await sign_up(many, clock, f"user{n}", mfa=False)
        email = STRANGER if n % 2 else STRANGER.upper()
        answers.append(await request_address(many.at(f"198.51.100.{n}"), await access_token(person), email))
    assert [answer.status_code for answer in answers] == [202] * 5 + [429]
    assert 0 < int(answers[-1].headers["retry-after"]) <= 3600
    refused = await users.find(many.parts.database, "user5")
    assert refused is not None
    assert refused.new_email is None
    assert (await request_address(many, await access_token(person), "b@example.net")).status_code == 202
    clock.advance(seconds=3601)
    assert (await request_address(many, await access_token(person), STRANGER)).status_code == 202


async def test_sign_ups_with_an_address_send_it_five_messages_an_hour(many: Client, clock: MovableClock) -> None:
    """The sixth leaves no account, and the username is free for a sign-up with another address."""
    answers = [await attempt(many.at(f"198.51.100.{n}"), f"user{n}", STRANGER) for n in range(6)]
    assert [answer.status_code for answer in answers] == [201] * 5 + [429]
    assert 0 < int(answers[-1].headers["retry-after"]) <= 3600
    assert await users.find(many.parts.database, "user5") is None
    assert (await attempt(many, "user5", "b@example.net")).status_code == 201
    clock.advance(seconds=3601)
    assert (await attempt(many, "user6", STRANGER)).status_code == 201


async def test_sign_ups_and_changes_of_address_count_together(many: Client, clock: MovableClock) -> None:
    """The recipient does not care which of them sent the message."""
    person = await sign_up(many, clock, "alice", mfa=False)
    token = await access_token(person)
    for n in range(4):
        assert (await attempt(many, f"user{n}", STRANGER)).status_code == 201
    assert (await request_address(many, token, STRANGER)).status_code == 202
    assert (await request_address(many, token, STRANGER)).status_code == 429
    assert (await attempt(many, "user4", STRANGER)).status_code == 429


async def test_a_wrong_password_sends_no_message_and_counts_as_none(many: Client, clock: MovableClock) -> None:
    """Otherwise somebody with a stolen session could keep the owner of an address from confirming it."""
    token = await access_token(await sign_up(many, clock, "alice", mfa=False))
    for _ in range(4):
        assert (await request_address(many, token, STRANGER, password="wrong password")).status_code == 401
    statuses = [(await request_address(many, token, STRANGER)).status_code for _ in range(5)]
    assert statuses == [202] * 5


@pytest.fixture
async def silent(world: dict[str, Any], open_client: Opener) -> AsyncIterator[Client]:
    """A client of a service that sends no messages."""
    async with open_client({**world, "messages": "off", "admin_api": "on"}) as client:
        yield client


async def test_without_a_transport_no_address_is_requested(silent: Client, clock: MovableClock) -> None:
    """The endpoint is not found, with any password; without a session it is refused as before."""
    token = await access_token(await sign_up(silent, clock, "alice", mfa=False))
    for password in (PASSWORD, "wrong password"):
        answer = await request_address(silent, token, password=password)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await request_address(silent, "x.y.z")).status_code == 401
    answer = await attempt(silent, "bobby", ADDRESS)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["errors"][0]["field"] == "email"
    assert await users.find(silent.parts.database, "bobby") is None
    alice = await users.find(silent.parts.database, "alice")
    assert alice is not None
    assert alice.new_email is None


async def test_without_a_transport_no_link_for_a_new_password_is_requested(
    silent: Client, clock: MovableClock
) -> None:
    """The endpoint is not found, for a user and for nobody."""
    await sign_up(silent, clock, "alice", mfa=False)
    for username in ("alice", "nobody"):
        answer = await silent.post("/password-reset", json={"username": username})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_links_that_exist_work_without_a_transport(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """An operator who turns messages off does not invalidate what was sent before."""
    async with open_client(world) as client:
        person = await sign_up(client, clock, "alice", mfa=False)
        token = await set_address(client, person)
        bob = await sign_up(client, clock, "bobby", mfa=False)
        for requester, email in ((token, "new@example.com"), (await access_token(bob), "bob@example.com")):
            assert (await request_address(client, requester, email)).status_code == 202
        cancel = await cancellation(client, "alice", "new@example.com")
        confirm = await confirmation(client, "bobby", "bob@example.com")
        reset = await reset_link(client)
    async with open_client({**world, "messages": "off"}) as client:
        assert (await client.post("/email/cancel", json={"token": cancel})).status_code == 204
        assert (await client.post("/email/confirm", json={"token": confirm})).status_code == 204
        body = {"token": reset, "new_password": "an entirely new passphrase"}
        assert (await client.post("/password-reset/confirm", json=body)).status_code == 204


@pytest.mark.parametrize("path", ["/email/confirm", "/email/cancel", "/password-reset/confirm"])
async def test_without_a_transport_a_wrong_link_is_refused_as_before(silent: Client, path: str) -> None:
    """The endpoints that take a link do not need a transport: the admin API shows links without one."""
    body = {"token": "ktl_AAAA"} | ({"new_password": "an entirely new passphrase"} if "reset" in path else {})
    answer = await silent.post(path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")


async def test_an_administrator_gets_the_link_that_no_message_brings(silent: Client, clock: MovableClock) -> None:
    """A link for a new password, and one of an invitation: both work."""
    admin = await token_of_client(silent, clock, "admin", ["keyturn:users.write"])
    person = await sign_up(silent, clock, "alice", mfa=False)
    alice = await users.find(silent.parts.database, "alice")
    assert alice is not None
    link = (await admin.call("POST", f"users/{alice.id}/password-reset")).json()["link"]
    body = {"token": link.rpartition("=")[2], "new_password": "an entirely new passphrase"}
    assert (await silent.post("/password-reset/confirm", json=body)).status_code == 204
    assert (await person.give_password("an entirely new passphrase")).status_code == 200
    invited = (await admin.call("POST", "invitations", {"email": ADDRESS})).json()["link"]
    body = {"username": "bobby", "password": PASSWORD, "invitation": invited.rpartition("=")[2]}
    assert (await silent.post("/signup", json=body)).status_code == 201
