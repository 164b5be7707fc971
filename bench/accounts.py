"""The targets of hostile inputs: users with valid credentials, and the valid requests that they would send.

The operations are read from openapi.json, so that a new operation is attacked too. Its fields and the parameters of
its path need a value here; tests/tools/test_hostile_targets.py fails without one.
"""

import json
import random
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import quote

from bench import forgeries
from bench.load import connections, form, get, post
from bench.mutators import FORM_TYPE, Target
from bench.worlds import PASSWORD, Person, Tokens, World, people_of
from service.clock import system_clock, unix_seconds
from service.components import Components, open_components
from service.environment import read_settings
from service.origin import OPERATOR, Act
from service.tokens.access import Subject
from service.tokens.links import EmailCancellation, EmailConfirmation, Link, PasswordReset, digest_address
from service.users import emails, users
from tests.harness.administrators import SCOPES
from tests.harness.servers import REPOSITORY

NOBODY = "nobody-at-all"
NEWCOMER = "newcomer"
"""The username that signs up if a randomly changed request is still valid."""
FORGED = "e30.e30.e30"
ORDINARY: dict[str, Any] = {
    "current_password": PASSWORD, "new_password": "another correct horse", "otp": "000000", "token": "",
    "name": "telephone", "enable_mfa": False, "remember_device": False, "grant_type": "refresh_token",
    "client_id": "bench", "id": "x" * 22, "sid": "x" * 22, "email": "hostile@example.com", "locale": "de",
    "roles": ["cashier"], "disabled": False, "claims": {"tenant": "a"}, "scopes": [SCOPES[0]], "overlap_hours": 24,
    "expires_in": 3600, "device_token": None, "recovery_code": None, "scope": None, "token_type_hint": None,
    "invitation": None,
}  # fmt: skip
"""Values of path parameters and fields that need no credentials. `None`: the field is left out.

A device token and a hint that are invalid are ignored, so that a wrong one is no reason for a refusal. A recovery
code excludes a verification code, and a scope excludes a refresh token. A valid invitation is a credential.
`token` means something else at each operation: see `Accounts._target`.
"""


@dataclass(frozen=True, slots=True)
class Accounts:
    """Valid credentials. Hostile tokens are based on those of `session` and `person`, which must stay valid."""

    username: str
    session: Tokens
    person: Person
    published: dict[str, Any]
    client_secret: str
    sub: str
    """The `sub` of `username`."""
    admin_token: str
    """An access token of a client with every scope of the admin API."""
    invitation: str
    links: Mapping[str, str]
    """The tokens of valid links for `username`, by the path that consumes them."""
    stale: tuple[str, ...]
    """Signed tokens that are expired, or of another issuer or user."""

    def targets(self) -> list[Target]:
        """Return every operation, with a request that is valid until a mutator changes it."""
        values = {
            **ORDINARY, **self.links, "username": self.username, "sub": self.sub, "password": PASSWORD,
            "mfa_token": self.person.mfa_token, "refresh_token": self.session.refresh_token,
            "invitation": self.invitation, "client_secret": self.client_secret,
        }  # fmt: skip
        return [self._target(*operation, values) for operation in operations()]

    def targets_of_nobody(self) -> list[Target]:
        """Return the same without valid credentials. A sign-up needs none: it has another username."""
        values = {
            **ORDINARY, **dict.fromkeys(self.links, FORGED), "username": NOBODY, "sub": "x" * 22,
            "password": "not the password", "mfa_token": FORGED, "refresh_token": FORGED,
            "client_secret": "not the secret",
        }  # fmt: skip
        nobody = [
            self._target(*operation, {**values, "username": NEWCOMER} if operation[1] == "/signup" else values)
            for operation in operations()
        ]
        return [replace(target, bearer=target.bearer and FORGED) for target in nobody]

    def _target(self, method: str, template: str, operation: dict[str, Any], values: dict[str, Any]) -> Target:
        path = re.sub("{(.*?)}", lambda name: quote(values[name[1]]), template)
        schemes = {name for scheme in operation.get("security", ()) for name in scheme}
        bearer = ""
        if template.startswith("/admin"):
            bearer = self.admin_token
        elif schemes & {"accessToken", "mfaToken"}:
            bearer = self.person.mfa_token if template.startswith("/qrcode") else self.session.access_token
        target = Target(method, path, template, bearer=bearer, is_public=method == "GET" and not bearer)
        request = operation.get("requestBody", {})
        for media_type, content in request.get("content", {}).items():
            schema = content["schema"]
            required = frozenset(schema.get("required") or ({"otp"} if template == "/login-2fa" else ()))
            body = {name: values[name] for name in schema["properties"] if values[name] is not None}
            if "token" in body:
                body["token"] = values.get(template, values["refresh_token" if media_type == FORM_TYPE else "otp"])
            target = replace(target, body=body, media_type=media_type, required=required)
            target = replace(target, needs_body=request.get("required", False))
        return target

    def hostile_tokens(self, chance: random.Random) -> Iterator[str]:
        yield from forgeries.wycheproof()
        for genuine in (self.session.access_token, self.person.mfa_token):
            yield from forgeries.of_jwt(genuine, self.published, chance)
        yield from forgeries.of_refresh(self.session.refresh_token, chance)
        yield from forgeries.nonsense()
        yield from self.stale

    def tokens_at_wrong_routes(self) -> Iterator[tuple[str, str]]:
        """Yield genuine tokens with routes that require tokens of another kind."""
        for route in ("/login-2fa", "/qrcode", "/token"):
            yield self.session.access_token, route
        for route in ("/verify", "/me", "/introspect", "/token", "/revoke"):
            yield self.person.mfa_token, route
        for route in ("/verify", "/me", "/login-2fa", "/qrcode"):
            yield self.session.refresh_token, route

    def placements(self, token: str) -> Iterator[tuple[str, bytes]]:
        """Yield a request with the token for each route that accepts tokens."""
        client = {"client_id": "bench", "client_secret": self.client_secret}
        yield "/verify", _bearing("/verify", token)
        yield "/me", _bearing("/me", token)
        yield "/qrcode", _bearing(f"/qrcode/{self.person.username}", token)
        yield "/introspect", form("/introspect", token=_sendable(token), **client)
        yield "/revoke", form("/revoke", token=_sendable(token))
        yield "/token", form("/token", grant_type="refresh_token", refresh_token=_sendable(token))
        yield "/login-2fa", post("/login-2fa", mfa_token=token, otp=self.person.code())

    async def after_all(self, port: int) -> dict[str, int]:
        """Return the answers to the genuine tokens: 2xx unless a forgery ended a session or used up an attempt."""
        asked = {
            "/verify": get("/verify", bearer=self.session.access_token),
            "/me": get("/me", bearer=self.session.access_token),
            "/token": form("/token", grant_type="refresh_token", refresh_token=self.session.refresh_token),
            "/login-2fa": self.person.code_request(),
        }
        async with connections(port, 1) as (line,):
            return {path: (await line.send(request)).status for path, request in asked.items()}


