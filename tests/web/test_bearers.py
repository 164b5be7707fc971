"""Bearer authentication at the edge: every operation that documents a bearer token checks it, whatever its kind."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from httpx2 import Response

from service.origin import OPERATOR
from service.tokens.access import AccessClaims, ClientAccessClaims
from service.web.bearers import Bearers
from service.web.edge import StrictJsonRoute
from tests.harness.clients import Client, Opener
from tests.harness.people import PASSWORD, MovableClock, sign_up
from tests.harness.relying_services import add_client, basic
from tests.harness.servers import REPOSITORY
from tests.harness.sessions import bearer
from tests.harness.token_kinds import TokenSource

SCOPES = ("keyturn:users.read", "keyturn:users.write", "keyturn:clients", "keyturn:events.read")
REFUSED = {"accessToken": ("refresh", "client", "pending", "enrolling", "step-up", "adding", "restoring", "device",
                           "link"),
           "mfaToken": ("access", "refresh", "client", "step-up", "device", "link")}  # fmt: skip
"""The kinds of token that an operation with this scheme refuses."""

BODIES = {
    ("post", "/email"): {"email": "alice@example.com", "password": PASSWORD},
    ("post", "/enable-mfa"): {"password": PASSWORD},
    ("delete", "/me"): {"password": PASSWORD},
    ("patch", "/factors/{id}"): {"name": "Tablet"},
    ("patch", "/me"): {"locale": "de"},
    ("post", "/password"): {"current_password": PASSWORD, "new_password": "an entirely new passphrase"},
}
NO_ERROR = 'Bearer realm="keyturn"'
INVALID = 'Bearer realm="keyturn", error="invalid_token"'


def with_a_bearer(document: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield method, path and scheme of every operation that requires a bearer token."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            schemes = [scheme for scheme in operation.get("security", ()) if scheme.keys() & REFUSED.keys()]
            if schemes and {} not in operation["security"]:
                yield method, path, next(iter(schemes[0]))


async def test_every_operation_with_a_bearer_refuses_requests_without_one_and_other_tokens(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """RFC 6750: without a token the challenge names no error; with a token of another kind it is `invalid_token`."""
    async with open_client({**world, "limit_signup": None}) as client:
        service = basic("billing", await add_client(client, clock, "billing", "all", *SCOPES))
        source = TokenSource(client, clock, service)
        operations = list(with_a_bearer(client.app.openapi()))
        assert len(operations) >= 15
        for method, path, scheme in operations:
            for kind in (None, *REFUSED[scheme]):
                person, token = (None, "") if kind is None else await source.issue(kind)
                name = "alice" if person is None else person.username
                url = path.replace("{username}", name).replace("{sid}", "0" * 22).replace("{id}", "x")
                answer = await client.request(
                    method, url, json=BODIES.get((method, path)), headers={} if kind is None else bearer(token)
                )
                challenge = answer.headers.get("www-authenticate")
                assert (401, NO_ERROR if kind is None else INVALID) == (answer.status_code, challenge), (path, kind)
                assert "invalid_token" == answer.json()["code"]


@pytest.mark.parametrize(
    ("method", "url", "body"), [("post", "/password", {}), ("post", "/logout?everywhere=x", None)]
)
async def test_a_malformed_request_is_refused_before_its_token(
    client: Client, method: str, url: str, body: dict[str, str] | None
) -> None:
    """The answer is 422 with and without a token: a malformed request causes no query for its session."""
    for headers in ({}, bearer("x.y.z")):
        assert 422 == (await client.request(method, url, json=body, headers=headers)).status_code


@pytest.mark.parametrize("claims", [AccessClaims, ClientAccessClaims])
def test_an_operation_without_the_decorator_is_refused(claims: type) -> None:
    """FastAPI would read the claims from the body: a caller could write their own."""

    async def forgot(access: Any) -> str:
        return str(access)

    forgot.__annotations__["access"] = claims
    with pytest.raises(RuntimeError, match="no decorator"):
        APIRouter(route_class=StrictJsonRoute).get("/forgotten")(forgot)


def test_only_these_modules_read_the_token_of_a_request() -> None:
    """`/verify` and `/login-2fa` read it themselves, for reasons that `web/bearers.py` gives."""
    files = {file.name: file.read_text("utf-8") for file in (REPOSITORY / "service" / "web").glob("*.py")}
    readers = {name for name, text in files.items() if "require_bearer(request)" in text}
    assert {"bearers.py", "verify.py", "login.py"} == readers


# --- access tokens of clients ---


@pytest.fixture
async def service(client: Client) -> Client:
    """The service with a route for each scope, which answers with the id of the client."""
    app = client.app
    bearers = Bearers(client.parts.bearer_auth)
    router = APIRouter(route_class=StrictJsonRoute)
    for scope in SCOPES:

        @router.get(f"/test/{scope}")
        @bearers.client(scope)
        async def answer(access: ClientAccessClaims) -> str:
            return access.client_id

    app.router.routes.extend(router.routes)
    return client


async def client_token(client: Client, clock: MovableClock, *scopes: str, asked: str | None = None) -> str:
    """Register the client `admin` with these scopes, and return an access token of it."""
    headers = basic("admin", await add_client(client, clock, "admin", *scopes))
    form = {"grant_type": "client_credentials", **({} if asked is None else {"scope": asked})}
    answer = await client.post("/token", data=form, headers=headers)
    assert 200 == answer.status_code, answer.text
    return str(answer.json()["access_token"])


async def test_a_token_whose_signature_was_verified_opens_no_more_than_before(
    service: Client, clock: MovableClock
) -> None:
    """The tokens of users and of clients are kept in one cache, and neither is accepted where the other is due."""
    person = await sign_up(service, clock, "alice", mfa=False)
    of_user = (await person.give_password()).json()["access_token"]
    of_client = await client_token(service, clock, SCOPES[0])
    for _ in range(2):
        assert 200 == (await service.get("/me", headers=bearer(of_user))).status_code
        assert 200 == (await at(service, SCOPES[0], of_client)).status_code
        for path, token in ((f"/test/{SCOPES[0]}", of_user), ("/me", of_client), ("/verify", of_client)):
            answer = await service.get(path, headers=bearer(token))
            assert (401, INVALID) == (answer.status_code, answer.headers["www-authenticate"]), path


async def at(client: Client, scope: str, token: str | None) -> Response:
    return await client.get(f"/test/{scope}", headers={} if token is None else bearer(token))


async def test_a_scope_grants_only_itself(service: Client, clock: MovableClock) -> None:
    """With another scope the answer is 403 and names the one that is needed (RFC 6750 section 3.1)."""
    for granted in SCOPES:
        token = await client_token(service, clock, granted)
        for needed in SCOPES:
            answer = await at(service, needed, token)
            if needed == granted:
                assert (200, "admin") == (answer.status_code, answer.json())
                continue
            assert (403, "insufficient_scope") == (answer.status_code, answer.json()["code"])
            challenge = f'Bearer realm="keyturn", error="insufficient_scope", scope="{needed}"'
            assert challenge == answer.headers["www-authenticate"]
        await service.parts.clients.remove("admin", by=OPERATOR)


@pytest.mark.parametrize(
    "granted",
    ["keyturn:users", "keyturn:users.", "keyturn:users.rea", "keyturn:users.read.all", "keyturn:*",
     "KEYTURN:USERS.READ", "keyturn:users.write keyturn:clients keyturn:events.read", "x:keyturn:users.read"],
)  # fmt: skip
async def test_a_similar_scope_grants_nothing(service: Client, clock: MovableClock, granted: str) -> None:
    """Scopes are compared as a whole and by case (RFC 6749 section 3.3)."""
    token = await client_token(service, clock, *granted.split())
    assert 403 == (await at(service, "keyturn:users.read", token)).status_code


async def test_a_narrowed_token_has_only_the_scope_that_was_asked_for(service: Client, clock: MovableClock) -> None:
    """The scopes of the client do not count, only those of the token."""
    token = await client_token(service, clock, *SCOPES, asked="keyturn:clients")
    assert 200 == (await at(service, "keyturn:clients", token)).status_code
    assert 403 == (await at(service, "keyturn:users.read", token)).status_code


async def test_other_tokens_are_not_a_clients(service: Client, clock: MovableClock) -> None:
    """No token, forged ones and those of users are refused, also of a user with a role named like the scope."""
    token = await client_token(service, clock, *SCOPES)
    alice = await sign_up(service, clock)
    parts = service.parts
    await parts.administration.set_roles("alice", add="keyturn:users.read", by=OPERATOR)
    tokens = (await alice.confirm()).json()
    header, payload, signature = token.split(".")
    forged = (token[:-8], f"{header}.{payload}.", f"{header}.{tokens['access_token'].split('.')[1]}.{signature}")
    for other in (tokens["access_token"], tokens["refresh_token"], alice.mfa_token, *forged):
        answer = await at(service, SCOPES[0], other)
        assert (401, INVALID) == (answer.status_code, answer.headers["www-authenticate"])
    assert NO_ERROR == (await at(service, SCOPES[0], None)).headers["www-authenticate"]


async def test_the_token_of_a_removed_client_is_refused(service: Client, clock: MovableClock) -> None:
    """It stays refused if the id is registered again, also with the same scopes."""
    parts = service.parts
    token = await client_token(service, clock, *SCOPES)
    assert 200 == (await at(service, SCOPES[0], token)).status_code
    await parts.clients.remove("admin", by=OPERATOR)
    assert 401 == (await at(service, SCOPES[0], token)).status_code
    clock.advance(seconds=11)
    await parts.clients.add("admin", SCOPES, by=OPERATOR)
    assert 401 == (await at(service, SCOPES[0], token)).status_code


async def test_a_clients_token_expires(service: Client, clock: MovableClock) -> None:
    """It is refused when its lifetime is over."""
    token = await client_token(service, clock, *SCOPES)
    clock.advance(seconds=599)
    assert 200 == (await at(service, SCOPES[0], token)).status_code
    clock.advance(seconds=1)
    assert 401 == (await at(service, SCOPES[0], token)).status_code


async def test_the_decorator_documents_its_scheme(service: Client) -> None:
    """The OpenAPI document has the scheme, with the scope of the client."""
    routes = (route for route in service.app.router.routes if isinstance(route, APIRoute))
    ours = [route for route in routes if route.path.startswith("/test/")]
    documented = {route.path: (route.openapi_extra or {})["security"] for route in ours}
    assert {f"/test/{scope}": [{"accessToken": [scope]}] for scope in SCOPES} == documented
