"""What other services do with tokens: /introspect, /revoke, /token for themselves, and the metadata."""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jwt
import pytest
from httpx2 import AsyncClient, Response

from service.environment import read_settings
from service.errors import ConfigurationError
from service.origin import OPERATOR
from tests.harness.clients import Client, Opener
from tests.harness.people import MovableClock, Person, sign_up
from tests.harness.relying_services import FORM, add_client, basic, introspect
from tests.harness.sessions import bearer, claims, forgeries, is_live, refresh


@pytest.fixture
async def billing(client: Client, clock: MovableClock) -> dict[str, str]:
    """The Basic authentication of a registered client with two scopes."""
    return basic("billing", await add_client(client, clock, "billing", "invoices:read", "invoices:write"))


@pytest.fixture
async def tokens(alice: Person) -> dict[str, Any]:
    answer: dict[str, Any] = (await alice.log_in()).json()
    return answer


# --- introspection ---


async def test_an_access_token_is_introspected_with_its_claims(
    client: Client, tokens: dict[str, Any], billing: dict[str, str]
) -> None:
    """RFC 7662 section 2.2. The roles are the current ones."""
    await client.parts.administration.set_roles("alice", add="admin", by=OPERATOR)
    answer = await introspect(client, tokens["access_token"], billing)
    expected = claims(tokens["access_token"]) | {"active": True, "token_type": "Bearer", "roles": ["admin"]}
    assert expected == answer


async def test_only_the_current_refresh_token_is_active(
    client: AsyncClient, clock: MovableClock, tokens: dict[str, Any], billing: dict[str, str]
) -> None:
    """Its successor takes over at once."""
    answer = await introspect(client, tokens["refresh_token"], billing)
    assert (True, "alice", int(clock().timestamp()) + 7 * 86400) == (
        answer["active"],
        answer["username"],
        answer["exp"],
    )
    assert "token_type" not in answer, "a refresh token is no bearer token"
    successor = (await refresh(client, tokens["refresh_token"])).json()["refresh_token"]
    assert {"active": False} == await introspect(client, tokens["refresh_token"], billing)
    assert (await introspect(client, successor, billing))["active"]


async def test_an_invalid_token_is_inactive_without_a_reason(
    client: AsyncClient, clock: MovableClock, alice: Person, tokens: dict[str, Any], billing: dict[str, str]
) -> None:
    """Forged, expired, of another kind or of an ended session, all get the same answer, which reveals no cause."""
    invalid = [
        *forgeries(tokens["refresh_token"], tokens["refresh_token"]),
        await alice.pending(),
        "a.b.c",
        "x",
        "\N{KEY}",
    ]
    head, body, signature = tokens["access_token"].split(".")
    invalid += [
        f"{head}.{body}.",
        f"{head}.{body}.{signature[:-2]}",
        f"{head}.{signature}.{body}",
        tokens["access_token"] + "=",
    ]
    for token in invalid:
        if token != tokens["refresh_token"]:
            assert {"active": False} == await introspect(client, token, billing), token
    assert (await introspect(client, tokens["access_token"], billing))["active"]
    clock.advance(seconds=600)
    assert {"active": False} == await introspect(client, tokens["access_token"], billing)


async def test_an_ended_session_is_inactive_at_once(
    client: AsyncClient, tokens: dict[str, Any], billing: dict[str, str]
) -> None:
    """The first introspection after the logout reports it."""
    assert (await introspect(client, tokens["access_token"], billing))["active"]
    await client.post("/logout", headers=bearer(tokens["access_token"]))
    assert {"active": False} == await introspect(client, tokens["access_token"], billing)
    assert {"active": False} == await introspect(client, tokens["refresh_token"], billing)


