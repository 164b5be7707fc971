"""Accounts by the admin API: search, create, show, change, help, delete. SQLite and PostgreSQL."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from service.origin import OPERATOR
from tests.harness.addresses import ADDRESS, access_token, set_address
from tests.harness.administrators import SCOPES, Caller, administrator, sub_of, token_of_client
from tests.harness.clients import Client, Opener
from tests.harness.import_files import import_lines, record
from tests.harness.people import PASSWORD, MovableClock, Person, sign_up
from tests.harness.sessions import bearer, claims, is_live


@pytest.fixture
async def api(world: dict[str, Any], open_client: Opener) -> AsyncIterator[Client]:
    async with open_client({**world, "admin_api": "on", "limit_signup": None}) as client:
        yield client


@pytest.fixture
async def desk(api: Client, clock: MovableClock) -> Caller:
    return await token_of_client(api, clock, "desk", SCOPES)


async def names(caller: Caller, query: str) -> list[str]:
    return [user["username"] for user in (await caller.get(f"users?{query}"))["users"]]


async def test_a_search_has_filters(api: Client, desk: Caller, clock: MovableClock) -> None:
    """An account matches every one that is given."""
    alice = await sign_up(api, clock, "alice", mfa=False)
    await set_address(api, alice, ADDRESS)
    for name in ("alan", "bob", "carol@example.com"):
        await sign_up(api, clock, name, mfa=name == "bob")
    await api.parts.administration.set_roles("bob", add="cashier", by=OPERATOR)
    await api.parts.administration.set_disabled("alan", disabled=True, by=OPERATOR)
    assert ["alan", "alice", "bob", "carol@example.com"] == await names(desk, "")
    assert ["alan", "alice"] == await names(desk, "username=AL")
    assert ["alice"] == await names(desk, f"email={ADDRESS.upper()}")
    assert [] == await names(desk, f"email={ADDRESS}&username=b")
    assert [] == await names(desk, "email=carol@example.com"), "a username is no confirmed address"
    assert ["alan"] == await names(desk, "disabled=true")
    assert ["alice"] == await names(desk, "disabled=false&username=al")
    assert ["bob"] == await names(desk, "role=cashier&mfa=asked")
    assert [] == await names(desk, "role=cashier&mfa=off")
    for hostile in (
        "username=%00",
        "username=%25",
        "username=_",
        "username=%27%20OR%201=1",
        "role=%00",
        "role=%C3%A9",
    ):
        assert [] == await names(desk, hostile), hostile
    for wrong in ("email=x", "email=%00", "disabled=maybe", "mfa=on", "limit=0", "limit=201", "cursor=x",
                  "username=" + "x" * 129):  # fmt: skip
        assert (422, "invalid_request") == await desk.refused("GET", f"users?{wrong}"), wrong
    first = await desk.get("users?limit=3")
    assert ["carol@example.com"] == await names(desk, f"limit=3&cursor={first['next_cursor']}")
    assert 422 == (await desk.refused("GET", f"users?limit=3&role=x&cursor={first['next_cursor']}"))[0]


async def test_an_account_is_made_with_a_password(api: Client, desk: Caller, clock: MovableClock) -> None:
    """Its address is requested, not confirmed; its first login begins the enrolment that was required."""
    body = {"username": "Alice", "password": PASSWORD, "enable_mfa": True, "email": ADDRESS, "roles": ["b", "a"]}
    answer = await desk.call("POST", "users", {**body, "locale": "de"})
    assert 201 == answer.status_code, answer.text
    made = answer.json()["user"]
    assert ("alice", None, ADDRESS, ["a", "b"], "asked") == tuple(
        made[name] for name in ("username", "email", "new_email", "roles", "mfa")
    )
    assert "secret" not in answer.text
    assert "otpauth" not in answer.text
    assert (await Person(api, clock, "alice").give_password()).json()["mfa_required"] is True
    assert (409, "username_taken") == await desk.refused("POST", "users", body)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_request"),
        ({"username": "alice"}, "invalid_request"),
        ({"password": PASSWORD}, "invalid_request"),
        ({"email": ADDRESS, "enable_mfa": True}, "invalid_request"),
        ({"username": "alice", "password": "short"}, "weak_password"),
        ({"username": "alice", "password": PASSWORD, "roles": ["Admin"]}, "invalid_request"),
        ({"username": "alice", "password": PASSWORD, "roles": ["everyone"]}, "invalid_request"),
        ({"username": "alice", "password": PASSWORD, "claims": {}}, "invalid_request"),
        ({"username": "a\x00b", "password": PASSWORD}, "invalid_request"),
        ({"email": ADDRESS, "sub": "chosen"}, "invalid_request"),
    ],
)
async def test_an_account_that_cannot_be_is_refused(
    api: Client, desk: Caller, body: dict[str, Any], code: str
) -> None:
    assert (422, code) == await desk.refused("POST", "users", body)
    assert [] == await names(desk, "")


async def test_an_account_without_a_password_is_an_invitation(api: Client, desk: Caller) -> None:
    """A message brings the link: the answer has none."""
    answer = (await desk.call("POST", "users", {"email": ADDRESS, "roles": ["x"]})).json()
    assert (None, None) == (answer["user"], answer["invited"]["link"])
    assert ADDRESS == answer["invited"]["invitation"]["email"]
    assert [] == await names(desk, "")


async def test_a_change_is_made_as_a_whole_or_not_at_all(api: Client, desk: Caller, clock: MovableClock) -> None:
    """Fields that are absent stay; a refused address leaves the roles as they were."""
    alice = await sign_up(api, clock, "alice", mfa=False)
    await set_address(api, alice, ADDRESS)
    token, sub = await access_token(alice), (await api.parts.administration.get("alice")).id
    changed = (await desk.call("PATCH", f"users/{sub}", {"roles": ["b", "a", "a"]})).json()
    assert (["a", "b"], ADDRESS, False) == (changed["roles"], changed["email"], changed["disabled"])
    assert (422, "invalid_request") == await desk.refused(
        "PATCH", f"users/{sub}", {"roles": [], "email": ADDRESS.upper()}
    )
    assert (409, "account_disabled") == await desk.refused(
        "PATCH", f"users/{sub}", {"disabled": True, "email": "new@example.com"}
    )
    assert await is_live(api, token)
    shown = await desk.get(f"users/{sub}")
    assert (["a", "b"], ADDRESS, None) == (shown["roles"], shown["email"], shown["new_email"])
    changed = (await desk.call("PATCH", f"users/{sub}", {"email": "new@example.com"})).json()
    assert (ADDRESS, "new@example.com") == (changed["email"], changed["new_email"])
    changed = (await desk.call("PATCH", f"users/{sub}", {"email": None, "disabled": True})).json()
    assert (None, None, True, []) == tuple(changed[n] for n in ("email", "new_email", "disabled", "sessions"))
    assert not await is_live(api, token)
    refused: list[dict[str, Any]] = [
        {"claims": []}, {"username": "x"}, {"roles": "x"}, {"disabled": "yes"}, {"email": "x"}, {"roles": ["A"]},
        {"roles": [str(n) for n in range(17)]}, {"roles": ["a\x00"]},
    ]  # fmt: skip
    for wrong in refused:
        assert (422, "invalid_request") == await desk.refused("PATCH", f"users/{sub}", wrong), wrong


async def test_a_change_that_changes_nothing_records_nothing(api: Client, desk: Caller, clock: MovableClock) -> None:
    """So that a program may repeat what it wants to be so."""
    sub = await sub_of(api, clock, "bob")
    wanted = {"roles": ["a"], "disabled": True, "email": None, "locale": "de"}
    await desk.call("PATCH", f"users/{sub}", wanted)
    before = (await desk.get(f"users/{sub}/events"))["events"]
    assert 200 == (await desk.call("PATCH", f"users/{sub}", wanted)).status_code
    assert 200 == (await desk.call("PATCH", f"users/{sub}", {})).status_code
    assert before == (await desk.get(f"users/{sub}/events"))["events"]


async def test_the_language_of_a_user_is_changed_and_removed(api: Client, desk: Caller, clock: MovableClock) -> None:
    """The next messages are in it. The event has the language and the actor, and its user sees it."""
    alice = await sign_up(api, clock, "alice", mfa=False)
    token, sub = await set_address(api, alice, ADDRESS), (await api.parts.administration.get("alice")).id
    for locale in ("de-CH", "de-CH", None):
        changed = (await desk.call("PATCH", f"users/{sub}", {"locale": locale})).json()
        assert (locale, ADDRESS, []) == (changed["locale"], changed["email"], changed["roles"])
        assert locale == (await api.get("/me", headers=bearer(token))).json()["locale"]
    assert [] == (await desk.call("PATCH", f"users/{sub}", {"locale": "fr", "roles": []})).json()["roles"]
    assert "fr" == (await desk.call("PATCH", f"users/{sub}", {"roles": ["a"]})).json()["locale"], "absent: it stays"
    for wrong in ("", "german!", "de_CH", "x" * 65, 1, ["de"]):
        assert (422, "invalid_request") == await desk.refused("PATCH", f"users/{sub}", {"locale": wrong}), wrong
    seen = (await api.get("/events", headers=bearer(token))).json()["events"]
    assert [("fr", "client:desk"), ("", "client:desk"), ("de-CH", "client:desk")] == [
        (event["details"]["locale"], event["details"]["by"])
        for event in seen
        if event["event"] == "user.locale_changed"
    ]


OF_A_USER = [
    ("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/password-reset"), ("POST", "/reset-mfa"),
    ("GET", "/sessions"), ("DELETE", "/sessions"), ("GET", "/events"),
]  # fmt: skip

WHITE_SPACE = ["%20", "%09", "%0A", "%0D%0A", "%C2%A0", "%E2%80%8B", "%E3%80%80"]


@pytest.mark.parametrize("space", WHITE_SPACE)
async def test_an_id_with_white_space_is_another_id(
    api: Client, desk: Caller, clock: MovableClock, space: str
) -> None:
    """In every path, before and after the id, the answer is that for an unknown or a malformed one."""
    sub = await sub_of(api, clock, "bob")
    sid = claims(await access_token(Person(api, clock, "bob")))["sid"]
    invitation = (await desk.call("POST", "invitations", {})).json()["invitation"]["id"]
    paths: list[tuple[str, str, str, int]] = [
        *((method, f"users/{{}}{rest}", sub, 404) for method, rest in OF_A_USER),
        ("DELETE", f"users/{sub}/sessions/{{}}", sid, 404),
        *((method, "clients/{}", "desk", 404) for method in ("GET", "DELETE")),
        ("POST", "clients/{}/rotate-secret", "desk", 404),
        *((method, "invitations/{}", invitation, 422) for method in ("GET", "DELETE")),
    ]
    for method, path, identity, status in paths:
        body: Any = {} if method == "PATCH" or path.endswith("rotate-secret") else None
        for wrong in (f"{identity}{space}", f"{space}{identity}"):
            answer = await desk.call(method, path.format(wrong), body)
            assert status == answer.status_code, (method, path, wrong)
    assert 200 == (await desk.call("GET", f"users/{sub}")).status_code
    assert 200 == (await desk.call("GET", f"invitations/{invitation}")).status_code


async def test_a_message_brings_a_password_reset_or_the_answer_has_its_link(
    api: Client, desk: Caller, clock: MovableClock
) -> None:
    """Only a user with a confirmed address gets a message. The user's own requests are not used up by it."""
    alice = await sign_up(api, clock, "alice", mfa=False)
    sub = (await api.parts.administration.get("alice")).id
    shown = await desk.call("POST", f"users/{sub}/password-reset")
    assert (200, int(clock().timestamp()) + 3600) == (shown.status_code, shown.json()["expires_at"])
    token = shown.json()["link"].partition("#reset-password=")[2]
    body = {"token": token, "new_password": PASSWORD}
    assert 204 == (await api.post("/password-reset/confirm", json=body)).status_code
    assert 401 == (await api.post("/password-reset/confirm", json=body)).status_code, "it works once"
    await set_address(api, alice, ADDRESS)
    for _ in range(4):
        sent = await desk.call("POST", f"users/{sub}/password-reset")
        assert (202, {"link": None, "expires_at": None}) == (sent.status_code, sent.json())
    for _ in range(4):
        await api.post("/password-reset", json={"username": "alice"})
    events = (await desk.get(f"users/{sub}/events"))["events"]
    requested = [e["details"].get("by") for e in events if e["event"] == "password.reset_requested"]
    assert [None] * 3 + ["client:desk"] * 5 == requested
    await desk.call("PATCH", f"users/{sub}", {"disabled": True})
    assert (409, "account_disabled") == await desk.refused("POST", f"users/{sub}/password-reset")


