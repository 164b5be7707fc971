"""Forgotten passwords: a link to the confirmed address sets a new one, and grants nothing else.

Law 17: a mailbox never replaces both factors.
"""

import asyncio
import time
from typing import Any

import pytest

from service.origin import OPERATOR
from service.users import users
from tests.harness.addresses import ADDRESS, reset_link, set_address
from tests.harness.clients import Client, Opener
from tests.harness.people import PASSWORD, MovableClock, Person, sign_up
from tests.harness.sessions import bearer, is_live, refresh

NEW = "an entirely new passphrase"


async def request_link(client: Client, name: str = "alice") -> Any:
    return await client.post("/password-reset", json={"username": name})


async def reset(client: Client, token: str, password: str = NEW) -> Any:
    return await client.post("/password-reset/confirm", json={"token": token, "new_password": password})


async def count_requests(client: Client, username: str = "alice") -> int:
    """Return how many links were sent to the user."""
    row = await client.parts.database.fetch_one(
        "SELECT COUNT(*) AS n FROM events e JOIN users u ON u.id = e.user_id"
        " WHERE e.event = 'password.reset_requested' AND u.username = $1",
        username,
    )
    assert row is not None
    return int(row["n"])


@pytest.fixture
async def plain(client: Client, clock: MovableClock) -> Person:
    """A user without a second factor whose address is confirmed."""
    person = await sign_up(client, clock, "alice", mfa=False)
    await set_address(client, person)
    return person


@pytest.fixture
async def strong(client: Client, clock: MovableClock) -> Person:
    """A user with a second factor whose address is confirmed."""
    person = await sign_up(client, clock, "alice", mfa=False)
    token = await set_address(client, person)
    answer = await client.post("/enable-mfa", json={"password": PASSWORD}, headers=bearer(token))
    person.secret = answer.json()["provisioning_uri"].partition("secret=")[2].partition("&")[0]
    person.mfa_token = answer.json()["mfa_token"]
    await person.confirm()
    clock.next_step()
    return person


async def test_a_link_sets_a_new_password_and_ends_every_session(client: Client, plain: Person) -> None:
    """The former password, sessions, refresh tokens and the link itself are of no use any more."""
    opened = (await plain.give_password()).json()
    assert (await request_link(client)).status_code == 202
    token = await reset_link(client)
    answer = await reset(client, token)
    assert (answer.status_code, answer.content) == (204, b"")
    assert not await is_live(client, opened["access_token"])
    assert (await refresh(client, opened["refresh_token"])).status_code == 400
    assert (await plain.give_password()).status_code == 401
    assert (await plain.give_password(NEW)).status_code == 200
    assert (await reset(client, token, "yet another passphrase")).status_code == 401


async def test_the_second_factor_stays(client: Client, strong: Person) -> None:
    """After a reset the login asks for it, as before."""
    assert (await reset(client, await reset_link(client))).status_code == 204
    answer = await strong.give_password(NEW)
    assert answer.json()["mfa_required"] is True
    strong.password = NEW
    assert (await strong.log_in()).status_code == 200


