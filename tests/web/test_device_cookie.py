"""The device cookie: a browser keeps the device token of a cookie session in a cookie that no script can read.

It takes the place of `device_token` at `/login`. Whatever is wrong with the cookie, the login goes on as from an
unknown device.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpx2 import Response

from service.tokens.device import DeviceCodec
from service.web.cookie_session import DEVICE_COOKIE, HEADER
from tests.harness.browsers import COOKIE, ISSUER, Browser
from tests.harness.clients import Client, Opener
from tests.harness.devices import log_in, remember
from tests.harness.people import PASSWORD, MovableClock, Person, sign_up
from tests.harness.sessions import bearer, claims

APP = "https://app.example.com"
EVIL = "https://evil.example.com"
DAY = 86400


@pytest.fixture
async def client(world: dict[str, Any], open_client: Opener) -> AsyncIterator[Client]:
    """A service whose operator lets known devices replace the code for thirty days."""
    async with open_client({**world, "cors_origins": APP, "remember_device_days": 30}) as opened:
        yield opened


@pytest.fixture
def browser(client: Client) -> Browser:
    return Browser(client)


@pytest.fixture
async def known(browser: Browser, alice: Person, clock: MovableClock) -> Browser:
    """A browser that is a known device of alice, without a session."""
    await browser.log_in(alice, remember_device=True)
    assert browser.device is not None
    browser.cookie = None
    clock.next_step()
    return browser


def needs_code(answer: Response) -> bool:
    """Return whether the login goes on as from an unknown device, and without an error."""
    assert 200 == answer.status_code, answer.text
    required: bool = answer.json()["mfa_required"]
    return required


async def send(browser: Browser, person: Person, *cookies: str, origin: str | None = ISSUER) -> Response:
    """Send the password of a page with these lines of cookies in place of the browser's."""
    headers = [(HEADER, "cookie"), *(("Cookie", line) for line in cookies)]
    if origin is not None:
        headers.append(("Origin", origin))
    body = {"username": person.username, "password": person.password}
    return await browser.client.post("/login", headers=headers, json=body)


# --- what sets the cookie ---


async def test_a_device_token_is_in_the_cookie_and_not_in_the_body(browser: Browser, alice: Person) -> None:
    """It has the lifetime of the token, and is not the refresh token. The first step of a login sets neither."""
    first = await browser.give_password(alice, remember_device=True)
    assert [] == first.headers.get_list("set-cookie")
    assert "device_token" not in first.json()
    await browser.log_in(alice, remember_device=True)
    assert (90 * DAY, 7 * DAY) == (browser.device_max_age, browser.max_age)
    assert (browser.device or "").startswith("ktd_")
    assert (browser.cookie or "").startswith("ktr_")


async def test_a_login_without_a_second_factor_sets_the_cookie(browser: Browser, client: Client) -> None:
    """So does the answer of `/login` itself."""
    bob = await sign_up(client, client.clock, "bob", mfa=False)
    await browser.log_in(bob, remember_device=True)
    assert browser.device is not None


async def test_the_cookie_is_set_only_if_requested(browser: Browser, alice: Person) -> None:
    """Only the frontend knows whether others use the browser."""
    await browser.log_in(alice)
    assert (None, 0) == (browser.device, browser.device_max_age)


async def test_a_step_up_can_remember_the_device(known: Browser, alice: Person, clock: MovableClock) -> None:
    """The code of a step-up is a proof on this device: its cookie is new, and the refresh cookie stays."""
    tokens = (await known.give_password(alice)).json()
    before = (known.cookie, known.device)
    pending = (await known.client.post("/step-up", headers=bearer(tokens["access_token"]))).json()["mfa_token"]
    body = {"mfa_token": pending, "otp": alice.code(), "remember_device": True}
    answer = await known.post("/login-2fa", json=body)
    assert 200 == answer.status_code
    assert "device_token" not in answer.json()
    assert before[0] == known.cookie
    assert before[1] != known.device


