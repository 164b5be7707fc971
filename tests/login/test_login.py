"""The two steps of a login, password and verification code, through the API."""

import asyncio
from typing import Any

import jwt
import pytest
from httpx2 import AsyncClient

from service.errors import StoreUnavailable
from tests.harness.clients import Client, Opener
from tests.harness.people import COSTLY_HASH, PASSWORD, MovableClock, Person, sign_up
from tests.harness.ranges import answering


async def test_a_user_without_mfa_logs_in_with_the_password(client: AsyncClient, clock: MovableClock) -> None:
    """The password alone admits a user who has not enabled MFA."""
    bob = await sign_up(client, clock, "bob", mfa=False)
    answer = await bob.give_password()
    assert 200 == answer.status_code
    assert answer.json()["mfa_required"] is False
    assert {"access_token", "refresh_token", "token_type", "expires_in", "mfa_required"} == set(answer.json())
    assert "no-store" == answer.headers["cache-control"]


async def test_the_access_token_verifies_with_the_published_keys(
    client: AsyncClient, alice: Person, clock: MovableClock
) -> None:
    """A service that knows only the key set reads the user, the method and the time of the login (RFC 9068)."""
    token = (await alice.log_in()).json()["access_token"]
    jwks = jwt.PyJWKSet.from_dict((await client.get("/.well-known/jwks.json")).json())
    header = jwt.get_unverified_header(token)
    claims = jwt.decode(
        token,
        jwks[header["kid"]].key,
        algorithms=["ES256"],
        audience="http://localhost:8000",
        issuer="http://localhost:8000",
        options={"verify_exp": False, "verify_iat": False},
    )
    assert "at+jwt" == header["typ"]
    assert {
        "iss", "sub", "aud", "client_id", "iat", "exp", "jti", "sid", "auth_time", "acr", "amr", "username", "roles",
    } == set(claims)  # fmt: skip
    assert ["pwd", "otp", "mfa"] == claims["amr"]
    assert "aal2" == claims["acr"]
    assert "alice" == claims["username"]
    assert claims["sub"] != "alice"
    assert 600 == claims["exp"] - claims["iat"]
    assert int(clock.now.timestamp()) == claims["iat"] == claims["auth_time"]


async def test_the_password_alone_is_not_enough_with_mfa(client: AsyncClient, clock: MovableClock) -> None:
    """From signup on, before the authenticator is confirmed, the password yields a pending token only."""
    alice = await sign_up(client, clock)
    answer = (await alice.give_password()).json()
    assert answer["mfa_required"] is True
    assert answer["mfa_confirmed"] is False
    assert ["totp"] == answer["methods"]
    assert "access_token" not in answer
    await alice.confirm()
    answer = (await alice.give_password()).json()
    assert (True, ["totp", "recovery_code"]) == (answer["mfa_confirmed"], answer["methods"])


async def test_a_code_admits_once(alice: Person, clock: MovableClock) -> None:
    """A used code does not log in again, even thirty-one seconds later."""
    code = alice.code()
    assert 200 == (await alice.log_in(code)).status_code
    clock.advance(seconds=31)
    again = await alice.log_in(code)
    assert 401 == again.status_code
    assert "invalid_code" == again.json()["code"]


