"""What other services do with tokens: /introspect, /revoke, /token for themselves, and the metadata."""

import base64
import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import jwt
import pytest
from httpx2 import AsyncClient, Response

from service.environment import read_settings
from service.errors import ConfigurationError
from tests.conftest import Opener
from tests.people import MovableClock, Person, sign_up
from tests.test_sessions import bearer, claims, forgeries, is_live, refresh

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def basic(client_id: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()}


@pytest.fixture
async def billing(client: AsyncClient, clock: MovableClock) -> dict[str, str]:
    """The Basic authentication of a registered client that may have two scopes."""
    return basic("billing", await add_client(client, clock, "billing", "invoices:read", "invoices:write"))


async def add_client(client: AsyncClient, clock: MovableClock, name: str, *scopes: str) -> str:
    from service import clients

    parts = client.app.state.parts  # type: ignore[attr-defined]
    secret = await clients.add(parts.database, name, scopes, clock())
    assert secret is not None
    return secret


async def introspect(client: AsyncClient, token: str, who: Mapping[str, str]) -> dict[str, Any]:
    answer = await client.post("/introspect", data={"token": token}, headers=who)
    assert 200 == answer.status_code, answer.text
    said: dict[str, Any] = answer.json()
    return said


@pytest.fixture
async def tokens(alice: Person) -> dict[str, Any]:
    answer: dict[str, Any] = (await alice.log_in()).json()
    return answer


# --- introspection ---


async def test_an_access_token_is_introspected_with_all_that_it_says(
    client: AsyncClient, tokens: dict[str, Any], billing: dict[str, str]
) -> None:
    """RFC 7662 section 2.2; roles are those of this moment."""
    await client.app.state.parts.accounts.set_roles("alice", add="admin")  # type: ignore[attr-defined]
    said = await introspect(client, tokens["access_token"], billing)
    expected = claims(tokens["access_token"]) | {"active": True, "token_type": "Bearer", "roles": ["admin"]}
    assert expected == said


async def test_a_refresh_token_is_active_while_it_is_the_one_now_good(
    client: AsyncClient, clock: MovableClock, tokens: dict[str, Any], billing: dict[str, str]
) -> None:
    """Its successor takes over at once."""
    said = await introspect(client, tokens["refresh_token"], billing)
    assert (True, "alice", int(clock().timestamp()) + 7 * 86400) == (said["active"], said["username"], said["exp"])
    assert "token_type" not in said, "it is no bearer token"
    successor = (await refresh(client, tokens["refresh_token"])).json()["refresh_token"]
    assert {"active": False} == await introspect(client, tokens["refresh_token"], billing)
    assert (await introspect(client, successor, billing))["active"]


async def test_what_is_good_for_nothing_is_inactive_and_nothing_more(
    client: AsyncClient, clock: MovableClock, alice: Person, tokens: dict[str, Any], billing: dict[str, str]
) -> None:
    """Forged, expired, of another kind, of an ended session: the same words, so that nobody learns which."""
    bad = [
        *forgeries(tokens["refresh_token"], tokens["refresh_token"]),
        await alice.pending(),
        "a.b.c",
        "x",
        "\N{KEY}",
    ]
    head, body, signature = tokens["access_token"].split(".")
    bad += [
        f"{head}.{body}.",
        f"{head}.{body}.{signature[:-2]}",
        f"{head}.{signature}.{body}",
        tokens["access_token"] + "=",
    ]
    for token in bad:
        if token != tokens["refresh_token"]:
            assert {"active": False} == await introspect(client, token, billing), token
    assert (await introspect(client, tokens["access_token"], billing))["active"]
    clock.advance(seconds=600)
    assert {"active": False} == await introspect(client, tokens["access_token"], billing)


async def test_an_ended_session_is_inactive_at_once(
    client: AsyncClient, tokens: dict[str, Any], billing: dict[str, str]
) -> None:
    """Exactly: the next question after the logout."""
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


@pytest.mark.parametrize("who", WRONG)
async def test_introspection_is_for_registered_clients(
    client: AsyncClient, tokens: dict[str, Any], billing: dict[str, str], who: dict[str, str]
) -> None:
    """Anybody else is told to authenticate, and nothing about the token."""
    answer = await client.post("/introspect", data={"token": tokens["access_token"]}, headers=who)
    assert (401, "invalid_client") == (answer.status_code, answer.json()["error"])
    assert 'Basic realm="keyturn"' == answer.headers["www-authenticate"]