async def test_a_restored_account_can_remember_the_device(
    browser: Browser, client: Client, alice: Person, clock: MovableClock
) -> None:
    """A device is no proof at `/me/restore`, and `/login-2fa` sets the cookie as at any login."""
    tokens = await browser.log_in(alice, remember_device=True)
    clock.next_step()
    await client.request("DELETE", "/me", json={"password": PASSWORD}, headers=bearer(tokens["access_token"]))
    revoked, browser.cookie = browser.device, None
    answer = await browser.post("/me/restore", json={"username": "alice", "password": PASSWORD})
    assert needs_code(answer)
    body = {"mfa_token": answer.json()["mfa_token"], "otp": alice.code(), "remember_device": True}
    assert "device_token" not in (await browser.post("/login-2fa", json=body)).json()
    assert revoked != browser.device
    assert not needs_code(await browser.give_password(alice))


async def test_the_longest_username_fits_into_the_cookie(browser: Browser, client: Client) -> None:
    """The token has the username; browsers store 4,096 bytes, and the service reads 1,024."""
    name = "a" * 64 + "@" + "b" * 59 + ".com"
    assert 128 == len(name)
    long = await sign_up(client, client.clock, name, mfa=False)
    await browser.log_in(long, remember_device=True)
    assert 900 > len(browser.device or "")
    assert not needs_code(await browser.give_password(long))


# --- what the cookie does ---


@pytest.mark.parametrize("origin", [ISSUER, APP])
async def test_the_cookie_replaces_the_code(
    known: Browser, client: Client, alice: Person, clock: MovableClock, origin: str
) -> None:
    """For thirty days after the code on this device, at each allowed origin. The token states what was proved."""
    known.origin = origin
    clock.advance(seconds=30 * DAY - 60)
    answer = await known.give_password(alice)
    assert not needs_code(answer)
    assert (["pwd"], "aal1") == tuple(claims(answer.json()["access_token"])[name] for name in ("amr", "acr"))
    assert "device_token" not in answer.json()
    clock.advance(seconds=60)
    assert needs_code(await known.give_password(alice))


