"""The address is the peer's, unless the operator names trusted proxies (law 14)."""

from typing import Any

import pytest
from httpx2 import AsyncClient
from starlette.requests import Request

from service.throttle import network
from service.web.caller import Callers
from tests.conftest import Opener
from tests.people import PASSWORD, MovableClock, sign_up


def address(trusted: tuple[str, ...], peer: str | None, *forwarded: str) -> str:
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    client = None if peer is None else (peer, 40000)
    return Callers(trusted).of(Request({"type": "http", "headers": headers, "client": client})).address


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "expected"),
    [
        ((), "192.0.2.1", ["198.51.100.1"], "192.0.2.1"),
        (("10.0.0.0/8",), "192.0.2.1", ["198.51.100.1"], "192.0.2.1"),
        (("10.0.0.0/8",), "10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        (("10.0.0.0/8",), "10.0.0.1", ["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
        (("10.0.0.0/8",), "10.0.0.1", ["203.0.113.9", "198.51.100.1"], "198.51.100.1"),
        (("10.0.0.0/8",), "10.0.0.1", ["198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        (("10.0.0.0/8",), "10.0.0.1", ["203.0.113.9, junk, 10.0.0.2"], "10.0.0.2"),
        (("10.0.0.0/8",), "10.0.0.1", ["junk"], "10.0.0.1"),
        (("10.0.0.0/8",), "10.0.0.1", [""], "10.0.0.1"),
        (("10.0.0.0/8",), "10.0.0.1", [], "10.0.0.1"),
        (("10.0.0.1",), "::ffff:10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        (("10.0.0.1",), None, ["198.51.100.1"], "unknown"),
    ],
)
def test_the_callers_address(trusted: tuple[str, ...], peer: str | None, forwarded: list[str], expected: str) -> None:
    """The last hop that is no trusted proxy; what a client invents before it counts for nothing."""
    assert expected == address(trusted, peer, *forwarded)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("nonsense", "unknown"),
    ],
)
def test_what_counts_as_one_origin(text: str, expected: str) -> None:
    """One IPv4 address, or the /64 of an IPv6 address."""
    assert expected == network(text)


async def test_a_forged_header_buys_no_new_budget(client: AsyncClient, clock: MovableClock) -> None:
    """Guessing with a new X-Forwarded-For each time is guessing from one address."""
    await sign_up(client, clock, mfa=False)
    statuses = [
        (
            await client.post(
                "/login",
                json={"username": "alice", "password": "not the password"},
                headers={"X-Forwarded-For": f"198.51.100.{number}", "Forwarded": f"for=198.51.100.{number}"},
            )
        ).status_code
        for number in range(7)
    ]
    assert [401] * 5 + [429] * 2 == statuses


async def test_a_named_proxys_clients_have_budgets_of_their_own(
    embedded: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """Behind a proxy that the operator names, one client's failures are not another's."""
    async with open_client({**embedded, "trusted_proxies": "203.0.113.0/24"}) as client:
        await sign_up(client, clock, mfa=False)
        wrong = {"username": "alice", "password": "not the password"}
        for _ in range(6):
            one = await client.post("/login", json=wrong, headers={"X-Forwarded-For": "198.51.100.1"})
        other = await client.post("/login", json=wrong, headers={"X-Forwarded-For": "198.51.100.2"})
        assert (429, 401) == (one.status_code, other.status_code)


async def test_an_odd_user_agent_is_kept_as_far_as_it_can_be_shown(client: AsyncClient, clock: MovableClock) -> None:
    """Control characters, which PostgreSQL would refuse or a terminal obey, are dropped; the login goes on."""
    await sign_up(client, clock, mfa=False)
    odd = b"\x00Mozilla\x1b[31m\xff" + b"x" * 5000
    answer = await client.post(
        "/login", json={"username": "alice", "password": PASSWORD}, headers=[(b"user-agent", odd)]
    )
    assert 200 == answer.status_code
