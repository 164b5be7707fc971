"""The deletion of accounts by their users: requested, taken back, carried out."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from service.origin import OPERATOR, Act
from service.users import deletions, users
from tests.harness.addresses import ADDRESS, get_user, set_address
from tests.harness.clients import Client, Opener
from tests.harness.deletions import DELAY, event_names, request_deletion, restore, scheduled
from tests.harness.people import PASSWORD, MovableClock, Person, sign_up
from tests.harness.sessions import bearer, claims, is_live, refresh


@pytest.fixture
async def plain(client: Client, clock: MovableClock) -> Person:
    """A user without a second factor."""
    return await sign_up(client, clock, "alice", mfa=False)


async def refused(answer: Any) -> dict[str, Any]:
    """The body of a refused login or restore, without what differs between any two requests."""
    assert answer.status_code == 401, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_a_request_needs_the_password_and_a_session(client: Client, plain: Person) -> None:
    token = (await plain.give_password()).json()["access_token"]
    assert (await client.request("DELETE", "/me", headers=bearer(token))).status_code in {415, 422}
    assert (await client.request("DELETE", "/me", json={}, headers=bearer(token))).status_code == 422
    wrong = await request_deletion(client, token, "wrong password")
    assert (wrong.status_code, wrong.json()["code"]) == (401, "invalid_credentials")
    assert (await client.request("DELETE", "/me", json={"password": PASSWORD})).status_code == 401
    assert await is_live(client, token)


async def test_a_request_needs_a_fresh_second_factor_and_the_password(
    client: Client, alice: Person, clock: MovableClock
) -> None:
    token = (await alice.log_in()).json()["access_token"]
    assert (await request_deletion(client, token, "wrong password")).json()["code"] == "invalid_credentials"
    clock.advance(seconds=301)
    stale = await request_deletion(client, token)
    assert (stale.status_code, stale.json()["code"]) == (401, "insufficient_user_authentication")
    token = (await alice.log_in()).json()["access_token"]
    assert (await client.request("DELETE", "/me", json={}, headers=bearer(token))).status_code == 422
    assert (await request_deletion(client, token)).status_code == 202


async def test_a_request_logs_out_at_once(client: Client, alice: Person, clock: MovableClock) -> None:
    """Every session ends, pending tokens and device tokens are void, and no login is possible."""
    login = await client.post(
        "/login-2fa", json={"mfa_token": await alice.pending(), "otp": alice.code(), "remember_device": True}
    )
    pending = await alice.pending()
    before = await get_user(client)
    requested = await request_deletion(client, login.json()["access_token"])
    assert requested.json() == {"deleted_at": int(clock().timestamp()) + DELAY}
    assert (await get_user(client)).credential_version == before.credential_version + 1
    assert not await is_live(client, login.json()["access_token"])
    assert (await refresh(client, login.json()["refresh_token"])).status_code == 400
    rows = await client.parts.database.fetch_all("SELECT DISTINCT ended_reason FROM sessions")
    assert ["deletion_scheduled"] == [row["ended_reason"] for row in rows]
    clock.next_step()
    assert (await alice.give_code(mfa_token=pending)).json()["code"] == "invalid_token"
    unknown = {"username": "nobody", "password": PASSWORD}
    expected = await refused(await client.post("/login", json=unknown))
    assert expected == await refused(await alice.give_password())
    on_device = {"username": "alice", "password": PASSWORD, "device_token": login.json()["device_token"]}
    assert expected == await refused(await client.post("/login", json=on_device))


async def test_a_request_is_an_event_that_says_when(client: Client, plain: Person) -> None:
    user = await scheduled(client, plain)
    newest = (await client.parts.events.list_latest(user.id))[0]
    assert (newest.event, newest.details["due_at"]) == ("user.deletion_scheduled", user.deletion_due_at)
    assert newest.details["address"] == "203.0.113.7"
    assert "by" not in newest.details


async def test_a_restore_is_refused_alike(client: Client, plain: Person, clock: MovableClock) -> None:
    """An unknown user, a wrong password, an enabled, a disabled and a deleted account get the answer of a login."""
    for name in ("bobby", "carol", "david"):
        await sign_up(client, clock, name, mfa=False)
    acts = client.parts.administration
    await acts.set_disabled("carol", disabled=True, by=OPERATOR)
    await acts.delete("david", by=OPERATOR)
    await scheduled(client, plain)
    expected = await refused(await client.post("/login", json={"username": "nobody", "password": PASSWORD}))
    await sign_up(client, clock, "erin")  # has begun an enrolment: no pending token either
    for name in ("nobody", "bobby", "carol", "david", "erin"):
        assert expected == await refused(await restore(client, name)), name
    assert expected == await refused(await restore(client, "alice", "wrong password"))
    assert (await restore(client)).status_code == 200


async def test_a_restore_shares_the_rate_limit_of_logins(client: Client, plain: Person) -> None:
    """Nobody guesses a password at one endpoint after the other refused."""
    await scheduled(client, plain)
    for _ in range(5):
        assert (await restore(client, password="wrong password")).status_code == 401
    assert (await restore(client)).status_code == 429
    assert (await plain.give_password()).status_code == 429


async def test_a_user_without_a_second_factor_restores_with_the_password(client: Client, plain: Person) -> None:
    user = await scheduled(client, plain)
    answer = await restore(client)
    assert (answer.status_code, answer.json()["mfa_required"]) == (200, False)
    assert await is_live(client, answer.json()["access_token"])
    assert (await event_names(client, user.id))[:2] == ["login.admitted", "user.restored"]
    assert (await plain.give_password()).status_code == 200
    assert (await restore(client)).status_code == 401  # nothing to take back
    restored = await users.find(client.parts.database, "alice")
    assert restored is not None
    assert restored.deletion_due_at is None


async def test_an_address_restores_like_a_username(client: Client, plain: Person) -> None:
    """It stays that of the account until the account is removed."""
    await set_address(client, plain)
    await scheduled(client, plain)
    assert (await restore(client, ADDRESS)).status_code == 200


async def test_the_password_alone_restores_nothing_of_a_user_with_a_second_factor(
    client: Client, alice: Person, clock: MovableClock
) -> None:
    """It yields a pending token; `/login-2fa` with it restores and logs in, once.

    Law 1: a password alone yields no more than a pending token.
    """
    user = await scheduled(client, alice)
    clock.next_step()
    answer = await restore(client)
    body = answer.json()
    assert (answer.status_code, body["mfa_required"], body["mfa_confirmed"]) == (200, True, True)
    assert body["methods"] == ["totp", "recovery_code"]
    assert (await alice.give_password()).status_code == 401
    wrong = await alice.give_code(alice.wrong_code(), body["mfa_token"])
    assert wrong.status_code == 401
    still = await users.find_by_id(client.parts.database, user.id)
    assert still is not None
    assert still.is_disabled
    other = (await restore(client)).json()["mfa_token"]
    admitted = await alice.give_code(mfa_token=body["mfa_token"])
    assert admitted.status_code == 200, admitted.text
    assert claims(admitted.json()["access_token"])["acr"] == "aal2"
    assert await is_live(client, admitted.json()["access_token"])
    clock.next_step()
    for token in (body["mfa_token"], other):
        assert (await alice.give_code(mfa_token=token)).json()["code"] == "invalid_token"
    assert (await event_names(client, user.id))[:2] == ["login.admitted", "user.restored"]


async def test_a_recovery_code_restores(client: Client, clock: MovableClock) -> None:
    person = await sign_up(client, clock)
    codes = (await person.confirm()).json()["recovery_codes"]
    clock.next_step()
    await scheduled(client, person)
    token = (await restore(client)).json()["mfa_token"]
    answer = await client.post("/login-2fa", json={"mfa_token": token, "recovery_code": codes[0]})
    assert (answer.status_code, answer.json()["recovery_codes_left"]) == (200, 9)


async def test_a_used_code_restores_nothing(client: Client, alice: Person) -> None:
    """Law 2: a code is consumed, not checked, and a refusal leaves the account as it was."""
    user = await scheduled(client, alice)  # the login used the current code
    token = (await restore(client)).json()["mfa_token"]
    assert (await alice.give_code(mfa_token=token)).status_code == 401
    assert "user.restored" not in await event_names(client, user.id)


async def test_a_code_at_many_restores_is_accepted_once(client: Client, alice: Person, clock: MovableClock) -> None:
    user = await scheduled(client, alice)
    clock.next_step()
    tokens = [(await restore(client)).json()["mfa_token"] for _ in range(8)]
    answers = await asyncio.gather(*(alice.give_code(mfa_token=token) for token in tokens))
    assert sorted(answer.status_code for answer in answers)[:2] == [200, 401]
    assert (await event_names(client, user.id)).count("user.restored") == 1


async def test_a_user_who_had_begun_an_enrolment_finishes_it(client: Client, clock: MovableClock) -> None:
    """The first code restores the account, confirms the authenticator and logs in; the QR code is shown again."""
    person = await sign_up(client, clock, "alice", mfa=False)
    login = (await person.give_password()).json()
    begun = await client.post("/enable-mfa", json={"password": PASSWORD}, headers=bearer(login["access_token"]))
    person.secret = begun.json()["provisioning_uri"].partition("secret=")[2].partition("&")[0]
    assert (await request_deletion(client, login["access_token"])).status_code == 202
    pending = (await restore(client)).json()
    assert pending["mfa_confirmed"] is False
    shown = await client.get("/qrcode/alice/secret", headers=bearer(pending["mfa_token"]))
    assert shown.json()["secret"] == person.secret
    answer = await person.give_code(mfa_token=pending["mfa_token"])
    assert answer.status_code == 200
    assert len(answer.json()["recovery_codes"]) == 10


async def test_a_known_device_does_not_stand_in(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """The body has no device token, and those of before are revoked."""
    async with open_client({**world, "remember_device_days": 30}) as client:
        person = await sign_up(client, clock)
        answer = await client.post(
            "/login-2fa", json={"mfa_token": person.mfa_token, "otp": person.code(), "remember_device": True}
        )
        device = answer.json()["device_token"]
        assert (await request_deletion(client, answer.json()["access_token"])).status_code == 202
        body = {"username": "alice", "password": PASSWORD, "device_token": device}
        assert (await client.post("/me/restore", json=body)).status_code == 422
        assert (await restore(client)).json()["mfa_required"] is True


async def test_the_policy_applies_to_a_restore(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """A user of whom it requires a second factor enrols before the account is restored."""
    async with open_client(world) as client:
        user = await scheduled(client, await sign_up(client, clock, "alice", mfa=False))
    async with open_client({**world, "require_mfa": "everyone"}) as client:
        pending = (await restore(client)).json()
        assert (pending["mfa_required"], pending["mfa_confirmed"]) == (True, False)
        still = await users.find_by_id(client.parts.database, user.id)
        assert still is not None
        assert still.is_disabled
        shown = await client.get("/qrcode/alice/secret", headers=bearer(pending["mfa_token"]))
        person = Person(client, clock, "alice", secret=shown.json()["secret"])
        assert (await person.give_code(mfa_token=pending["mfa_token"])).status_code == 200


async def test_an_operator_who_disables_is_not_undone_by_the_user(
    client: Client, alice: Person, clock: MovableClock
) -> None:
    """The account stays due, and a pending token of before is void. Enabling cancels the deletion, as an event."""
    user = await scheduled(client, alice)
    clock.next_step()
    pending = (await restore(client)).json()["mfa_token"]
    acts = client.parts.administration
    await acts.set_disabled("alice", disabled=True, by=OPERATOR)
    assert (await alice.give_code(mfa_token=pending)).json()["code"] == "invalid_token"
    assert (await restore(client)).status_code == 401
    disabled = await users.find_by_id(client.parts.database, user.id)
    assert disabled is not None
    assert (disabled.deletion_due_at, disabled.is_disabled_by_user) == (user.deletion_due_at, False)
    await acts.set_disabled("alice", disabled=False, by=OPERATOR)
    newest, before, *_ = await client.parts.events.list_latest(user.id)
    assert (newest.event, before.event) == ("user.enabled", "user.restored")
    assert before.details == {"by": "operator"}
    assert (await alice.log_in()).status_code == 200
    clock.advance(days=15)
    assert await client.parts.deletions.remove_due() == 0


async def test_an_operator_who_disables_in_the_second_of_the_request_is_not_undone(
    client: Client, plain: Person
) -> None:
    """The two times are equal then."""
    await scheduled(client, plain)
    await client.parts.administration.set_disabled("alice", disabled=True, by=OPERATOR)
    assert (await restore(client)).status_code == 401


async def test_a_due_account_is_removed_and_not_before(client: Client, alice: Person, clock: MovableClock) -> None:
    """Its username and `sub` stay reserved, and `user.deleted` is its last event."""
    user = await scheduled(client, alice)
    clock.advance(seconds=DELAY - 1)
    assert await client.parts.deletions.remove_due() == 0
    clock.advance(seconds=1)
    assert (await restore(client)).status_code == 401  # due, though not removed yet
    assert await client.parts.deletions.remove_due() == 1
    assert await client.parts.deletions.remove_due() == 0
    assert await users.find_by_id(client.parts.database, user.id) is None
    assert (await event_names(client, user.id))[0] == "user.deleted"
    taken = await client.post("/signup", json={"username": "alice", "password": PASSWORD})
    assert (taken.status_code, taken.json()["code"]) == (409, "username_taken")
    rows = await client.parts.database.fetch_all("SELECT id FROM totp_authenticators WHERE user_id = $1", user.id)
    assert rows == []


async def test_a_pending_restore_is_void_once_the_account_is_due(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    async with open_client({**world, "deletion_delay": 60}) as client:
        person = await sign_up(client, clock)
        await person.confirm()
        clock.next_step()
        await scheduled(client, person)
        pending = (await restore(client)).json()["mfa_token"]
        clock.advance(seconds=60)
        assert (await person.give_code(mfa_token=pending)).json()["code"] == "invalid_token"


async def test_without_a_delay_the_account_is_removed_at_once(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    async with open_client({**world, "deletion_delay": 0}) as client:
        person = await sign_up(client, clock, "alice", mfa=False)
        token = (await person.give_password()).json()["access_token"]
        sub = claims(token)["sub"]
        answer = await request_deletion(client, token)
        assert (answer.status_code, answer.json()) == (202, {"deleted_at": int(clock().timestamp())})
        assert await users.find_by_id(client.parts.database, sub) is None
        assert (await event_names(client, sub))[0] == "user.deleted"
        assert not await is_live(client, token)
        assert (await restore(client)).status_code == 401


async def test_two_replicas_remove_an_account_once(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """No replica leads; there is one event for each account."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(open_client(world))
        second = await stack.enter_async_context(open_client(world)) if "database_url" in world else first
        people = [await sign_up(first, clock, f"user{number}", mfa=False) for number in range(5)]
        found = [await scheduled(first, person) for person in people]
        clock.advance(days=14)
        removed = await asyncio.gather(*(one.parts.deletions.remove_due() for one in (first, second, first, second)))
        assert sum(removed) == 5
        for user in found:
            assert (await event_names(first, user.id)).count("user.deleted") == 1


