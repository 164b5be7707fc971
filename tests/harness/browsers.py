"""A browser of a user: it keeps the cookies of a cookie session, and sends `Origin` with every POST."""

from dataclasses import dataclass
from typing import Any

from httpx2 import AsyncClient, Response

from tests.harness.people import PASSWORD, Person

COOKIE = "__Host-keyturn-refresh"
DEVICE_COOKIE = "__Host-keyturn-device"
ISSUER = "http://localhost:8000"
IN_COOKIE = {"Keyturn-Session": "cookie"}


@dataclass
class Browser:
    """A browser in which a page of `origin` sends requests with `credentials: "include"`."""

    client: AsyncClient
    origin: str = ISSUER
    cookie: str | None = None
    max_age: int = 0
    device: str | None = None
    """The device cookie."""
    device_max_age: int = 0

    async def post(self, path: str, *, headers: dict[str, str] | None = None, **body: Any) -> Response:
        """Send a request with the header, and store or remove the cookies as the answer says."""
        stored = {COOKIE: self.cookie, DEVICE_COOKIE: self.device}
        pairs = [f"{name}={value}" for name, value in stored.items() if value is not None]
        jar = {"Cookie": "; ".join(pairs)} if pairs else {}
        answer = await self.client.post(
            path, headers={"Origin": self.origin, **IN_COOKIE, **jar, **(headers or {})}, **body
        )
        for line in answer.headers.get_list("set-cookie"):
            name, value, max_age = read_cookie(line)
            if name == COOKIE:
                self.cookie, self.max_age = value, max_age
            else:
                self.device, self.device_max_age = value, max_age
        return answer

    async def refresh(self, **parameters: str) -> Response:
        return await self.post("/token", data={"grant_type": "refresh_token", **parameters})

    async def give_password(self, person: Person, **more: Any) -> Response:
        return await self.post("/login", json={"username": person.username, "password": PASSWORD, **more})

    async def log_in(self, person: Person, **more: Any) -> dict[str, Any]:
        """Log in with the password and, if one is asked for, the second factor; return the tokens.

        `more` is added to both requests.
        """
        answer = await self.give_password(person, **more)
        if answer.json()["mfa_required"]:
            assert self.cookie is None
            proof = {"mfa_token": answer.json()["mfa_token"], "otp": person.code()}
            answer = await self.post("/login-2fa", json={**proof, **more})
        assert 200 == answer.status_code, answer.text
        tokens: dict[str, Any] = answer.json()
        assert not {"refresh_token", "device_token"} & set(tokens)
        assert self.cookie is not None
        return tokens


def read_cookie(line: str) -> tuple[str, str | None, int]:
    """Return name, value and lifetime of a `Set-Cookie` line that browsers accept. `None` removes the cookie.

    A cookie without one of the attributes, with another one, or with `Domain` would be stored in another way or not
    at all.
    """
    pair, max_age, *attributes = line.split("; ")
    name, _, value = pair.partition("=")
    assert name in {COOKIE, DEVICE_COOKIE}
    assert max_age.startswith("Max-Age=")
    assert ["HttpOnly", "Path=/", "SameSite=Strict", "Secure"] == sorted(attributes)
    lifetime = int(max_age.removeprefix("Max-Age="))
    return name, (value if lifetime > 0 else None), lifetime
