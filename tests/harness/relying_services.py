"""Relying services: clients of the service that authenticate with a secret of their own."""

import base64
from collections.abc import Mapping
from typing import Any

from httpx2 import AsyncClient

from service.origin import OPERATOR
from tests.harness.clients import Client
from tests.harness.people import MovableClock

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def basic(client_id: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()}


async def add_client(client: Client, clock: MovableClock, name: str, *scopes: str) -> str:
    secret = await client.parts.clients.add(name, scopes, by=OPERATOR)
    assert secret is not None
    return secret


async def introspect(client: AsyncClient, token: str, headers: Mapping[str, str]) -> dict[str, Any]:
    answer = await client.post("/introspect", data={"token": token}, headers=headers)
    assert 200 == answer.status_code, answer.text
    body: dict[str, Any] = answer.json()
    return body
