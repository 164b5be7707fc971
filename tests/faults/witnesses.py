"""Somebody at every endpoint when a fault begins, so that its answer there is known.

A life that is stopped at its first step never comes to the others. Each witness is ready for one endpoint before the
fault, with all that it needs, and asks there once, together with the others, when the fault has begun.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from tests.faults.checker import ACTS
from tests.faults.crowd import Life
from tests.people import PASSWORD

SOON = 0.4
"""Seconds after the fault began."""


class Witness:
    """Stands at one endpoint."""

    def __init__(self, life: Life, act: str) -> None:
        self._life = life
        self._act = act
        self._pending = ""

    async def get_ready(self) -> None:
        """Raises `GivenUp`."""
        if self._act == "/signup":
            return
        if self._act == "/qrcode/{username}":
            self._pending = await self._life.ask_for_account()
            return
        await self._life.sign_up()
        self._pending = (await self._life.give_password()).body["mfa_token"]

    async def testify(self) -> None:
        """Ask, once."""
        life, method = self._life, "POST"
        password = {"username": life.name, "password": PASSWORD}
        request: dict[str, Any] = {"told": life.session() if life.tokens else {}}
        match self._act:
            case "/signup":
                request |= {"json": {**password, "enable_mfa": True}, "told": {"enable_mfa": True}}
            case "/qrcode/{username}":
                method, request["path"] = "GET", f"/qrcode/{life.name}"
                request["headers"] = {"Authorization": f"Bearer {self._pending}", "Accept": "application/json"}
            case "/login":
                request["json"] = password
            case "/login-2fa":
                step = life.next_step()
                request["json"] = {"mfa_token": self._pending, "otp": life.code(step)}
                request["told"] = {"secret": life.secret, "step": step}
            case "/disable-mfa":
                step = life.next_step()
                request["json"] = {**password, "token": life.code(step)}
                request["told"] = {"secret": life.secret, "step": step, "sids": tuple(life.sids)}
            case "/enable-mfa":
                request |= {"json": {"password": PASSWORD}, "headers": life.bearer()}
            case "/token":
                token = life.tokens["refresh_token"]
                request["data"] = {"grant_type": "refresh_token", "refresh_token": token}
                request["told"]["refresh_token"] = token
            case "/revoke":
                request["data"] = {"token": life.tokens["refresh_token"]}
            case "/introspect":
                credentials = {"client_id": "faults", "client_secret": life.client_secret}
                request["data"] = {"token": life.tokens["access_token"], **credentials}
            case "/logout":
                request["headers"] = life.bearer()
            case _:
                method, request["headers"] = "GET", life.bearer()
        await life.send(method, self._act, **request)


async def stand_by(make_life: Callable[[str], Life]) -> list[Witness]:
    """One for each endpoint, ready."""
    witnesses = [Witness(make_life(act.strip("/").split("/")[0]), act) for act in ACTS]
    await asyncio.gather(*(witness.get_ready() for witness in witnesses))
    return witnesses


async def testify(witnesses: list[Witness]) -> None:
    await asyncio.sleep(SOON)
    await asyncio.gather(*(witness.testify() for witness in witnesses))