async def test_a_restore_and_a_removal_at_once(client: Client, clock: MovableClock) -> None:
    """An account is restored or removed, and never both, also if the clock passes the due time in between."""
    for number in range(6):
        person = await sign_up(client, clock, f"user{number}", mfa=False)
        user = await scheduled(client, person)
        clock.advance(seconds=DELAY - 1)
        clock.creeps = 0.2
        removing = asyncio.gather(*(client.parts.deletions.remove_due() for _ in range(4)))
        answer = await restore(client, person.username)
        await removing
        clock.creeps = 0.0
        clock.advance(seconds=5)
        await client.parts.deletions.remove_due()
        names = await event_names(client, user.id)
        assert ("user.restored" in names, "user.deleted" in names) == (
            answer.status_code == 200,
            answer.status_code != 200,
        )


async def test_a_request_and_a_login_at_once(client: Client, clock: MovableClock) -> None:
    """In either order no session outlives the request."""
    for number in range(6):
        person = await sign_up(client, clock, f"user{number}", mfa=False)
        token = (await person.give_password()).json()["access_token"]
        answers = await asyncio.gather(
            request_deletion(client, token), person.give_password(), person.give_password()
        )
        assert answers[0].status_code == 202
        for login in answers[1:]:
            assert login.status_code == 401 or not await is_live(client, login.json()["access_token"])