async def test_a_known_device_does_not_stand_in_for_the_second_factor_after_a_reset(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """The reset revokes device tokens."""
    async with open_client({**world, "remember_device_days": 30}) as client:
        person = await sign_up(client, clock, "alice")
        body = {"mfa_token": person.mfa_token, "otp": person.code(), "remember_device": True}
        device = (await client.post("/login-2fa", json=body)).json()["device_token"]
        assert (await reset(client, await reset_link(client))).status_code == 204
        answer = await client.post("/login", json={"username": "alice", "password": NEW, "device_token": device})
        assert answer.json()["mfa_required"] is True


async def test_a_password_that_was_reset_starts_no_recovery_before_a_login_with_the_second_factor(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """Otherwise the mailbox alone would remove the second factor after the delay."""
    async with open_client({**world, "recovery_delay": "1h"}) as client:
        person = await sign_up(client, clock, "alice")
        await person.confirm()
        clock.next_step()
        assert (await reset(client, await reset_link(client))).status_code == 204
        person.password = NEW
        body = {"username": "alice", "password": NEW}
        assert (await client.post("/recovery", json=body)).status_code == 202
        clock.advance(seconds=3601)
        answer = await person.give_password()
        assert answer.json()["mfa_required"] is True
        user = await users.find(client.parts.database, "alice")
        assert user is not None
        assert user.mfa == "confirmed"
        assert (await person.log_in()).status_code == 200
        assert (await client.post("/recovery", json=body)).status_code == 202
        user = await users.find(client.parts.database, "alice")
        assert user is not None
        assert user.recovery_due_at is not None


async def test_a_reset_cancels_a_recovery(world: dict[str, Any], open_client: Opener, clock: MovableClock) -> None:
    """Someone with the former password may have started it."""
    async with open_client({**world, "recovery_delay": "1h"}) as client:
        person = await sign_up(client, clock, "alice")
        await person.confirm()
        await client.post("/recovery", json={"username": "alice", "password": PASSWORD})
        assert (await reset(client, await reset_link(client))).status_code == 204
        clock.advance(seconds=3601)
        assert (await person.give_password(NEW)).json()["mfa_required"] is True
        user = await users.find(client.parts.database, "alice")
        assert user is not None
        assert user.mfa == "confirmed"


async def test_no_answer_reveals_who_exists(client: Client, plain: Person, clock: MovableClock) -> None:
    """Known, unknown, without an address, disabled: one body, after the same time."""
    await sign_up(client, clock, "noaddress", mfa=False)
    bob = await sign_up(client, clock, "bobby", mfa=False)
    await set_address(client, bob, "bob@example.com")
    await client.parts.administration.set_disabled("bobby", disabled=True, by=OPERATOR)
    answers = []
    for name in ("alice", ADDRESS, "nobody", "noaddress", "bobby", "bob@example.com"):
        started = time.monotonic()
        answers.append(await request_link(client, name))
        assert 0.25 <= time.monotonic() - started < 2
    assert {(answer.status_code, answer.text) for answer in answers} == {(202, answers[0].text)}
    assert await count_requests(client) == 2
    assert await count_requests(client, "bobby") == 0


async def test_a_user_gets_three_links_an_hour_whatever_asks_for_them(
    client: Client, plain: Person, clock: MovableClock
) -> None:
    """Requests from many networks, at once, by both names of the account."""
    callers = [client.at(f"198.51.100.{n}") for n in range(1, 13)]
    await asyncio.gather(*(request_link(caller, name) for caller in callers for name in ("alice", ADDRESS)))
    assert await count_requests(client) == 3
    clock.advance(seconds=3601)
    await request_link(client)
    assert await count_requests(client) == 4


async def test_a_network_requests_ten_links_an_hour(client: Client, clock: MovableClock) -> None:
    """The names do not matter."""
    statuses = [(await request_link(client, f"nobody{n}")).status_code for n in range(11)]
    assert statuses == [202] * 10 + [429]


async def test_of_twenty_uses_of_a_link_at_once_one_sets_the_password(client: Client, plain: Person) -> None:
    """Exactly one of them is answered with a success."""
    token = await reset_link(client)
    answers = await asyncio.gather(*(reset(client, token, f"passphrase number {n:03}") for n in range(20)))
    assert sorted(answer.status_code for answer in answers) == [204] + [401] * 19


async def test_no_session_of_the_former_password_survives_a_reset_at_the_same_time(
    client: Client, plain: Person, clock: MovableClock
) -> None:
    """Whichever of both comes first."""
    for n in range(5):
        new = f"passphrase number {n}"
        token = await reset_link(client)
        answers = await asyncio.gather(
            plain.give_password(), plain.give_password(), reset(client, token, new), plain.give_password()
        )
        assert answers[2].status_code == 204
        for answer in answers[:2] + answers[3:]:
            if answer.status_code == 200:
                assert not await is_live(client, answer.json()["access_token"])
        plain.password = new
        clock.advance(seconds=3601)


async def test_a_weak_password_leaves_the_link_valid(client: Client, plain: Person) -> None:
    """The user tries again with the same link."""
    token = await reset_link(client)
    answer = await reset(client, token, "fourteen chars")
    assert (answer.status_code, answer.json()["code"]) == (422, "weak_password")
    assert (await reset(client, token)).status_code == 204


async def test_a_link_is_refused_after_an_hour_a_change_and_a_disabling(
    client: Client, plain: Person, clock: MovableClock
) -> None:
    """And so is any other text."""
    expired, before = await reset_link(client), await reset_link(client, seconds=7200)
    clock.advance(seconds=3600)
    assert (await reset(client, expired)).status_code == 401
    token = (await plain.give_password()).json()["access_token"]
    change = {"current_password": PASSWORD, "new_password": "changed by the user"}
    assert (await client.post("/password", json=change, headers=bearer(token))).status_code == 204
    assert (await reset(client, before)).status_code == 401
    link = await reset_link(client)
    await client.parts.administration.set_disabled("alice", disabled=True, by=OPERATOR)
    assert (await reset(client, link)).status_code == 401
    assert (await reset(client, link[:-1] + ("A" if link[-1] != "A" else "B"))).status_code == 401
    assert (await reset(client, "ktl_")).status_code == 401


async def test_a_get_changes_nothing(client: Client, plain: Person) -> None:
    """Scanners of mail follow links."""
    token = await reset_link(client)
    for method in ("GET", "HEAD"):
        answer = await client.request(method, "/password-reset/confirm", params={"token": token})
        assert answer.status_code == 405
    assert (await reset(client, token)).status_code == 204


@pytest.mark.parametrize("sends", [True, False])
async def test_the_metadata_lists_the_endpoints_that_send_messages(
    embedded: dict[str, Any], open_client: Opener, clock: MovableClock, *, sends: bool
) -> None:
    """It does so only where they exist: without a way to send messages both are 404."""
    async with open_client({**embedded, **({} if sends else {"messages": "off"})}) as client:
        alice = await sign_up(client, clock, "alice", mfa=False)
        token = (await alice.give_password()).json()["access_token"]
        metadata = (await client.get("/.well-known/oauth-authorization-server")).json()
        for path, body in (
            ("email", {"email": ADDRESS, "password": PASSWORD}),
            ("password-reset", {"username": "bob"}),
        ):
            listed = metadata.get(f"keyturn_{path.replace('-', '_')}_endpoint")
            assert (f"{metadata['issuer']}/{path}" if sends else None) == listed
            answer = await client.post(f"/{path}", json=body, headers=bearer(token))
            assert (202 if sends else 404) == answer.status_code
