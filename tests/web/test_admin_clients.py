"""Registered clients and invitations by the admin API. SQLite and PostgreSQL."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.origin import OPERATOR
from tests.harness.administrators import SCOPES, administrator, token_of_client
from tests.harness.clients import Client, Opener
from tests.harness.people import PASSWORD, MovableClock
from tests.harness.relying_services import basic, introspect


@pytest.fixture
async def api(world: dict[str, Any], open_client: Opener) -> AsyncIterator[Client]:
    async with open_client({**world, "admin_api": "on", "messages": "off"}) as client:
        yield client


async def test_a_client_is_registered_rotated_and_removed(api: Client, clock: MovableClock) -> None:
    """The secret is shown once; the previous one works for the overlap."""
    desk = await token_of_client(api, clock, "desk", ["keyturn:clients"])
    made = (await desk.call("POST", "clients", {"client_id": "billing", "scopes": ["b", "a", "a"]})).json()
    assert ["a", "b"] == made["client"]["scopes"]
    assert (409, "client_id_taken") == await desk.refused("POST", "clients", {"client_id": "billing"})
    rotated = (await desk.call("POST", "clients/billing/rotate-secret", {"overlap_hours": 1})).json()
    assert clock().timestamp() // 1 + 3600 == rotated["client"]["previous_until"]
    for secret in (made["client_secret"], rotated["client_secret"]):
        assert {"active": False} == await introspect(api, "x", basic("billing", secret))
    again = (await desk.call("POST", "clients/billing/rotate-secret")).json()
    assert again["client"] == await desk.get("clients/billing")
    refused = await api.post("/introspect", data={"token": "x"}, headers=basic("billing", rotated["client_secret"]))
    assert 401 == refused.status_code
    assert "secret" not in str(await desk.get("clients"))
    assert 204 == (await desk.call("DELETE", "clients/billing")).status_code
    for method, path in (("DELETE", ""), ("GET", ""), ("POST", "/rotate-secret")):
        assert (404, "not_found") == await desk.refused(method, f"clients/billing{path}")


@pytest.mark.parametrize("scope", [*SCOPES, "keyturn:", "keyturn:x"])
async def test_a_client_gives_no_rights_at_the_admin_api(api: Client, clock: MovableClock, scope: str) -> None:
    """It neither registers such a client nor gets the secret of one, its own included, nor removes one."""
    desk, root = await token_of_client(api, clock, "desk", SCOPES), await administrator(api, clock)
    body = {"client_id": "strong", "scopes": ["x", scope]}
    assert (403, "forbidden") == await desk.refused("POST", "clients", body)
    assert (404, "not_found") == await root.refused("GET", "clients/strong")
    assert 201 == (await root.call("POST", "clients", body)).status_code
    for name in ("strong", "desk"):
        assert (403, "forbidden") == await desk.refused("POST", f"clients/{name}/rotate-secret")
        assert (403, "forbidden") == await desk.refused("DELETE", f"clients/{name}")
    assert 200 == (await root.call("POST", "clients/strong/rotate-secret")).status_code
    assert 204 == (await root.call("DELETE", "clients/strong")).status_code


@pytest.mark.parametrize(
    "body",
    [
        {}, {"client_id": "x"}, {"client_id": "keyturn"}, {"client_id": "a\x00bc"}, {"client_id": "ABC"},
        {"client_id": "abc", "scopes": ["a b"]}, {"client_id": "abc", "scopes": ["x"] * 33},
        {"client_id": "abc", "scopes": "x"}, {"client_id": "abc", "scopes": ["x" * 65]}, {"client_id": "abc", "x": 1},
        {"client_id": ["abc"]},
    ],
)  # fmt: skip
async def test_a_client_that_cannot_be_is_refused(api: Client, clock: MovableClock, body: dict[str, Any]) -> None:
    root = await administrator(api, clock)
    assert (422, "invalid_request") == await root.refused("POST", "clients", body)


@pytest.mark.parametrize("hours", [-1, 2161, "1", None, True])
async def test_an_overlap_that_cannot_be_is_refused(api: Client, clock: MovableClock, hours: object) -> None:
    root = await administrator(api, clock)
    body = {"overlap_hours": hours}
    assert (422, "invalid_request") == await root.refused("POST", "clients/billing/rotate-secret", body)


async def test_invitations_are_made_listed_and_revoked(api: Client, clock: MovableClock) -> None:
    """Without a transport the answer has the link; the list never has."""
    desk = await token_of_client(api, clock, "desk", SCOPES)
    made = (await desk.call("POST", "invitations", {"email": "a@example.com", "roles": ["x"]})).json()
    token = made["link"].partition("invitation=")[2]
    assert "client:desk" == made["invitation"]["created_by"]
    assert made["invitation"] == await desk.get(f"invitations/{made['invitation']['id']}")
    assert "ktl_" not in str(await desk.get("invitations"))
    body = {"username": "alice", "password": PASSWORD, "invitation": token}
    assert 201 == (await api.post("/signup", json=body)).status_code
    used = f"invitations/{made['invitation']['id']}"
    assert (await api.parts.administration.get("alice")).id == (await desk.get(used))["used_by"]
    assert (404, "not_found") == await desk.refused("DELETE", used)
    other = (await desk.call("POST", "invitations", {"expires_in": 300})).json()["invitation"]
    assert 300 == other["expires_at"] - other["created_at"]
    assert 204 == (await desk.call("DELETE", f"invitations/{other['id']}")).status_code
    assert (404, "not_found") == await desk.refused("GET", f"invitations/{other['id']}")


@pytest.mark.parametrize(
    "body",
    [{"expires_in": 299}, {"expires_in": 90 * 86400 + 1}, {"expires_in": "1h"}, {"roles": ["Admin"]},
     {"roles": ["x"] * 17 + [str(n) for n in range(17)]}, {"email": "nobody"}, {"locale": "\x00"}, {"x": 1}],
)  # fmt: skip
async def test_an_invitation_that_cannot_be_is_refused(
    api: Client, clock: MovableClock, body: dict[str, Any]
) -> None:
    root = await administrator(api, clock)
    assert (422, "invalid_request") == await root.refused("POST", "invitations", body)


@pytest.mark.parametrize("noun", ["clients", "invitations"])
async def test_a_list_has_pages(api: Client, clock: MovableClock, noun: str) -> None:
    """Each row is on one page; a cursor is of its list only."""
    root = await administrator(api, clock)
    for number in range(5):
        await api.parts.clients.add(f"client-{number}", (), by=OPERATOR)
        await root.call("POST", "invitations", {})
    seen: list[str] = []
    path, sizes = f"{noun}?limit=2", []
    while True:
        page = await root.get(path)
        rows = page[noun]
        sizes.append(len(rows))
        seen += [row.get("client_id") or row["id"] for row in rows]
        if page["next_cursor"] is None:
            break
        path = f"{noun}?limit=2&cursor={page['next_cursor']}"
        assert (422, "invalid_request") == await root.refused("GET", f"users?cursor={page['next_cursor']}")
    assert [2, 2, 1] == sizes
    assert sorted(set(seen)) == seen
    for wrong in ("limit=0", "limit=201", "limit=x", "cursor=x", "cursor=" + "A" * 1025, "cursor=%00"):
        assert (422, "invalid_request") == await root.refused("GET", f"{noun}?{wrong}"), wrong
