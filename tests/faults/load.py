"""The load: users who sign up, enrol, log in, refresh, introspect, log out and disable their second factor.

Each task runs one user's lifecycle after the other, as fast as answers come, and sends every code to both replicas at
once. It repeats a request without an answer, or with a 503, a little later. The checker decides what can no longer be
known about it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from typing import Any

import pyotp

from tests.faults.history import Exchange, Recorder, read_claims
from tests.faults.mailbox import Mailbox
from tests.harness.people import PASSWORD, secret_in

AGAIN_AFTER = 0.1
"""Seconds until a request is repeated."""
TRIES = 40
PERIOD = 30


class Abandoned(Exception):
    """The lifecycle of this user cannot continue, because its state is unknown."""


@dataclass(frozen=True)
class Shared:
    """What all users share: the secrets of two clients, and the messages."""

    client_secret: str
    """The secret of the client `faults`, which introspects."""
    admin_secret: str
    """The secret of the client `admin`, which administers users."""
    mailbox: Mailbox


@dataclass
class Life:
    """The lifecycle of one user; `clock` is the time of the user's authenticator."""

    recorder: Recorder
    name: str
    clock: Callable[[], float]
    shared: Shared
    password: str = PASSWORD
    secret: str = ""
    last_step: int = 0
    sids: list[str] = field(default_factory=list)
    tokens: dict[str, Any] = field(default_factory=dict)

    async def live(self) -> None:
        """Do everything once. Raise `Abandoned` where a fault makes it impossible to continue."""
        await self.sign_up()
        await self.log_in_twice()
        await self.use_session()
        await self.end_session()
        await self.disable()
        await self.enable_again()

    async def sign_up(self) -> None:
        pending = await self.ask_for_account()
        bearer = {"Authorization": f"Bearer {pending}", "Accept": "application/json"}
        await self._ask("GET", "/qrcode/{username}", path=f"/qrcode/{self.name}", headers=bearer)
        self._admitted(await self._give_code(pending))

    async def ask_for_account(self) -> str:
        """Sign up with a second factor, and return the pending token for its first code."""
        body = {"username": self.name, "password": self.password, "enable_mfa": True}
        done = await self._ask("POST", "/signup", json=body, sent={"enable_mfa": True})
        self.secret = secret_in(done.body["provisioning_uri"])
        return str(done.body["mfa_token"])

    async def log_in_twice(self) -> None:
        """Send one code with two pending tokens at the same moment, one to each replica: one login succeeds."""
        pending = [(await self.give_password()).body["mfa_token"] for _ in range(2)]
        step = self.next_step()
        sent = {"secret": self.secret, "step": step}
        both = await asyncio.gather(
            *(
                self.send(
                    "POST", "/login-2fa", json={"mfa_token": token, "otp": self.code(step)}, sent=sent, replica=n
                )
                for n, token in enumerate(pending)
            )
        )
        for exchange in both:
            if exchange.is_good:
                self._admitted(exchange)
                return
        raise Abandoned  # the code may have been consumed by a request whose answer was lost

    async def use_session(self) -> None:
        first = self.tokens["refresh_token"]
        both = await asyncio.gather(self._refresh(first), self._refresh(first))
        renewed = next((exchange for exchange in both if exchange.is_good), None) or await self._refresh_until_good()
        self.tokens |= renewed.body
        await self._ask("GET", "/me", headers=self.bearer(), sent=self.session())
        await self.send("GET", "/verify", headers=self.bearer(), sent=self.session())
        await self._introspect()

    async def end_session(self) -> None:
        """Revoke the session, and check at both replicas that it has ended."""
        form = {"token": self.tokens["refresh_token"]}
        await self._ask("POST", "/revoke", data=form, sent=self.session())
        await asyncio.gather(*(self._refresh(self.tokens["refresh_token"], replica=n) for n in range(2)))
        await self._introspect()

    async def disable(self) -> None:
        step = self.next_step()
        body = {"username": self.name, "password": self.password, "token": self.code(step)}
        sent = {"secret": self.secret, "step": step, "sids": tuple(self.sids)}
        done = await self.send("POST", "/disable-mfa", json=body, sent=sent)
        if not done.is_good:
            raise Abandoned
        await self._refresh(self.tokens["refresh_token"])

    async def enable_again(self) -> None:
        """Log in with the password alone, log out, and confirm a new secret with its first code."""
        self._admitted(await self.give_password())
        done = await self._ask("POST", "/enable-mfa", json={"password": self.password}, headers=self.bearer())
        await self._ask("POST", "/logout", headers=self.bearer(), sent=self.session())
        await self._refresh(self.tokens["refresh_token"])
        self.secret, self.last_step = secret_in(done.body["provisioning_uri"]), 0
        self._admitted(await self._give_code(done.body["mfa_token"]))

    async def give_password(self) -> Exchange:
        sent = {"password": self.password}
        return await self._ask("POST", "/login", json={"username": self.name, **sent}, sent=sent)

    async def try_password(self, password: str) -> Exchange:
        """Send a password once, whatever the answer is."""
        sent = {"password": password}
        return await self.send("POST", "/login", json={"username": self.name, **sent}, sent=sent)

    async def _give_code(self, mfa_token: str) -> Exchange:
        step = self.next_step()
        body = {"mfa_token": mfa_token, "otp": self.code(step)}
        done = await self.send("POST", "/login-2fa", json=body, sent={"secret": self.secret, "step": step})
        if not done.is_good:
            raise Abandoned
        return done

    async def _refresh(self, token: str, *, replica: int | None = None) -> Exchange:
        form = {"grant_type": "refresh_token", "refresh_token": token}
        sent = {**self.session(), "refresh_token": token}
        return await self.send("POST", "/token", data=form, sent=sent, replica=replica)

    async def _refresh_until_good(self) -> Exchange:
        for _ in range(TRIES):
            done = await self._refresh(self.tokens["refresh_token"])
            if done.is_good:
                return done
            if done.status is not None and done.status < 500:
                break
            await asyncio.sleep(AGAIN_AFTER)
        raise Abandoned

    async def _introspect(self) -> None:
        form = {
            "token": self.tokens["access_token"],
            "client_id": "faults",
            "client_secret": self.shared.client_secret,
        }
        await self.send("POST", "/introspect", data=form, sent=self.session())

    async def _ask(self, method: str, act: str, **request: Any) -> Exchange:
        """Repeat the request until it has a definite answer. Codes must not be repeated."""
        for _ in range(TRIES):
            done = await self.send(method, act, **request)
            if done.is_good:
                return done
            if done.status is not None and done.status < 500:
                break
            await asyncio.sleep(AGAIN_AFTER)
        raise Abandoned

    async def send(self, method: str, act: str, **request: Any) -> Exchange:
        return await self.recorder.send(self.name, method, act, **request)

    def _admitted(self, exchange: Exchange) -> None:
        self.tokens = dict(exchange.body)
        self.sids.append(exchange.claims["sid"])

    def session(self) -> dict[str, Any]:
        return {"sid": self.claims()["sid"]}

    def claims(self) -> dict[str, Any]:
        return read_claims(self.tokens["access_token"])

    def from_own_address(self) -> dict[str, str]:
        """Return the header with the address of this user: requests for links have a limit for each address."""
        digest = sha256(self.name.encode()).hexdigest()
        return {"X-Forwarded-For": f"2001:db8:{digest[:4]}:{digest[4:8]}::1"}

    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens['access_token']}"}

    def next_step(self) -> int:
        """Return a time step whose code was not sent yet. Three are acceptable at any time: few users wait."""
        now = int(self.clock() // PERIOD)
        step = max(self.last_step + 1, now - 1)
        if step > now + 1:
            raise Abandoned  # the user would have to wait for the next code; another user continues
        self.last_step = step
        return step

    def code(self, step: int) -> str:
        return pyotp.TOTP(self.secret).at(step * PERIOD)


@asynccontextmanager
async def running_load(
    recorder: Recorder,
    *,
    people: int,
    prefix: str,
    shared: Shared,
    kinds: Sequence[type[Life]],
    live: Callable[[Life], Awaitable[None]] | None = None,
) -> AsyncIterator[list[Life]]:
    """Run the lifecycles of `people` users at a time until the block ends. Yield the list of all that have begun.

    The users are of each kind in turn. `live`: what each of them does, instead of everything.
    """
    numbers, lives = count(), list[Life]()
    is_running = True

    async def run_lifecycles() -> None:
        while is_running:
            number = next(numbers)
            life = kinds[number % len(kinds)](recorder, f"{prefix}-{number}", time.time, shared)
            lives.append(life)
            try:
                await (life.live() if live is None else live(life))
            except Abandoned:
                await asyncio.sleep(AGAIN_AFTER)

    tasks = [asyncio.create_task(run_lifecycles()) for _ in range(people)]
    try:
        yield lives
    finally:
        is_running = False
        await asyncio.gather(*tasks)