async def test_a_client_authenticates_in_the_form_too(
    client: AsyncClient, clock: MovableClock, tokens: dict[str, Any]
) -> None:
    """client_secret_post; but never in two ways at once (RFC 6749 section 2.3)."""
    secret = await add_client(client, clock, "reports")
    form = {"token": tokens["access_token"], "client_id": "reports", "client_secret": secret}
    assert (await client.post("/introspect", data=form)).json()["active"]
    twice = await client.post("/introspect", data=form, headers=basic("reports", secret))
    assert (400, "invalid_request") == (twice.status_code, twice.json()["error"])
    other = {"token": "x", "client_id": "billing"}
    assert 401 == (await client.post("/introspect", data=other, headers=basic("reports", secret))).status_code
    assert 401 == (await client.post("/introspect", data={**form, "client_secret": secret + "x"})).status_code


async def test_a_secret_is_replaced_at_once_or_after_a_while(client: AsyncClient, clock: MovableClock) -> None:
    """As the operator says; and a removed client is nobody."""
    from datetime import timedelta

    from service import clients

    database = client.app.state.parts.database  # type: ignore[attr-defined]
    old = await add_client(client, clock, "reports")

    async def is_let_in(secret: str) -> bool:
        answer = await client.post("/introspect", data={"token": "x"}, headers=basic("reports", secret))
        return answer.status_code == 200

    new = await clients.rotate_secret(database, "reports", overlap=timedelta(hours=1), now=clock())
    assert new is not None
    assert await is_let_in(old)
    assert await is_let_in(new)
    clock.advance(seconds=3600)
    assert not await is_let_in(old)
    newest = await clients.rotate_secret(database, "reports", overlap=timedelta(0), now=clock())
    assert newest is not None
    assert not await is_let_in(new)
    assert await is_let_in(newest)
    assert await clients.remove(database, "reports")
    assert not await is_let_in(newest)
    assert not await clients.remove(database, "reports")
    assert await clients.rotate_secret(database, "reports", overlap=timedelta(0), now=clock()) is None


# --- client credentials ---


async def test_a_client_gets_an_access_token_of_its_own(client: AsyncClient, billing: dict[str, str]) -> None:
    """RFC 6749 section 4.4, RFC 9068 section 2.2: about the client, its scopes, no session, no refresh."""
    answer = await client.post("/token", data={"grant_type": "client_credentials"}, headers=billing)
    assert 200 == answer.status_code
    assert {"access_token", "token_type", "expires_in", "scope"} == set(answer.json())
    said = claims(answer.json()["access_token"])
    assert {"iss", "sub", "aud", "client_id", "iat", "exp", "jti", "scope"} == set(said)
    assert ("billing", "billing", "invoices:read invoices:write") == (said["sub"], said["client_id"], said["scope"])
    assert "at+jwt" == jwt.get_unverified_header(answer.json()["access_token"])["typ"]
    told = await introspect(client, answer.json()["access_token"], billing)
    assert said | {"active": True, "token_type": "Bearer"} == told


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
async def test_a_client_has_the_scopes_that_it_was_given(
    client: AsyncClient, billing: dict[str, str], scope: str, granted: str | None
) -> None:
    """A part of them if it asks for a part; nothing more, ever."""
    form = {"grant_type": "client_credentials", "scope": scope}
    answer = await client.post("/token", data=form, headers=billing)
    if granted is None:
        assert (400, "invalid_scope") == (answer.status_code, answer.json()["error"])
    else:
        assert granted == answer.json()["scope"] == claims(answer.json()["access_token"])["scope"]


async def test_a_removed_clients_token_is_inactive_at_once(
    client: AsyncClient, clock: MovableClock, billing: dict[str, str]
) -> None:
    """It has no session that could end, but its client is asked for."""
    from service import clients

    secret = await add_client(client, clock, "reports", "all")
    form = {"grant_type": "client_credentials"}
    token = (await client.post("/token", data=form, headers=basic("reports", secret))).json()["access_token"]
    assert (await introspect(client, token, billing))["active"]
    await clients.remove(client.app.state.parts.database, "reports")  # type: ignore[attr-defined]
    assert {"active": False} == await introspect(client, token, billing)


