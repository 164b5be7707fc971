"""Enabling and disabling the second factor."""

import io
from typing import Any

import pytest
from httpx2 import AsyncClient
from PIL import Image

from tests.harness.addresses import set_address
from tests.harness.clients import Client, Opener
from tests.harness.log_records import details_of
from tests.harness.people import PASSWORD, MovableClock, Person, secret_in, sign_up


def bearer(token: str, accept: str = "*/*") -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Accept": accept}


async def test_the_qr_code_is_a_png_of_the_provisioning_uri(client: AsyncClient, clock: MovableClock) -> None:
    """The default is an image format that every browser shows; it is never cached."""
    alice = await sign_up(client, clock)
    answer = await client.get("/qrcode/alice", headers=bearer(alice.mfa_token))
    assert "image/png" == answer.headers["content-type"]
    assert "no-store" == answer.headers["cache-control"]
    assert "PNG" == Image.open(io.BytesIO(answer.content)).format


async def test_the_secret_is_sent_in_the_requested_form(
    client: AsyncClient, clock: MovableClock, caplog: pytest.LogCaptureFixture
) -> None:
    """SVG can be scaled, JSON can be typed in; every other type is refused, and shows nothing."""
    alice = await sign_up(client, clock)
    svg = await client.get("/qrcode/alice", headers=bearer(alice.mfa_token, "image/svg+xml"))
    assert b"<svg" in svg.content
    shown = await client.get("/qrcode/Alice", headers=bearer(alice.mfa_token, "application/json"))
    assert alice.secret == shown.json()["secret"] == secret_in(shown.json()["provisioning_uri"])
    assert "otpauth://totp/Keyturn:alice?" in shown.json()["provisioning_uri"]
    caplog.clear()
    assert 406 == (await client.get("/qrcode/alice", headers=bearer(alice.mfa_token, "text/html"))).status_code
    assert [] == [record.message for record in caplog.records if record.name == "keyturn"]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json, text/plain, */*", "image/png"),  # axios, whatever it expects
        ("*/*", "image/png"),
        ("", "image/png"),
        ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "image/png"),  # an <img> in Chromium
        ("image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5", "image/png"),  # Firefox
        ("image/svg+xml, image/png", "image/png"),
        ("application/json, image/svg+xml", "image/svg+xml"),
        ("application/json", "application/json"),
        ("application/json, */*;q=0.1", "application/json"),
        ("application/json;q=0.5, image/*;q=0.4", "application/json"),
        ("image/png;q=0, */*", "image/svg+xml"),
        ("*/*, image/*;q=0", "application/json"),
        ("image/*;q=0, image/svg+xml", "image/svg+xml"),
        ("IMAGE/PNG; Q=0, IMAGE/*", "image/svg+xml"),
        ("*/*;q=0, application/json;q=0.001", "application/json"),
        ("image/png;q=0.000", None),
        ("image/png;q=0, image/svg+xml;q=0, application/json;q=0, */*", None),
        ("*/*;q=0", None),
        ("text/html", None),
    ],
)
async def test_the_accept_header_is_weighed(
    embedded: dict[str, Any], open_client: Opener, clock: MovableClock, accept: str, kind: str | None
) -> None:
    """The most specific range counts, equal weights prefer the PNG, 0 excludes (RFC 9110 section 12.5.1)."""
    async with open_client(embedded) as client:
        alice = await sign_up(client, clock)
        answer = await client.get("/qrcode/alice", headers=bearer(alice.mfa_token, accept))
        assert (200 if kind else 406) == answer.status_code
        assert (kind or "application/problem+json") == answer.headers["content-type"].partition(";")[0]


async def test_the_secret_has_a_path_of_its_own(client: AsyncClient, clock: MovableClock) -> None:
    """It is JSON whatever Accept says, under the same conditions as the QR code."""
    alice, bob = await sign_up(client, clock), await sign_up(client, clock, "bob")
    for accept in ("*/*", "image/png", "text/html"):
        shown = await client.get("/qrcode/Alice/secret", headers=bearer(alice.mfa_token, accept))
        assert alice.secret == shown.json()["secret"] == secret_in(shown.json()["provisioning_uri"])
        assert "no-store" == shown.headers["cache-control"]
    assert 404 == (await client.get("/qrcode/alice/secret", headers=bearer(bob.mfa_token))).status_code
    assert 401 == (await client.get("/qrcode/alice/secret")).status_code
    await alice.confirm()
    assert 404 == (await client.get("/qrcode/alice/secret", headers=bearer(await alice.pending()))).status_code


