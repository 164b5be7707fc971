"""Who may call the admin API: every kind of token at every route. SQLite and PostgreSQL."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi.routing import APIRoute

from service.origin import OPERATOR, Act
from service.users.administrators import ADMINISTRATOR
from tests.harness.addresses import cancellation, confirmation
from tests.harness.administrators import SCOPES, Caller, administrator, token_of_client
from tests.harness.canaries import TABLES
from tests.harness.clients import AT_ONCE, Client, Opener
from tests.harness.databases import PATIENT
from tests.harness.people import MovableClock, sign_up
from tests.harness.sessions import bearer
from tests.harness.token_kinds import TokenSource

READ, WRITE, CLIENTS, EVENTS = SCOPES
ROUTES = {
    ("GET", "/admin/users"): READ,
    ("POST", "/admin/users"): WRITE,
    ("GET", "/admin/users/{sub}"): READ,
    ("PATCH", "/admin/users/{sub}"): WRITE,
    ("DELETE", "/admin/users/{sub}"): WRITE,
    ("POST", "/admin/users/{sub}/password-reset"): WRITE,
    ("POST", "/admin/users/{sub}/reset-mfa"): WRITE,
    ("GET", "/admin/users/{sub}/sessions"): READ,
    ("DELETE", "/admin/users/{sub}/sessions"): WRITE,
    ("DELETE", "/admin/users/{sub}/sessions/{sid}"): WRITE,
    ("GET", "/admin/users/{sub}/events"): EVENTS,
    ("GET", "/admin/events"): EVENTS,
    ("GET", "/admin/clients"): CLIENTS,
    ("POST", "/admin/clients"): CLIENTS,
    ("GET", "/admin/clients/{client_id}"): CLIENTS,
    ("DELETE", "/admin/clients/{client_id}"): CLIENTS,
    ("POST", "/admin/clients/{client_id}/rotate-secret"): CLIENTS,
    ("GET", "/admin/invitations"): READ,
    ("POST", "/admin/invitations"): WRITE,
    ("GET", "/admin/invitations/{id}"): READ,
    ("DELETE", "/admin/invitations/{id}"): WRITE,
}
"""Every route, and the scope that it needs. Each method but GET writes."""

BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/admin/users"): {"email": "new@example.com"},
    ("PATCH", "/admin/users/{sub}"): {"disabled": True},
    ("POST", "/admin/invitations"): {},
}


@pytest.fixture
async def api(world: dict[str, Any], open_client: Opener) -> AsyncIterator[Client]:
    """A client of a service with the admin API. No reading of events waits: nothing else is committed."""
    async with open_client({**world, "admin_api": "on", "limit_signup": None}, waits=AT_ONCE) as client:
        yield client


def filled(path: str) -> str:
    """Return the path with an id of each kind that nothing has."""
    ids = {"{sub}": "nobody", "{sid}": "0" * 22, "{client_id}": "nothing", "{id}": "0" * 32}
    for name, value in ids.items():
        path = path.replace(name, value)
    return path


async def ask(caller: Caller, method: str, path: str, number: int = 0) -> tuple[int, str, str]:
    """Send a well-formed request. Return the status, the code of a problem, and the challenge."""
    body = {"client_id": f"client-{number}"} if (method, path) == ("POST", "/admin/clients") else None
    answer = await caller.client.request(
        method,
        filled(path),
        json=BODIES.get((method, path), body),
        headers=bearer(caller.token) if caller.token else {},
    )
    assert "no-store" == answer.headers["cache-control"]
    code = answer.json().get("code", "") if answer.content else ""
    return answer.status_code, code, answer.headers.get("www-authenticate", "")


def is_admitted(answer: tuple[int, str, str]) -> bool:
    return answer[0] in {200, 201, 202, 204} or answer[:2] == (404, "not_found")


def test_no_route_is_left_out(embedded: dict[str, Any]) -> None:
    """The table lists what the application serves, with its scope."""
    from service.app import create_app
    from service.settings import Settings
    from service.users.passwords import CHEAPEST

    app = create_app(Settings(**embedded, admin_api="on"), hash_cost=CHEAPEST, timeouts=PATIENT)
    served = {
        (method, route.path): (route.openapi_extra or {})["security"]
        for route in app.router.routes
        if isinstance(route, APIRoute) and route.path.startswith("/admin")
        for method in route.methods or ()
    }
    assert {route: [{"accessToken": [scope]}] for route, scope in ROUTES.items()} == served


async def test_users_at_every_route(api: Client, clock: MovableClock) -> None:
    """Only an administrator with a second factor is admitted, to write with a fresh one (RFC 9470)."""
    root = await administrator(api, clock)
    assert root.person is not None
    weak = await sign_up(api, clock, "weak", mfa=False)
    await api.parts.administration.set_roles("weak", add=ADMINISTRATOR, by=OPERATOR)
    other = await sign_up(api, clock, "other")
    tokens = (await other.confirm()).json()
    clock.next_step()
    former = await administrator(api, clock, "former")
    await api.parts.administration.set_roles("former", remove=ADMINISTRATOR, by=OPERATOR)
    none, garbage, pending, refresh, plain, aal1 = (
        Caller(api, token)
        for token in (
            "", "x.y.z", await root.person.pending(), tokens["refresh_token"], tokens["access_token"],
            (await weak.give_password()).json()["access_token"],
        )
    )  # fmt: skip
    for number, (method, path) in enumerate(ROUTES):
        route = (method, path)
        assert (401, "invalid_token", 'Bearer realm="keyturn"') == await ask(none, *route), route
        for refused in (garbage, pending, refresh):
            assert (401, "invalid_token") == (await ask(refused, *route))[:2], route
        for stranger in (plain, former):
            assert (403, "forbidden", "") == await ask(stranger, *route), route
        status, code, challenge = await ask(aal1, *route)
        assert (401, "insufficient_user_authentication") == (status, code), route
        assert 'acr_values="aal2"' in challenge
        assert is_admitted(await ask(root, *route, number)), route
    clock.advance(seconds=301)
    for number, (method, path) in enumerate(ROUTES):
        status, code, challenge = answer = await ask(root, method, path, 100 + number)
        if method == "GET":
            assert is_admitted(answer), path
            continue
        assert (401, "insufficient_user_authentication") == (status, code), (method, path)
        assert 'acr_values="aal2", max_age="300"' in challenge


OTHER_KINDS = ("refresh", "pending", "enrolling", "adding", "step-up", "restoring", "device", "link")


async def test_other_tokens_of_an_administrator_at_every_route(api: Client, clock: MovableClock) -> None:
    """None but an access token is accepted, whatever the user may do: pending tokens, device tokens, links."""
    source = TokenSource(api, clock, {})
    tokens = {}
    for kind in OTHER_KINDS:
        person, tokens[kind] = await source.issue(kind)
        await api.parts.administration.set_roles(person.username, add=ADMINISTRATOR, by=OPERATOR)
    name = person.username
    tokens["confirmation"] = await confirmation(api, name)
    tokens["cancellation"] = await cancellation(api, name)
    invitation = await api.parts.invitations.create(Act(OPERATOR, clock()), roles=("cashier",))
    tokens["invitation"] = invitation.token
    assert {"ktr_", "ktd_", "ktl_"} <= {token[:4] for token in tokens.values()}
    before = await dump(api)
    for route in ROUTES:
        for kind, token in tokens.items():
            assert (401, "invalid_token") == (await ask(Caller(api, token), *route))[:2], (kind, route)
    assert before == await dump(api)


async def test_clients_at_every_route(api: Client, clock: MovableClock) -> None:
    """A scope grants only itself; the token of a removed client is refused."""
    callers = {scope: await token_of_client(api, clock, f"caller-{n}", [scope]) for n, scope in enumerate(SCOPES)}
    callers["other"] = await token_of_client(api, clock, "caller-x", ["keyturn:users", "keyturn:*", "x"])
    removed = await token_of_client(api, clock, "removed", SCOPES)
    await api.parts.clients.remove("removed", by=OPERATOR)
    for number, ((method, path), needed) in enumerate(ROUTES.items()):
        for scope, caller in callers.items():
            answer = await ask(caller, method, path, number)
            if scope == needed:
                assert is_admitted(answer), (method, path, answer)
                continue
            assert (403, "insufficient_scope") == answer[:2], (method, path, scope)
            assert f'scope="{needed}"' in answer[2]
        assert (401, "invalid_token") == (await ask(removed, method, path))[:2]


async def test_a_role_that_was_just_given_counts(api: Client, clock: MovableClock) -> None:
    """The roles are those that the user has now, not those in the token."""
    person = await sign_up(api, clock)
    late = Caller(api, (await person.confirm()).json()["access_token"])
    assert (403, "forbidden", "") == await ask(late, "GET", "/admin/users")
    await api.parts.administration.set_roles("alice", add=ADMINISTRATOR, by=OPERATOR)
    assert is_admitted(await ask(late, "GET", "/admin/users"))
    await api.parts.administration.set_disabled("alice", disabled=True, by=OPERATOR)
    assert 401 == (await ask(late, "GET", "/admin/users"))[0]


async def dump(client: Client) -> dict[str, list[dict[str, Any]]]:
    """Return every row that is not of the outbox, which is emptied in the background."""
    found = {}
    for table in set(TABLES) - {"outbox", "deliverer"}:
        rows = await client.parts.database.fetch_all(f"SELECT * FROM {table}")
        found[table] = sorted((dict(row) for row in rows), key=repr)
    return found


@pytest.mark.parametrize("scope", [READ, EVENTS])
async def test_a_client_that_reads_changes_nothing(api: Client, clock: MovableClock, scope: str) -> None:
    """Every route is called for rows that exist."""
    reader = await token_of_client(api, clock, "reader", [scope])
    root = await administrator(api, clock)
    await api.parts.clients.add("nothing", (), by=OPERATOR)
    before = await dump(api)
    for method, path in ROUTES:
        url = filled(path).replace("nobody", root.sub)
        body = BODIES.get((method, path), {"client_id": "new"} if path == "/admin/clients" else None)
        await api.request(method, url, json=body if method != "GET" else None, headers=bearer(reader.token))
    assert before == await dump(api)


async def test_off_means_that_the_paths_do_not_exist(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """The answers are those of an unknown path, and the document that is served does not have them."""
    async with open_client({**world, "docs": True}) as client:
        caller = await token_of_client(client, clock, "caller", SCOPES)
        unknown = await client.get("/adminx", headers=bearer(caller.token))
        for method, path in ROUTES:
            answer = await client.request(method, filled(path), headers=bearer(caller.token))
            assert (404, unknown.json()) == (answer.status_code, answer.json()), (method, path)
        document = (await client.get("/openapi.json")).json()
        assert not [path for path in document["paths"] if path.startswith("/admin")]
        assert "Administration" not in {tag["name"] for tag in document["tags"]}
    async with open_client({**world, "docs": True, "admin_api": "on"}) as client:
        document = (await client.get("/openapi.json")).json()
        assert {path for _, path in ROUTES} == {path for path in document["paths"] if path.startswith("/admin")}