async def test_without_a_transport_links_are_shown_and_addresses_refused(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """Nobody could confirm an address."""
    async with open_client({**world, "admin_api": "on", "messages": "off"}) as api:
        desk = await token_of_client(api, clock, "desk", SCOPES)
        sub = await sub_of(api, clock, "bob")
        assert (422, "invalid_request") == await desk.refused("PATCH", f"users/{sub}", {"email": ADDRESS})
        body = {"username": "alice", "password": PASSWORD, "email": ADDRESS}
        assert (422, "invalid_request") == await desk.refused("POST", "users", body)
        invited = (await desk.call("POST", "users", {"email": ADDRESS})).json()["invited"]
        assert "#invitation=ktl_" in invited["link"]
        assert 200 == (await desk.call("POST", f"users/{sub}/password-reset")).status_code


async def test_sessions_are_listed_and_ended(api: Client, desk: Caller, clock: MovableClock) -> None:
    """One, then all; a session of another user is not found, and pending tokens are revoked with all."""
    alice, bob = await sign_up(api, clock, "alice"), await sign_up(api, clock, "bob", mfa=False)
    first = (await alice.confirm()).json()["access_token"]
    clock.next_step()
    second = (await alice.log_in()).json()["access_token"]
    other = await access_token(bob)
    pending = await alice.pending()
    sub, bobs = [(await api.parts.administration.get(name)).id for name in ("alice", "bob")]
    path = f"users/{sub}/sessions"
    listed = (await desk.get(path))["sessions"]
    own = (await api.get("/sessions", headers=bearer(second))).json()["sessions"]
    assert [True, False] == [session.pop("current") for session in own]
    assert own == listed, "users and administrators see the same fields"
    (other_session,) = (await desk.get(f"users/{bobs}/sessions"))["sessions"]
    for wrong in (other_session["sid"], "0" * 22, "x", "%00"):
        assert (404, "not_found") == await desk.refused("DELETE", f"{path}/{wrong}")
    mine = {entry["sid"] for entry in listed}
    assert 204 == (await desk.call("DELETE", f"{path}/{claims(first)['sid']}")).status_code
    assert [False, True, True] == [await is_live(api, token) for token in (first, second, other)]
    assert mine == {claims(first)["sid"], claims(second)["sid"]}
    assert 204 == (await desk.call("DELETE", path)).status_code
    assert [False, True] == [await is_live(api, token) for token in (second, other)]
    clock.next_step()
    assert 401 == (await alice.give_code(mfa_token=pending)).status_code


async def test_an_account_is_shown_reset_and_deleted(api: Client, desk: Caller, clock: MovableClock) -> None:
    """The answer has no secret; afterwards the account does not exist."""
    root = await administrator(api, clock)
    alice = await sign_up(api, clock, "alice")
    token = (await alice.confirm()).json()["access_token"]
    sub = (await api.parts.administration.get("alice")).id
    shown = await desk.get(f"users/{sub}")
    assert ("confirmed", 10, 1) == (shown["mfa"], shown["recovery_codes_left"], len(shown["sessions"]))
    assert alice.secret not in str(shown)
    assert 204 == (await desk.call("POST", f"users/{sub}/reset-mfa")).status_code
    assert "off" == (await desk.get(f"users/{sub}"))["mfa"]
    assert 401 == (await api.get("/me", headers=bearer(token))).status_code
    assert 204 == (await root.call("DELETE", f"users/{sub}")).status_code
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/sessions"), ("POST", "/reset-mfa")):
        assert (404, "not_found") == await root.refused(method, f"users/{sub}{path}")
    for hostile in ("alice", "%00", "%C3%A9", "..%5c", "'", "sub:" + root.sub, "%20"):
        assert (404, "not_found") == await root.refused("GET", f"users/{hostile}"), hostile


SUBS = ["a", "a/sessions", "a%2Fsessions", "auth0|x/y", "f:0f8f:jane/doe", "/", "//", "a/", "/a", "a%", "%2F", "%25",
        "a?b", "a#b", "a;b=c", "a+b", "..", ".", "../clients", "sub:a", "x/" * 127, "~!$&'()*=@[]{}<>^`"]  # fmt: skip


async def test_every_sub_that_an_import_accepts_has_a_path(api: Client, desk: Caller, clock: MovableClock) -> None:
    """Percent-encoded, each is one segment: no `sub` reaches the account or the operation of another one."""
    lines = [record(f"user{number}", sub=sub) for number, sub in enumerate(SUBS)]
    assert (len(SUBS), []) == await import_lines(api, clock, lines)
    for number, sub in enumerate(SUBS):
        path = f"/admin/users/{encoded(sub)}"
        shown = await raw(api, desk, "GET", path)
        assert 200 == shown.status_code, sub
        assert (sub, f"user{number}") == (shown.json()["sub"], shown.json()["username"])
        await Person(api, clock, f"user{number}", "correct horse battery staple").give_password()
        for below, member in (("sessions", "sessions"), ("events", "events")):
            assert 1 == len((await raw(api, desk, "GET", f"{path}/{below}")).json()[member]), sub
    assert 204 == (await raw(api, desk, "DELETE", "/admin/users/a%2Fsessions")).status_code
    assert 1 == len((await raw(api, desk, "GET", "/admin/users/a/sessions")).json()["sessions"])
    assert 404 == (await raw(api, desk, "GET", "/admin/users/a%2Fsessions")).status_code
    assert 204 == (await raw(api, desk, "DELETE", "/admin/users/a/sessions")).status_code
    assert SUBS[0] == (await raw(api, desk, "GET", "/admin/users/%61")).json()["sub"]
    for sub in SUBS[2:]:
        path = f"/admin/users/{encoded(sub)}"
        assert 204 == (await raw(api, desk, "DELETE", f"{path}/sessions")).status_code
        assert 204 == (await raw(api, desk, "POST", f"{path}/reset-mfa")).status_code
        assert 200 == (await raw(api, desk, "PATCH", path, {"roles": ["x"]})).status_code
        assert 204 == (await raw(api, desk, "DELETE", path)).status_code
    assert ["user0"] == await names(desk, "")


@pytest.mark.parametrize(
    ("path", "status"),
    [("%E2%80%A6", 404), ("%FF", 404), ("a%00", 404), ("a%2", 404), ("a%252F", 404), ("%2F%2F", 404), ("", 404),
     ("/", 404), ("a/x", 404), ("a%2Fsessions%2F", 404), ("%2Fsessions", 404), ("x" * 256, 422), ("%2F" * 256, 422)],
)  # fmt: skip
async def test_other_paths_are_nobodys(api: Client, desk: Caller, path: str, status: int) -> None:
    assert status == (await raw(api, desk, "GET", f"/admin/users/{path}")).status_code


async def test_a_refused_method_names_the_methods_of_the_path(api: Client, desk: Caller) -> None:
    """That of the operation which the path has, and not of the one that its decoded form would have."""
    for path, allowed in (("a%2Fsessions", "DELETE, GET, PATCH"), ("a/sessions", "DELETE, GET")):
        refused = await raw(api, desk, "PUT", f"/admin/users/{path}")
        assert (405, allowed) == (refused.status_code, refused.headers["allow"])


def encoded(sub: str) -> str:
    """Percent-encode it, dots too: clients resolve `.` and `..`."""
    return quote(sub, safe="").replace(".", "%2E")


async def raw(api: Client, caller: Caller, method: str, path: str, body: Any = None) -> httpx2.Response:
    """Send the path as it is."""
    url = httpx2.URL("http://localhost:8000", raw_path=path.encode())
    return await api.request(method, url, json=body, headers=bearer(caller.token))
