"""Tokens of every kind, each of a new user."""

from typing import Any

from httpx2 import AsyncClient

from tests.people import PASSWORD, MovableClock, Person, secret_in, sign_up


class TokenSource:
    """A source of tokens of every kind, each with a new user, since an attempt may end their session."""

    def __init__(self, client: AsyncClient, clock: MovableClock, service: dict[str, str]) -> None:
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
        match kind:
            case "pending":
                return person, await person.pending()
            case "adding":
                headers = {"Authorization": f"Bearer {tokens['access_token']}"}
                body = {"password": PASSWORD, "name": "Tablet"}
                answer = (await self._client.post("/enable-mfa", json=body, headers=headers)).json()
                person.secret = secret_in(answer["provisioning_uri"])
                return person, answer["mfa_token"]
            case "step-up":
                headers = {"Authorization": f"Bearer {tokens['access_token']}"}
                return person, (await self._client.post("/step-up", headers=headers)).json()["mfa_token"]
        return person, tokens[f"{kind}_token"]
