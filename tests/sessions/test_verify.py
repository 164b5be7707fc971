"""Forward authentication: the answer to a gateway at every request, without any store."""

from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from httpx2 import AsyncClient

from service.origin import OPERATOR
from service.sessions import sessions
from service.sessions.bearers import VERIFIED_TOKEN_CACHE_SIZE
from tests.harness.clients import Client, Opener
from tests.harness.people import PASSWORD, MovableClock, Person, sign_up
from tests.harness.sessions import bearer, claims, refresh

IDENTITY = ("x-auth-subject", "x-auth-username", "x-auth-roles", "x-auth-amr")


@pytest.fixture
async def tokens(alice: Person) -> dict[str, Any]:
    answer: dict[str, Any] = (await alice.log_in()).json()
    return answer


async def test_a_valid_token_is_answered_with_the_identity(
    client: Client, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """The answer is 204 with always all four headers, so that a gateway overwrites forged ones of the caller."""
    administration = client.parts.administration
    for role in ("staff", "admin"):
        await administration.set_roles("alice", add=role, by=OPERATOR)
    await sign_up(client, clock, "bob", mfa=False)
    renewed = (await refresh(client, tokens["refresh_token"])).json()["access_token"]
    for _ in range(2):  # the second time it is cached
        answer = await client.get("/verify", headers=bearer(renewed) | dict.fromkeys(IDENTITY, "mallory"))
        assert (204, b"") == (answer.status_code, answer.content)
        identity = [answer.headers[name] for name in IDENTITY]
        assert [claims(renewed)["sub"], "alice", "admin,staff", "pwd,otp,mfa"] == identity
        assert "no-store" == answer.headers["cache-control"]
    plain = await client.get("/verify", headers=bearer(tokens["access_token"]))
    assert "" == plain.headers["x-auth-roles"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
async def test_any_method_is_accepted(client: AsyncClient, tokens: dict[str, Any], method: str) -> None:
    """Gateways forward the method of the request to be authenticated."""
    assert 204 == (await client.request(method, "/verify", headers=bearer(tokens["access_token"]))).status_code
    assert 401 == (await client.request(method, "/verify")).status_code


async def test_a_missing_token_is_challenged_without_an_error(client: AsyncClient) -> None:
    """RFC 6750 section 3.1: a request without credentials gets no error code."""
    answer = await client.get("/verify")
    assert (401, 'Bearer realm="keyturn"') == (answer.status_code, answer.headers["www-authenticate"])
    assert not set(IDENTITY) & set(answer.headers)


async def test_a_shorter_lifetime_applies_to_older_tokens(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """Ended sessions are kept for one lifetime: a token older than that is refused, whatever its `exp` says."""
    async with open_client({**world, "access_ttl": 86400}) as client:
        ended, lasting = [
            (await (await sign_up(client, clock, name, mfa=False)).give_password()).json()["access_token"]
            for name in ("alice", "bob")
        ]
        assert 204 == (await client.post("/logout", headers=bearer(ended))).status_code
    clock.advance(seconds=300)
    async with open_client({**world, "access_ttl": 600}) as client:
        assert 401 == (await client.get("/verify", headers=bearer(ended))).status_code
        assert 204 == (await client.get("/verify", headers=bearer(lasting))).status_code
        clock.advance(seconds=300)
        for path in ("/verify", "/me"):
            assert 401 == (await client.get(path, headers=bearer(lasting))).status_code
        clock.advance(seconds=900)
    async with open_client({**world, "access_ttl": 600}) as client:
        assert 401 == (await client.get("/verify", headers=bearer(ended))).status_code


async def test_any_other_token_is_invalid(
    client: AsyncClient, clock: MovableClock, alice: Person, tokens: dict[str, Any]
) -> None:
    """A token of another kind, forged, damaged or expired gets 401 and the challenge, cached or not."""
    access = tokens["access_token"]
    assert 204 == (await client.get("/verify", headers=bearer(access))).status_code
    head, body, signature = access.split(".")
    foreign_key = ec.generate_private_key(ec.SECP256R1())
    header = jwt.get_unverified_header(access)
    forged = jwt.encode(claims(access), foreign_key, algorithm="ES256", headers=header)
    invalid = [
        tokens["refresh_token"],
        await alice.pending(),
        forged,
        f"{head}.{body}.",
        f"{head}.{body}.{signature}x",
    ]
    for token in invalid:
        answer = await client.get("/verify", headers=bearer(token))
        assert (401, 'Bearer realm="keyturn", error="invalid_token"') == (
            answer.status_code,
            answer.headers["www-authenticate"],
        )
    clock.advance(seconds=600)
    assert 401 == (await client.get("/verify", headers=bearer(access))).status_code


async def test_a_clients_own_token_is_refused(client: Client, clock: MovableClock) -> None:
    """/verify identifies users; services check each other's tokens by scope, locally or by /introspect."""
    from tests.harness.relying_services import add_client, basic

    headers = basic("billing", await add_client(client, clock, "billing", "all"))
    own = await client.post("/token", data={"grant_type": "client_credentials"}, headers=headers)
    assert 401 == (await client.get("/verify", headers=bearer(own.json()["access_token"]))).status_code


async def test_acr_demands_a_stronger_authentication(
    client: AsyncClient, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """RFC 9470: the challenge names what is missing."""
    bob = await sign_up(client, clock, "bob", mfa=False)
    weak = (await bob.give_password()).json()["access_token"]
    assert 204 == (await client.get("/verify?acr=aal1", headers=bearer(weak))).status_code
    assert 204 == (await client.get("/verify?acr=aal1", headers=bearer(tokens["access_token"]))).status_code
    assert 204 == (await client.get("/verify?acr=aal2", headers=bearer(tokens["access_token"]))).status_code
    answer = await client.get("/verify?acr=aal2", headers=bearer(weak))
    assert (401, "insufficient_user_authentication") == (answer.status_code, answer.json()["code"])
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith('Bearer realm="keyturn", error="insufficient_user_authentication"')
    assert challenge.endswith(', acr_values="aal2"')
    assert not set(IDENTITY) & set(answer.headers)


async def test_max_age_demands_a_recent_authentication(
    client: AsyncClient, clock: MovableClock, alice: Person, tokens: dict[str, Any]
) -> None:
    """It is in seconds; a refresh does not make the authentication recent, a step-up does."""
    clock.advance(seconds=300)
    assert 204 == (await client.get("/verify?max_age=300", headers=bearer(tokens["access_token"]))).status_code
    clock.advance(seconds=1)
    renewed = (await refresh(client, tokens["refresh_token"])).json()["access_token"]
    for token in (tokens["access_token"], renewed):
        answer = await client.get("/verify?acr=aal2&max_age=300", headers=bearer(token))
        assert answer.headers["www-authenticate"].endswith(', acr_values="aal2", max_age="300"')
    challenge = (await client.post("/step-up", headers=bearer(renewed))).json()
    stepped_up = (await alice.give_code(mfa_token=challenge["mfa_token"])).json()["access_token"]
    assert 204 == (await client.get("/verify?acr=aal2&max_age=300", headers=bearer(stepped_up))).status_code


@pytest.mark.parametrize(
    "query",
    ["maxage=300", "max_age=-1", "max_age=", "max_age=5m", "max_age=1&max_age=9", "acr=aal3", "acr=", "acr=AAL2",
     "acr=aal2&x", "max_age=%FF", "acr=aal1&acr=aal2", "max_age=9999999999", "max_age=\u0663"],
)  # fmt: skip
async def test_a_misspelt_demand_is_refused(client: AsyncClient, tokens: dict[str, Any], query: str) -> None:
    """A gateway treats 422 as an error and refuses, so that the operator notices the mistake."""
    answer = await client.get(f"/verify?{query}", headers=bearer(tokens["access_token"]))
    assert (422, "invalid_request") == (answer.status_code, answer.json()["code"])


async def test_an_ended_session_is_refused_after_the_next_reading(
    client: Client, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """This holds for cached tokens, and after a long pause, too; other sessions continue."""
    housekeeping = client.parts.housekeeping
    bob = await sign_up(client, clock, "bob", mfa=False)
    other = (await bob.give_password()).json()["access_token"]
    access = tokens["access_token"]
    assert 204 == (await client.get("/verify", headers=bearer(access))).status_code
    clock.advance(seconds=200)
    await client.post("/logout", headers=bearer(access))
    await housekeeping.read_ended()
    assert 401 == (await client.get("/verify", headers=bearer(access))).status_code
    for _ in range(3):
        clock.advance(seconds=100)
        await housekeeping.read_ended()
        assert 401 == (await client.get("/verify", headers=bearer(access))).status_code
    assert 204 == (await client.get("/verify", headers=bearer(other))).status_code


async def test_sessions_ended_by_a_password_change_are_refused(
    client: Client, clock: MovableClock, alice: Person
) -> None:
    """A password change ends several sessions at once."""
    first = (await alice.log_in()).json()["access_token"]
    clock.next_step()
    second = (await alice.log_in()).json()["access_token"]
    body = {"current_password": PASSWORD, "new_password": "an entirely new passphrase"}
    assert 204 == (await client.post("/password", json=body, headers=bearer(second))).status_code
    await client.parts.housekeeping.read_ended()
    assert 401 == (await client.get("/verify", headers=bearer(first))).status_code
    assert 204 == (await client.get("/verify", headers=bearer(second))).status_code


async def test_the_cache_of_verified_tokens_is_bounded(client: Client, clock: MovableClock) -> None:
    """A full cache drops the oldest token, which is verified again when it is presented."""
    parts = client.parts
    bob = await sign_up(client, clock, "bob", mfa=False)
    token = (await bob.give_password()).json()["access_token"]
    access = await parts.bearer_auth.authenticate(token)
    now = clock()
    key = await parts.keys.get_signing_key(now)
    for _ in range(VERIFIED_TOKEN_CACHE_SIZE + 5):
        await parts.bearer_auth.verify(parts.tokens.access.write(key, access, now=now))
    assert VERIFIED_TOKEN_CACHE_SIZE == parts.bearer_auth.cached_tokens
    assert 204 == (await client.get("/verify", headers=bearer(token))).status_code


async def test_tokens_of_a_revoked_signing_key_are_refused(
    client: Client, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """Cached tokens of the key are refused, too; sessions continue with the key that replaced it."""
    parts = client.parts
    access = tokens["access_token"]
    assert 204 == (await client.get("/verify", headers=bearer(access))).status_code
    await parts.keys.revoke(jwt.get_unverified_header(access)["kid"], clock())
    assert 401 == (await client.get("/verify", headers=bearer(access))).status_code
    renewed = (await refresh(client, tokens["refresh_token"])).json()["access_token"]
    assert 204 == (await client.get("/verify", headers=bearer(renewed))).status_code


async def test_a_session_ended_by_a_replica_with_a_wrong_clock_is_refused(
    client: Client, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """The replica's clock is four minutes behind; the ending is read half a minute later."""
    parts = client.parts
    access = tokens["access_token"]
    await parts.housekeeping.read_ended()
    async with parts.database.begin() as transaction:
        await sessions.end(transaction, claims(access)["sid"], reason="logout", now=clock() - timedelta(minutes=4))
    clock.advance(seconds=30)
    await parts.housekeeping.read_ended()
    assert 401 == (await client.get("/verify", headers=bearer(access))).status_code


async def test_a_preflight_is_not_accepted(world: dict[str, Any], open_client: Opener, clock: MovableClock) -> None:
    """A gateway that forwards the caller's method and headers would read its success as an admission."""
    origin = "https://app.example"
    preflight = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    async with open_client({**world, "cors_origins": (origin,)}) as client:
        assert 401 == (await client.options("/verify", headers=preflight)).status_code
        for path in ("/verify/", "/verify/orders"):
            assert 404 == (await client.options(path, headers=preflight)).status_code, (
                "the answer is the same without those headers"
            )
        assert 200 == (await client.options("/login", headers=preflight)).status_code


async def test_a_clock_that_was_ahead_reads_missed_endings(
    client: Client, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """While it was a day ahead, another replica ended a session, whose token is refused afterwards."""
    parts = client.parts
    access, ended_at = tokens["access_token"], clock()
    clock.advance(days=1)
    await parts.housekeeping.read_ended()
    async with parts.database.begin() as transaction:
        await sessions.end(transaction, claims(access)["sid"], reason="logout", now=ended_at)
    await parts.housekeeping.read_ended()
    clock.advance(days=-1, seconds=400)
    await parts.housekeeping.read_ended()
    assert 401 == (await client.get("/verify", headers=bearer(access))).status_code


async def test_a_corrected_clock_forgets_no_ending(
    client: Client, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """A session ended while the clock was a day behind stays ended."""
    parts = client.parts
    await parts.housekeeping.read_ended()
    clock.advance(days=-1)
    await client.post("/revoke", data={"token": tokens["refresh_token"]})
    for days in (0, 1, 0):
        clock.advance(days=days)
        await parts.housekeeping.read_ended()
        assert 401 == (await client.get("/verify", headers=bearer(tokens["access_token"]))).status_code


async def test_a_clock_that_jumps_forgets_no_ending(
    client: Client, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """A session ended before the clock jumps a day ahead and back stays ended."""
    parts = client.parts
    await client.post("/logout", headers=bearer(tokens["access_token"]))
    await parts.housekeeping.read_ended()
    clock.advance(seconds=360)
    for days in (1, -1):
        clock.advance(days=days)
        await parts.housekeeping.read_ended()
    assert 401 == (await client.get("/verify", headers=bearer(tokens["access_token"]))).status_code