async def test_the_secret_is_shown_by_the_address_too(client: Client, clock: MovableClock) -> None:
    """A client has the address if the user typed it at the login. No other address is accepted."""
    alice = await sign_up(client, clock, mfa=False)
    access = await set_address(client, alice, "Alice@example.com")
    started = await client.post("/enable-mfa", json={"password": PASSWORD}, headers=bearer(access))
    assert 200 == started.status_code
    token = bearer(await alice.pending(), "application/json")
    assert 200 == (await client.get("/qrcode/alice@example.com/secret", headers=token)).status_code
    for other in ("bob@example.com", "alice@example.org", "@example.com"):
        assert 404 == (await client.get(f"/qrcode/{other}/secret", headers=token)).status_code


async def test_qr_codes_are_rate_limited(client: AsyncClient, clock: MovableClock) -> None:
    """The limit is twenty in five minutes, because an image costs the service more than the client."""
    alice = await sign_up(client, clock)
    for _ in range(20):
        assert (
            200 == (await client.get("/qrcode/alice", headers=bearer(alice.mfa_token, "image/svg+xml"))).status_code
        )
    refused = await client.get("/qrcode/alice", headers=bearer(await alice.pending()))
    assert (429, "300") == (refused.status_code, refused.headers["retry-after"])
    for_typing = await client.get("/qrcode/alice", headers=bearer(alice.mfa_token, "application/json"))
    assert 200 == for_typing.status_code, "this form is not limited"
    clock.advance(seconds=300)
    assert 200 == (await client.get("/qrcode/alice", headers=bearer(await alice.pending()))).status_code


async def test_the_qr_code_is_unavailable_once_confirmed(client: AsyncClient, clock: MovableClock) -> None:
    """This holds for a new pending token too: the password alone must not reveal the secret of a confirmed factor."""
    alice = await sign_up(client, clock)
    await alice.confirm()
    assert 401 == (await client.get("/qrcode/alice", headers=bearer(alice.mfa_token))).status_code
    assert 404 == (await client.get("/qrcode/alice", headers=bearer(await alice.pending()))).status_code


async def test_qr_codes_of_others_are_always_the_same_404(client: AsyncClient, clock: MovableClock) -> None:
    """Another user's, an unknown user's and a confirmed factor's have the same answer."""
    alice = await sign_up(client, clock, "alice")
    await sign_up(client, clock, "bob")
    confirmed = await sign_up(client, clock, "carol")
    await confirmed.confirm()
    answers = [
        await client.get("/qrcode/bob", headers=bearer(alice.mfa_token)),
        await client.get("/qrcode/nobody", headers=bearer(alice.mfa_token)),
        await client.get("/qrcode/%00%F0", headers=bearer(alice.mfa_token)),
        await client.get("/qrcode/carol", headers=bearer(await confirmed.pending())),
    ]
    assert {404} == {answer.status_code for answer in answers}
    assert 1 == len({answer.text for answer in answers})


@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer  ", "Basic YWxpY2U6eA==", "Bearer a.b.c"])
async def test_the_qr_code_needs_a_token(client: AsyncClient, clock: MovableClock, authorization: str | None) -> None:
    """Without it the answer is 401, with the challenge of RFC 6750."""
    await sign_up(client, clock)
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = await client.get("/qrcode/alice", headers=headers)
    assert (401, "invalid_token") == (answer.status_code, answer.json()["code"])
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_an_account_can_enable_mfa_later(client: AsyncClient, clock: MovableClock) -> None:
    """It takes the access token and the password again; the first code confirms it."""
    bob = await sign_up(client, clock, "bob", mfa=False)
    access = (await bob.give_password()).json()["access_token"]
    answer = await client.post("/enable-mfa", json={"password": PASSWORD}, headers=bearer(access))
    assert 200 == answer.status_code
    bob.secret = secret_in(answer.json()["provisioning_uri"])
    assert (await bob.give_password()).json()["mfa_confirmed"] is False
    assert 200 == (await bob.give_code(mfa_token=(await bob.pending()))).status_code
    clock.next_step()
    assert 200 == (await bob.log_in()).status_code


