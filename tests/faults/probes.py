"""Probes: one request to each endpoint when a fault begins, so that its answer in the fault is known.

A user whose first request hangs never reaches the other endpoints. Each probe prepares for one endpoint before the
fault, and all probes send one request at the same time when the fault has begun.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tests.faults.checker import ACTS
from tests.faults.load import Abandoned
from tests.faults.mailbox import CONFIRMS, RESETS
from tests.faults.owners import OTHER_PASSWORDS, Owner

OWNER_ACTS = ACTS[ACTS.index("/email") :]
"""The acts of users with an address."""

_AS_NAME = str.maketrans("/ {}", "----")
"""Usernames have none of these characters."""

AT_ONCE, TRIES = 4, 5
SOON = 0.4
"""Seconds after the fault began."""


class Probe:
    """One prepared request to one endpoint."""

    def __init__(self, life: Owner, act: str) -> None:
        self._life = life
        self._act = act
        self._pending = ""
        self._link = ""
        self._administrator: dict[str, str] = {}

    async def get_ready(self) -> None:
        """Make the account and tokens that the request needs. Raise `Abandoned` if that fails."""
        if self._act == "/signup":
            return
        if self._act == "/qrcode/{username}":
            self._pending = await self._life.ask_for_account()
            return
        life = self._life
        await life.sign_up()
        self._pending = (await life.give_password()).body["mfa_token"]
        match self._act:
            case "/email/confirm":
                self._link = await life.request_address()
            case "/password-reset":
                await life.change_address()
            case "/password-reset/confirm":
                await life.change_address()
                self._link = await life.request_reset()
            case "/me/restore":
                await life.leave()
            case "/admin/users/{sub}":
                self._administrator = await life.administrator()

    async def send(self) -> None:
        """Send the request, once."""
        if self._act in OWNER_ACTS:
            await self._send_of_owner()
            return
        life, method = self._life, "POST"
        password = {"username": life.name, "password": life.password}
        request: dict[str, Any] = {"sent": life.session() if life.tokens else {}}
        match self._act:
            case "/signup":
                request |= {"json": {**password, "enable_mfa": True}, "sent": {"enable_mfa": True}}
            case "/qrcode/{username}":
                method, request["path"] = "GET", f"/qrcode/{life.name}"
                request["headers"] = {"Authorization": f"Bearer {self._pending}", "Accept": "application/json"}
            case "/login":
                request |= {"json": password, "sent": {"password": life.password}}
            case "/login-2fa":
                step = life.next_step()
                request["json"] = {"mfa_token": self._pending, "otp": life.code(step)}
                request["sent"] = {"secret": life.secret, "step": step}
            case "/disable-mfa":
                step = life.next_step()
                request["json"] = {**password, "token": life.code(step)}
                request["sent"] = {"secret": life.secret, "step": step, "sids": tuple(life.sids)}
            case "/enable-mfa":
                request |= {"json": {"password": life.password}, "headers": life.bearer()}
            case "/token":
                token = life.tokens["refresh_token"]
                request["data"] = {"grant_type": "refresh_token", "refresh_token": token}
                request["sent"]["refresh_token"] = token
            case "/revoke":
                request["data"] = {"token": life.tokens["refresh_token"]}
            case "/introspect":
                credentials = {"client_id": "faults", "client_secret": life.shared.client_secret}
                request["data"] = {"token": life.tokens["access_token"], **credentials}
            case "/logout":
                request["headers"] = life.bearer()
            case _:
                method, request["headers"] = "GET", life.bearer()
        await life.send(method, self._act, **request)

    async def _send_of_owner(self) -> None:
        life, method = self._life, "POST"
        request: dict[str, Any] = {}
        match self._act:
            case "/email":
                request |= {"json": {"email": life.address, "password": life.password}, "headers": life.bearer()}
                request["sent"] = {"to": life.address, "message": CONFIRMS}
            case "/email/confirm":
                request |= {"json": {"token": self._link}, "sent": {"link": self._link}}
            case "/password-reset":
                request |= {"json": {"username": life.address}, "headers": life.from_own_address()}
                request["sent"] = {"to": life.address, "message": RESETS}
            case "/password-reset/confirm":
                life.password = OTHER_PASSWORDS[0]
                request["json"] = {"token": self._link, "new_password": life.password}
                request["sent"] = {"link": self._link, "new_password": life.password, "sids": tuple(life.sids)}
            case "DELETE /me":
                method, request["path"] = "DELETE", "/me"
                request |= {"json": {"password": life.password}, "headers": life.bearer()}
                request["sent"] = {"sids": tuple(life.sids)}
            case "/me/restore":
                request |= {"json": {"username": life.name, "password": life.password}, "sent": {"restores": True}}
            case "/admin/users/{sub}":
                method, request["path"] = "PATCH", f"/admin/users/{life.claims()['sub']}"
                request |= {"json": {"disabled": True}, "headers": self._administrator}
                request["sent"] = {"disables": True, "sids": tuple(life.sids)}
        await life.send(method, self._act, **request)


async def prepare_probes(make_life: Callable[[str], Owner]) -> list[Probe]:
    """Prepare one probe for each endpoint, a few at a time, each with another user if the first attempt fails."""
    places = asyncio.Semaphore(AT_ONCE)

    async def prepare(act: str) -> Probe:
        name = act.strip("/").lower().translate(_AS_NAME)
        async with places:
            for number in range(1, TRIES):
                probe = Probe(make_life(f"{name}-{number}"), act)
                with suppress(Abandoned):  # a busy machine may answer 503 to a code, which is then not sent again
                    await probe.get_ready()
                    return probe
            probe = Probe(make_life(f"{name}-{TRIES}"), act)
            await probe.get_ready()
            return probe

    return list(await asyncio.gather(*map(prepare, ACTS)))


async def send_probes(probes: list[Probe]) -> None:
    await asyncio.sleep(SOON)
    await asyncio.gather(*(probe.send() for probe in probes))
