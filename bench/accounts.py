"""The targets of hostile inputs: users with valid credentials, and the valid requests that they would send.

The operations are read from openapi.json, so that a new operation is attacked too. Its fields need a value here.
"""

import json
import random
from collections.abc import AsyncIterator, Iterator
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
from service.tokens.access import Subject
from tests.harness.servers import REPOSITORY

NOBODY = "nobody-at-all"
NEWCOMER = "newcomer"
"""The username that signs up if a randomly changed request is still valid."""
FORGED = "e30.e30.e30"


@dataclass(frozen=True, slots=True)
class Accounts:
    """Valid credentials. Hostile tokens are based on those of `session` and `person`, which must stay valid."""

    username: str
    session: Tokens
    person: Person
    published: dict[str, Any]
    client_secret: str
    stale: tuple[str, ...]
    """Signed tokens that are expired, or of another issuer or user."""

    def targets(self) -> list[Target]:
        """Return every operation, with a request that is valid until a mutator changes it."""
        values = {
            "username": self.username, "password": PASSWORD, "current_password": PASSWORD, "token": "000000",
            "new_password": "another correct horse", "mfa_token": self.person.mfa_token, "otp": "000000",
            "name": "telephone", "enable_mfa": False, "remember_device": False, "grant_type": "refresh_token",
            "refresh_token": self.session.refresh_token, "client_id": "bench", "client_secret": self.client_secret,
        }  # fmt: skip
        return [self._target(*operation, values) for operation in _operations()]

    def targets_of_nobody(self) -> list[Target]:
        """Return the same without valid credentials."""
        values = {
            "username": NOBODY, "password": "not the password", "current_password": PASSWORD, "token": "000000",
            "new_password": "another correct horse", "mfa_token": FORGED, "otp": "000000", "name": "telephone",
            "enable_mfa": False, "remember_device": False, "grant_type": "refresh_token", "refresh_token": FORGED,
            "client_id": "bench", "client_secret": "not the secret",
        }  # fmt: skip
        nobody = [
            self._target(*operation, {**values, "username": NEWCOMER} if operation[1] == "/signup" else values)
            for operation in _operations()
        ]
        return [replace(target, bearer=target.bearer and FORGED) for target in nobody]

    def _target(self, method: str, template: str, operation: dict[str, Any], values: dict[str, Any]) -> Target:
        path = template.replace("{username}", quote(values["username"])).replace("{id}", "x" * 22)
        path = path.replace("{sid}", "x" * 22)
        schemes = {name for scheme in operation.get("security", ()) for name in scheme}
        bearer = ""
        if schemes & {"accessToken", "mfaToken"}:
            bearer = self.person.mfa_token if template.startswith("/qrcode") else self.session.access_token
        target = Target(method, path, template, bearer=bearer, is_public=method == "GET" and not bearer)
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            names = content["schema"]["properties"]
            required = frozenset(content["schema"].get("required") or {"otp"})
            left_out = {"device_token", "recovery_code", "scope", "token_type_hint"}
            if template not in {"/token", "/revoke", "/introspect"}:
                left_out |= {"client_id", "client_secret"}
            body = {name: values[name] for name in names if name not in left_out}
            if media_type == FORM_TYPE and template != "/token":
                body["token"] = values["refresh_token"]
            target = replace(target, body=body, media_type=media_type, required=required)
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


def _operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
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
        (username,) = await people.make_without_factor(1)
        (session,) = await people.log_in(1)
        (person,) = await people.make(1)
        secret = await people.register()
        now = system_clock()
        async with open_components(read_settings(world.environment)) as parts:
            jwks = await parts.keys.jwks(now)
            stale = await _stale(parts, system_clock())
        elsewhere = {**world.environment, "KEYTURN_ISSUER": "http://elsewhere"}
        async with open_components(read_settings(elsewhere)) as parts:
            stale += await _stale(parts, now)
        yield Accounts(username, session, person, jwks["keys"][0], secret, tuple(stale))


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
