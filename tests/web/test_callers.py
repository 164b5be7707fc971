"""Law 14: the address is the peer's, unless the operator names trusted proxies."""

from typing import Any

import pytest
from httpx2 import AsyncClient
from starlette.requests import Request

from service.origin import Caller
from service.web.caller import Callers
from tests.harness.clients import Opener
from tests.harness.people import PASSWORD, MovableClock, sign_up


def address(
    trusted: tuple[str, ...],
    peer: str | None,
    *forwarded: str,
    header: str = "x-forwarded-for",
    read: str | None = None,
) -> str:
    """Return the caller's address for a request with `header`, at a service that reads `read`."""
    headers = [(header.encode(), value.encode("latin-1")) for value in forwarded]
    client = None if peer is None else (peer, 40000)
    callers = Callers(trusted, read or header)
    return callers.of(Request({"type": "http", "headers": headers, "client": client})).address


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
        (("::ffff:10.0.0.0/104",), "10.0.0.1", ["198.51.100.1, 10.9.9.9"], "198.51.100.1"),
        (("::ffff:10.0.0.0/104",), "::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        (("::ffff:10.0.0.0/104",), "11.0.0.1", ["198.51.100.1"], "11.0.0.1"),
        (("::ffff:a00:1",), "10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        (("::ffff:10.0.0.1/128",), "10.0.0.2", ["198.51.100.1"], "10.0.0.2"),
        (("::ffff:0:0/96",), "192.0.2.1", ["2001:db8::1"], "2001:db8::1"),
        (("::/0",), "10.0.0.1", ["198.51.100.1"], "10.0.0.1"),
        (("::/0",), "::ffff:10.0.0.1", ["198.51.100.1"], "::ffff:10.0.0.1"),
        (("::/0",), "2001:db8::1", ["198.51.100.1"], "198.51.100.1"),
        (("::ffff:0:0/95",), "10.0.0.1", ["198.51.100.1"], "10.0.0.1"),
        (("10.0.0.1",), None, ["198.51.100.1"], "unknown"),
    ],
)
def test_the_callers_address(trusted: tuple[str, ...], peer: str | None, forwarded: list[str], expected: str) -> None:
    """The address is the last entry that is not a trusted proxy's. Earlier ones may be invented and are ignored."""
    assert expected == address(trusted, peer, *forwarded)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("203.0.113.7:51234", "203.0.113.7"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
        ('"203.0.113.7"', "203.0.113.7"),
        ('"203.0.113.7:51234"', "203.0.113.7"),
        ('"[2001:db8::7]:443"', "2001:db8::7"),
        ("[::ffff:203.0.113.7]:80", "203.0.113.7"),
        ("[fe80::1%eth0]:80", "fe80::1"),
        ("\t203.0.113.7:1 ", "203.0.113.7"),
        ("203.0.113.7:65536", "203.0.113.7"),
    ],
)
def test_an_entry_may_have_a_port_brackets_or_quotes(entry: str, expected: str) -> None:
    """Azure's gateway and AWS's load balancer append the port. The address is the same without it, in chains too."""
    assert expected == address(("10.0.0.0/8",), "10.0.0.1", entry)
    assert expected == address(("10.0.0.0/8",), "10.0.0.1", f"198.51.100.9, {entry}, 10.0.0.2:8080")


