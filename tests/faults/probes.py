"""Probes: one request to each endpoint when a fault begins, so that its answer in the fault is known.

A user whose first request hangs never reaches the other endpoints. Each probe prepares for one endpoint before the
fault, and all probes send one request at the same time when the fault has begun.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from tests.faults.checker import ACTS
from tests.faults.load import Life
from tests.harness.people import PASSWORD

SOON = 0.4
"""Seconds after the fault began."""


class Probe:
    """One prepared request to one endpoint."""

    def __init__(self, life: Life, act: str) -> None:
        self._life = life
        self._act = act
        self._pending = ""

    async def get_ready(self) -> None:
        """Make the account and tokens that the request needs. Raise `Abandoned` if that fails."""
        if self._act == "/signup":
            return
        if self._act == "/qrcode/{username}":
            self._pending = await self._life.ask_for_account()
            return
        await self._life.sign_up()
        self._pending = (await self._life.give_password()).body["mfa_token"]

    async def send(self) -> None:
        """Send the request, once."""
        life, method = self._life, "POST"
        password = {"username": life.name, "password": PASSWORD}
        request: dict[str, Any] = {"sent": life.session() if life.tokens else {}}
        match self._act:
            case "/signup":
                request |= {"json": {**password, "enable_mfa": True}, "sent": {"enable_mfa": True}}
            case "/qrcode/{username}":
                method, request["path"] = "GET", f"/qrcode/{life.name}"
                request["headers"] = {"Authorization": f"Bearer {self._pending}", "Accept": "application/json"}
            case "/login":
                request["json"] = password
            case "/login-2fa":
                step = life.next_step()
                request["json"] = {"mfa_token": self._pending, "otp": life.code(step)}
                request["sent"] = {"secret": life.secret, "step": step}
            case "/disable-mfa":
                step = life.next_step()
                request["json"] = {**password, "token": life.code(step)}
                request["sent"] = {"secret": life.secret, "step": step, "sids": tuple(life.sids)}
            case "/enable-mfa":
                request |= {"json": {"password": PASSWORD}, "headers": life.bearer()}
            case "/token":
                token = life.tokens["refresh_token"]
                request["data"] = {"grant_type": "refresh_token", "refresh_token": token}
                request["sent"]["refresh_token"] = token
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


async def prepare_probes(make_life: Callable[[str], Life]) -> list[Probe]:
    """Prepare one probe for each endpoint."""
    probes = [Probe(make_life(act.strip("/").split("/")[0]), act) for act in ACTS]
    await asyncio.gather(*(probe.get_ready() for probe in probes))
    return probes


async def send_probes(probes: list[Probe]) -> None:
    await asyncio.sleep(SOON)
    await asyncio.gather(*(probe.send() for probe in probes))
