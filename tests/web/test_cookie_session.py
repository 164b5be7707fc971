"""Cookie sessions: the refresh token in a cookie that only pages of the allowed origins use (RFC 10017 section 6).

The sad paths come first: cross-site request forgery, requests without the header, two cookies.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpx2 import Response

from service.origin import OPERATOR
from service.settings import Settings
from service.web.cookie_session import COOKIE, HEADER
from tests.harness.browsers import IN_COOKIE, ISSUER, Browser
from tests.harness.clients import Client, Opener
from tests.harness.people import PASSWORD, MovableClock, Person, sign_up
from tests.harness.sessions import bearer, is_live, refresh

APP = "https://app.example.com"


@pytest.fixture
async def client(world: dict[str, Any], open_client: Opener) -> AsyncIterator[Client]:
    async with open_client({**world, "cors_origins": APP}) as opened:
        yield opened


@pytest.fixture
def browser(client: Client) -> Browser:
    return Browser(client)


def form(**parameters: str) -> dict[str, Any]:
    return {"data": {"grant_type": "refresh_token", **parameters}}


def refused(answer: Response, error: str = "invalid_request") -> bool:
    """Return whether the answer is this error of OAuth, and leaves the cookie as it is."""
    return (400, error) == (answer.status_code, answer.json()["error"]) and "set-cookie" not in answer.headers


# --- cross-site request forgery ---

FOREIGN = [
    "https://evil.example.com", "https://app.example.com.evil.example", "http://app.example.com", f"{APP}:8443",
    f"{APP}/", "https://APP.example.com", "null", "", "*", "http://localhost", "http://localhost:8001",
    "https://localhost:8000", "http://127.0.0.1:8000", f"{APP} {ISSUER}", f"{APP},{ISSUER}",
]  # fmt: skip


async def test_a_foreign_origin_cannot_use_the_cookie(browser: Browser, alice: Person) -> None:
    """The request has the header and the cookie, and is refused; the session stays as it is."""
    await browser.log_in(alice)
    for origin in FOREIGN:
        assert refused(await Browser(browser.client, origin, browser.cookie).refresh()), origin
    assert 200 == (await browser.refresh()).status_code


async def test_a_request_without_an_origin_cannot_use_the_cookie(browser: Browser, alice: Person) -> None:
    """A browser sends `Origin` with every POST, so such a request is not that of a page."""
    await browser.log_in(alice)
    headers = {**IN_COOKIE, "Cookie": f"{COOKIE}={browser.cookie}"}
    assert refused(await browser.client.post("/token", headers=headers, **form()))
    assert 200 == (await browser.refresh()).status_code


async def test_two_origins_are_refused(browser: Browser, alice: Person) -> None:
    """Both may be allowed: no browser sends the header twice."""
    await browser.log_in(alice)
    for second in (ISSUER, APP, "https://evil.example.com"):
        headers = [
            ("Origin", ISSUER),
            ("Origin", second),
            (HEADER, "cookie"),
            ("Cookie", f"{COOKIE}={browser.cookie}"),
        ]
        assert refused(await browser.client.post("/token", headers=headers, **form()))


async def test_a_foreign_origin_cannot_set_the_cookie(client: Client) -> None:
    """Neither with a password nor with a token of its own: the user would act in the session of somebody else."""
    bob = await sign_up(client, client.clock, "bob", mfa=False)
    token = (await bob.give_password()).json()["refresh_token"]
    for origin in FOREIGN:
        other = Browser(client, origin)
        for path in ("/login", "/me/restore"):
            answer = await other.post(path, json={"username": "bob", "password": PASSWORD})
            assert (422, "invalid_request") == (answer.status_code, answer.json()["code"]), origin
            assert ["Origin"] == [field["field"] for field in answer.json()["errors"]]
        assert refused(await other.refresh(refresh_token=token)), origin
        assert other.cookie is None
    assert 200 == (await refresh(client, token)).status_code


async def test_a_refused_origin_uses_up_no_code(browser: Browser, client: Client, alice: Person) -> None:
    """The origin is checked before the code, so the user's page can send it."""
    pending = await alice.pending()
    body = {"mfa_token": pending, "otp": alice.code()}
    assert 422 == (await Browser(client, "https://evil.example.com").post("/login-2fa", json=body)).status_code
    assert 200 == (await browser.post("/login-2fa", json=body)).status_code


