"""Users and their states, made through the public API."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import httpx2
import pyotp

from service.clock import Clock

PASSWORD = "correct horse battery staple"
COSTLY_HASH = "$argon2id$v=19$m=65536,t=12,p=1$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b7dWRWJTmaaJObG0ifWtP9PUY4"
"""A hash that takes long to verify."""


class MovableClock:
    """A clock that the test moves."""

    def __init__(self, start: datetime | None = None) -> None:
        self.now = start or datetime(2026, 11, 22, 12, 0, 5, tzinfo=UTC)
        self.creeps = 0.0
        """Seconds by which the clock advances on each read, as for a service whose hashing queue is long."""

    def __call__(self) -> datetime:
        self.advance(seconds=self.creeps)
        return self.now

    def advance(self, *, seconds: float = 0, days: float = 0) -> None:
        self.now += timedelta(seconds=seconds, days=days)

    def next_step(self) -> None:
        """Move to the beginning of the next time step."""
        self.advance(seconds=30 - self.now.timestamp() % 30)


def real_clock() -> datetime:
    return datetime.now(UTC)


@dataclass
class Person:
    """A user, with an authenticator if one is enrolled."""

    client: httpx2.AsyncClient
    clock: Clock
    username: str
    password: str = PASSWORD
    secret: str = ""
    mfa_token: str = ""
    answers: list[httpx2.Response] = field(default_factory=list)

    def code(self, steps: int = 0) -> str:
        """Return the current code of the authenticator, or the code `steps` time steps later (negative: earlier)."""
        return pyotp.TOTP(self.secret).at(self.clock(), counter_offset=steps)

    def wrong_code(self) -> str:
        """Return a code that no acceptable time step has."""
        near = {self.code(steps) for steps in range(-15, 16)}
        return next(code for code in (f"{n:06d}" for n in range(100000, 100100)) if code not in near)

    async def give_password(self, password: str | None = None) -> httpx2.Response:
        return await self.client.post(
            "/login", json={"username": self.username, "password": password or self.password}
        )

    async def pending(self) -> str:
        """Log in with the correct password and return the pending token."""
        answer = await self.give_password()
        assert 200 == answer.status_code, answer.text
        return str(answer.json()["mfa_token"])

    async def give_code(self, otp: str | None = None, mfa_token: str | None = None) -> httpx2.Response:
        return await self.client.post(
            "/login-2fa", json={"mfa_token": mfa_token or await self.pending(), "otp": otp or self.code()}
        )

    async def log_in(self, otp: str | None = None) -> httpx2.Response:
        """Log in with the password and the second factor."""
        return await self.give_code(otp)

    async def confirm(self) -> httpx2.Response:
        """Confirm the factor that signup returned."""
        answer = await self.give_code(mfa_token=self.mfa_token)
        assert 200 == answer.status_code, answer.text
        return answer

    async def confirm_early(self) -> httpx2.Response:
        """Confirm it with the previous step's code, so that the current code stays unused."""
        answer = await self.give_code(self.code(-1), self.mfa_token)
        if answer.status_code != 200:  # the step has ended, and its code was reported as out of step
            answer = await self.give_code(self.code(-1), self.mfa_token)
        assert 200 == answer.status_code, answer.text
        return answer

    async def disable(self, otp: str | None = None, password: str | None = None) -> httpx2.Response:
        return await self.client.post(
            "/disable-mfa",
            json={
                "username": self.username,
                "password": password or self.password,
                "token": otp or self.code(),
            },
        )


async def sign_up(
    client: httpx2.AsyncClient, clock: Clock, username: str = "alice", *, mfa: bool = True, password: str = PASSWORD
) -> Person:
    """Create an account; with `mfa` the authenticator has scanned the QR code, but is not confirmed."""
    answer = await client.post("/signup", json={"username": username, "password": password, "enable_mfa": mfa})
    assert 201 == answer.status_code, answer.text
    person = Person(client, clock, username, password)
    if mfa:
        person.secret = secret_in(answer.json()["provisioning_uri"])
        person.mfa_token = answer.json()["mfa_token"]
    return person


def secret_in(provisioning_uri: str) -> str:
    return parse_qs(urlsplit(provisioning_uri).query)["secret"][0]
