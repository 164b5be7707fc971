"""Requests with the tokens of a session, and what the answers show."""

import base64
from typing import Any

import jwt
from httpx2 import AsyncClient, Response

from tests.harness.clients import Client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def claims(token: str) -> dict[str, Any]:
    decoded: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return decoded


async def refresh(client: AsyncClient, token: str) -> Response:
    return await client.post("/token", data={"grant_type": "refresh_token", "refresh_token": token})


async def is_live(client: AsyncClient, access_token: str) -> bool:
    return (await client.get("/me", headers=bearer(access_token))).status_code == 200


def forgeries(token: str, other: str) -> list[str]:
    """Return tokens that Keyturn never issued: each field of one exchanged, cut, changed, or spelt otherwise."""
    data, foreign = (base64.urlsafe_b64decode(text.removeprefix("ktr_") + "==") for text in (token, other))

    def encode(raw: bytes) -> str:
        return "ktr_" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    later = data[:16] + (7).to_bytes(4, "big") + data[20:]
    flipped = [data[:n] + bytes([data[n] ^ 1]) + data[n + 1 :] for n in (0, 15, 16, 19, 20, 35, 51)]
    return [
        *map(
            encode,
            [later, foreign[:16] + data[16:], data[:20] + foreign[20:], data[:-1], data + b"\0", b"", *flipped],
        ),
        token[:-1],
        token[:-1] + chr(ord(token[-1]) + 1),
        token + "=",
        token.removeprefix("ktr_"),
        token.upper(),
        "ktr_" + token,
        "ktr_",
        "\N{KEY}",
        token * 50,
    ]


async def change_password(client: AsyncClient, access: str, current: str, new: str) -> Response:
    body = {"current_password": current, "new_password": new}
    return await client.post("/password", json=body, headers=bearer(access))


async def ended_at(client: Client, tokens: dict[str, Any]) -> float:
    """Return when the session ended, by the row that /verify reads."""
    row = await client.parts.database.fetch_one(
        "SELECT ended_at FROM sessions WHERE id = $1", claims(tokens["access_token"])["sid"]
    )
    assert row is not None
    return float(row["ended_at"])