async def test_two_requests_at_once_are_one_event(client: Client, plain: Person) -> None:
    token = (await plain.give_password()).json()["access_token"]
    answers = await asyncio.gather(*(request_deletion(client, token) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [202] + [401] * 4
    assert (await event_names(client, claims(token)["sub"])).count("user.deletion_scheduled") == 1


async def test_a_removed_account_leaves_no_address_in_its_invitation(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    async with open_client({**world, "signup": "invited"}) as client:
        made = await client.parts.invitations.create(Act(OPERATOR, clock()), email=ADDRESS)
        body = {"username": "alice", "password": PASSWORD, "invitation": made.token}
        assert (await client.post("/signup", json=body)).status_code == 201
        await scheduled(client, Person(client, clock, "alice"))
        clock.advance(days=14)
        assert await client.parts.deletions.remove_due() == 1
        assert (await client.parts.invitations.get(made.invitation.id)).email is None


async def test_a_role_given_during_a_request_refuses_the_deletion(client: Client, plain: Person) -> None:
    """Whether the last administrator leaves was checked for the roles before."""
    alice = await get_user(client)
    await client.parts.administration.set_roles("alice", add="keyturn-admin", by=OPERATOR)
    async with client.parts.database.begin() as transaction:
        assert not await deletions.schedule(transaction, alice, now=client.clock(), due_at=0)
    assert not (await get_user(client)).is_disabled


async def test_the_last_administrator_stays(client: Client, clock: MovableClock) -> None:
    """With a second one both may go, but not at the same time."""
    tokens = []
    for name in ("alice", "bobby"):
        person = await sign_up(client, clock, name, mfa=False)
        await client.parts.administration.set_roles(name, add="keyturn-admin", by=OPERATOR)
        tokens.append((await person.give_password()).json()["access_token"])
        if name == "alice":
            alone = await request_deletion(client, tokens[0])
            assert (alone.status_code, alone.json()["code"]) == (409, "last_administrator")
    answers = await asyncio.gather(*(request_deletion(client, token) for token in tokens))
    assert sorted(answer.status_code for answer in answers) == [202, 409]