# --- without the header ---


async def test_without_the_header_no_cookie_is_looked_at(browser: Browser, client: Client, alice: Person) -> None:
    """Every operation answers as if there were no cookie, and none sets one."""
    await browser.log_in(alice)
    cookie = {"Origin": ISSUER, "Cookie": f"{COOKIE}={browser.cookie}"}
    document = client.app.openapi()
    for path, methods in document["paths"].items():
        for method in methods:
            url = path.replace("{username}", "alice").replace("{sid}", "a" * 22).replace("{factor_id}", "x")
            plain, with_cookie = [
                await client.request(method.upper(), url, headers={"Origin": ISSUER, **headers})
                for headers in ({}, cookie)
            ]
            assert plain.status_code == with_cookie.status_code, path
            assert "set-cookie" not in with_cookie.headers, path
    assert refused(await client.post("/token", headers=cookie, **form()))
    assert 200 == (await browser.refresh()).status_code


async def test_without_the_header_tokens_are_in_the_body(client: Client, alice: Person) -> None:
    """A login and a refresh answer as before, whatever the cookies and the origin."""
    headers = {"Origin": "https://evil.example.com", "Cookie": f"{COOKIE}=x"}
    pending = await alice.pending()
    answer = await client.post("/login-2fa", json={"mfa_token": pending, "otp": alice.code()}, headers=headers)
    assert "set-cookie" not in answer.headers
    again = await client.post("/token", headers=headers, **form(refresh_token=answer.json()["refresh_token"]))
    assert "refresh_token" in again.json()
    assert "set-cookie" not in again.headers


async def test_another_value_of_the_header_is_refused(client: Client, alice: Person) -> None:
    """If it were ignored, the refresh token would be in the body, where a script can read it."""
    bodies = {
        "/login": {"username": "alice", "password": PASSWORD},
        "/login-2fa": {"mfa_token": await alice.pending(), "otp": alice.code()},
        "/me/restore": {"username": "alice", "password": PASSWORD},
    }
    for value in ("", "Cookie", "cookies", "memory", "cookie, cookie", "cookie;", "1"):
        headers = {HEADER: value, "Origin": ISSUER}
        for path, body in bodies.items():
            answer = await client.post(path, json=body, headers=headers)
            assert (422, [HEADER]) == (answer.status_code, [field["field"] for field in answer.json()["errors"]])
        assert refused(await client.post("/token", headers=headers, **form(refresh_token="x")))
    twice = [("Origin", ISSUER), (HEADER, "cookie"), (HEADER, "cookie")]
    assert refused(await client.post("/token", headers=twice, **form()))


# --- the cookies of a request ---


async def test_two_cookies_of_the_name_are_refused(browser: Browser, alice: Person) -> None:
    """One of them is not the service's. The cookie is not removed either: the other one would be left."""
    await browser.log_in(alice)
    own = f"{COOKIE}={browser.cookie}"
    for lines in (
        [f"{own}; {own}"], [own, own], [f"{own}; {COOKIE}=ktr_other"], [f"{COOKIE}=; {own}"],
        [f"a=b;{own};c=d", f"{COOKIE}=x"],
    ):  # fmt: skip
        headers = [("Origin", ISSUER), (HEADER, "cookie"), *(("Cookie", line) for line in lines)]
        assert refused(await browser.client.post("/token", headers=headers, **form())), lines
    assert 200 == (await browser.refresh()).status_code


