"""Tokens of every kind, each of a new user."""

from typing import Any

from tests.harness.addresses import reset_link
from tests.harness.clients import Client
from tests.harness.deletions import request_deletion, restore
from tests.harness.devices import remember
from tests.harness.people import PASSWORD, MovableClock, Person, secret_in, sign_up


class TokenSource:
    """A source of tokens of every kind, each with a new user, since an attempt may end their session."""

    def __init__(self, client: Client, clock: MovableClock, service: dict[str, str]) -> None:
        self._client, self._clock, self._service = client, clock, service
        self._names = iter(f"person{n}" for n in range(1000))

    async def issue(self, kind: str) -> tuple[Person, str]:
        """Return a new user, and a token of the kind."""
        name = next(self._names)
        if kind == "client":
            form = {"grant_type": "client_credentials"}
            answer = await self._client.post("/token", data=form, headers=self._service)
            return await sign_up(self._client, self._clock, name), answer.json()["access_token"]
        person = await sign_up(self._client, self._clock, name)
        if kind == "enrolling":
            return person, person.mfa_token
        tokens: Any = (await person.confirm()).json()
        self._clock.next_step()
        return person, await self._of_session(person, kind, tokens)

    async def _of_session(self, person: Person, kind: str, tokens: Any) -> str:
        """Return a token of the kind for a user who is logged in, or that login's own."""
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        match kind:
            case "pending":
                token: str = await person.pending()
            case "restoring":
                assert 202 == (await request_deletion(self._client, tokens["access_token"])).status_code
                token = (await restore(self._client, person.username)).json()["mfa_token"]
            case "adding":
                body = {"password": PASSWORD, "name": "Tablet"}
                answer = (await self._client.post("/enable-mfa", json=body, headers=headers)).json()
                person.secret = secret_in(answer["provisioning_uri"])
                token = answer["mfa_token"]
            case "device":
                token = await remember(person)
            case "link":
                token = await reset_link(self._client, person.username)
            case "step-up":
                token = (await self._client.post("/step-up", headers=headers)).json()["mfa_token"]
            case _:
                token = tokens[f"{kind}_token"]
        return token
