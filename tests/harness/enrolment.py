"""Enrolment of a second factor as a frontend does it, and recovery codes."""

from typing import Any

from httpx2 import AsyncClient, Response

from tests.harness.people import MovableClock, Person, sign_up
from tests.harness.sessions import bearer


async def enrol(client: AsyncClient, person: Person) -> dict[str, Any]:
    """Do what a frontend does with `mfa_confirmed: false`: show the secret, and send the first code."""
    pending = (await person.give_password()).json()
    assert (True, False) == (pending["mfa_required"], pending["mfa_confirmed"])
    headers = bearer(pending["mfa_token"]) | {"Accept": "application/json"}
    shown = await client.get(f"/qrcode/{person.username}", headers=headers)
    person.secret = shown.json()["secret"]
    answer = await person.give_code(mfa_token=pending["mfa_token"])
    assert 200 == answer.status_code
    tokens: dict[str, Any] = answer.json()
    return tokens


async def enrolled(client: AsyncClient, clock: MovableClock, username: str = "carol") -> tuple[Person, list[str]]:
    person = await sign_up(client, clock, username)
    codes: list[str] = (await person.confirm()).json()["recovery_codes"]
    clock.next_step()
    return person, codes


async def recover(person: Person, code: str, mfa_token: str | None = None) -> Response:
    body = {"mfa_token": mfa_token or await person.pending(), "recovery_code": code}
    return await person.client.post("/login-2fa", json=body)