async def test_other_cookies_are_no_session(browser: Browser, alice: Person) -> None:
    """Names are compared exactly, and only `;` separates cookies."""
    await browser.log_in(alice)
    value, own = browser.cookie, f"{COOKIE}={browser.cookie}"
    for line in (
        "", f"x{own}", f"__host-keyturn-refresh={value}", f"{COOKIE.upper()}={value}", f"keyturn-refresh={value}",
        f"={value}", f"={own}", COOKIE, f"{COOKIE} ={value}", f"a={own}", f"$Version=1, {own}", f"a=b, {own}",
        f'"{own}"', f"{COOKIE}%3D{value}", f"a=b&{own}",
    ):  # fmt: skip
        headers = {"Origin": ISSUER, **IN_COOKIE, "Cookie": line}
        answer = await browser.client.post("/token", headers=headers, **form())
        assert refused(answer, "invalid_grant"), line


async def test_the_cookie_is_found_among_others(browser: Browser, alice: Person) -> None:
    """Cookies of other applications of the host are ignored, with or without spaces."""
    await browser.log_in(alice)
    for line in (
        "{0}", "a=b; {0}", "{0};a=b", "a=b ; {0} ; c", ";;{0};", "__Host-other=1; {0}", "a=" + "x" * 8000 + "; {0}",
        'a="b; {0}; c=d"',
    ):  # fmt: skip
        headers = {"Cookie": line.replace("{0}", f"{COOKIE}={browser.cookie}")}
        assert 200 == (await browser.post("/token", headers=headers, **form())).status_code, line


async def test_a_forged_cookie_is_no_session(browser: Browser, alice: Person) -> None:
    """The answer is that of an ended session, and nothing changes for the session."""
    await browser.log_in(alice)
    value = browser.cookie or ""
    for forged in ("", "x", "ktr_", "ktr_" + "A" * 90, f'"{value}"', f"{value}.", "%6btr_" + value[4:], f"{value} x"):
        other = Browser(browser.client, cookie=forged)
        answer = await other.refresh()
        assert (400, "invalid_grant") == (answer.status_code, answer.json()["error"]), forged
        assert "set-cookie" not in answer.headers
    assert 200 == (await browser.refresh()).status_code


async def test_without_a_cookie_there_is_no_session(browser: Browser) -> None:
    """The answer says to log in."""
    assert refused(await browser.refresh(), "invalid_grant")


# --- the life of a cookie session ---


async def test_a_login_sets_the_cookie(browser: Browser, client: Client, alice: Person) -> None:
    """It has the lifetime of the refresh token, and no body has the token; a pending token sets nothing."""
    tokens = await browser.log_in(alice)
    assert await is_live(client, tokens["access_token"])
    assert 7 * 86400 == browser.max_age
    bob = await sign_up(client, client.clock, "bob", mfa=False)
    await Browser(client).log_in(bob)


async def test_an_enrolment_sets_the_cookie(browser: Browser, client: Client, clock: MovableClock) -> None:
    """The first code of an authenticator opens the session."""
    carol = await sign_up(client, clock, "carol")
    answer = await browser.post("/login-2fa", json={"mfa_token": carol.mfa_token, "otp": carol.code()})
    assert 10 == len(answer.json()["recovery_codes"])
    assert "refresh_token" not in answer.json()
    assert 200 == (await browser.refresh()).status_code


async def test_a_restored_account_sets_the_cookie(browser: Browser, client: Client, alice: Person) -> None:
    """With a second factor /login-2fa sets it, without one /me/restore itself."""
    bob = await sign_up(client, client.clock, "bob", mfa=False)
    for person in (bob, alice):
        person.client = client
        tokens = await Browser(client).log_in(person)
        client.clock.next_step()
        headers = bearer(tokens["access_token"])
        assert (
            202 == (await client.request("DELETE", "/me", json={"password": PASSWORD}, headers=headers)).status_code
        )
        own = Browser(client)
        answer = await own.post("/me/restore", json={"username": person.username, "password": PASSWORD})
        if answer.json()["mfa_required"]:
            assert own.cookie is None
            body = {"mfa_token": answer.json()["mfa_token"], "otp": person.code()}
            answer = await own.post("/login-2fa", json=body)
        assert "refresh_token" not in answer.json()
        assert 200 == (await own.refresh()).status_code


