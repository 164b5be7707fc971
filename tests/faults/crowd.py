"""The load: people who sign up, enrol, log in, refresh, are asked about, log out and give up their second factor.

Each lives one life after the other, as fast as he is answered, and gives every code to both replicas at once. What
was not answered, or with 503, he asks again a little later; what he cannot know any more he leaves to the checker.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pyotp

from tests.faults.history import Exchange, Recorder, read_claims
from tests.people import PASSWORD, secret_in

AGAIN_AFTER = 0.1
"""Seconds until somebody asks again."""
TRIES = 40
PERIOD = 30


class GivenUp(Exception):
    """It did not work, and nothing can be expected of this life any more."""


@dataclass
class Life:
    """One person; `clock` is the time that his authenticator shows codes for."""

    recorder: Recorder
    name: str
    clock: Callable[[], float]
    client_secret: str
    secret: str = ""
    last_step: int = 0
    sids: list[str] = field(default_factory=list)
    tokens: dict[str, Any] = field(default_factory=dict)

    async def live(self) -> None:
        """Everything once. Raises `GivenUp` where a fault leaves no way to go on."""
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
        """With a second factor that is not proved yet; its pending token."""
        body = {"username": self.name, "password": PASSWORD, "enable_mfa": True}
        done = await self._ask("POST", "/signup", json=body, told={"enable_mfa": True})
        self.secret = secret_in(done.body["provisioning_uri"])
        return str(done.body["mfa_token"])

    async def log_in_twice(self) -> None:
        """Two pending tokens, one code for both at the same moment, one at each replica: one of them wins."""
        pending = [(await self.give_password()).body["mfa_token"] for _ in range(2)]
        step = self.next_step()
        told = {"secret": self.secret, "step": step}
        both = await asyncio.gather(
            *(
                self.send(
                    "POST", "/login-2fa", json={"mfa_token": token, "otp": self.code(step)}, told=told, replica=n
                )
                for n, token in enumerate(pending)
            )
        )
        for exchange in both:
            if exchange.is_good:
                self._admitted(exchange)
                return
        raise GivenUp  # used up, perhaps, by an answer that did not arrive

    async def use_session(self) -> None:
        first = self.tokens["refresh_token"]
        both = await asyncio.gather(self._refresh(first), self._refresh(first))
        renewed = next((exchange for exchange in both if exchange.is_good), None) or await self._refresh_until_good()
        self.tokens |= renewed.body
        await self._ask("GET", "/me", headers=self.bearer(), told=self.session())
        await self.send("GET", "/verify", headers=self.bearer(), told=self.session())
        await self._introspect()

    async def end_session(self) -> None:
        """And see that it has ended, at both replicas."""
        form = {"token": self.tokens["refresh_token"]}
        await self._ask("POST", "/revoke", data=form, told=self.session())
        await asyncio.gather(*(self._refresh(self.tokens["refresh_token"], replica=n) for n in range(2)))
        await self._introspect()

    async def disable(self) -> None:
        step = self.next_step()
        body = {"username": self.name, "password": PASSWORD, "token": self.code(step)}
        told = {"secret": self.secret, "step": step, "sids": tuple(self.sids)}
        done = await self.send("POST", "/disable-mfa", json=body, told=told)
        if not done.is_good:
            raise GivenUp
        await self._refresh(self.tokens["refresh_token"])

    async def enable_again(self) -> None:
        """The password alone gives a session now; it is logged out, and the first code of another secret follows."""
        self._admitted(await self.give_password())
        done = await self._ask("POST", "/enable-mfa", json={"password": PASSWORD}, headers=self.bearer())
        await self._ask("POST", "/logout", headers=self.bearer(), told=self.session())
        await self._refresh(self.tokens["refresh_token"])
        self.secret, self.last_step = secret_in(done.body["provisioning_uri"]), 0
        self._admitted(await self._give_code(done.body["mfa_token"]))

    async def give_password(self) -> Exchange:
        body = {"username": self.name, "password": PASSWORD}
        return await self._ask("POST", "/login", json=body)

    async def _give_code(self, mfa_token: str) -> Exchange:
        step = self.next_step()
        body = {"mfa_token": mfa_token, "otp": self.code(step)}
        done = await self.send("POST", "/login-2fa", json=body, told={"secret": self.secret, "step": step})
        if not done.is_good:
            raise GivenUp
        return done

    async def _refresh(self, token: str, *, replica: int | None = None) -> Exchange:
        form = {"grant_type": "refresh_token", "refresh_token": token}
        told = {**self.session(), "refresh_token": token}
        return await self.send("POST", "/token", data=form, told=told, replica=replica)

    async def _refresh_until_good(self) -> Exchange:
        for _ in range(TRIES):
            done = await self._refresh(self.tokens["refresh_token"])
            if done.is_good:
                return done
            if done.status is not None and done.status < 500:
                break
            await asyncio.sleep(AGAIN_AFTER)
        raise GivenUp

    async def _introspect(self) -> None:
        form = {"token": self.tokens["access_token"], "client_id": "faults", "client_secret": self.client_secret}
        await self.send("POST", "/introspect", data=form, told=self.session())

    async def _ask(self, method: str, act: str, **request: Any) -> Exchange:
        """Until it is answered for good; what may be asked again, which is all but codes."""
        for _ in range(TRIES):
            done = await self.send(method, act, **request)
            if done.is_good:
                return done
            if done.status is not None and done.status < 500:
                break
            await asyncio.sleep(AGAIN_AFTER)
        raise GivenUp

    async def send(self, method: str, act: str, **request: Any) -> Exchange:
        return await self.recorder.send(self.name, method, act, **request)

    def _admitted(self, exchange: Exchange) -> None:
        self.tokens = dict(exchange.body)
        self.sids.append(exchange.claims["sid"])

    def session(self) -> dict[str, Any]:
        return {"sid": read_claims(self.tokens["access_token"])["sid"]}

    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens['access_token']}"}

    def next_step(self) -> int:
        """A step whose code was never given: three are acceptable at any time, so that nobody waits often."""
        now = int(self.clock() // PERIOD)
        step = max(self.last_step + 1, now - 1)
        if step > now + 1:
            raise GivenUp  # he would have to wait for his next code; somebody else goes on
        self.last_step = step
        return step

    def code(self, step: int) -> str:
        return pyotp.TOTP(self.secret).at(step * PERIOD)


@asynccontextmanager
async def living(
    recorder: Recorder,
    *,
    people: int,
    prefix: str,
    client_secret: str,
    clock: Callable[[], float] = time.time,
    live: Callable[[Life], Awaitable[None]] = Life.live,
) -> AsyncIterator[list[Life]]:
    """So many people at a time, one life after the other, until the block ends; every life that began."""
    numbers, lives = count(), list[Life]()
    goes_on = True

    async def one_after_the_other() -> None:
        while goes_on:
            life = Life(recorder, f"{prefix}-{next(numbers)}", clock, client_secret)
            lives.append(life)
            try:
                await live(life)
            except GivenUp:
                await asyncio.sleep(AGAIN_AFTER)

    tasks = [asyncio.create_task(one_after_the_other()) for _ in range(people)]
    try:
        yield lives
    finally:
        goes_on = False
        await asyncio.gather(*tasks)