async def test_the_cookie_replaces_no_code_by_default(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """It gives the login a rate limit of its own (law 5: password failures slow down, they never lock out)."""
    async with open_client({**world, "cors_origins": APP}) as client:
        alice = await sign_up(client, clock)
        await alice.confirm()
        clock.next_step()
        browser = Browser(client)
        await browser.log_in(alice, remember_device=True)
        assert needs_code(await browser.give_password(alice))
        for _ in range(5):
            await alice.give_password("not the password")
        assert 429 == (await Browser(client).give_password(alice)).status_code
        assert needs_code(await browser.give_password(alice))


async def test_the_device_has_a_rate_limit_too(known: Browser, alice: Person) -> None:
    """Someone at the browser guesses no faster than others, and keeps no other client waiting."""
    guesses = [await known.give_password(alice, password="not the password") for _ in range(6)]
    assert [401] * 5 + [429] == [answer.status_code for answer in guesses]
    assert needs_code(await Browser(known.client).give_password(alice))


async def test_the_cookie_belongs_to_one_user(known: Browser, client: Client, clock: MovableClock) -> None:
    """Another user of the browser is asked for the code; their device takes the place of the first one."""
    bob = await sign_up(client, clock, "bob")
    await bob.confirm()
    clock.next_step()
    before = known.device
    assert needs_code(await known.give_password(bob))
    await known.log_in(bob)
    assert before == known.device
    known.cookie = None
    clock.next_step()
    await known.log_in(bob, remember_device=True)
    assert before != known.device
    assert not needs_code(await known.give_password(bob))


async def test_an_unknown_user_gets_the_answer_of_a_wrong_password(known: Browser, alice: Person) -> None:
    """Law 8: no answer reveals who exists. The cookie of the browser changes nothing in it."""
    answers = [
        await Browser(known.client, device=device).post("/login", json={"username": name, "password": "a wrong one"})
        for device in (known.device, None)
        for name in ("alice", "nobody")
    ]
    assert {401} == {answer.status_code for answer in answers}
    assert 1 == len({answer.text for answer in answers})
    assert not any("set-cookie" in answer.headers for answer in answers)


# --- how long it is kept ---


async def test_a_logout_leaves_the_device_cookie(known: Browser, alice: Person) -> None:
    """A known device outlives its sessions."""
    tokens = (await known.give_password(alice)).json()
    device = known.device
    answer = await known.post("/logout", headers=bearer(tokens["access_token"]))
    assert (204, None, device) == (answer.status_code, known.cookie, known.device)
    assert not needs_code(await known.give_password(alice))


async def test_a_logout_everywhere_revokes_the_token(known: Browser, alice: Person, clock: MovableClock) -> None:
    """The cookie stays, because it may be that of another user, and is ignored from then on."""
    tokens = (await known.give_password(alice)).json()
    answer = await known.post("/logout?everywhere=true", headers=bearer(tokens["access_token"]))
    assert 204 == answer.status_code
    assert known.device is not None
    assert needs_code(await known.give_password(alice))
    await known.log_in(alice, remember_device=True)
    assert not needs_code(await known.give_password(alice))


async def test_a_login_that_requests_none_keeps_the_cookie(
    known: Browser, alice: Person, clock: MovableClock
) -> None:
    """It is replaced by a new one, never removed; a login without a code does not extend its thirty days."""
    before = known.device
    await known.log_in(alice)
    assert before == known.device
    known.cookie = None
    clock.advance(days=20)
    await known.log_in(alice, remember_device=True)
    assert before != known.device
    clock.advance(days=11)
    assert needs_code(await known.give_password(alice))


# --- cross-site request forgery ---


async def test_without_the_header_the_cookie_is_not_read(known: Browser, client: Client, alice: Person) -> None:
    """The answer is that to an unknown device, and tokens are in the body as before."""
    body = {"username": "alice", "password": PASSWORD, "remember_device": True}
    headers = {"Origin": ISSUER, "Cookie": f"{DEVICE_COOKIE}={known.device}"}
    answer = await client.post("/login", json=body, headers=headers)
    assert needs_code(answer)
    code = {"mfa_token": answer.json()["mfa_token"], "otp": alice.code(), "remember_device": True}
    tokens = await client.post("/login-2fa", json=code, headers=headers)
    assert {"refresh_token", "device_token"} <= set(tokens.json())
    assert "set-cookie" not in tokens.headers
    assert not needs_code(await log_in(alice, device_token=tokens.json()["device_token"]))


async def test_a_foreign_origin_uses_no_device(known: Browser, client: Client, alice: Person) -> None:
    """The login is refused before the password is compared, and so costs the device none of its attempts."""
    for origin in (EVIL, f"{APP}.evil.example", "null", "http://localhost", f"{APP}:8443"):
        for _ in range(2):
            answer = await Browser(client, origin, device=known.device).give_password(alice, password="wrong")
            assert (422, ["Origin"]) == (answer.status_code, [field["field"] for field in answer.json()["errors"]])
            assert "set-cookie" not in answer.headers
    assert not needs_code(await known.give_password(alice))


async def test_a_foreign_origin_sets_no_device(client: Client, alice: Person) -> None:
    """A page of an attacker cannot make the browser a known device, also with a password that it knows."""
    other = Browser(client, EVIL)
    assert 422 == (await other.give_password(alice, remember_device=True)).status_code
    body = {"mfa_token": await alice.pending(), "otp": alice.code(), "remember_device": True}
    assert 422 == (await other.post("/login-2fa", json=body)).status_code
    assert (None, None) == (other.cookie, other.device)


async def test_without_one_origin_there_is_no_device(known: Browser, alice: Person) -> None:
    """A browser sends one `Origin` with each POST. The login goes on, as one of a program without cookies."""
    own = f"{DEVICE_COOKIE}={known.device}"
    assert needs_code(await send(known, alice, own, origin=None))
    headers = [("Origin", ISSUER), ("Origin", APP), (HEADER, "cookie"), ("Cookie", own)]
    body = {"username": "alice", "password": PASSWORD}
    assert needs_code(await known.client.post("/login", headers=headers, json=body))
    assert not needs_code(await send(known, alice, own))


# --- the cookies of a request ---


async def test_two_cookies_are_no_device(known: Browser, alice: Person) -> None:
    """One of them may be somebody else's; the login goes on as if there were none."""
    own, cookie = f"{DEVICE_COOKIE}={known.device}", DEVICE_COOKIE
    for lines in (
        [f"{own}; {own}"], [own, own], [f"{own}; {cookie}=ktd_other"], [f"{cookie}=; {own}"],
        [f"a=b;{own};c=d", f"{cookie}=x"],
    ):  # fmt: skip
        assert needs_code(await send(known, alice, *lines)), lines
    assert not needs_code(await send(known, alice, own))


async def test_a_broken_cookie_is_no_device(known: Browser, alice: Person) -> None:
    """One that is forged, too long or of another kind never makes the login fail."""
    value = known.device or ""
    refresh_token = (await known.client.post("/login-2fa", json=await _code(alice))).json()["refresh_token"]
    for broken in (
        "", "x", "ktd_", "ktd_AAAA", "ktd_" + "A" * 400, f'"{value}"', f"{value}.", "%6btd_" + value[4:],
        f"{value} x", value[:-2] + "AA", value.upper(), "\u00e9", "e30.e30.", "x" * 1025, "x" * 12_000,
        value + "A" * 1025, refresh_token,
    ):  # fmt: skip
        cookie = f"{DEVICE_COOKIE}={broken}".encode("latin-1")
        headers = [(b"Origin", ISSUER.encode()), (HEADER.encode(), b"cookie"), (b"Cookie", cookie)]
        body = {"username": "alice", "password": PASSWORD}
        assert needs_code(await known.client.post("/login", headers=headers, json=body)), broken


async def test_a_genuine_token_that_is_too_long_is_no_device(known: Browser, client: Client, alice: Person) -> None:
    """The bound is that of the field `device_token`, above which a body is refused."""
    devices, now = DeviceCodec(client.parts.sealer), client.clock()
    claims = devices.read(known.device or "", now=now)
    for length, is_known in ((500, True), (700, False)):
        known.device = devices.write(
            user_id=claims.user_id,
            username="a" * length,
            credential_version=claims.credential_version,
            proved_at=claims.proved_at,
            now=now,
        )
        assert is_known is (len(known.device) <= 1024)
        assert is_known is not needs_code(await known.give_password(alice))


async def _code(person: Person) -> dict[str, str]:
    return {"mfa_token": await person.pending(), "otp": person.code()}


async def test_the_cookie_is_found_among_others_and_by_its_exact_name(known: Browser, alice: Person) -> None:
    """Cookies of other applications of the host are ignored; the refresh cookie is no device."""
    own, value = f"{DEVICE_COOKIE}={known.device}", known.device
    for line in (
        f"a=b; {own}", f"{own};a=b", f";;{own};", f"{COOKIE}=ktr_a; {own}", f"{COOKIE}=a; {COOKIE}=b; {own}",
        "a=" + "x" * 8000 + f"; {own}",
    ):  # fmt: skip
        assert not needs_code(await send(known, alice, line)), line
    for line in (
        f"x{own}", f"__host-keyturn-device={value}", f"{DEVICE_COOKIE.upper()}={value}", f"keyturn-device={value}",
        f"={value}", f"={own}", DEVICE_COOKIE, f"a={own}", f"{COOKIE}={value}", f"device_token={value}",
    ):  # fmt: skip
        assert needs_code(await send(known, alice, line)), line


# --- a token in the body ---


async def test_a_token_in_the_body_comes_first(known: Browser, alice: Person, clock: MovableClock) -> None:
    """Then the cookie is not read, whether the token is valid or not. `null` is no token."""
    token = known.device
    assert needs_code(await known.give_password(alice, device_token="ktd_invalid"))
    assert not needs_code(await known.give_password(alice, device_token=None))
    for cookies in (f"{DEVICE_COOKIE}=x", f"{DEVICE_COOKIE}=x; {DEVICE_COOKIE}=y", ""):
        body = {"username": "alice", "password": PASSWORD, "device_token": token}
        answer = await known.post("/login", json=body, headers={"Cookie": cookies})
        assert not needs_code(answer), cookies


async def test_a_token_of_the_body_moves_into_the_cookie(client: Client, alice: Person, clock: MovableClock) -> None:
    """A frontend that kept the token itself sends it once more, and asks to be remembered."""
    token = await remember(alice)
    browser = Browser(client)
    answer = await browser.give_password(alice, device_token=token, remember_device=True)
    assert not needs_code(answer)
    assert "device_token" not in answer.json()
    assert not needs_code(await browser.give_password(alice))


async def test_the_cookie_is_a_canary(known: Browser, client: Client, alice: Person) -> None:
    """Law 15: logs, metrics, traces, errors and outbox rows hold no secret."""
    assert known.device in client.watch.canaries
    await send(known, alice, f"{DEVICE_COOKIE}=a-planted-device; {DEVICE_COOKIE}=another-planted-device")
    assert {"a-planted-device", "another-planted-device"} <= client.watch.canaries
