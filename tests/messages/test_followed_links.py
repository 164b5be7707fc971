"""Links of messages: they begin with the URL of the page, and a program that only follows them uses none up."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from email.message import EmailMessage
from typing import Any

import pytest

from service.messages.kinds import FRAGMENTS
from service.users import users
from tests.harness.addresses import ADDRESS, access_token, request_address, set_address
from tests.harness.administrators import Caller, token_of_client
from tests.harness.clients import AT_ONCE, PEER, Client, Opener
from tests.harness.letters import letters, scan, texts_of, token_in, urls_in
from tests.harness.people import PASSWORD, MovableClock, Person, sign_up

NEW = "an entirely new passphrase"
PAGE = "https://id.example.com/people/account"
EVIL = "evil.example"
FORWARDED = {
    "X-Forwarded-Host": EVIL, "X-Forwarded-Proto": "http", "X-Forwarded-Port": "666", "X-Forwarded-Server": EVIL,
    "X-Forwarded-Prefix": f"/{EVIL}", "X-Forwarded-For": "198.51.100.1", "X-Host": EVIL, "X-Original-Host": EVIL,
    "X-Original-URL": f"http://{EVIL}/", "X-Rewrite-URL": f"http://{EVIL}/",
}  # fmt: skip
STANDARD = {"Forwarded": f"for=198.51.100.1;host={EVIL};proto=http"}
HOSTILE: list[dict[str, str]] = [
    {"Host": EVIL},
    {"Host": f"{EVIL}:666"},
    {"Host": f"id.example.com.{EVIL}"},
    FORWARDED,
    {"X-Forwarded-Host": f"id.example.com, {EVIL}"},
    STANDARD,
    {"Host": EVIL, **FORWARDED, **STANDARD, "Origin": f"https://{EVIL}", "Referer": f"https://{EVIL}/account"},
]
WORLDS: dict[str, dict[str, Any]] = {
    "the page of the issuer": {},
    "another page, X-Forwarded-For is read": {"page_url": PAGE, "trusted_proxies": (PEER,)},
    "another page, Forwarded is read": {
        "page_url": PAGE, "trusted_proxies": (PEER,), "forwarded_header": "forwarded",
    },
}  # fmt: skip


async def cause_every_link(client: Client, clock: MovableClock, admin: Caller, n: int) -> None:
    """Let an anonymous caller, a user and an administrator each cause the messages with links that they can cause."""
    first = f"first{n}@example.com"
    body = {"username": f"user{n}", "password": PASSWORD, "email": first}
    assert (await client.post("/signup", json=body)).status_code == 201
    [letter] = await letters(client, first)
    confirmed = await client.post("/email/confirm", json={"token": token_in(letter, "confirm-email")})
    assert confirmed.status_code == 204
    token = await access_token(Person(client, clock, f"user{n}"))
    assert (await request_address(client, token, f"second{n}@example.com")).status_code == 202
    assert (await client.post("/password-reset", json={"username": f"user{n}"})).status_code == 202
    assert (await admin.call("POST", "invitations", {"email": f"third{n}@example.com"})).status_code == 201
    user = await users.find(client.parts.database, f"user{n}")
    assert user is not None
    await admin.call("POST", f"users/{user.id}/password-reset")


@pytest.mark.parametrize("settings", WORLDS.values(), ids=WORLDS)
async def test_a_link_begins_with_the_configured_url_whatever_a_request_says(
    embedded: dict[str, Any], open_client: Opener, clock: MovableClock, settings: dict[str, Any]
) -> None:
    """A link with a valid token to another host would hand the account to the owner of that host."""
    async with open_client(
        {**embedded, **settings, "admin_api": "on", "limit_signup": None}, waits=AT_ONCE
    ) as client:
        admin = await token_of_client(client, clock, "admin", ["keyturn:users.write"])
        for n, headers in enumerate(HOSTILE):
            with_headers = client.at(PEER)
            with_headers.headers.update(headers)
            await cause_every_link(with_headers, clock, Caller(with_headers, admin.token), n)
        page = settings.get("page_url", "http://localhost:8000/account")
        kinds: Counter[str] = Counter()
        for letter in await letters(client):
            assert not any(EVIL in text for text in (*texts_of(letter), *map(str, letter.values())))
            urls = urls_in(letter)
            assert {page} >= {url.partition("#")[0] for url in urls}
            kinds.update({url.partition("#")[2].partition("=")[0] for url in urls} - {""})
        assert set(FRAGMENTS.values()) == set(kinds)
        assert all(count >= len(HOSTILE) for count in kinds.values())


@pytest.fixture
async def service(world: dict[str, Any], open_client: Opener) -> AsyncIterator[Client]:
    async with open_client({**world, "admin_api": "on"}, waits=AT_ONCE) as client:
        yield client


@pytest.fixture
async def letter_of(service: Client, clock: MovableClock) -> dict[str, EmailMessage]:
    """The letter with each kind of link that works now, by the fragment of the link."""
    alice, bob = [await sign_up(service, clock, name, mfa=False) for name in ("alice", "bobby")]
    await set_address(service, alice)
    assert (await request_address(service, await access_token(alice), "new@example.com")).status_code == 202
    await set_address(service, bob, "bob@example.com")
    assert (await service.post("/password-reset", json={"username": "bobby"})).status_code == 202
    carol = await sign_up(service, clock, "carol", mfa=False)
    assert (await request_address(service, await access_token(carol), "carol@example.com")).status_code == 202
    admin = await token_of_client(service, clock, "admin", ["keyturn:users.write"])
    assert (await admin.call("POST", "invitations", {"email": "david@example.com"})).status_code == 201
    return {
        fragment: [letter for letter in await letters(service, to) if f"#{fragment}=" in "".join(texts_of(letter))][
            -1
        ]
        for fragment, to in {
            "cancel-email": ADDRESS,
            "reset-password": "bob@example.com",
            "confirm-email": "carol@example.com",
            "invitation": "david@example.com",
        }.items()
    }


USES: dict[str, tuple[str, Callable[[str], dict[str, Any]], int, int]] = {
    "cancel-email": ("/email/cancel", lambda token: {"token": token}, 204, 401),
    "confirm-email": ("/email/confirm", lambda token: {"token": token}, 204, 401),
    "reset-password": ("/password-reset/confirm", lambda token: {"token": token, "new_password": NEW}, 204, 401),
    "invitation": (
        "/signup", lambda token: {"username": "david", "password": PASSWORD, "invitation": token}, 201, 403,
    ),
}  # fmt: skip
"""How the page uses the link of each kind, and the statuses of the first use and of the second one."""


async def test_a_program_that_follows_links_uses_none_up(service: Client, letter_of: dict[str, EmailMessage]) -> None:
    """GET, HEAD and OPTIONS, twice, with the token in a query too. Afterwards each link works exactly once."""
    assert set(FRAGMENTS.values()) == set(letter_of) == set(USES)
    before = await events_of(service)
    for fragment, letter in letter_of.items():
        answers = await scan(service, letter)
        assert {(answer.status_code, answer.request.method) for answer in answers if answer.is_success} == {
            (200, "GET"), (200, "HEAD"),
        }, fragment  # fmt: skip
        assert {answer.request.url.path for answer in answers if answer.is_success} <= {"/account", "/account/"}
    assert before == await events_of(service)
    for fragment, (path, body_of, accepted, refused) in USES.items():
        body = body_of(token_in(letter_of[fragment], fragment))
        statuses = [(await service.post(path, json=body)).status_code for _ in range(2)]
        assert [accepted, refused] == statuses, fragment


async def events_of(client: Client) -> list[dict[str, Any]]:
    return [dict(row) for row in await client.parts.database.fetch_all("SELECT * FROM events ORDER BY id")]