async def test_what_the_token_endpoint_refuses(
    client: AsyncClient, billing: dict[str, str], tokens: dict[str, Any]
) -> None:
    """In the words of RFC 6749 section 5.2."""
    good = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}

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
    assert (401, "invalid_client") == await post(**good, client_id="billing")
    assert (401, "invalid_client") == await post(headers=basic("billing", "wrong"), **good)
    assert (400, "invalid_scope") == await post(**good, scope="admin")
    assert (413, "invalid_request") == await post("grant_type=" + "x" * 20000)
    assert (415, "invalid_request") == await post(
        '{"grant_type": "refresh_token"}', headers={"Content-Type": "application/json"}
    )
    assert 200 == (await client.post("/token", data=good)).status_code, "none of that used it up"


@pytest.mark.parametrize("how", ["nobody", "keyturn", "a client", "more", "a frontend"])
async def test_a_session_is_refreshed_by_whoever_has_its_token(
    client: AsyncClient, tokens: dict[str, Any], billing: dict[str, str], how: str
) -> None:
    """By nobody in particular, as the public client `keyturn`, as itself; unknown parameters do no harm."""
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    form |= {"keyturn": {"client_id": "keyturn"}, "more": {"resource": "x", "scope": ""}}.get(how, {})
    headers = {"a client": billing, "a frontend": bearer(tokens["access_token"])}.get(how, {})
    answer = await client.post("/token", data=form, headers=headers)
    assert 200 == answer.status_code


# --- revocation ---


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
async def test_revoking_either_token_ends_the_session(client: AsyncClient, tokens: dict[str, Any], kind: str) -> None:
    """RFC 7009: 200, and once more 200."""
    for _ in range(2):
        answer = await client.post("/revoke", data={"token": tokens[kind], "token_type_hint": kind})
        assert (200, b"") == (answer.status_code, answer.content)
    assert not await is_live(client, tokens["access_token"])
    assert "invalid_grant" == (await refresh(client, tokens["refresh_token"])).json()["error"]


async def test_revoking_what_is_no_token_of_ours_does_nothing(
    client: AsyncClient, alice: Person, tokens: dict[str, Any]
) -> None:
    """200 for it too (RFC 7009 section 2.2); and a forged one ends nothing."""
    for token in [*forgeries(tokens["refresh_token"], tokens["refresh_token"]), await alice.pending(), "x"]:
        if token != tokens["refresh_token"]:
            assert 200 == (await client.post("/revoke", data={"token": token})).status_code
    assert await is_live(client, tokens["access_token"])


async def test_what_the_revocation_endpoint_refuses(
    client: AsyncClient, tokens: dict[str, Any], billing: dict[str, str]
) -> None:
    """A client's own token, wrong credentials, no token."""
    own = await client.post("/token", data={"grant_type": "client_credentials"}, headers=billing)
    for form, who, expected in (
        ({"token": own.json()["access_token"]}, {}, (400, "unsupported_token_type")),
        ({"token": tokens["access_token"]}, basic("billing", "wrong"), (401, "invalid_client")),
        ({"token": ""}, {}, (400, "invalid_request")),
    ):
        answer = await client.post("/revoke", data=form, headers=who)
        assert expected == (answer.status_code, answer.json()["error"])
    assert await is_live(client, tokens["access_token"])


async def test_the_metadata_leads_everywhere(client: AsyncClient) -> None:
    """RFC 8414: every endpoint that it names answers, and it may be remembered for an hour."""
    answer = await client.get("/.well-known/oauth-authorization-server")
    said = answer.json()
    assert "public, max-age=3600" == answer.headers["cache-control"]
    assert "http://localhost:8000" == said["issuer"]
    assert [] == said["response_types_supported"]
    assert 200 == (await client.get(said["jwks_uri"])).status_code
    for name in ("token", "revocation", "introspection"):
        refusal: Response = await client.post(said[f"{name}_endpoint"], content="", headers=FORM)
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
async def test_the_metadata_are_where_clients_look(embedded: dict[str, Any], open_client: Opener, path: str) -> None:
    """RFC 8414 section 3.1, and the appended form as a proxy leaves it that takes the issuer's path away."""
    issuer = f"https://id.example.com{path}"
    async with open_client({**embedded, "issuer": issuer}) as client:
        said = [await client.get(place) for place in PATHS[path]]
        assert [200] * len(said) == [answer.status_code for answer in said]
        assert {"public, max-age=3600"} == {answer.headers["cache-control"] for answer in said}
        assert all(answer.json() == said[0].json() for answer in said)
        assert (issuer, f"{issuer}/token") == (said[0].json()["issuer"], said[0].json()["token_endpoint"])
        assert 404 == (await client.get("/.well-known/oauth-authorization-server/other")).status_code


