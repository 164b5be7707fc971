"""Callers of the admin API: registered clients with scopes, and users with the role `keyturn-admin`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from httpx2 import Response

from service.origin import OPERATOR
from service.users.administrators import ADMINISTRATOR
from tests.harness.clients import Client
from tests.harness.people import MovableClock, Person, sign_up
from tests.harness.relying_services import add_client, basic
from tests.harness.sessions import bearer, claims

SCOPES = ("keyturn:users.read", "keyturn:users.write", "keyturn:clients", "keyturn:events.read")


@dataclass
class Caller:
    """A caller of the admin API, and the token that it sends."""

    client: Client
    token: str
    sub: str = ""
    person: Person | None = None

    async def call(self, method: str, path: str, body: Any = None) -> Response:
        return await self.client.request(method, f"/admin/{path}", json=body, headers=bearer(self.token))

    async def get(self, path: str) -> Any:
        answer = await self.call("GET", path)
        assert 200 == answer.status_code, answer.text
        return answer.json()

    async def refused(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """Return the status and the code of a refusal."""
        answer = await self.call(method, path, body)
        return answer.status_code, answer.json()["code"]


async def token_of_client(client: Client, clock: MovableClock, name: str, scopes: Sequence[str]) -> Caller:
    """Register a client with these scopes, and return it with an access token."""
    headers = basic(name, await add_client(client, clock, name, *scopes))
    answer = await client.post("/token", data={"grant_type": "client_credentials"}, headers=headers)
    assert 200 == answer.status_code, answer.text
    return Caller(client, answer.json()["access_token"])


async def administrator(client: Client, clock: MovableClock, name: str = "root") -> Caller:
    """Return a new user with the role and a fresh second factor."""
    person = await sign_up(client, clock, name)
    await client.parts.administration.set_roles(name, add=ADMINISTRATOR, by=OPERATOR)
    token = (await person.confirm()).json()["access_token"]
    clock.next_step()
    return Caller(client, token, claims(token)["sub"], person)


async def sub_of(client: Client, clock: MovableClock, name: str) -> str:
    """Return the `sub` of a new user without a second factor."""
    await sign_up(client, clock, name, mfa=False)
    return (await client.parts.administration.get(name)).id
