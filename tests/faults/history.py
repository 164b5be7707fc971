"""The record: which user sent what to which replica, what it answered, and when. The checker judges it."""

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from time import monotonic
from typing import Any, Literal

import httpx2

Phase = Literal["calm", "fault", "after"]

PATIENCE = 15.0
"""Seconds after which a client stops waiting: far above every allowed time."""


@dataclass(frozen=True)
class Exchange:
    """A request and its answer. `status` is `None` without an answer; `is_refused`: no connection was made."""

    person: str
    act: str
    """The route, such as `/login-2fa`."""
    sent: Mapping[str, Any]
    """Facts about the request that the checker needs: the time step of a code, the session of a token."""
    phase: Phase
    sent_at: float
    answered_at: float
    status: int | None = None
    code: str = ""
    body: Mapping[str, Any] = field(default_factory=dict)
    request_id: str = ""
    echoed_id: str = ""
    is_refused: bool = False

    @property
    def seconds(self) -> float:
        return self.answered_at - self.sent_at

    @property
    def is_good(self) -> bool:
        return self.status is not None and self.status < 300

    @property
    def is_unknown(self) -> bool:
        """Whether the request may or may not have taken effect."""
        return not self.is_refused and (self.status is None or self.status >= 500)

    @property
    def claims(self) -> Mapping[str, Any]:
        """The unverified claims of the access token in the answer."""
        token = self.body.get("access_token")
        return {} if token is None else read_claims(token)


def read_claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


class History:
    """The history of one fault."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.phase: Phase = "calm"

    def during(self, phase: Phase) -> list[Exchange]:
        return [exchange for exchange in self.exchanges if exchange.phase == phase]


class Recorder:
    """A client of all replicas that records every exchange."""

    def __init__(self, history: History, *urls: str, patience: float = PATIENCE) -> None:
        self.history = history
        self._clients = [httpx2.AsyncClient(base_url=url, timeout=patience) for url in urls]
        self._numbers = count()

    async def close(self) -> None:
        await asyncio.gather(*(client.aclose() for client in self._clients))

    async def send(
        self,
        person: str,
        method: str,
        act: str,
        *,
        replica: int | None = None,
        sent: Mapping[str, Any] | None = None,
        path: str = "",
        **request: Any,
    ) -> Exchange:
        """Send to one replica, by default to the replicas in turn; skip a replica that refuses the connection."""
        number = next(self._numbers)
        request_id = f"exchange-{number:08d}"
        headers = {"X-Request-Id": request_id, **request.pop("headers", {})}
        phase, sent_at = self.history.phase, monotonic()
        answer: httpx2.Response | None = None
        is_refused = False
        first = number if replica is None else replica
        for number in range(1 if replica is not None else len(self._clients)):
            client = self._clients[(first + number) % len(self._clients)]
            is_refused = False
            try:
                answer = await client.request(method, path or act, headers=headers, **request)
            except httpx2.ConnectError:
                is_refused = True
                continue
            except httpx2.HTTPError:
                pass  # cut off
            break
        exchange = Exchange(
            person, act, dict(sent or {}), phase, sent_at, monotonic(), request_id=request_id, is_refused=is_refused,
            **({} if answer is None else _read(answer)),
        )  # fmt: skip
        self.history.exchanges.append(exchange)
        return exchange


def _read(answer: httpx2.Response) -> dict[str, Any]:
    is_json = answer.headers.get("content-type", "").endswith("json")
    body = answer.json() if is_json else {}
    code = body.get("code") or body.get("error") or ""
    return {
        "status": answer.status_code,
        "code": code,
        "body": body,
        "echoed_id": answer.headers.get("x-request-id", ""),
    }