async def test_the_metadata_claim_nothing_that_is_not_there(client: AsyncClient) -> None:
    """There is no authorization endpoint, no ID token and no user info, under either name."""
    for place in PATHS[""]:
        said = (await client.get(place)).json()
        assert [] == said["response_types_supported"]
        claimed = {"authorization_endpoint", "userinfo_endpoint", "id_token_signing_alg_values_supported",
                   "subject_types_supported", "scopes_supported", "code_challenge_methods_supported"}  # fmt: skip
        assert not claimed & set(said)


@pytest.mark.parametrize("issuer", ["https://id.example.com/{x}", "https://id.example.com/{x:y}"])
def test_braces_in_the_issuer_are_refused(issuer: str) -> None:
    """They are no characters of a URL (RFC 3986), and a route's path would take them for a parameter."""
    with pytest.raises(ConfigurationError, match="KEYTURN_ISSUER"):
        read_settings({"KEYTURN_ISSUER": issuer})


async def test_an_empty_secret_is_none(client: AsyncClient, tokens: dict[str, Any], billing: dict[str, str]) -> None:
    """`Basic keyturn:` and `client_secret=` are the public client (RFC 6749 section 2.3.1); others need theirs."""
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


async def test_the_metadata_prove_who_may_attack(embedded: dict[str, Any], open_client: Opener) -> None:
    """By a hash, which helps nobody who reads it; without the setting there is no such member."""
    for token in (None, "a token of thirty-two characters"):
        async with open_client({**embedded, "attack_proof": token}) as client:
            said = (await client.get("/.well-known/oauth-authorization-server")).json()
            digest = token and hashlib.sha256(token.encode()).hexdigest()
            assert digest == said.get("keyturn_attack_proof")
            assert (token is not None) == ("keyturn_attack_proof" in said)


async def test_sign_up_is_not_for_machines(client: AsyncClient, clock: MovableClock, billing: dict[str, str]) -> None:
    """A client's token opens nothing that people do."""
    own = await client.post("/token", data={"grant_type": "client_credentials"}, headers=billing)
    await sign_up(client, clock, "billing", mfa=False)
    assert not await is_live(client, own.json()["access_token"])


async def test_a_secret_replaced_at_once_is_no_matter_of_clocks(client: AsyncClient, clock: MovableClock) -> None:
    """On a replica that is behind the operator's clock too."""
    from service import clients

    old = await add_client(client, clock, "billing")
    database = client.app.state.parts.database  # type: ignore[attr-defined]
    assert await clients.rotate_secret(database, "billing", overlap=timedelta(0), now=clock())
    clock.advance(seconds=-9)
    answer = await client.post("/introspect", data={"token": "x"}, headers=basic("billing", old))
    assert 401 == answer.status_code


async def test_a_client_of_the_same_name_is_another(
    client: AsyncClient, clock: MovableClock, billing: dict[str, str]
) -> None:
    """Removed and registered again: the tokens of the one before stay inactive, and so do scopes that it has not."""
    from service import clients

    asker = basic("asker", await add_client(client, clock, "asker"))
    answer = await client.post("/token", data={"grant_type": "client_credentials"}, headers=billing)
    token = answer.json()["access_token"]
    assert (await introspect(client, token, asker))["active"]
    assert await clients.remove(client.app.state.parts.database, "billing")  # type: ignore[attr-defined]
    await add_client(client, clock, "billing", "invoices:read")
    assert {"active": False} == await introspect(client, token, asker), "it had another scope"
    assert await clients.remove(client.app.state.parts.database, "billing")  # type: ignore[attr-defined]
    clock.advance(seconds=11)
    await add_client(client, clock, "billing", "invoices:read", "invoices:write")
    assert {"active": False} == await introspect(client, token, asker), "it is older than the client"


async def test_a_client_without_scopes_gets_no_token(client: AsyncClient, clock: MovableClock) -> None:
    """It is registered to introspect (RFC 6749 section 5.2)."""
    asker = basic("asker", await add_client(client, clock, "asker"))
    answer = await client.post("/token", data={"grant_type": "client_credentials"}, headers=asker)
    assert (400, "unauthorized_client") == (answer.status_code, answer.json()["error"])
