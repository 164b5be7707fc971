"""The webhook: the transport that posts recorded events to the operator's system.

The format is that of Standard Webhooks (version 1): an id by which receivers recognise repeats, a timestamp, and an
HMAC-SHA256 over id, timestamp and body.
"""

import asyncio
import base64
import hmac
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from service.clock import unix_seconds
from service.messages import outbox
from service.messages.outbox import Message
from service.messages.transport import Refusal
from service.outgoing import failure_of
from service.telemetry.event_names import LogName
from service.telemetry.log import emit, warn

if TYPE_CHECKING:
    import httpx2

ANSWER_TIMEOUT_SECONDS = 5.0
"""The time in which the receiver must answer."""


def sign(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the `webhook-signature` (Standard Webhooks, symmetric: v1)."""
    signed = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return f"v1,{base64.b64encode(signed).decode()}"


class Webhook:
    """A `Transport` that posts to one URL."""

    name = outbox.WEBHOOK

    def __init__(self, *, url: str, key: bytes) -> None:
        self._url = url
        self._key = key
        self._client: httpx2.AsyncClient | None = None

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def send(self, message: Message, now: datetime) -> Refusal | None:
        """Post the event; `None` if the receiver answered with a 2xx status."""
        import httpx2  # imported late: a service without a webhook needs no client

        if self._client is None:
            # Proxies of the environment and redirects are ignored: the operator named this address. SSL_CERT_FILE
            # is read by create_ssl_context.
            self._client = httpx2.AsyncClient(
                verify=httpx2.create_ssl_context(),
                timeout=ANSWER_TIMEOUT_SECONDS,
                trust_env=False,
                follow_redirects=False,
            )
        body = _body(message)
        # With the time: after a restored backup numbers are used again, and receivers would ignore a known id.
        message_id = f"evt_{message.occurred_at}_{message.event_id}"
        headers = {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(unix_seconds(now)),
            "webhook-signature": sign(self._key, message_id, unix_seconds(now), body),
        }
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
                async with self._client.stream("POST", self._url, content=body, headers=headers) as answer:
                    status = answer.status_code  # the body is not read
        except (httpx2.HTTPError, OSError, TimeoutError) as error:
            return Refusal(failure_of(error))
        return None if 200 <= status < 300 else Refusal("status", status)

    def log_delivered(self, message: Message) -> None:
        emit(LogName.WEBHOOK_DELIVERED, event_id=message.event_id, attempts=message.attempts + 1)

    def log_refused(self, message: Message, refusal: Refusal, *, again_in: int) -> None:
        warn(
            LogName.WEBHOOK_REFUSED,
            event_id=message.event_id,
            status=refusal.status,
            reason=refusal.reason,
            attempts=message.attempts + 1,
            again_in=again_in,
        )


def _body(message: Message) -> bytes:
    account = {"sub": message.user_id, "username": message.username}
    return json.dumps(
        {
            "type": message.event,
            "timestamp": datetime.fromtimestamp(message.occurred_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "data": {
                **{name: value for name, value in account.items() if value is not None},
                **json.loads(message.details),
            },
        }
    ).encode()
