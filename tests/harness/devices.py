"""Logins from devices that the service remembers."""

from typing import Any

from httpx2 import Response

from tests.harness.people import Person


async def log_in(person: Person, **more: Any) -> Response:
    """Send the password from the device of the token."""
    body = {"username": person.username, "password": person.password, **more}
    return await person.client.post("/login", json=body)


async def remember(person: Person, **more: Any) -> str:
    """Return a device token of a login with both factors."""
    body = {"mfa_token": await person.pending(), "otp": person.code(), "remember_device": True, **more}
    answer = await person.client.post("/login-2fa", json=body)
    assert 200 == answer.status_code, answer.text
    return str(answer.json()["device_token"])