async def test_a_code_may_be_given_again_after_the_database_failed(
    client: Client, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is 503, nothing is granted, and the claim is released; the code then logs in once."""
    token = await alice.pending()
    code = alice.code()
    factors = client.parts.second_factors.totp

    async def fail(*_: object) -> bool:
        raise StoreUnavailable("PostgreSQL at db:5432 does not answer in time.")

    with monkeypatch.context() as outage:
        outage.setattr(factors, "consume", fail)
        assert 503 == (await alice.give_code(code, mfa_token=token)).status_code
    answers = [await alice.give_code(code, mfa_token=token) for _ in range(2)]
    assert [200, 401] == [answer.status_code for answer in answers]


async def test_an_older_code_is_refused_after_a_newer_one(alice: Person) -> None:
    """After the next step's code (A, B, A), the current one is refused although it was not used."""
    assert 200 == (await alice.log_in(alice.code(1))).status_code
    for steps in (0, -1, 1):
        assert "invalid_code" == (await alice.log_in(alice.code(steps))).json()["code"]


@pytest.mark.parametrize("steps", [-1, 0, 1])
async def test_a_code_of_a_neighbouring_step_is_accepted(
    client: AsyncClient, clock: MovableClock, steps: int
) -> None:
    """An authenticator whose clock is half a minute off still works."""
    alice = await sign_up(client, clock)
    assert 200 == (await alice.give_code(alice.code(steps), alice.mfa_token)).status_code


@pytest.mark.parametrize("steps", [-12, -3, -2, 2, 3, 12])
async def test_a_code_outside_the_window_is_refused(alice: Person, steps: int) -> None:
    """One step on either side is accepted; a near later one is reported as out of step (test_factors.py)."""
    refused = await alice.log_in(alice.code(steps))
    expected = "code_out_of_step" if abs(steps) < 12 and steps > -2 else "invalid_code"  # alice used the step before
    assert (401, expected) == (refused.status_code, refused.json()["code"])


async def test_wrong_used_and_expired_codes_get_one_answer(alice: Person, clock: MovableClock) -> None:
    """The answer does not reveal whether the code was once valid."""
    used = alice.code()
    await alice.log_in(used)
    wrong = alice.wrong_code()
    expired = alice.code(-3)
    bodies = {(await alice.log_in(code)).text for code in (used, wrong, expired)}
    assert 1 == len(bodies)


async def test_a_code_is_used_at_all_endpoints(alice: Person) -> None:
    """The code of a login does not disable MFA, nor vice versa."""
    code = alice.code()
    assert 200 == (await alice.log_in(code)).status_code
    assert 401 == (await alice.disable(code)).status_code


async def test_a_pending_token_admits_once(alice: Person, clock: MovableClock) -> None:
    """A second code under the same pending token is refused, although it is valid and new."""
    pending = await alice.pending()
    assert 200 == (await alice.give_code(mfa_token=pending)).status_code
    clock.next_step()
    again = await alice.give_code(alice.code(1), mfa_token=pending)
    assert "invalid_token" == again.json()["code"]
    assert 200 == (await alice.log_in(alice.code(1))).status_code  # that code was not checked


async def test_a_pending_token_expires_after_five_minutes(alice: Person, clock: MovableClock) -> None:
    """An expired pending token is refused, and the code with it is not consumed."""
    pending = await alice.pending()
    clock.advance(seconds=300)
    assert "invalid_token" == (await alice.give_code(mfa_token=pending)).json()["code"]
    assert 200 == (await alice.log_in()).status_code


async def test_a_pending_token_may_be_a_bearer_token(client: AsyncClient, alice: Person) -> None:
    """It may be in the header instead of the body; in both places it is refused."""
    pending = await alice.pending()
    headers = {"Authorization": f"Bearer {pending}"}
    both = await client.post("/login-2fa", json={"otp": alice.code(), "mfa_token": pending}, headers=headers)
    assert 422 == both.status_code
    assert 200 == (await client.post("/login-2fa", json={"otp": alice.code()}, headers=headers)).status_code


async def test_token_is_another_name_for_otp(client: AsyncClient, alice: Person) -> None:
    """Wherever a code is expected, `otp` and `token` mean the same; both at once are refused."""
    pending = await alice.pending()
    both = {"mfa_token": pending, "token": alice.code(), "otp": alice.code()}
    assert 422 == (await client.post("/login-2fa", json=both)).status_code
    answer = await client.post("/login-2fa", json={"mfa_token": pending, "token": alice.code()})
    assert 200 == answer.status_code


async def test_no_other_token_is_a_pending_token(client: AsyncClient, alice: Person) -> None:
    """An access token is not accepted as a pending token, nor a pending token as an access token."""
    access = (await alice.log_in()).json()["access_token"]
    assert "invalid_token" == (await alice.give_code("123456", mfa_token=access)).json()["code"]
    pending = await alice.pending()
    refused = await client.post(
        "/enable-mfa", json={"password": PASSWORD}, headers={"Authorization": f"Bearer {pending}"}
    )
    assert 401 == refused.status_code
    assert 'Bearer realm="keyturn", error="invalid_token"' == refused.headers["www-authenticate"]


async def test_no_answer_reveals_whether_a_user_exists(client: AsyncClient, alice: Person) -> None:
    """Unknown user, wrong password, and no MFA at /disable-mfa get the same status and the same body."""
    await client.post("/signup", json={"username": "nomfa", "password": PASSWORD})
    refusals = [
        await client.post("/login", json={"username": "nobody", "password": PASSWORD}),
        await client.post("/login", json={"username": "alice", "password": "wrong password"}),
        await alice.disable(password="wrong password"),
        await client.post("/disable-mfa", json={"username": "nobody", "password": PASSWORD, "token": "123456"}),
        await client.post("/disable-mfa", json={"username": "nomfa", "password": PASSWORD, "token": "123456"}),
        await alice.disable(alice.wrong_code()),
    ]
    assert {401} == {refusal.status_code for refusal in refusals}
    assert 1 == len({refusal.text for refusal in refusals})


async def test_usernames_are_folded(client: AsyncClient, clock: MovableClock) -> None:
    """Alice and alice are the same user."""
    await sign_up(client, clock, "Alice", mfa=False)
    answer = await client.post("/login", json={"username": "aLICE", "password": PASSWORD})
    assert 200 == answer.status_code
    taken = await client.post("/signup", json={"username": "ALICE", "password": PASSWORD})
    assert (409, "username_taken") == (taken.status_code, taken.json()["code"])


async def test_composed_and_decomposed_letters_are_one_password(client: AsyncClient) -> None:
    """Passwords are normalised (NFKC)."""
    await client.post("/signup", json={"username": "zoe", "password": "Zo\u00eb's passphrase"})
    answer = await client.post("/login", json={"username": "zoe", "password": "Zoe\u0308's passphrase"})
    assert 200 == answer.status_code


@pytest.mark.parametrize("password", ["short", "password1", "Password1", "weak-name", "iloveyou"])
async def test_weak_passwords_are_refused_with_a_reason(client: AsyncClient, password: str) -> None:
    """They are too short, common, or the username."""
    answer = await client.post("/signup", json={"username": "weak-name", "password": password})
    assert (422, "weak_password") == (answer.status_code, answer.json()["code"])
    assert answer.json()["detail"]
    assert password not in answer.text.replace("username", "")


async def test_a_clock_set_back_never_reopens_a_step(alice: Person, clock: MovableClock) -> None:
    """After the clock jumps back an hour, the codes of that hour are refused until the time is reached again."""
    assert 200 == (await alice.log_in()).status_code
    clock.advance(seconds=-3600)
    assert 401 == (await alice.log_in()).status_code
    clock.advance(seconds=3600 + 30)
    assert 200 == (await alice.log_in()).status_code


async def test_a_used_code_is_answered_like_a_wrong_one(alice: Person, clock: MovableClock) -> None:
    """Status, body and Retry-After (the next code) are equal, so the answer does not reveal that it was valid."""
    code = alice.code()
    assert 200 == (await alice.log_in(code)).status_code
    clock.advance(seconds=7)
    used, wrong = await alice.log_in(code), await alice.log_in(alice.wrong_code())
    for answer in (used, wrong):
        assert (401, "23") == (answer.status_code, answer.headers["retry-after"])
    assert used.json() == wrong.json()
    assert set(used.headers) == set(wrong.headers)


async def test_a_shed_login_reads_no_store(world: dict[str, Any], open_client: Opener, clock: MovableClock) -> None:
    """While another password is hashed, no user is looked up and no attempt is charged, to spare the stores.
    A caller that is throttled gets 503 meanwhile, and 429 again when there is room.
    """
    async with open_client({**world, "hash_concurrency": 1, "hash_queue": 0, "limit_login": "1/15m"}) as client:
        alice = await sign_up(client, clock)
        assert 401 == (await alice.give_password("not the password")).status_code
        assert 429 == (await alice.give_password()).status_code
        passwords = client.parts.passwords
        hashing = asyncio.create_task(passwords.verify("somebody's", COSTLY_HASH))
        await asyncio.sleep(0)
        assert 503 == (await alice.give_password()).status_code
        assert not hashing.done()
        await hashing
        assert 429 == (await alice.give_password()).status_code


async def test_a_shed_sign_up_is_not_charged(world: dict[str, Any], open_client: Opener, clock: MovableClock) -> None:
    """A caller that repeats a sign-up after 503 does not use up the accounts that its address may create."""
    async with open_client({**world, "hash_concurrency": 1, "hash_queue": 0, "limit_signup": "2/1h"}) as client:
        passwords = client.parts.passwords
        hashing = asyncio.create_task(passwords.verify("somebody's", COSTLY_HASH))
        await asyncio.sleep(0)
        body = {"username": "alice", "password": PASSWORD}
        for _ in range(3):
            assert 503 == (await client.post("/signup", json=body)).status_code
        assert not hashing.done()
        await hashing
        assert 201 == (await client.post("/signup", json=body)).status_code


async def test_a_sign_up_that_loses_its_place_in_the_queue_stays_charged(
    world: dict[str, Any], open_client: Opener
) -> None:
    """Its 503 tells that the username is free: without the charge, a full queue would tell that of any number."""
    with answering() as ranges:
        settings = {"hash_concurrency": 1, "hash_queue": 0, "limit_signup": "5/1h", "breached_passwords": ranges.url}
        async with open_client({**world, **settings}) as client:
            body = {"username": "alice", "password": PASSWORD, "email": "alice@example.com"}
            ranges.may_answer.clear()
            attempts = [asyncio.create_task(client.post("/signup", json=body)) for _ in range(5)]
            while len(ranges.asked) < len(attempts):
                await asyncio.wait(attempts, timeout=0.01)
            hashing = asyncio.create_task(client.parts.passwords.verify("somebody's", COSTLY_HASH))
            await asyncio.sleep(0)
            ranges.may_answer.set()
            assert [503] * 5 == [(await attempt).status_code for attempt in attempts]
            assert not hashing.done()
            await hashing
            assert 429 == (await client.post("/signup", json=body)).status_code