def _bearing(path: str, token: str) -> bytes:
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ".encode()
    return head + token.encode("utf-8", "surrogatepass") + b"\r\n\r\n"


def _sendable(token: str) -> str:
    return token.encode("utf-8", "replace").decode()


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the method, the path and the rest of each operation, with the schema of its body in it."""
    document = json.loads((REPOSITORY / "openapi.json").read_text("utf-8"))
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                if "$ref" in content["schema"]:
                    content["schema"] = schemas[content["schema"]["$ref"].rpartition("/")[2]]
            yield method.upper(), path, operation


@asynccontextmanager
async def accounts_of(world: World) -> AsyncIterator[Accounts]:
    async with people_of(world) as people:
        (username,) = await people.make_with_addresses(1)
        (session,) = await people.log_in(1)
        (person,) = await people.make(1)
        secret = await people.register()
        admin_secret = await people.register("admin", scopes=SCOPES)
        now = system_clock()
        async with open_components(read_settings(world.environment)) as parts:
            admin = await parts.grants.authenticate("admin", admin_secret)
            admin_token = (await parts.grants.client_credentials(admin, None)).access_token
            invitation = (await parts.invitations.create(Act(OPERATOR, now))).token
            sub, links = await _request_links(parts, username, now)
            jwks = await parts.keys.jwks(now)
            stale = await _stale(parts, system_clock())
        elsewhere = {**world.environment, "KEYTURN_ISSUER": "http://elsewhere"}
        async with open_components(read_settings(elsewhere)) as parts:
            stale += await _stale(parts, now)
        yield Accounts(
            username, session, person, jwks["keys"][0], secret, sub, admin_token, invitation, links, tuple(stale)
        )


async def _request_links(parts: Components, username: str, now: datetime) -> tuple[str, dict[str, str]]:
    """Request another address for the user. Return their `sub`, and the tokens of all links that are valid then."""
    address, issued_at = "new@example.com", unix_seconds(now)
    times = {"issued_at": issued_at, "expires_at": issued_at + 86400}
    async with parts.database.begin() as transaction:
        user = await users.find(parts.database, username)
        assert user is not None
        await emails.request(transaction, user, address, now)
    digest = digest_address(address)
    claims: dict[str, Link] = {
        "/email/confirm": EmailConfirmation(**times, sub=user.id, address=address),
        "/email/cancel": EmailCancellation(**times, sub=user.id, address_digest=digest),
        "/password-reset/confirm": PasswordReset(**times, sub=user.id, credential_version=user.credential_version),
    }
    return user.id, {path: parts.links.write(link) for path, link in claims.items()}


async def _stale(parts: Components, now: datetime) -> list[str]:
    """Return tokens signed with the service's own keys that are invalid by their issuer, time or user."""
    key = await parts.keys.get_signing_key(now)
    life = parts.tokens.pending.ttl + parts.tokens.access.ttl
    nobody = Subject("x" * 22, "x" * 22, NOBODY, ("admin",), ("pwd", "otp", "mfa"), "aal2", unix_seconds(now))
    written = [parts.tokens.refresh.write("x" * 21 + "A", generation) for generation in (0, 1, 2**32 - 1)]
    written += [parts.tokens.pending.write_for_login(sub="x" * 22, credential_version=n, now=now) for n in (0, 1, -1)]
    for then in (now - life, now + life, now - 100 * life):
        written.append(parts.tokens.access.write(key, nobody, now=then))
        written.append(parts.tokens.pending.write_for_login(sub="x" * 22, credential_version=0, now=then))
    return written
