"""The mailbox alone never ends in a session of a user with a second factor, in any order of steps.

Law 17: a mailbox never replaces both factors.
"""

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.harness.addresses import get_user, reset_link, set_address
from tests.harness.clients import AT_ONCE, Client, Opener
from tests.harness.people import PASSWORD, MovableClock, secret_in, sign_up
from tests.harness.rounds import rounds
from tests.harness.sessions import bearer

LENGTH = rounds(3, long=4, everything=6)
DELAY = 3600


class Attacker:
    """Reads every message to the user, and knows nothing else: no password but the ones they set themselves."""

    def __init__(self, client: Client, clock: MovableClock, username: str) -> None:
        self._client = client
        self._clock = clock
        self._username = username
        self._password = "a guess of the attacker"
        self._count = 0

    async def reset(self) -> None:
        """Request a link, read it in the mailbox and use it."""
        await self._client.post("/password-reset", json={"username": self._username})
        self._count += 1
        password = f"passphrase number {self._count} of the attacker"
        body = {"token": await reset_link(self._client, self._username), "new_password": password}
        if (await self._client.post("/password-reset/confirm", json=body)).status_code == 204:
            self._password = password

    async def log_in(self) -> None:
        """Give the password, and try to fetch the secret that an enrolment without the second factor would have."""
        answer = await self._client.post("/login", json={"username": self._username, "password": self._password})
        assert "access_token" not in answer.json(), "the password of a reset opened a session"
        if "mfa_token" in answer.json():
            headers = bearer(answer.json()["mfa_token"])
            secret = await self._client.get(f"/qrcode/{self._username}/secret", headers=headers)
            assert secret.status_code in {401, 404}, "an enrolment began"

    async def start_recovery(self) -> None:
        body = {"username": self._username, "password": self._password}
        assert (await self._client.post("/recovery", json=body)).status_code == 202

    async def wait(self) -> None:
        """Wait longer than the delay of a recovery."""
        self._clock.advance(seconds=DELAY + 1)

    def steps(self) -> dict[str, Callable[[], Awaitable[None]]]:
        return {"reset": self.reset, "log_in": self.log_in, "recover": self.start_recovery, "wait": self.wait}


@pytest.mark.rounds
async def test_no_order_of_steps_opens_a_session_or_removes_the_second_factor(
    embedded: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """Each order of resets, logins, recoveries and delays, against a user of its own who does nothing."""
    settings = {**embedded, "recovery_delay": f"{DELAY}s", "limit_signup": None, "limit_login": None}
    settings |= {"limit_login_address": None, "remember_device_days": 30}
    async with open_client(settings, waits=AT_ONCE) as client:
        for number, order in enumerate(itertools.product(Attacker(client, clock, "").steps(), repeat=LENGTH)):
            if "reset" not in order:
                continue
            username = f"user{number}"
            person = await sign_up(client, clock, username, mfa=False)
            token = await set_address(client, person, f"{username}@example.com")
            enabled = await client.post("/enable-mfa", json={"password": PASSWORD}, headers=bearer(token))
            person.secret = secret_in(enabled.json()["provisioning_uri"])
            await person.give_code(mfa_token=enabled.json()["mfa_token"])
            before = await get_user(client, username)
            attacker = Attacker(client.at(f"198.51.100.{number % 250 + 1}"), clock, username)
            for step in (*order, "log_in"):
                await attacker.steps()[step]()
            after = await get_user(client, username)
            assert after.mfa == before.mfa == "confirmed", order
