"""The life of a session: refresh, the list of sessions, logout, password change, step-up."""

import asyncio
from typing import Any

import pytest
from httpx2 import AsyncClient

from service.origin import OPERATOR
from tests.harness.clients import Client, Opener
from tests.harness.people import PASSWORD, MovableClock, Person, secret_in, sign_up
from tests.harness.sessions import bearer, change_password, claims, ended_at, forgeries, is_live, refresh


@pytest.fixture
async def tokens(alice: Person) -> dict[str, Any]:
    """The tokens of Alice after a login with two factors."""
    answer: dict[str, Any] = (await alice.log_in()).json()
    return answer


# --- refresh ---


async def test_a_refresh_token_yields_new_tokens(
    client: AsyncClient, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """The claims about the session stay: refreshing changes neither time nor method of authentication (RFC 9068)."""
    clock.advance(seconds=590)
    answer = await refresh(client, tokens["refresh_token"])
    assert 200 == answer.status_code
    assert {"access_token", "token_type", "expires_in", "refresh_token"} == set(answer.json())
    assert ("Bearer", 600) == (answer.json()["token_type"], answer.json()["expires_in"])
    assert "no-store" == answer.headers["cache-control"]
    before, after = claims(tokens["access_token"]), claims(answer.json()["access_token"])
    changed = {name for name in before if before[name] != after[name]}
    assert {"iat", "exp", "jti"} == changed
    assert before["iat"] == after["auth_time"] < after["iat"]
    assert tokens["refresh_token"] != answer.json()["refresh_token"]


async def test_a_token_just_replaced_yields_the_same_successor(
    client: AsyncClient, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """The grace period of ten seconds covers a lost answer, or another tab that was faster."""
    successor = (await refresh(client, tokens["refresh_token"])).json()["refresh_token"]
    for seconds in (0, 4, 6):
        clock.advance(seconds=seconds)
        again = await refresh(client, tokens["refresh_token"])
        assert (200, successor) == (again.status_code, again.json()["refresh_token"])
    assert 200 == (await refresh(client, successor)).status_code


async def test_a_token_replaced_earlier_ends_the_session(
    client: AsyncClient, clock: MovableClock, tokens: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It was copied: neither the attacker nor the user continues, and the log warns the operator."""
    successor = (await refresh(client, tokens["refresh_token"])).json()["refresh_token"]
    clock.advance(seconds=11)
    with caplog.at_level("WARNING", "keyturn"):
        reused = await refresh(client, tokens["refresh_token"])
    assert (400, "invalid_grant") == (reused.status_code, reused.json()["error"])
    assert ["session.refresh_reused"] == [record.message for record in caplog.records]
    assert "invalid_grant" == (await refresh(client, successor)).json()["error"]
    assert not await is_live(client, tokens["access_token"])


async def test_a_token_two_generations_old_ends_the_session_at_once(
    client: AsyncClient, tokens: dict[str, Any]
) -> None:
    """A client that lost an answer cannot have used the token after it."""
    second = (await refresh(client, tokens["refresh_token"])).json()["refresh_token"]
    third = (await refresh(client, second)).json()["refresh_token"]
    assert "invalid_grant" == (await refresh(client, tokens["refresh_token"])).json()["error"]
    assert "invalid_grant" == (await refresh(client, third)).json()["error"]


async def test_an_unused_session_ends_after_a_week(
    client: AsyncClient, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """Each refresh extends it by a week."""
    token = tokens["refresh_token"]
    for _ in range(3):
        clock.advance(days=6.9)
        answer = await refresh(client, token)
        assert 200 == answer.status_code
        token = answer.json()["refresh_token"]
    clock.advance(days=7)
    assert "invalid_grant" == (await refresh(client, token)).json()["error"]


async def test_a_session_ends_after_a_month_in_any_case(
    client: AsyncClient, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """Then both factors are required again."""
    token = tokens["refresh_token"]
    for _ in range(29):
        clock.advance(days=1)
        token = (await refresh(client, token)).json()["refresh_token"]
    clock.advance(days=1)
    assert "invalid_grant" == (await refresh(client, token)).json()["error"]


async def test_a_forged_token_changes_nothing(
    client: AsyncClient, clock: MovableClock, alice: Person, tokens: dict[str, Any]
) -> None:
    """Guessing at tokens ends neither the session nor the user's next refresh.
    Law 11: a session is its refresh family.
    """
    bob = await sign_up(client, clock, "bob", mfa=False)
    other = (await bob.give_password()).json()["refresh_token"]
    for forged in forgeries(tokens["refresh_token"], other):
        answer = await refresh(client, forged)
        assert (400, "invalid_grant") == (answer.status_code, answer.json()["error"]), forged
    assert 200 == (await refresh(client, tokens["refresh_token"])).status_code
    assert 200 == (await refresh(client, other)).status_code


async def test_roles_are_read_again_at_each_refresh(
    client: Client, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """Roles that the operator adds or removes are in the next token; nothing that a client sends is."""
    administration = client.parts.administration
    await administration.set_roles("alice", add="admin", by=OPERATOR)
    second = (await refresh(client, tokens["refresh_token"])).json()
    assert ["admin"] == claims(second["access_token"])["roles"]
    await administration.set_roles("alice", remove="admin", by=OPERATOR)
    third = (await refresh(client, second["refresh_token"])).json()
    assert [] == claims(third["access_token"])["roles"]


# --- the end of a session ---


async def test_ending_sessions_revokes_their_refresh_tokens(
    client: Client, clock: MovableClock, alice: Person
) -> None:
    """Disabling MFA, a reset by the operator and disabling the account end every session in the same transaction."""
    parts = client.parts
    ways = (
        alice.disable,
        lambda: parts.administration.reset_mfa("alice", by=OPERATOR),
        lambda: parts.administration.set_disabled("alice", disabled=True, by=OPERATOR),
    )
    for way in ways:
        answer = await alice.log_in() if way == alice.disable else await alice.give_password()
        clock.next_step()
        session = answer.json()
        await way()
        assert "invalid_grant" == (await refresh(client, session["refresh_token"])).json()["error"]
        assert not await is_live(client, session["access_token"])


async def test_of_many_logouts_at_once_none_fails(client: Client, clock: MovableClock) -> None:
    """A logout of a session that has just ended has done what it was asked for, or its token is refused."""
    person = await sign_up(client, clock, mfa=False)
    token = (await person.give_password()).json()["access_token"]
    answers = await asyncio.gather(*(client.post("/logout", headers=bearer(token)) for _ in range(8)))
    statuses = {answer.status_code for answer in answers}
    assert 204 in statuses
    assert statuses <= {204, 401}


async def test_confirming_an_authenticator_ends_earlier_sessions(client: AsyncClient, clock: MovableClock) -> None:
    """A stolen session of the password alone does not survive the second factor."""
    bob = await sign_up(client, clock, "bob", mfa=False)
    session = (await bob.give_password()).json()
    enrolment = await client.post("/enable-mfa", json={"password": PASSWORD}, headers=bearer(session["access_token"]))
    session = (await refresh(client, session["refresh_token"])).json()  # the enrolment is not confirmed yet
    bob.secret, bob.mfa_token = secret_in(enrolment.json()["provisioning_uri"]), enrolment.json()["mfa_token"]
    confirmed = (await bob.confirm()).json()
    assert "invalid_grant" == (await refresh(client, session["refresh_token"])).json()["error"]
    assert 200 == (await refresh(client, confirmed["refresh_token"])).status_code


# --- sessions ---


async def test_users_see_their_sessions(
    client: AsyncClient, clock: MovableClock, alice: Person, tokens: dict[str, Any]
) -> None:
    """The list has time, address, program and factors, and marks the current session."""
    clock.next_step()
    clock.advance(seconds=60)
    phone = (await alice.client.post(
        "/login-2fa",
        json={"mfa_token": await alice.pending(), "otp": alice.code()},
        headers={"User-Agent": "phone/1.0"},
    )).json()  # fmt: skip
    answer = await client.get("/sessions", headers=bearer(phone["access_token"]))
    assert 200 == answer.status_code
    this, other, first = answer.json()["sessions"]
    now = int(clock().timestamp())
    assert {
        "sid": claims(phone["access_token"])["sid"],
        "current": True,
        "created_at": now,
        "last_used_at": now,
        "expires_at": now + 7 * 86400,
        "auth_time": now,
        "amr": ["pwd", "otp", "mfa"],
        "acr": "aal2",
        "address": "203.0.113.7",
        "user_agent": "phone/1.0",
    } == this
    assert (claims(tokens["access_token"])["sid"], False) == (other["sid"], other["current"])
    assert first["created_at"] < other["created_at"] < this["created_at"]


async def test_a_user_ends_one_of_their_sessions(
    client: AsyncClient, clock: MovableClock, alice: Person, tokens: dict[str, Any]
) -> None:
    """Sessions of other users and unknown sessions are not found."""
    clock.next_step()
    laptop = (await alice.log_in()).json()
    mallory = await sign_up(client, clock, "mallory", mfa=False)
    others_token = (await mallory.give_password()).json()["access_token"]
    sid = claims(laptop["access_token"])["sid"]
    for path in (f"/sessions/{sid}", "/sessions/nothing", "/sessions/%00"):
        answer = await client.delete(path, headers=bearer(others_token))
        assert (404, "not_found") == (answer.status_code, answer.json()["code"])
    assert 204 == (await client.delete(f"/sessions/{sid}", headers=bearer(tokens["access_token"]))).status_code
    assert 404 == (await client.delete(f"/sessions/{sid}", headers=bearer(tokens["access_token"]))).status_code
    assert "invalid_grant" == (await refresh(client, laptop["refresh_token"])).json()["error"]
    assert not await is_live(client, laptop["access_token"])
    assert await is_live(client, tokens["access_token"])


async def test_logging_out_ends_the_current_session(
    client: AsyncClient, clock: MovableClock, alice: Person, tokens: dict[str, Any]
) -> None:
    """No other session ends; a repetition gets `invalid_token`."""
    clock.next_step()
    other = (await alice.log_in()).json()
    assert 204 == (await client.post("/logout", headers=bearer(tokens["access_token"]))).status_code
    assert not await is_live(client, tokens["access_token"])
    assert "invalid_grant" == (await refresh(client, tokens["refresh_token"])).json()["error"]
    assert 401 == (await client.post("/logout", headers=bearer(tokens["access_token"]))).status_code
    assert await is_live(client, other["access_token"])


async def test_logging_out_everywhere_ends_all_sessions(
    client: AsyncClient, clock: MovableClock, alice: Person, tokens: dict[str, Any]
) -> None:
    """The current session ends, too, and no session of another user."""
    clock.next_step()
    other = (await alice.log_in()).json()
    bob = await sign_up(client, clock, "bob", mfa=False)
    others_session = (await bob.give_password()).json()
    assert (
        422 == (await client.post("/logout?everywhere=perhaps", headers=bearer(tokens["access_token"]))).status_code
    )
    assert 204 == (await client.post("/logout?everywhere=true", headers=bearer(tokens["access_token"]))).status_code
    for ended in (tokens, other):
        assert not await is_live(client, ended["access_token"])
        assert "invalid_grant" == (await refresh(client, ended["refresh_token"])).json()["error"]
    assert await is_live(client, others_session["access_token"])


async def test_me_describes_the_account(client: AsyncClient, clock: MovableClock, tokens: dict[str, Any]) -> None:
    """The answer has what a frontend shows on an account page."""
    account = (await client.get("/me", headers=bearer(tokens["access_token"]))).json()
    token = claims(tokens["access_token"])
    assert {
        "sub": token["sub"],
        "username": "alice",
        "roles": [],
        "mfa_enabled": True,
        "mfa_confirmed": True,
        "recovery_codes_left": 10,
        "recovery_due_at": None,
        "email": None,
        "new_email": None,
        "locale": None,
        "sid": token["sid"],
    } == {name: value for name, value in account.items() if name != "created_at"}
    assert account["created_at"] <= clock().timestamp()


# --- password ---


async def test_a_new_password_ends_every_other_session(
    client: AsyncClient, clock: MovableClock, alice: Person, tokens: dict[str, Any]
) -> None:
    """Everyone with the old password loses their sessions and pending tokens; the session that changed it stays."""
    clock.next_step()
    attacker = (await alice.log_in()).json()
    pending = await alice.pending()
    new = "an entirely new passphrase"
    answer = await change_password(client, tokens["access_token"], PASSWORD, new)
    assert (204, b"") == (answer.status_code, answer.content)
    assert not await is_live(client, attacker["access_token"])
    assert "invalid_grant" == (await refresh(client, attacker["refresh_token"])).json()["error"]
    clock.next_step()
    assert "invalid_token" == (await alice.give_code(mfa_token=pending)).json()["code"]
    assert 401 == (await alice.give_password()).status_code
    assert 200 == (await refresh(client, tokens["refresh_token"])).status_code
    alice.password = new
    assert 200 == (await alice.log_in()).status_code


async def test_changing_the_password_requires_the_current_one(client: AsyncClient, tokens: dict[str, Any]) -> None:
    """A stolen session is not enough, guessing is slowed down as at /login, and the policy applies."""
    access = tokens["access_token"]
    for code, new in (("weak_password", "password1"), ("weak_password", "alice" * 1), ("invalid_request", "")):
        assert code == (await change_password(client, access, PASSWORD, new)).json()["code"]
    for _ in range(5):
        refused = await change_password(client, access, "not the password", "an entirely new passphrase")
        assert (401, "invalid_credentials") == (refused.status_code, refused.json()["code"])
    throttled = await change_password(client, access, PASSWORD, "an entirely new passphrase")
    assert (429, "too_many_attempts") == (throttled.status_code, throttled.json()["code"])
    assert 1 <= int(throttled.headers["retry-after"])


# --- step-up ---


async def test_stepping_up_refreshes_the_authentication_of_the_session(
    client: AsyncClient, clock: MovableClock, alice: Person, tokens: dict[str, Any]
) -> None:
    """After a new code, the session is the same with a new auth_time, and its refresh token stays valid."""
    clock.advance(seconds=500)
    challenge = await client.post("/step-up", headers=bearer(tokens["access_token"]))
    assert (200, ["totp", "recovery_code"]) == (challenge.status_code, challenge.json()["methods"])
    stepped_up = await alice.give_code(mfa_token=challenge.json()["mfa_token"])
    assert 200 == stepped_up.status_code
    assert "refresh_token" not in stepped_up.json(), "the session keeps its refresh token"
    before, after = claims(tokens["access_token"]), claims(stepped_up.json()["access_token"])
    assert before["sid"] == after["sid"]
    assert (before["auth_time"] + 500, "aal2") == (after["auth_time"], after["acr"])
    refreshed = (await refresh(client, tokens["refresh_token"])).json()
    assert after["auth_time"] == claims(refreshed["access_token"])["auth_time"]
    assert 2 == len((await client.get("/sessions", headers=bearer(refreshed["access_token"]))).json()["sessions"])


async def test_a_step_up_token_is_valid_once(
    client: AsyncClient, clock: MovableClock, alice: Person, tokens: dict[str, Any]
) -> None:
    """It is refused with a second code, and after another token stepped the session up (A-B-A)."""
    first, second = [
        (await client.post("/step-up", headers=bearer(tokens["access_token"]))).json()["mfa_token"] for _ in range(2)
    ]
    clock.next_step()
    assert 200 == (await alice.give_code(mfa_token=first)).status_code
    clock.next_step()
    third = (await client.post("/step-up", headers=bearer(tokens["access_token"]))).json()["mfa_token"]
    for used in (first, second):
        assert "invalid_token" == (await alice.give_code(mfa_token=used)).json()["code"]
    assert 200 == (await alice.give_code(mfa_token=third)).status_code
    clock.next_step()
    assert "invalid_token" == (await alice.give_code(mfa_token=first)).json()["code"]


async def test_a_step_up_token_ends_with_its_session(
    client: AsyncClient, clock: MovableClock, alice: Person, tokens: dict[str, Any]
) -> None:
    """It opens no other session, and the code is not checked."""
    token = (await client.post("/step-up", headers=bearer(tokens["access_token"]))).json()["mfa_token"]
    await client.post("/logout", headers=bearer(tokens["access_token"]))
    clock.next_step()
    code = alice.code()
    assert "invalid_token" == (await alice.give_code(code, token)).json()["code"]
    assert 200 == (await alice.log_in(code)).status_code


async def test_a_code_steps_up_once(
    client: AsyncClient, clock: MovableClock, alice: Person, tokens: dict[str, Any]
) -> None:
    """The code of the login does not step up, and the code of the step-up does not log in.
    Law 2: a code is consumed, not checked.
    """
    clock.next_step()
    code = alice.code()
    token = (await client.post("/step-up", headers=bearer(tokens["access_token"]))).json()["mfa_token"]
    assert 200 == (await alice.give_code(code, token)).status_code
    assert "invalid_code" == (await alice.log_in(code)).json()["code"]


async def test_a_recovery_code_steps_up(client: AsyncClient, clock: MovableClock) -> None:
    """The new access token states the recovery code in `amr`."""
    alice = await sign_up(client, clock, "alice")
    confirmed = (await alice.confirm()).json()
    token = (await client.post("/step-up", headers=bearer(confirmed["access_token"]))).json()["mfa_token"]
    body = {"mfa_token": token, "recovery_code": confirmed["recovery_codes"][3]}
    stepped_up = await client.post("/login-2fa", json=body)
    assert 9 == stepped_up.json()["recovery_codes_left"]
    token_claims = claims(stepped_up.json()["access_token"])
    assert (claims(confirmed["access_token"])["sid"], ["pwd", "rc", "mfa"]) == (
        token_claims["sid"],
        token_claims["amr"],
    )


async def test_a_step_up_without_a_second_factor_is_refused(client: AsyncClient, clock: MovableClock) -> None:
    """The error says so; an unconfirmed authenticator does not count."""
    bob = await sign_up(client, clock, "bob", mfa=False)
    access = (await bob.give_password()).json()["access_token"]
    for _ in range(2):
        answer = await client.post("/step-up", headers=bearer(access))
        assert (409, "mfa_not_enabled") == (answer.status_code, answer.json()["code"])
        await client.post("/enable-mfa", json={"password": PASSWORD}, headers=bearer(access))


async def test_a_step_up_confirms_nothing(client: Client, clock: MovableClock) -> None:
    """The first code of an authenticator is refused unchecked, so that it can still confirm the enrolment.

    No endpoint writes such a token.
    """
    bob = await sign_up(client, clock, "bob", mfa=False)
    access = (await bob.give_password()).json()["access_token"]
    started = await client.post("/enable-mfa", json={"password": PASSWORD}, headers=bearer(access))
    bob.secret = secret_in(started.json()["provisioning_uri"])
    user = await client.parts.administration.get("bob")
    token = client.parts.tokens.pending.write_for_step_up(
        sub=user.id, credential_version=user.credential_version, sid=claims(access)["sid"], step_ups=0, now=clock()
    )
    assert "invalid_token" == (await bob.give_code(mfa_token=token)).json()["code"]
    assert 200 == (await bob.give_code(mfa_token=started.json()["mfa_token"])).status_code


async def test_the_lifetime_of_a_session_is_a_setting(
    embedded: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """KEYTURN_REFRESH_TTL and KEYTURN_REFRESH_IDLE_TTL are in seconds."""
    async with open_client({**embedded, "refresh_ttl": 300, "refresh_idle_ttl": 120}) as client:
        bob = await sign_up(client, clock, "bob", mfa=False)
        token = (await bob.give_password()).json()["refresh_token"]
        for _ in range(2):
            clock.advance(seconds=119)
            token = (await refresh(client, token)).json()["refresh_token"]
        clock.advance(seconds=62)
        assert "invalid_grant" == (await refresh(client, token)).json()["error"], "300 seconds are over"


# --- clocks and times of ending ---


async def test_the_session_of_a_disabled_user_does_not_come_back(
    client: Client, alice: Person, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """It ends even if it has expired already by the operator's clock, which is half a minute ahead."""
    administration = client.parts.administration
    clock.advance(days=7, seconds=-20)
    clock.advance(seconds=30)
    await administration.set_disabled("alice", disabled=True, by=OPERATOR)
    clock.advance(seconds=-30)
    assert 400 == (await refresh(client, tokens["refresh_token"])).status_code
    await administration.set_disabled("alice", disabled=False, by=OPERATOR)
    assert 400 == (await refresh(client, tokens["refresh_token"])).status_code


async def test_a_replica_whose_clock_is_ahead_revokes(
    client: AsyncClient, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """By its clock the session has expired already; it ends nevertheless, on every replica."""
    clock.advance(days=7, seconds=10)
    assert 200 == (await client.post("/revoke", data={"token": tokens["refresh_token"]})).status_code
    clock.advance(seconds=-30)
    assert "invalid_grant" == (await refresh(client, tokens["refresh_token"])).json()["error"]


async def test_a_session_that_survived_a_disabling_is_refused(
    client: Client, alice: Person, tokens: dict[str, Any]
) -> None:
    """If ending it fails unexpectedly, the disabled user still can neither refresh nor use an access token."""
    database = client.parts.database
    await database.write_one("UPDATE users SET disabled_at = 1 WHERE username = 'alice' RETURNING id")
    assert 400 == (await refresh(client, tokens["refresh_token"])).status_code
    assert 401 == (await client.get("/me", headers=bearer(tokens["access_token"]))).status_code


async def test_no_access_token_outlives_its_session(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """It ends with the month, or with the idle week, and the answer states its lifetime."""
    lifetimes = {"access_ttl": 86400, "refresh_idle_ttl": 3600, "refresh_ttl": 5400}
    async with open_client({**world, **lifetimes}) as client:
        bob = await sign_up(client, clock, "bob", mfa=False)
        first = (await bob.give_password()).json()
        clock.advance(seconds=3500)
        second = (await refresh(client, first["refresh_token"])).json()
        for expected, answer in ((3600, first), (1900, second)):
            token = claims(answer["access_token"])
            assert (expected, expected) == (answer["expires_in"], token["exp"] - token["iat"])


async def test_sessions_end_when_the_new_password_is_hashed(client: Client, clock: MovableClock) -> None:
    """The time is neither that of the request nor before the hashes: /verify finds sessions that ended just now."""
    bob = await sign_up(client, clock, "bob", mfa=False)
    attacker, own = (await bob.give_password()).json(), (await bob.give_password()).json()
    before, clock.creeps = clock.now, 12
    answer = await change_password(client, own["access_token"], PASSWORD, "an entirely new passphrase")
    assert 204 == answer.status_code
    elapsed = 4 * 12  # the clock is read for the bearer, for the password, and after each of the two hashes
    assert before.timestamp() + elapsed <= await ended_at(client, attacker) <= clock.now.timestamp()


async def test_sessions_end_when_the_second_factor_is_removed(
    client: Client, alice: Person, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """The time is after the password was hashed."""
    clock.next_step()
    otp, before, clock.creeps = alice.code(), clock.now, 12
    assert 200 == (await alice.disable(otp)).status_code
    elapsed = 2 * 12  # for the password, and after its hash
    assert before.timestamp() + elapsed <= await ended_at(client, tokens) <= clock.now.timestamp()
