"""Many requests at the same moment, over real sockets."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

ANSWERED_WITHIN = 20.0
"""Seconds after which a request of a burst counts as not answered."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: dict[str, Any]

    @property
    def code(self) -> str:
        """The error code of the problem, or an empty string for a success."""
        return str(self.body.get("code", ""))


async def burst(
    requests: list[tuple[str, str, dict[str, object]]], *, seconds: float = ANSWERED_WITHIN
) -> list[Answer | None]:
    """Send each `(base URL, path, JSON)` at once, over connections opened before; `None` where no answer arrived."""
    ready = asyncio.Barrier(len(requests))

    async def one(base: str, path: str, body: dict[str, object]) -> Answer | None:
        parts = urlsplit(base)
        payload = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(payload)}\r\nConnection: close\r\n\r\n"
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        await ready.wait()
        try:
            writer.write(head.encode() + payload)
            raw = await asyncio.wait_for(reader.read(), seconds)
        except (OSError, TimeoutError):
            return None
        finally:
            writer.close()
        top, _, rest = raw.partition(b"\r\n\r\n")
        if not top:
            return None
        return Answer(int(top.split(b" ", 2)[1]), json.loads(rest) if rest else {})

    return list(await asyncio.gather(*(one(*request) for request in requests)))