async def test_confirming_ends_the_sessions_without_a_second_factor(client: AsyncClient, clock: MovableClock) -> None:
    """An attacker who stole a password-only session loses it."""
    bob = await sign_up(client, clock, "bob", mfa=False)
    stolen = (await bob.give_password()).json()["access_token"]
    answer = await client.post("/enable-mfa", json={"password": PASSWORD}, headers=bearer(stolen))
    bob.secret, bob.mfa_token = secret_in(answer.json()["provisioning_uri"]), answer.json()["mfa_token"]
    await bob.confirm()
    refused = await client.post("/enable-mfa", json={"password": PASSWORD}, headers=bearer(stolen))
    assert "invalid_token" == refused.json()["code"]


async def test_a_confirmed_factor_is_never_replaced(client: AsyncClient, alice: Person) -> None:
    """A fresh session and the password are not enough: it must be disabled first, which takes a code."""
    access = (await alice.log_in()).json()["access_token"]
    answer = await client.post("/enable-mfa", json={"password": PASSWORD}, headers=bearer(access))
    assert (409, "mfa_already_enabled") == (answer.status_code, answer.json()["code"])


async def test_enabling_needs_the_password_again(client: AsyncClient, clock: MovableClock) -> None:
    """An access token alone is not enough."""
    bob = await sign_up(client, clock, "bob", mfa=False)
    access = (await bob.give_password()).json()["access_token"]
    answer = await client.post("/enable-mfa", json={"password": "not the password"}, headers=bearer(access))
    assert (401, "invalid_credentials") == (answer.status_code, answer.json()["code"])


async def test_enabling_again_replaces_an_unconfirmed_secret(client: AsyncClient, clock: MovableClock) -> None:
    """Of two QR codes on the screen only the last is valid, and the first one's pending token is revoked."""
    bob = await sign_up(client, clock, "bob", mfa=False)
    access = (await bob.give_password()).json()["access_token"]
    first = (await client.post("/enable-mfa", json={"password": PASSWORD}, headers=bearer(access))).json()
    second = (await client.post("/enable-mfa", json={"password": PASSWORD}, headers=bearer(access))).json()
    bob.secret = secret_in(first["provisioning_uri"])
    assert "invalid_token" == (await bob.give_code(mfa_token=first["mfa_token"])).json()["code"]
    assert "invalid_code" == (await bob.give_code(mfa_token=second["mfa_token"])).json()["code"]
    bob.secret = secret_in(second["provisioning_uri"])
    assert 200 == (await bob.give_code(mfa_token=second["mfa_token"])).status_code


async def test_mfa_is_disabled_with_password_and_code(alice: Person, clock: MovableClock) -> None:
    """Then the password alone logs in, and the answer tells users to remove the entry from their app."""
    answer = await alice.disable()
    assert 200 == answer.status_code
    assert "authenticator" in answer.json()["message"]
    assert (await alice.give_password()).json()["mfa_required"] is False


async def test_the_log_says_that_there_is_no_second_factor_to_disable(
    client: Client, clock: MovableClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is that of a wrong password."""
    bob = await sign_up(client, clock, "bob", mfa=False)
    caplog.clear()
    assert "invalid_credentials" == (await bob.disable("123456")).json()["code"]
    (refusal,) = [details_of(record) for record in caplog.records if record.getMessage() == "login.refused"]
    assert "no_second_factor" == refusal["reason"]


async def test_nothing_is_granted_after_disable(client: AsyncClient, alice: Person, clock: MovableClock) -> None:
    """Earlier pending tokens and sessions are revoked."""
    pending = await alice.pending()
    access = (await alice.log_in()).json()["access_token"]
    assert 200 == (await alice.disable(alice.code(1))).status_code
    clock.next_step()
    assert "invalid_token" == (await alice.give_code(mfa_token=pending)).json()["code"]
    refused = await client.post("/enable-mfa", json={"password": PASSWORD}, headers=bearer(access))
    assert "invalid_token" == refused.json()["code"]


async def test_with_a_wrong_password_the_code_is_neither_compared_nor_counted(
    alice: Person, clock: MovableClock
) -> None:
    """After ten wrong passwords with the right code the code is still valid, and the factor does not wait."""
    code = alice.code()
    for _ in range(3):
        assert 401 == (await alice.disable(code, password="not the password")).status_code
    assert 200 == (await alice.disable(code)).status_code


async def test_enrolling_again_takes_a_new_secret(client: AsyncClient, alice: Person, clock: MovableClock) -> None:
    """After disabling and enabling, codes of the old authenticator entry are refused."""
    old = alice.secret
    await alice.disable()
    access = (await alice.give_password()).json()["access_token"]
    answer = await client.post("/enable-mfa", json={"password": PASSWORD}, headers=bearer(access))
    assert secret_in(answer.json()["provisioning_uri"]) != old