@pytest.mark.parametrize(
    "entry",
    [
        "203.0.113.7:", "203.0.113.7:port", "203.0.113.7:1:2", "203.0.113.7:123456", "203.0.113.7.", "[203.0.113.7]",
        "[2001:db8::7", "2001:db8::7]", "[2001:db8::7]443", "[2001:db8::7]:", "[2001:db8::7]:x", "[]", "[]:80", ":80",
        '"203.0.113.7', '203.0.113.7"', '""', '"', "unknown", "_hidden", "gateway.example:80", "for=203.0.113.7",
        "203.0.113.7 10.0.0.9", "203.0.113.7/32", "0x7f.1", "203.0.113.07", "\xb2\xb0\xb3.0.113.7",
    ],
)  # fmt: skip
def test_a_malformed_entry_stops_the_search(entry: str) -> None:
    """A client may have invented the entries before it, so the address is that of the last trusted proxy."""
    assert "10.0.0.2" == address(("10.0.0.0/8",), "10.0.0.1", f"198.51.100.9, {entry}, 10.0.0.2")
    assert "10.0.0.1" == address(("10.0.0.0/8",), "10.0.0.1", f"198.51.100.9, {entry}")


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        (["for=203.0.113.7"], "203.0.113.7"),
        (["For=203.0.113.7;Proto=https;By=10.0.0.1"], "203.0.113.7"),
        (["proto=https; for=203.0.113.7 ;host=id.example"], "203.0.113.7"),
        (['for="203.0.113.7:51234"'], "203.0.113.7"),
        (['for="[2001:db8::7]:443";by="[2001:db8::1]"'], "2001:db8::7"),
        (['for="[2001:db8::7]"'], "2001:db8::7"),
        (['for="\\203.0.113.7"'], "203.0.113.7"),
        (["for=203.0.113.7:51234"], "203.0.113.7"),
        (["for=[2001:db8::7]:443"], "2001:db8::7"),
        (['for="203.0.113.7:_port"'], "203.0.113.7"),
        (["for=198.51.100.9, for=203.0.113.7"], "203.0.113.7"),
        (["for=198.51.100.9", "for=203.0.113.7"], "203.0.113.7"),
        (["for=198.51.100.9,for=203.0.113.7;proto=https,for=10.0.0.2"], "203.0.113.7"),
        (['for=203.0.113.7;host="a,b;for=198.51.100.9"'], "203.0.113.7"),
        (['for=198.51.100.9;x=", for=203.0.113.7'], "203.0.113.7"),
        (['for=198.51.100.9;x=", for="[2001:db8::7]:443"'], "2001:db8::7"),
        (["x" * 100_000 + ", for=203.0.113.7"], "203.0.113.7"),
        (["for=unknown, for=10.0.0.2"], "10.0.0.2"),
        (["for=_hidden"], "10.0.0.1"),
        (["for=203.0.113.7;for=198.51.100.9"], "10.0.0.1"),
        (["by=203.0.113.7;proto=https"], "10.0.0.1"),
        (['by=";for=203.0.113.7"'], "10.0.0.1"),
        (["203.0.113.7"], "10.0.0.1"),
        (["for = 203.0.113.7"], "10.0.0.1"),
        (["for=203.0.113.7;"], "10.0.0.1"),
        (['for="203.0.113.7'], "10.0.0.1"),
        (["for=203.0.113.7;x=" + "y" * 600], "10.0.0.1"),
        (["," * 10_000], "10.0.0.1"),
        ([""], "10.0.0.1"),
        ([], "10.0.0.1"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_the_forwarded_header_is_read_if_the_operator_chooses_it(forwarded: list[str], expected: str) -> None:
    """It is read from the end (RFC 7239), so nothing that a client sends can hide what a proxy appended."""
    assert expected == address(("10.0.0.0/8",), "10.0.0.1", *forwarded, header="forwarded")


def test_one_header_is_read_and_no_other() -> None:
    """A proxy overwrites the header that it knows and forwards the other one, which the caller may have invented."""
    trusted = ("10.0.0.0/8",)
    assert "10.0.0.1" == address(trusted, "10.0.0.1", "for=203.0.113.7", header="forwarded", read="x-forwarded-for")
    assert "10.0.0.1" == address(trusted, "10.0.0.1", "203.0.113.7", header="x-forwarded-for", read="forwarded")


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
    """An origin is one IPv4 address, or the /64 of an IPv6 address; rate limits count attempts per origin."""
    assert expected == Caller(text).network


async def test_a_forged_header_gives_no_new_rate_limit(client: AsyncClient, clock: MovableClock) -> None:
    """Guesses with a new X-Forwarded-For each time count for one address."""
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


async def test_clients_of_a_trusted_proxy_have_rate_limits_of_their_own(
    embedded: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """With a proxy that the operator names, one client's failures do not count for another client."""
    async with open_client({**embedded, "trusted_proxies": "203.0.113.0/24"}) as client:
        await sign_up(client, clock, mfa=False)
        wrong = {"username": "alice", "password": "not the password"}
        for _ in range(6):
            one = await client.post("/login", json=wrong, headers={"X-Forwarded-For": "198.51.100.1"})
        other = await client.post("/login", json=wrong, headers={"X-Forwarded-For": "198.51.100.2"})
        assert (429, 401) == (one.status_code, other.status_code)


async def test_an_odd_user_agent_is_stored_without_control_characters(
    client: AsyncClient, clock: MovableClock
) -> None:
    """The session has its first 256 characters without those that PostgreSQL refuses or a terminal interprets."""
    await sign_up(client, clock, mfa=False)
    odd = b"\x00Mozilla\x1b[31m\xff" + b"x" * 5000
    answer = await client.post(
        "/login", json={"username": "alice", "password": PASSWORD}, headers=[(b"user-agent", odd)]
    )
    assert 200 == answer.status_code
    shown = await client.get("/sessions", headers={"Authorization": f"Bearer {answer.json()['access_token']}"})
    assert ["Mozilla[31m\xff" + "x" * 242] == [session["user_agent"] for session in shown.json()["sessions"]]


async def test_callers_behind_an_azure_gateway_have_rate_limits_of_their_own(
    embedded: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """The header has the port of each connection. A new connection of the same caller has the same address."""
    chosen = {"trusted_proxies": "203.0.113.0/24", "forwarded_header": "Forwarded"}
    for header, settings in (("X-Forwarded-For", {"trusted_proxies": "203.0.113.0/24"}), ("Forwarded", chosen)):
        one, other = ("198.51.100.1:{}", "198.51.100.2:{}")
        if header == "Forwarded":
            one, other = 'for="198.51.100.1:{}"', 'for="198.51.100.2:{}"'
        async with open_client({**embedded, **settings, "data_dir": embedded["data_dir"] / header}) as client:
            await sign_up(client, clock, mfa=False)
            wrong = {"username": "alice", "password": "not the password"}
            statuses = [
                (await client.post("/login", json=wrong, headers={header: text.format(port)})).status_code
                for text, ports in ((one, range(50000, 50006)), (other, range(50000, 50001)))
                for port in ports
            ]
            assert [401] * 5 + [429, 401] == statuses
