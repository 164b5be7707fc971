"""Every kind of token at every route of the OpenAPI document: only its own routes answer 2xx."""

import re
from typing import Any

from httpx2 import AsyncClient

from tests.harness.clients import Opener
from tests.harness.people import PASSWORD, MovableClock, Person
from tests.harness.relying_services import add_client, basic
from tests.harness.token_kinds import TokenSource

ADMITTED = {
    ("access", "/me"), ("access", "/sessions"), ("access", "/sessions/{sid}"), ("access", "/logout"),
    ("access", "/password"), ("access", "/step-up"), ("access", "/enable-mfa"), ("access", "/verify"),
    ("access", "/recovery-codes"), ("access", "/factors"), ("access", "/factors/{id}"), ("access", "/events"),
    ("access", "/recovery"), ("adding", "/qrcode/{username}"), ("adding", "/login-2fa"),
    ("adding", "/qrcode/{username}/secret"),
    ("access", "/introspect"), ("refresh", "/introspect"), ("client", "/introspect"),
    ("pending", "/qrcode/{username}"), ("enrolling", "/qrcode/{username}"),
    ("pending", "/qrcode/{username}/secret"), ("enrolling", "/qrcode/{username}/secret"),
    ("pending", "/login-2fa"), ("enrolling", "/login-2fa"), ("step-up", "/login-2fa"),
    ("refresh", "/token"), ("access", "/email"), ("access", "/me/export"), ("restoring", "/login-2fa"),
    ("restoring", "/qrcode/{username}"), ("restoring", "/qrcode/{username}/secret"),
}  # fmt: skip
"""The routes of each kind by the API. (A pending token of a confirmed authenticator gets 404 at /qrcode.)"""

PUBLIC = {"/signup", "/login", "/disable-mfa", "/revoke", "/me/restore", "/email/confirm", "/email/cancel",
          "/password-reset", "/password-reset/confirm", "/livez", "/readyz", "/metrics", "/.well-known/jwks.json",
          "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"}  # fmt: skip
"""Routes that take no token as proof; /revoke answers 200 to any text."""


KINDS = ("access", "refresh", "client", "pending", "enrolling", "step-up", "adding", "restoring", "device", "link")
"""A link is that of a password reset. At the admin API each kind is tried in test_admin_callers.py."""


async def attempts(
    client: AsyncClient, service: dict[str, str], path: str, method: str, *, person: Person, token: str
) -> list[int]:
    """Send the token in every place of the route, with all else valid; return the statuses."""
    bearer = {"Authorization": f"Bearer {token}"}
    url = re.sub("{username}", person.username, path).replace("{sid}", "0" * 22).replace("{id}", "x")
    bodies: dict[str, dict[str, str]] = {
        "/login-2fa": {"otp": person.code()},
        "/enable-mfa": {"password": PASSWORD},
        "/email": {"password": PASSWORD} | ({"email": "new@example.com"} if method == "post" else {}),
        "/factors/{id}": {"name": "Tablet"} if method == "patch" else {},
        "/me": {"locale": "de"} if method == "patch" else {"password": PASSWORD},
        "/password": {"current_password": PASSWORD, "new_password": "an entirely new passphrase"},
    }
    if path in {"/introspect", "/token"}:
        forms = [{"token": token, "grant_type": "refresh_token", "refresh_token": token}]
        if path == "/token":
            forms += [{"grant_type": "client_credentials", "client_id": "billing", "client_secret": token}]
        answers = [
            await client.post(path, data=form, headers=service if path == "/introspect" else None) for form in forms
        ]
        answers.append(await client.post(path, data=forms[0] | {"token": "x", "refresh_token": "x"}, headers=bearer))
        return [
            499 if answer.status_code == 200 and path == "/introspect" and not answer.json()["active"]
            else answer.status_code
            for answer in answers
        ]  # fmt: skip
    answers = [await client.request(method, url, json=bodies.get(path), headers=bearer)]
    if path == "/login-2fa":
        answers.append(await client.post(path, json={"mfa_token": token, "otp": person.code()}))
    return [answer.status_code for answer in answers]


AFTER_ADMISSION = {
    "/sessions/{sid}": 404,
    "/factors/{id}": 404,
    "/enable-mfa": 409,
    "/qrcode/{username}": 404,
    "/qrcode/{username}/secret": 404,
}
"""The error that only an admitted caller can get: no such session, or a factor is confirmed already."""


async def test_a_token_is_accepted_only_at_its_own_routes(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """This covers every kind of token at every route of the OpenAPI document."""
    async with open_client({**world, "limit_signup": None}) as client:
        service = basic("billing", await add_client(client, clock, "billing", "all"))
        source = TokenSource(client, clock, service)
        document = client.app.openapi()
        routes = [(path, method) for path, methods in document["paths"].items() for method in methods]
        for path, method in routes:
            for kind in () if path in PUBLIC or (method, path) == ("post", "/recovery") else KINDS:
                person, token = await source.issue(kind)
                statuses = await attempts(client, service, path, method, person=person, token=token)
                was_admitted = any(status < 400 or status == AFTER_ADMISSION.get(path) for status in statuses)
                assert was_admitted == ((kind, path) in ADMITTED), (kind, method, path, statuses)
        assert {path for _, path in ADMITTED} | PUBLIC == {path for path, _ in routes}