async def test_a_step_up_leaves_the_cookie(browser: Browser, client: Client, alice: Person) -> None:
    """The session keeps its refresh token, and so its cookie."""
    tokens = await browser.log_in(alice)
    client.clock.next_step()
    pending = (await client.post("/step-up", headers=bearer(tokens["access_token"]))).json()["mfa_token"]
    answer = await browser.post("/login-2fa", json={"mfa_token": pending, "otp": alice.code()})
    assert (200, []) == (answer.status_code, answer.headers.get_list("set-cookie"))
    assert 200 == (await browser.refresh()).status_code


@pytest.mark.parametrize("origin", [ISSUER, APP])
async def test_the_cookie_is_exchanged_at_each_refresh(
    browser: Browser, client: Client, alice: Person, origin: str
) -> None:
    """The issuer's pages and the allowed origins get an access token in the body, and the successor in the cookie."""
    browser.origin = origin
    await browser.log_in(alice)
    seen = {browser.cookie}
    for _ in range(3):
        client.clock.advance(seconds=11)
        answer = await browser.refresh()
        assert {"access_token", "token_type", "expires_in"} == set(answer.json())
        assert await is_live(browser.client, answer.json()["access_token"])
        seen.add(browser.cookie)
    assert 4 == len(seen)


async def test_the_cookie_lives_as_long_as_the_session(browser: Browser, client: Client, alice: Person) -> None:
    """Seven days after each refresh, and never beyond the thirty days of the session."""
    await browser.log_in(alice)
    for day in range(6, 31, 6):
        client.clock.advance(days=6, seconds=-1)
        await browser.refresh()
        if day == 30:
            assert 5 == browser.max_age
            break
        assert 7 * 86400 == browser.max_age or browser.max_age == (30 - day) * 86400 + day // 6
    client.clock.advance(seconds=5)
    assert refused(await browser.refresh(), "invalid_grant")


async def test_twenty_tabs_get_one_cookie(browser: Browser, client: Client, alice: Person) -> None:
    """Whichever answer arrives last, its cookie is the valid one; also ten seconds later."""
    await browser.log_in(alice)
    tabs = [Browser(client, cookie=browser.cookie) for _ in range(20)]
    answers = await asyncio.gather(*(tab.refresh() for tab in tabs))
    assert {200} == {answer.status_code for answer in answers}
    (last,) = {tab.cookie for tab in tabs}
    client.clock.advance(seconds=11)
    assert 200 == (await Browser(client, cookie=last).refresh()).status_code


async def test_tabs_that_wake_one_after_the_other_rotate_once(
    browser: Browser, client: Client, alice: Person
) -> None:
    """For ten seconds after a rotation the new cookie stays, and gives access tokens of the session as it is now."""
    await browser.log_in(alice)
    assert 200 == (await browser.refresh()).status_code
    cookie = browser.cookie
    for seconds in (0, 3, 7):
        client.clock.advance(seconds=seconds)
        answer = await browser.refresh()
        assert {"access_token", "token_type", "expires_in"} == set(answer.json())
        assert "set-cookie" not in answer.headers
        assert await is_live(client, answer.json()["access_token"])
    client.clock.advance(seconds=1)
    assert 200 == (await browser.refresh()).status_code
    assert cookie != browser.cookie
    assert 7 * 86400 == browser.max_age


async def test_a_recent_cookie_of_an_ended_session_is_refused(client: Client, alice: Person) -> None:
    """A logout applies at once, and so does a disabled account."""

    async def log_out(tokens: dict[str, Any]) -> None:
        assert 204 == (await client.post("/logout", headers=bearer(tokens["access_token"]))).status_code

    async def disable(_: dict[str, Any]) -> None:
        await client.parts.administration.set_disabled("alice", disabled=True, by=OPERATOR)

    for way in (log_out, disable):
        client.clock.next_step()
        browser = Browser(client)
        tokens = await browser.log_in(alice)
        await browser.refresh()
        assert 200 == (await browser.refresh()).status_code
        await way(tokens)
        assert refused(await browser.refresh(), "invalid_grant")


