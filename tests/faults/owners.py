"""The second half of the load: users with an address. They reset passwords, delete and restore, and are administered.

Each link is sent to both replicas at once, with another new password each; each deletion runs beside a login and a
refresh of the same user.
"""

import asyncio
from typing import Any

from tests.faults.history import Exchange
from tests.faults.load import Abandoned, Life
from tests.faults.mailbox import CONFIRMS, RESETS

MAIL_WITHIN = 20.0
"""Seconds that a user waits for a message. The check after the fault waits again for those that did not arrive."""
OTHER_PASSWORDS = ("a passphrase of the first replica", "a passphrase of the second one")


class Owner(Life):
    """The lifecycle of a user with an address."""

    async def live(self) -> None:
        await self.sign_up()
        await self.change_address()
        await self.reset_password()
        await self.leave_and_return()
        await self.be_administered()

    @property
    def address(self) -> str:
        return f"{self.name}@example.com"

    async def change_address(self) -> None:
        """Request an address, and confirm it at both replicas at once: one succeeds."""
        await self._confirm(await self.request_address())

    async def request_address(self) -> str:
        """Request the address, and return the token in the message."""
        body = {"email": self.address, "password": self.password}
        await self._ask("POST", "/email", json=body, headers=self.bearer(), sent={"message": CONFIRMS, **self._to()})
        return await self._received(CONFIRMS)

    async def _confirm(self, link: str) -> None:
        both = await asyncio.gather(*(self.confirm(link, replica=n) for n in range(2)))
        if not any(exchange.is_good for exchange in both):
            raise Abandoned

    async def confirm(self, link: str, *, replica: int | None = None) -> Exchange:
        return await self.send("POST", "/email/confirm", json={"token": link}, sent={"link": link}, replica=replica)

    async def request_reset(self) -> str:
        """Request a link for a new password, and return the token in the message."""
        request: dict[str, Any] = {"json": {"username": self.address}, "headers": self.from_own_address()}
        await self._ask("POST", "/password-reset", **request, sent={"message": RESETS, **self._to()})
        return await self._received(RESETS)

    async def reset_password(self) -> None:
        """Use a link at both replicas at once with two passwords: one succeeds, and only that password is valid."""
        link, earlier = await self.request_reset(), self.password
        both = await asyncio.gather(*(self.use_reset(link, n) for n in range(2)))
        for exchange in both:
            if exchange.is_good:
                self.password = exchange.sent["new_password"]
        if self.password == earlier:
            raise Abandoned
        await asyncio.gather(*(self._refresh(self.tokens["refresh_token"], replica=n) for n in range(2)))
        await self.try_password(earlier)
        pending = await self.give_password()
        if not pending.body.get("mfa_required"):
            raise Abandoned  # the checker reports it
        self._admitted(await self._give_code(pending.body["mfa_token"]))

    async def use_reset(self, link: str, replica: int) -> Exchange:
        new = OTHER_PASSWORDS[replica]
        sent = {"link": link, "new_password": new, "sids": tuple(self.sids)}
        body = {"token": link, "new_password": new}
        return await self.send("POST", "/password-reset/confirm", json=body, sent=sent, replica=replica)

    async def leave_and_return(self) -> None:
        """Delete the account while it is used at the other replica, and restore it with both factors."""
        pending = (await self.give_password()).body["mfa_token"]
        step = self.next_step()
        await self.leave(beside=pending)
        await self.try_password(self.password)
        sent = {"secret": self.secret, "step": step}
        body = {"mfa_token": pending, "otp": self.code(step)}
        await self.send("POST", "/login-2fa", json=body, sent=sent)
        await asyncio.gather(*(self._refresh(self.tokens["refresh_token"], replica=n) for n in range(2)))
        await self.send("GET", "/me", headers=self.bearer(), sent=self.session())
        restoring = (await self.ask_for_restore()).body["mfa_token"]
        sent = {**sent, "restores": True}
        both = await asyncio.gather(
            *(
                self.send("POST", "/login-2fa", json={**body, "mfa_token": restoring}, sent=sent, replica=n)
                for n in range(2)
            )
        )
        for exchange in both:
            if exchange.is_good:
                self._admitted(exchange)
                return
        raise Abandoned

    async def leave(self, *, beside: str | None = None) -> None:
        """Delete the account; beside it use its session and a pending token at the same moment."""
        body, sent = {"password": self.password}, {"sids": tuple(self.sids)}
        request: dict[str, Any] = {"path": "/me", "json": body, "headers": self.bearer(), "sent": sent}
        others = [] if beside is None else [
            self._refresh(self.tokens["refresh_token"]),
            self.send("POST", "/login", json={"username": self.name, **body}, sent=body),
        ]  # fmt: skip
        done, *_ = await asyncio.gather(self.send("DELETE", "DELETE /me", **request), *others)
        if not done.is_good:
            raise Abandoned

    async def ask_for_restore(self) -> Exchange:
        body = {"username": self.name, "password": self.password}
        return await self._ask("POST", "/me/restore", json=body, sent={"restores": True})

    async def be_administered(self) -> None:
        """A client disables the account and enables it again."""
        bearer = await self.administrator()
        await self.administer(bearer, is_disabled=True)
        await self.try_password(self.password)
        await asyncio.gather(*(self._refresh(self.tokens["refresh_token"], replica=n) for n in range(2)))
        await self.administer(bearer, is_disabled=False)
        await self.give_password()

    async def administrator(self) -> dict[str, str]:
        """Return the header of an access token of the client that administers."""
        form = {"grant_type": "client_credentials", "client_id": "admin", "client_secret": self.shared.admin_secret}
        done = await self._ask("POST", "/token", data=form)
        return {"Authorization": f"Bearer {done.body['access_token']}"}

    async def administer(self, bearer: dict[str, str], *, is_disabled: bool) -> None:
        sent = {"disables": is_disabled, "sids": tuple(self.sids)}
        request: dict[str, Any] = {"json": {"disabled": is_disabled}, "headers": bearer, "sent": sent}
        await self._ask("PATCH", "/admin/users/{sub}", path=f"/admin/users/{self.claims()['sub']}", **request)

    async def _received(self, purpose: str) -> str:
        """Wait for the newest link. Raise `Abandoned` if no message arrives in time."""
        link = await self.shared.mailbox.await_link(self.address, purpose, within=MAIL_WITHIN)
        if link is None:
            raise Abandoned
        return link

    def _to(self) -> dict[str, str]:
        return {"to": self.address}