WRONG = [
    {},
    basic("billing", "not the secret"),
    basic("nobody", "kts_x"),
    basic("billing", ""),
    basic("\0", "x"),
    basic("b" * 5000, "x"),
    {"Authorization": "Basic"},
    {"Authorization": "Basic !!!"},
    {"Authorization": "Basic " + base64.b64encode(b"billing").decode()},
    {"Authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()},
    {"Authorization": "Bearer x"},
]


@pytest.mark.parametrize("headers", WRONG)
async def test_introspection_is_for_registered_clients(
    client: AsyncClient, tokens: dict[str, Any], billing: dict[str, str], headers: dict[str, str]
) -> None:
    """Any other caller gets a demand to authenticate, and nothing about the token."""
    answer = await client.post("/introspect", data={"token": tokens["access_token"]}, headers=headers)
    assert (401, "invalid_client") == (answer.status_code, answer.json()["error"])
    assert 'Basic realm="keyturn"' == answer.headers["www-authenticate"]


async def test_a_client_may_authenticate_in_the_form(
    client: Client, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """This is client_secret_post; two ways at once are refused (RFC 6749 section 2.3)."""
    secret = await add_client(client, clock, "reports")
    form = {"token": tokens["access_token"], "client_id": "reports", "client_secret": secret}
    assert (await client.post("/introspect", data=form)).json()["active"]
    twice = await client.post("/introspect", data=form, headers=basic("reports", secret))
    assert (400, "invalid_request") == (twice.status_code, twice.json()["error"])
    both = [("Authorization", "Bearer x"), *basic("reports", secret).items()]
    for headers in (both, both[::-1]):
        answer = await client.post("/introspect", data={"token": tokens["access_token"]}, headers=headers)
        assert (400, "invalid_request") == (answer.status_code, answer.json()["error"]), headers[0][1]
    other = {"token": "x", "client_id": "billing"}
    assert 401 == (await client.post("/introspect", data=other, headers=basic("reports", secret))).status_code
    assert 401 == (await client.post("/introspect", data={**form, "client_secret": secret + "x"})).status_code


async def test_a_secret_is_replaced_at_once_or_after_an_overlap(client: Client, clock: MovableClock) -> None:
    """The operator chooses the overlap; a removed client cannot authenticate."""
    old = await add_client(client, clock, "reports")

    async def is_accepted(secret: str) -> bool:
        answer = await client.post("/introspect", data={"token": "x"}, headers=basic("reports", secret))
        return answer.status_code == 200

    new = await client.parts.clients.rotate_secret("reports", overlap_hours=1, by=OPERATOR)
    assert new is not None
    assert await is_accepted(old)
    assert await is_accepted(new)
    clock.advance(seconds=3600)
    assert not await is_accepted(old)
    newest = await client.parts.clients.rotate_secret("reports", by=OPERATOR)
    assert newest is not None
    assert not await is_accepted(new)
    assert await is_accepted(newest)
    assert await client.parts.clients.remove("reports", by=OPERATOR)
    assert not await is_accepted(newest)
    assert not await client.parts.clients.remove("reports", by=OPERATOR)
    assert await client.parts.clients.rotate_secret("reports", by=OPERATOR) is None


# --- client credentials ---


async def test_a_client_gets_an_access_token_of_its_own(client: AsyncClient, billing: dict[str, str]) -> None:
    """RFC 6749 section 4.4, RFC 9068 section 2.2: it has the client and its scopes, no session, no refresh token."""
    answer = await client.post("/token", data={"grant_type": "client_credentials"}, headers=billing)
    assert 200 == answer.status_code
    assert {"access_token", "token_type", "expires_in", "scope"} == set(answer.json())
    token = claims(answer.json()["access_token"])
    assert {"iss", "sub", "aud", "client_id", "iat", "exp", "jti", "scope"} == set(token)
    assert ("billing", "billing", "invoices:read invoices:write") == (
        token["sub"],
        token["client_id"],
        token["scope"],
    )
    assert "at+jwt" == jwt.get_unverified_header(answer.json()["access_token"])["typ"]
    introspected = await introspect(client, answer.json()["access_token"], billing)
    assert token | {"active": True, "token_type": "Bearer"} == introspected


@pytest.mark.parametrize(
    ("scope", "granted"),
    [
        ("invoices:read", "invoices:read"),
        ("invoices:write invoices:read", "invoices:write invoices:read"),
        ("", "invoices:read invoices:write"),
        ("invoices:delete", None),
        ("invoices:read admin", None),
        ("invoices:read  invoices:write", None),
        ("\0", None),
    ],
)
async def test_a_client_gets_only_its_own_scopes(
    client: AsyncClient, billing: dict[str, str], scope: str, granted: str | None
) -> None:
    """It gets a part of them if it requests a part, and never more."""
    form = {"grant_type": "client_credentials", "scope": scope}
    answer = await client.post("/token", data=form, headers=billing)
    if granted is None:
        assert (400, "invalid_scope") == (answer.status_code, answer.json()["error"])
    else:
        assert granted == answer.json()["scope"] == claims(answer.json()["access_token"])["scope"]


async def test_a_removed_clients_token_is_inactive_at_once(
    client: Client, clock: MovableClock, billing: dict[str, str]
) -> None:
    """It has no session that could end, so the client is looked up."""
    secret = await add_client(client, clock, "reports", "all")
    form = {"grant_type": "client_credentials"}
    token = (await client.post("/token", data=form, headers=basic("reports", secret))).json()["access_token"]
    assert (await introspect(client, token, billing))["active"]
    await client.parts.clients.remove("reports", by=OPERATOR)
    assert {"active": False} == await introspect(client, token, billing)


async def test_the_token_endpoint_refuses_invalid_requests(
    client: AsyncClient, billing: dict[str, str], tokens: dict[str, Any]
) -> None:
    """The error codes are those of RFC 6749 section 5.2."""
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}

    async def post(content: str = "", *, headers: Mapping[str, str] | None = None, **form: str) -> tuple[int, str]:
        answer = (
            await client.post("/token", data=form, headers=headers)
            if form
            else await client.post("/token", content=content, headers={**FORM, **(headers or {})})
        )
        assert {"error", "error_description"} == set(answer.json())
        return answer.status_code, answer.json()["error"]

    assert (400, "invalid_request") == await post()
    assert (400, "invalid_request") == await post(grant_type="refresh_token")
    assert (400, "invalid_request") == await post(grant_type="")
    assert (400, "invalid_request") == await post("grant_type=refresh_token&grant_type=refresh_token&refresh_token=x")
    assert (400, "invalid_request") == await post("grant_type=refresh_token&refresh_token=%FF")
    assert (400, "invalid_request") == await post("grant_type=refresh_token&refresh_token=%ED%A0%80")
    assert (400, "invalid_request") == await post("grant_type")
    assert (400, "invalid_request") == await post("&".join(f"a{n}=1" for n in range(40)))
    assert (400, "unsupported_grant_type") == await post(grant_type="password", username="alice", password="x")
    assert (400, "unsupported_grant_type") == await post(grant_type="authorization_code", code="x")
    assert (401, "invalid_client") == await post(grant_type="client_credentials")
    assert (401, "invalid_client") == await post(grant_type="client_credentials", client_id="billing")
    assert (401, "invalid_client") == await post(**form, client_id="billing")
    assert (401, "invalid_client") == await post(headers=basic("billing", "wrong"), **form)
    assert (400, "invalid_scope") == await post(**form, scope="admin")
    assert (413, "invalid_request") == await post("grant_type=" + "x" * 20000)
    assert (415, "invalid_request") == await post(
        '{"grant_type": "refresh_token"}', headers={"Content-Type": "application/json"}
    )
    assert 200 == (await client.post("/token", data=form)).status_code, "no refused request used the token"


@pytest.mark.parametrize("how", ["nobody", "keyturn", "a client", "more", "a frontend"])
async def test_possession_of_the_refresh_token_is_enough(
    client: AsyncClient, tokens: dict[str, Any], billing: dict[str, str], how: str
) -> None:
    """The caller may be anonymous, the public client `keyturn` or another client; unknown parameters are ignored."""
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    form |= {"keyturn": {"client_id": "keyturn"}, "more": {"resource": "x", "scope": ""}}.get(how, {})
    headers = {"a client": billing, "a frontend": bearer(tokens["access_token"])}.get(how, {})
    answer = await client.post("/token", data=form, headers=headers)
    assert 200 == answer.status_code


# --- revocation ---


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
async def test_revoking_either_token_ends_the_session(client: AsyncClient, tokens: dict[str, Any], kind: str) -> None:
    """RFC 7009: the answer is 200, also when repeated."""
    for _ in range(2):
        answer = await client.post("/revoke", data={"token": tokens[kind], "token_type_hint": kind})
        assert (200, b"") == (answer.status_code, answer.content)
    assert not await is_live(client, tokens["access_token"])
    assert "invalid_grant" == (await refresh(client, tokens["refresh_token"])).json()["error"]


async def test_the_event_of_a_revocation_names_the_client(
    client: Client, tokens: dict[str, Any], alice: Person, billing: dict[str, str], clock: MovableClock
) -> None:
    """A registered client that authenticates is the actor; a public one acts for the user who holds the token."""
    clock.next_step()
    other = (await alice.log_in()).json()
    for token, headers in ((tokens["refresh_token"], billing), (other["access_token"], {})):
        assert 200 == (await client.post("/revoke", data={"token": token}, headers=headers)).status_code
    rows = await client.parts.database.fetch_all(
        "SELECT details FROM events WHERE event = 'session.ended' ORDER BY id"
    )
    ended = [json.loads(row["details"]) for row in rows]
    assert ["client:billing", None] == [details.get("by") for details in ended]
    assert {"revoked"} == {details["reason"] for details in ended}


async def test_revoking_an_unknown_token_does_nothing(
    client: AsyncClient, alice: Person, tokens: dict[str, Any]
) -> None:
    """The answer is 200, too (RFC 7009 section 2.2), and a forged token ends no session."""
    for token in [*forgeries(tokens["refresh_token"], tokens["refresh_token"]), await alice.pending(), "x"]:
        if token != tokens["refresh_token"]:
            assert 200 == (await client.post("/revoke", data={"token": token})).status_code
    assert await is_live(client, tokens["access_token"])


async def test_the_revocation_endpoint_refuses_invalid_requests(
    client: AsyncClient, tokens: dict[str, Any], billing: dict[str, str]
) -> None:
    """It refuses a client's own token, wrong credentials, and a missing token."""
    own = await client.post("/token", data={"grant_type": "client_credentials"}, headers=billing)
    for form, headers, expected in (
        ({"token": own.json()["access_token"]}, {}, (400, "unsupported_token_type")),
        ({"token": tokens["access_token"]}, basic("billing", "wrong"), (401, "invalid_client")),
        ({"token": ""}, {}, (400, "invalid_request")),
    ):
        answer = await client.post("/revoke", data=form, headers=headers)
        assert expected == (answer.status_code, answer.json()["error"])
    assert await is_live(client, tokens["access_token"])


async def test_every_endpoint_of_the_metadata_answers(client: AsyncClient) -> None:
    """RFC 8414. The metadata may be cached for an hour."""
    answer = await client.get("/.well-known/oauth-authorization-server")
    metadata = answer.json()
    assert "public, max-age=3600" == answer.headers["cache-control"]
    assert "http://localhost:8000" == metadata["issuer"]
    assert [] == metadata["response_types_supported"]
    assert 200 == (await client.get(metadata["jwks_uri"])).status_code
    for name in ("token", "revocation", "introspection"):
        refusal: Response = await client.post(metadata[f"{name}_endpoint"], content="", headers=FORM)
        assert "invalid_request" == refusal.json()["error"]


PATHS = {
    "": ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"],
    "/tenants/one": [
        "/.well-known/oauth-authorization-server/tenants/one",
        "/.well-known/openid-configuration/tenants/one",
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
    ],
}


@pytest.mark.parametrize("path", PATHS)
async def test_the_metadata_are_at_their_standard_paths(
    embedded: dict[str, Any], open_client: Opener, path: str
) -> None:
    """RFC 8414 section 3.1, and the appended form that remains behind a proxy that removes the issuer's path."""
    issuer = f"https://id.example.com{path}"
    async with open_client({**embedded, "issuer": issuer}) as client:
        answers = [await client.get(url) for url in PATHS[path]]
        assert [200] * len(answers) == [answer.status_code for answer in answers]
        assert {"public, max-age=3600"} == {answer.headers["cache-control"] for answer in answers}
        assert all(answer.json() == answers[0].json() for answer in answers)
        assert (issuer, f"{issuer}/token") == (answers[0].json()["issuer"], answers[0].json()["token_endpoint"])
        assert 404 == (await client.get("/.well-known/oauth-authorization-server/other")).status_code


async def test_the_metadata_claim_nothing_that_does_not_exist(client: AsyncClient) -> None:
    """Under either name there is no authorization endpoint, no ID token and no user info."""
    for url in PATHS[""]:
        answer = (await client.get(url)).json()
        assert [] == answer["response_types_supported"]
        claimed = {"authorization_endpoint", "userinfo_endpoint", "id_token_signing_alg_values_supported",
                   "subject_types_supported", "scopes_supported", "code_challenge_methods_supported"}  # fmt: skip
        assert not claimed & set(answer)


@pytest.mark.parametrize("issuer", ["https://id.example.com/{x}", "https://id.example.com/{x:y}"])
def test_braces_in_the_issuer_are_refused(issuer: str) -> None:
    """They are not valid in a URL (RFC 3986), and a route's path would read them as a parameter."""
    with pytest.raises(ConfigurationError, match="KEYTURN_ISSUER"):
        read_settings({"KEYTURN_ISSUER": issuer})


async def test_an_empty_secret_counts_as_none(
    client: AsyncClient, tokens: dict[str, Any], billing: dict[str, str]
) -> None:
    """`Basic keyturn:` and `client_secret=` are the public client (RFC 6749 section 2.3.1); others need a secret."""
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    for headers, more in (
        (basic("keyturn", ""), {}),
        (basic("keyturn", ""), {"client_id": "keyturn"}),
        ({}, {"client_id": "keyturn", "client_secret": ""}),
        ({}, {"client_secret": ""}),
    ):
        answer = await client.post("/token", data={**form, **more}, headers=headers)
        assert 200 == answer.status_code, answer.text
        form["refresh_token"] = answer.json()["refresh_token"]
    for headers, more in (
        (basic("billing", ""), {}),
        (basic("", ""), {}),
        (basic("nobody", ""), {}),
        (basic("keyturn", "x"), {}),
        ({}, {"client_id": "billing", "client_secret": ""}),
        (basic("keyturn", ""), {"client_id": "billing"}),
    ):
        answer = await client.post("/token", data={**form, **more}, headers=headers)
        assert (401, "invalid_client") == (answer.status_code, answer.json()["error"]), (headers, more)
    introspected = await client.post("/introspect", data={"token": "x"}, headers=basic("keyturn", ""))
    assert 401 == introspected.status_code
    assert (
        "invalid_client"
        == (
            await client.post("/token", data={"grant_type": "client_credentials"}, headers=basic("keyturn", ""))
        ).json()["error"]
    )
    revoked = await client.post("/revoke", data={"token": form["refresh_token"]}, headers=basic("keyturn", ""))
    assert 200 == revoked.status_code


async def test_the_metadata_authorise_the_attack_command(embedded: dict[str, Any], open_client: Opener) -> None:
    """They have a hash of the proof, which does not reveal it; without the setting the member is absent."""
    for token in (None, "a token of thirty-two characters"):
        async with open_client({**embedded, "attack_proof": token}) as client:
            answer = (await client.get("/.well-known/oauth-authorization-server")).json()
            digest = token and hashlib.sha256(token.encode()).hexdigest()
            assert digest == answer.get("keyturn_attack_proof")
            assert (token is not None) == ("keyturn_attack_proof" in answer)


async def test_a_clients_token_is_not_valid_for_account_endpoints(
    client: AsyncClient, clock: MovableClock, billing: dict[str, str]
) -> None:
    """This holds even if a user has the name of the client."""
    own = await client.post("/token", data={"grant_type": "client_credentials"}, headers=billing)
    await sign_up(client, clock, "billing", mfa=False)
    assert not await is_live(client, own.json()["access_token"])


async def test_a_secret_replaced_without_overlap_ends_on_every_clock(client: Client, clock: MovableClock) -> None:
    """It ends at once on a replica whose clock is behind the operator's, too."""
    old = await add_client(client, clock, "billing")
    assert await client.parts.clients.rotate_secret("billing", by=OPERATOR)
    clock.advance(seconds=-9)
    answer = await client.post("/introspect", data={"token": "x"}, headers=basic("billing", old))
    assert 401 == answer.status_code


async def test_a_client_registered_again_is_another_client(
    client: Client, clock: MovableClock, billing: dict[str, str]
) -> None:
    """Tokens of the removed client stay inactive, and so do tokens with scopes that the new one lacks."""
    checker = basic("asker", await add_client(client, clock, "asker"))
    answer = await client.post("/token", data={"grant_type": "client_credentials"}, headers=billing)
    token = answer.json()["access_token"]
    assert (await introspect(client, token, checker))["active"]
    assert await client.parts.clients.remove("billing", by=OPERATOR)
    await add_client(client, clock, "billing", "invoices:read")
    assert {"active": False} == await introspect(client, token, checker), (
        "the token has a scope that the client lacks"
    )
    assert await client.parts.clients.remove("billing", by=OPERATOR)
    clock.advance(seconds=11)
    await add_client(client, clock, "billing", "invoices:read", "invoices:write")
    assert {"active": False} == await introspect(client, token, checker), "the token is older than the client"


async def test_a_client_without_scopes_gets_no_token(client: Client, clock: MovableClock) -> None:
    """It is registered for introspection only (RFC 6749 section 5.2)."""
    checker = basic("asker", await add_client(client, clock, "asker"))
    answer = await client.post("/token", data={"grant_type": "client_credentials"}, headers=checker)
    assert (400, "unauthorized_client") == (answer.status_code, answer.json()["error"])
