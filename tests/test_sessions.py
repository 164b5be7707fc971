"""What keeps people logged in, and what ends it: refresh, sessions, logout, password, step-up."""

import base64
from typing import Any

import jwt
import pytest
from httpx2 import AsyncClient, Response

from tests.conftest import Opener
from tests.people import PASSWORD, MovableClock, Person, secret_in, sign_up


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def claims(token: str) -> dict[str, Any]:
    said: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return said


async def refresh(client: AsyncClient, token: str) -> Response:
    return await client.post("/token", data={"grant_type": "refresh_token", "refresh_token": token})


async def is_live(client: AsyncClient, access_token: str) -> bool:
    return (await client.get("/me", headers=bearer(access_token))).status_code == 200


@pytest.fixture
async def tokens(alice: Person) -> dict[str, Any]:
    """Alice's, after a two-factor login."""
    answer: dict[str, Any] = (await alice.log_in()).json()
    return answer


# --- refresh ---


async def test_a_refresh_token_gives_the_next_tokens(
    client: AsyncClient, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """They say the same of the same session: when and how it was proved does not change by refreshing (RFC 9068)."""
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


async def test_the_generation_just_replaced_gets_the_same_successor(
    client: AsyncClient, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """For ten seconds: an answer was lost on its way, or another tab was quicker."""
    successor = (await refresh(client, tokens["refresh_token"])).json()["refresh_token"]
    for seconds in (0, 4, 6):
        clock.advance(seconds=seconds)
        again = await refresh(client, tokens["refresh_token"])
        assert (200, successor) == (again.status_code, again.json()["refresh_token"])
    assert 200 == (await refresh(client, successor)).status_code


async def test_a_token_replaced_long_ago_ends_the_session(
    client: AsyncClient, clock: MovableClock, tokens: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It was copied by somebody: neither the thief nor the owner goes on, and the operator is told."""
    successor = (await refresh(client, tokens["refresh_token"])).json()["refresh_token"]
    clock.advance(seconds=11)
    with caplog.at_level("WARNING", "keyturn"):
        reused = await refresh(client, tokens["refresh_token"])
    assert (400, "invalid_grant") == (reused.status_code, reused.json()["error"])
    assert ["session.refresh_reused"] == [record.message for record in caplog.records]
    assert "invalid_grant" == (await refresh(client, successor)).json()["error"]
    assert not await is_live(client, tokens["access_token"])


async def test_two_generations_back_is_too_old_at_once(client: AsyncClient, tokens: dict[str, Any]) -> None:
    """Nobody who lost an answer has used the one after it."""
    second = (await refresh(client, tokens["refresh_token"])).json()["refresh_token"]
    third = (await refresh(client, second)).json()["refresh_token"]
    assert "invalid_grant" == (await refresh(client, tokens["refresh_token"])).json()["error"]
    assert "invalid_grant" == (await refresh(client, third)).json()["error"]


async def test_a_session_ends_unused_after_a_week(
    client: AsyncClient, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """Each refresh gives another week."""
    token = tokens["refresh_token"]
    for _ in range(3):
        clock.advance(days=6.9)
        answer = await refresh(client, token)
        assert 200 == answer.status_code
        token = answer.json()["refresh_token"]
    clock.advance(days=7)
    assert "invalid_grant" == (await refresh(client, token)).json()["error"]


async def test_a_session_ends_after_a_month_however_much_it_is_used(
    client: AsyncClient, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """Then both factors are due again."""
    token = tokens["refresh_token"]
    for _ in range(29):
        clock.advance(days=1)
        token = (await refresh(client, token)).json()["refresh_token"]
    clock.advance(days=1)
    assert "invalid_grant" == (await refresh(client, token)).json()["error"]


def forgeries(token: str, other: str) -> list[str]:
    """Tokens that nobody wrote: each field of one exchanged, cut, bent, or spelt otherwise."""
    data, alien = (base64.urlsafe_b64decode(text.removeprefix("ktr_") + "==") for text in (token, other))

    def spelt(raw: bytes) -> str:
        return "ktr_" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    later = data[:16] + (7).to_bytes(4, "big") + data[20:]
    flipped = [data[:n] + bytes([data[n] ^ 1]) + data[n + 1 :] for n in (0, 15, 16, 19, 20, 35, 51)]
    return [
        *map(spelt, [later, alien[:16] + data[16:], data[:20] + alien[20:], data[:-1], data + b"\0", b"", *flipped]),
        token[:-1],
        token[:-1] + chr(ord(token[-1]) + 1),
        token + "=",
        token.removeprefix("ktr_"),
        token.upper(),
        "ktr_" + token,
        "ktr_",
        "\N{KEY}",
        token * 50,
    ]


async def test_a_forged_token_changes_nothing(
    client: AsyncClient, clock: MovableClock, alice: Person, tokens: dict[str, Any]
) -> None:
    """Not the session, not its owner's next refresh: guessing at tokens ends nobody's day (law 11: a session is its
    refresh family)."""
    bob = await sign_up(client, clock, "bob", mfa=False)
    other = (await bob.give_password()).json()["refresh_token"]
    for forged in forgeries(tokens["refresh_token"], other):
        answer = await refresh(client, forged)
        assert (400, "invalid_grant") == (answer.status_code, answer.json()["error"]), forged
    assert 200 == (await refresh(client, tokens["refresh_token"])).status_code
    assert 200 == (await refresh(client, other)).status_code


async def test_roles_are_read_anew_at_each_refresh(
    client: AsyncClient, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """What an operator gives or takes is in the next token; nothing that people send is."""
    accounts = client.app.state.parts.accounts  # type: ignore[attr-defined]
    await accounts.set_roles("alice", add="admin")
    second = (await refresh(client, tokens["refresh_token"])).json()
    assert ["admin"] == claims(second["access_token"])["roles"]
    await accounts.set_roles("alice", remove="admin")
    third = (await refresh(client, second["refresh_token"])).json()
    assert [] == claims(third["access_token"])["roles"]


# --- what ends a session ---


async def test_what_ends_sessions_ends_their_refresh_tokens_too(
    client: AsyncClient, clock: MovableClock, alice: Person
) -> None:
    """Disabling MFA, an operator's reset and disabling the account: every session, in the same transaction."""
    parts = client.app.state.parts  # type: ignore[attr-defined]
    ways = (
        alice.disable,
        lambda: parts.accounts.reset_mfa("alice"),
        lambda: parts.accounts.set_disabled("alice", disabled=True),
    )
    for way in ways:
        answer = await alice.log_in() if way == alice.disable else await alice.give_password()
        clock.next_step()
        session = answer.json()
        await way()
        assert "invalid_grant" == (await refresh(client, session["refresh_token"])).json()["error"]
        assert not await is_live(client, session["access_token"])


async def test_confirming_a_factor_ends_the_sessions_before_it(client: AsyncClient, clock: MovableClock) -> None:
    """A stolen password-only session does not outlive the second factor."""
    bob = await sign_up(client, clock, "bob", mfa=False)
    session = (await bob.give_password()).json()
    asked = await client.post("/enable-mfa", json={"password": PASSWORD}, headers=bearer(session["access_token"]))
    session = (await refresh(client, session["refresh_token"])).json()  # asked for, not yet proved
    bob.secret, bob.mfa_token = secret_in(asked.json()["provisioning_uri"]), asked.json()["mfa_token"]
    confirmed = (await bob.confirm()).json()
    assert "invalid_grant" == (await refresh(client, session["refresh_token"])).json()["error"]
    assert 200 == (await refresh(client, confirmed["refresh_token"])).status_code


# --- sessions ---


async def test_people_see_where_they_are_logged_in(
    client: AsyncClient, clock: MovableClock, alice: Person, tokens: dict[str, Any]
) -> None:
    """When, from where, with what program and factors; which of them is this one."""
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


async def test_a_person_ends_one_of_his_sessions(
    client: AsyncClient, clock: MovableClock, alice: Person, tokens: dict[str, Any]
) -> None:
    """The lost laptop's; nobody else's, and none that is not there."""
    clock.next_step()
    laptop = (await alice.log_in()).json()
    mallory = await sign_up(client, clock, "mallory", mfa=False)
    stranger = (await mallory.give_password()).json()["access_token"]
    sid = claims(laptop["access_token"])["sid"]
    for path in (f"/sessions/{sid}", "/sessions/nothing", "/sessions/%00"):
        answer = await client.delete(path, headers=bearer(stranger))
        assert (404, "not_found") == (answer.status_code, answer.json()["code"])
    assert 204 == (await client.delete(f"/sessions/{sid}", headers=bearer(tokens["access_token"]))).status_code
    assert 404 == (await client.delete(f"/sessions/{sid}", headers=bearer(tokens["access_token"]))).status_code
    assert "invalid_grant" == (await refresh(client, laptop["refresh_token"])).json()["error"]
    assert not await is_live(client, laptop["access_token"])
    assert await is_live(client, tokens["access_token"])


async def test_logging_out_ends_this_session(
    client: AsyncClient, clock: MovableClock, alice: Person, tokens: dict[str, Any]
) -> None:
    """And no other; once more is an invalid token."""
    clock.next_step()
    other = (await alice.log_in()).json()
    assert 204 == (await client.post("/logout", headers=bearer(tokens["access_token"]))).status_code
    assert not await is_live(client, tokens["access_token"])
    assert "invalid_grant" == (await refresh(client, tokens["refresh_token"])).json()["error"]
    assert 401 == (await client.post("/logout", headers=bearer(tokens["access_token"]))).status_code
    assert await is_live(client, other["access_token"])


async def test_logging_out_everywhere_ends_all_of_them(
    client: AsyncClient, clock: MovableClock, alice: Person, tokens: dict[str, Any]
) -> None:
    """This one too, and nobody else's."""
    clock.next_step()
    other = (await alice.log_in()).json()
    bob = await sign_up(client, clock, "bob", mfa=False)
    bystander = (await bob.give_password()).json()
    assert (
        422 == (await client.post("/logout?everywhere=perhaps", headers=bearer(tokens["access_token"]))).status_code
    )
    assert 204 == (await client.post("/logout?everywhere=true", headers=bearer(tokens["access_token"]))).status_code
    for ended in (tokens, other):
        assert not await is_live(client, ended["access_token"])
        assert "invalid_grant" == (await refresh(client, ended["refresh_token"])).json()["error"]
    assert await is_live(client, bystander["access_token"])


async def test_me_tells_about_the_account(client: AsyncClient, clock: MovableClock, tokens: dict[str, Any]) -> None:
    """What a frontend shows on the page of that name."""
    said = (await client.get("/me", headers=bearer(tokens["access_token"]))).json()
    token = claims(tokens["access_token"])
    assert {
        "sub": token["sub"],
        "username": "alice",
        "roles": [],
        "mfa_enabled": True,
        "mfa_confirmed": True,
        "recovery_codes_left": 10,
        "recovery_due_at": None,
        "sid": token["sid"],
    } == {name: value for name, value in said.items() if name != "created_at"}
    assert said["created_at"] <= clock().timestamp()


# --- password ---


async def change_password(client: AsyncClient, access: str, current: str, new: str) -> Response:
    body = {"current_password": current, "new_password": new}
    return await client.post("/password", json=body, headers=bearer(access))


async def test_a_new_password_ends_every_other_session(
    client: AsyncClient, clock: MovableClock, alice: Person, tokens: dict[str, Any]
) -> None:
    """Whoever knew the old one is out, with his pending tokens; who changed it stays."""
    clock.next_step()
    thief = (await alice.log_in()).json()
    half_way = await alice.pending()
    new = "an entirely new passphrase"
    answer = await change_password(client, tokens["access_token"], PASSWORD, new)
    assert (204, b"") == (answer.status_code, answer.content)
    assert not await is_live(client, thief["access_token"])
    assert "invalid_grant" == (await refresh(client, thief["refresh_token"])).json()["error"]
    clock.next_step()
    assert "invalid_token" == (await alice.give_code(mfa_token=half_way)).json()["code"]
    assert 401 == (await alice.give_password()).status_code
    assert 200 == (await refresh(client, tokens["refresh_token"])).status_code
    alice.password = new
    assert 200 == (await alice.log_in()).status_code


async def test_changing_the_password_takes_the_current_one(client: AsyncClient, tokens: dict[str, Any]) -> None:
    """A borrowed session is not enough, guessing is slowed down as at /login, and policy holds."""
    access = tokens["access_token"]
    for code, new in (("weak_password", "password1"), ("weak_password", "alice" * 1), ("invalid_request", "")):
        assert code == (await change_password(client, access, PASSWORD, new)).json()["code"]
    for _ in range(5):
        refused = await change_password(client, access, "not the password", "an entirely new passphrase")
        assert (401, "invalid_credentials") == (refused.status_code, refused.json()["code"])
    waits = await change_password(client, access, PASSWORD, "an entirely new passphrase")
    assert (429, "too_many_attempts") == (waits.status_code, waits.json()["code"])
    assert 1 <= int(waits.headers["retry-after"])


# --- step-up ---


async def test_stepping_up_raises_the_running_session(
    client: AsyncClient, clock: MovableClock, alice: Person, tokens: dict[str, Any]
) -> None:
    """A new code makes it fresh: the same session, a new auth_time, and its refresh token goes on."""
    clock.advance(seconds=500)
    asked = await client.post("/step-up", headers=bearer(tokens["access_token"]))
    assert (200, ["totp"]) == (asked.status_code, asked.json()["methods"])
    raised = await alice.give_code(mfa_token=asked.json()["mfa_token"])
    assert 200 == raised.status_code
    assert "refresh_token" not in raised.json(), "who came with an access token gets no more than that"
    before, after = claims(tokens["access_token"]), claims(raised.json()["access_token"])
    assert before["sid"] == after["sid"]
    assert (before["auth_time"] + 500, "aal2") == (after["auth_time"], after["acr"])
    refreshed = (await refresh(client, tokens["refresh_token"])).json()
    assert after["auth_time"] == claims(refreshed["access_token"])["auth_time"]
    assert 2 == len((await client.get("/sessions", headers=bearer(refreshed["access_token"]))).json()["sessions"])


async def test_a_step_up_token_raises_once(
    client: AsyncClient, clock: MovableClock, alice: Person, tokens: dict[str, Any]
) -> None:
    """Not twice with two codes, and not after another one did (A-B-A)."""
    first, second = [
        (await client.post("/step-up", headers=bearer(tokens["access_token"]))).json()["mfa_token"] for _ in range(2)
    ]
    clock.next_step()
    assert 200 == (await alice.give_code(mfa_token=first)).status_code
    clock.next_step()
    third = (await client.post("/step-up", headers=bearer(tokens["access_token"]))).json()["mfa_token"]
    for dead in (first, second):
        assert "invalid_token" == (await alice.give_code(mfa_token=dead)).json()["code"]
    assert 200 == (await alice.give_code(mfa_token=third)).status_code
    clock.next_step()
    assert "invalid_token" == (await alice.give_code(mfa_token=first)).json()["code"]


async def test_a_step_up_dies_with_its_session(
    client: AsyncClient, clock: MovableClock, alice: Person, tokens: dict[str, Any]
) -> None:
    """It opens no other one in its place, and the code is not looked at."""
    token = (await client.post("/step-up", headers=bearer(tokens["access_token"]))).json()["mfa_token"]
    await client.post("/logout", headers=bearer(tokens["access_token"]))
    clock.next_step()
    code = alice.code()
    assert "invalid_token" == (await alice.give_code(code, token)).json()["code"]
    assert 200 == (await alice.log_in(code)).status_code


async def test_a_code_steps_up_once(
    client: AsyncClient, clock: MovableClock, alice: Person, tokens: dict[str, Any]
) -> None:
    """The code that logged in does not step up, and the one that stepped up does not log in (law 2: a code is
    consumed, not checked)."""
    clock.next_step()
    code = alice.code()
    token = (await client.post("/step-up", headers=bearer(tokens["access_token"]))).json()["mfa_token"]
    assert 200 == (await alice.give_code(code, token)).status_code
    assert "invalid_code" == (await alice.log_in(code)).json()["code"]


async def test_a_recovery_code_steps_up_too(client: AsyncClient, clock: MovableClock) -> None:
    """And the token says that it was one."""
    alice = await sign_up(client, clock, "alice")
    confirmed = (await alice.confirm()).json()
    token = (await client.post("/step-up", headers=bearer(confirmed["access_token"]))).json()["mfa_token"]
    body = {"mfa_token": token, "recovery_code": confirmed["recovery_codes"][3]}
    raised = await client.post("/login-2fa", json=body)
    assert 9 == raised.json()["recovery_codes_left"]
    said = claims(raised.json()["access_token"])
    assert (claims(confirmed["access_token"])["sid"], ["pwd", "rc", "mfa"]) == (said["sid"], said["amr"])


async def test_without_a_second_factor_there_is_nothing_to_step_up_with(
    client: AsyncClient, clock: MovableClock
) -> None:
    """Said as such; and a factor that is asked for but not proved is none either."""
    bob = await sign_up(client, clock, "bob", mfa=False)
    access = (await bob.give_password()).json()["access_token"]
    for _ in range(2):
        answer = await client.post("/step-up", headers=bearer(access))
        assert (409, "mfa_not_enabled") == (answer.status_code, answer.json()["code"])
        await client.post("/enable-mfa", json={"password": PASSWORD}, headers=bearer(access))


async def test_a_session_lives_no_longer_than_the_operator_says(
    embedded: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """KEYTURN_REFRESH_TTL and KEYTURN_REFRESH_IDLE_TTL, in seconds."""
    async with open_client({**embedded, "refresh_ttl": 300, "refresh_idle_ttl": 120}) as client:
        bob = await sign_up(client, clock, "bob", mfa=False)
        token = (await bob.give_password()).json()["refresh_token"]
        for _ in range(2):
            clock.advance(seconds=119)
            token = (await refresh(client, token)).json()["refresh_token"]
        clock.advance(seconds=62)
        assert "invalid_grant" == (await refresh(client, token)).json()["error"], "300 seconds are over"


# --- clocks and ends ---


async def test_a_disabled_persons_session_does_not_come_back(
    client: AsyncClient, alice: Person, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """By an operator's clock that is half a minute ahead it had expired already: it ends all the same."""
    accounts = client.app.state.parts.accounts  # type: ignore[attr-defined]
    clock.advance(days=7, seconds=-20)
    clock.advance(seconds=30)
    await accounts.set_disabled("alice", disabled=True)
    clock.advance(seconds=-30)
    assert 400 == (await refresh(client, tokens["refresh_token"])).status_code
    await accounts.set_disabled("alice", disabled=False)
    assert 400 == (await refresh(client, tokens["refresh_token"])).status_code


async def test_a_clock_that_is_ahead_revokes_too(
    client: AsyncClient, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """By that replica's clock the session had expired already: it ends all the same, on every replica."""
    clock.advance(days=7, seconds=10)
    assert 200 == (await client.post("/revoke", data={"token": tokens["refresh_token"]})).status_code
    clock.advance(seconds=-30)
    assert "invalid_grant" == (await refresh(client, tokens["refresh_token"])).json()["error"]


async def test_a_session_that_outlived_a_disabling_is_worth_nothing(
    client: AsyncClient, alice: Person, tokens: dict[str, Any]
) -> None:
    """Should ending it fail in a way that nobody thought of: who is disabled neither refreshes nor acts."""
    database = client.app.state.parts.database  # type: ignore[attr-defined]
    await database.write_one("UPDATE users SET disabled_at = 1 WHERE username = 'alice' RETURNING id")
    assert 400 == (await refresh(client, tokens["refresh_token"])).status_code
    assert 401 == (await client.get("/me", headers=bearer(tokens["access_token"]))).status_code


async def test_no_access_token_outlives_its_session(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """Neither the month nor the week unused; the answer says how long it lives."""
    lives = {"access_ttl": 86400, "refresh_idle_ttl": 3600, "refresh_ttl": 5400}
    async with open_client({**world, **lives}) as client:
        bob = await sign_up(client, clock, "bob", mfa=False)
        first = (await bob.give_password()).json()
        clock.advance(seconds=3500)
        second = (await refresh(client, first["refresh_token"])).json()
        for expected, said in ((3600, first), (1900, second)):
            life = claims(said["access_token"])
            assert (expected, expected) == (said["expires_in"], life["exp"] - life["iat"])


async def ended_at(client: AsyncClient, tokens: dict[str, Any]) -> float:
    """When the session ended, by the row that /verify is told of."""
    row = await client.app.state.parts.database.fetch_one(  # type: ignore[attr-defined]
        "SELECT ended_at FROM sessions WHERE id = $1", claims(tokens["access_token"])["sid"]
    )
    return float(row["ended_at"])


async def test_a_session_ends_when_it_ends(client: AsyncClient, clock: MovableClock) -> None:
    """Not when the request came, nor before its hashes: /verify looks for what ended in the last seconds."""
    bob = await sign_up(client, clock, "bob", mfa=False)
    thief, own = (await bob.give_password()).json(), (await bob.give_password()).json()
    before, clock.creeps = clock.now, 12
    answer = await change_password(client, own["access_token"], PASSWORD, "an entirely new passphrase")
    assert 204 == answer.status_code
    late = 3 * 12  # the clock is looked at for the bearer, for the password, and after the hashes
    assert before.timestamp() + late == await ended_at(client, thief) == clock.now.timestamp()


async def test_a_session_ends_when_the_factor_is_gone(
    client: AsyncClient, alice: Person, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """Not before the password's hash had its turn."""
    clock.next_step()
    otp, before, clock.creeps = alice.code(), clock.now, 12
    assert 200 == (await alice.disable(otp)).status_code
    late = 2 * 12  # for the password, and after its hash
    assert before.timestamp() + late == await ended_at(client, tokens) == clock.now.timestamp()