async def test_a_copy_of_a_recent_cookie_ends_the_session_later(client: Client, alice: Person) -> None:
    """For ten seconds a copy is not noticed, as with the cookie before. Whichever holder is late ends the session."""
    for thief_is_late in (True, False):
        client.clock.next_step()
        browser = Browser(client)
        await browser.log_in(alice)
        await browser.refresh()
        thief = Browser(client, cookie=browser.cookie)
        tokens = (await thief.refresh()).json()
        assert thief.cookie == browser.cookie
        early, late = (browser, thief) if thief_is_late else (thief, browser)
        client.clock.advance(seconds=11)
        assert 200 == (await early.refresh()).status_code
        client.clock.advance(seconds=11)
        for one in (late, early):
            assert refused(await one.refresh(), "invalid_grant")
        assert not await is_live(client, tokens["access_token"])


async def test_a_recent_token_in_the_body_is_replaced(browser: Browser, client: Client, alice: Person) -> None:
    """Only a cookie is shared by tabs. A token of the body becomes another one, with and without the header."""
    token = (await alice.log_in()).json()["refresh_token"]
    seen = {token}
    for _ in range(2):
        token = (await refresh(client, token)).json()["refresh_token"]
        seen.add(token)
    assert 200 == (await browser.refresh(refresh_token=token)).status_code
    assert 4 == len({*seen, browser.cookie})


async def test_a_copied_cookie_ends_the_session(browser: Browser, client: Client, alice: Person) -> None:
    """A cookie that was replaced long ago is a copy; both holders lose the session."""
    await browser.log_in(alice)
    thief = Browser(client, cookie=browser.cookie)
    await browser.refresh()
    client.clock.advance(seconds=11)
    for one in (thief, browser):
        assert refused(await one.refresh(), "invalid_grant")


async def test_a_late_refusal_leaves_the_cookie_of_a_newer_login(
    browser: Browser, client: Client, alice: Person
) -> None:
    """A tab refreshes an ended session while the user logs in in another one: only `/logout` removes the cookie."""
    tokens = await browser.log_in(alice)
    assert 204 == (await client.post("/logout", headers=bearer(tokens["access_token"]))).status_code
    assert refused(await browser.refresh(), "invalid_grant")


# --- a token in the body, and what else a request can have ---


async def test_a_token_in_the_body_moves_into_the_cookie(browser: Browser, client: Client, alice: Person) -> None:
    """With the header the body comes first, so that an application can move its sessions; the cookie is not read."""
    token = (await alice.log_in()).json()["refresh_token"]
    for cookies in ("", "x=y", f"{COOKIE}=forged", f"{COOKIE}=forged; {COOKIE}=twice"):
        answer = await browser.post(
            "/token", headers={"Cookie": cookies}, **form(refresh_token=browser.cookie or token)
        )
        assert 200 == answer.status_code
        assert "refresh_token" not in answer.json()
    assert 200 == (await browser.refresh()).status_code
    wrong = await browser.refresh(refresh_token="ktr_wrong")
    assert refused(wrong, "invalid_grant"), "the cookie is not that of the body, and stays"
    assert 200 == (await browser.refresh()).status_code


async def test_an_empty_token_in_the_body_is_none(browser: Browser, alice: Person) -> None:
    """RFC 6749 section 3.2: a parameter without a value counts as absent."""
    await browser.log_in(alice)
    assert 200 == (await browser.refresh(refresh_token="")).status_code


async def test_other_faults_leave_the_cookie(browser: Browser, alice: Person) -> None:
    """A scope, a wrong client and another grant are refused as without a cookie."""
    await browser.log_in(alice)
    for parameters, error in (
        ({"scope": "x"}, "invalid_scope"),
        ({"client_id": "nobody", "client_secret": "x"}, "invalid_client"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, "invalid_client"),
    ):
        answer = await browser.post("/token", data={"grant_type": "refresh_token", **parameters})
        assert error == answer.json()["error"]
        assert "set-cookie" not in answer.headers
    assert 200 == (await browser.refresh()).status_code


# --- logout ---


