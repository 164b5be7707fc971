"""A browser of a user: it keeps the cookie of a cookie session, and sends `Origin` with every POST."""

from dataclasses import dataclass
from typing import Any

from httpx2 import AsyncClient, Response

from tests.harness.people import PASSWORD, Person

COOKIE = "__Host-keyturn-refresh"
ISSUER = "http://localhost:8000"
IN_COOKIE = {"Keyturn-Session": "cookie"}


@dataclass
class Browser:
    """A browser in which a page of `origin` sends requests with `credentials: "include"`."""

    client: AsyncClient
    origin: str = ISSUER
    cookie: str | None = None
    max_age: int = 0

    async def post(self, path: str, *, headers: dict[str, str] | None = None, **body: Any) -> Response:
        """Send a request with the header, and store or remove the cookie as the answer says."""
        jar = {} if self.cookie is None else {"Cookie": f"{COOKIE}={self.cookie}"}
        answer = await self.client.post(
            path, headers={"Origin": self.origin, **IN_COOKIE, **jar, **(headers or {})}, **body
        )
        for line in answer.headers.get_list("set-cookie"):
            self.cookie, self.max_age = read_cookie(line)
        return answer

    async def refresh(self, **parameters: str) -> Response:
        return await self.post("/token", data={"grant_type": "refresh_token", **parameters})

    async def log_in(self, person: Person) -> dict[str, Any]:
        """Log in with the password and, if one is asked for, the second factor; return the tokens."""
        answer = await self.post("/login", json={"username": person.username, "password": PASSWORD})
        if answer.json()["mfa_required"]:
            assert self.cookie is None
            answer = await self.post(
                "/login-2fa", json={"mfa_token": answer.json()["mfa_token"], "otp": person.code()}
            )
        assert 200 == answer.status_code, answer.text
        tokens: dict[str, Any] = answer.json()
        assert "refresh_token" not in tokens
        assert self.cookie is not None
        return tokens


def read_cookie(line: str) -> tuple[str | None, int]:
    """Return the value and the lifetime of a `Set-Cookie` line that browsers accept. `None` removes the cookie.

    A cookie without one of the attributes, with another one, or with `Domain` would be stored in another way or not
    at all.
    """
    pair, max_age, *attributes = line.split("; ")
    name, _, value = pair.partition("=")
    assert COOKIE == name
    assert max_age.startswith("Max-Age=")
    assert ["HttpOnly", "Path=/", "SameSite=Strict", "Secure"] == sorted(attributes)
    lifetime = int(max_age.removeprefix("Max-Age="))
    return (value if lifetime > 0 else None), lifetime