@pytest.mark.parametrize("query", ["", "?everywhere=true"])
async def test_a_logout_removes_the_cookie(browser: Browser, client: Client, alice: Person, query: str) -> None:
    """The bearer decides which session ends."""
    tokens = await browser.log_in(alice)
    copy = Browser(client, cookie=browser.cookie)
    answer = await browser.post(f"/logout{query}", headers=bearer(tokens["access_token"]))
    assert (204, None, 0) == (answer.status_code, browser.cookie, browser.max_age)
    assert not await is_live(client, tokens["access_token"])
    assert "invalid_grant" == (await copy.refresh()).json()["error"]


async def test_the_cookie_is_no_bearer(browser: Browser, client: Client, alice: Person) -> None:
    """Without a valid access token nothing ends, and the cookie stays."""
    tokens = await browser.log_in(alice)
    for headers in ({}, bearer("x"), bearer(browser.cookie or "")):
        answer = await browser.post("/logout", headers=headers)
        assert 401 == answer.status_code
        assert browser.cookie is not None
    assert await is_live(client, tokens["access_token"])
    plain = await client.post("/logout", headers={**bearer(tokens["access_token"]), "Cookie": f"{COOKIE}=x"})
    assert (204, False) == (plain.status_code, "set-cookie" in plain.headers)


# --- settings, CORS, log ---


@pytest.mark.parametrize(
    ("issuer", "origin"),
    [
        ("https://auth.example.com", "https://auth.example.com"),
        ("https://auth.example.com:8443/a/b", "https://auth.example.com:8443"),
        ("https://AUTH.example.com:443/x", "https://auth.example.com"),
        ("http://[::1]:80", "http://[::1]"),
        ("http://localhost:8000", "http://localhost:8000"),
    ],
)  # fmt: skip
def test_the_origin_of_the_issuer(issuer: str, origin: str) -> None:
    """It is scheme, host and port as browsers send them, without the path."""
    assert origin == Settings(issuer=issuer).issuer_origin


async def test_an_allowed_origin_may_send_the_cookie(client: Client) -> None:
    """CORS allows credentials and the header for the named origins, never for `*` or another one."""
    for origin, is_allowed in ((APP, True), ("https://evil.example.com", False), ("null", False)):
        asked = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "keyturn-session,content-type",
        }
        for answer in (
            await client.options("/token", headers=asked),
            await client.post("/token", headers={"Origin": origin, **IN_COOKIE}, **form()),
        ):
            expected = (origin, "true") if is_allowed else (None, None)
            got = [answer.headers.get(f"access-control-allow-{name}") for name in ("origin", "credentials")]
            assert expected == tuple(got)
            assert "Origin" in answer.headers["vary"]
        preflight = await client.options("/token", headers=asked)
        assert (200 if is_allowed else 400) == preflight.status_code
    allowed = preflight.headers["access-control-allow-headers"].split(", ")
    assert HEADER.lower() in allowed


async def test_a_refused_cookie_is_in_the_log(
    browser: Browser, alice: Person, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator sees a forged request, or a setting that lacks an origin."""
    await browser.log_in(alice)
    caplog.set_level(logging.INFO)
    caplog.clear()
    await Browser(browser.client, "https://evil.example.com", browser.cookie).refresh()
    await browser.post("/token", headers={"Cookie": f"{COOKIE}=a; {COOKIE}=b"}, **form())
    refusals = [record for record in caplog.records if record.message == "session.refresh_refused"]
    assert ["foreign_origin", "two_cookies"] == [record.__dict__["details"]["reason"] for record in refusals]


async def test_the_cookie_is_a_canary(browser: Browser, client: Client, alice: Person) -> None:
    """Law 15: logs, metrics, traces, errors and outbox rows hold no secret."""
    await browser.log_in(alice)
    assert browser.cookie in client.watch.canaries
    await browser.post(
        "/token", headers={"Cookie": f"{COOKIE}=a-planted-value; other=another-planted-value"}, **form()
    )
    assert {"a-planted-value", "another-planted-value"} <= client.watch.canaries
