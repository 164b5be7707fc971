"""The webhook: the transport that posts recorded events to the operator's system, and messages to users.

With `KEYTURN_MESSAGES=webhook` the operator's system sends the messages: it gets what each one says, with the link.

The format is that of Standard Webhooks (version 1): an id by which receivers recognise repeats, a timestamp, and an
HMAC-SHA256 over id, timestamp and body.
"""

import asyncio
import base64
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from service.clock import unix_seconds
from service.messages import outbox, reports
from service.messages.contents import Content, Contents
from service.messages.outbox import Message
from service.messages.transport import Drop, Outcome, Refusal
from service.outgoing import failure_of, make_tls_context
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
    """A `Transport` that posts to one URL.

    With `contents` it posts messages to users too; `locale` is the language of users who chose none. `timeout` is the
    number of seconds in which the receiver must answer.
    """

    name = outbox.WEBHOOK
    lease = timedelta(seconds=10)

    def __init__(
        self,
        *,
        url: str,
        key: bytes,
        contents: Contents | None = None,
        locale: str = "en",
        timeout: float = ANSWER_TIMEOUT_SECONDS,
    ) -> None:
        self._timeout = timeout
        self._url = url
        self._key = key
        self._contents = contents
        self._locale = locale
        self._client: httpx2.AsyncClient | None = None

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def end_round(self) -> None:
        """Keep the connections: the next round uses them again."""

    async def send(self, message: Message, now: datetime) -> Outcome:
        """Post the event or the message; `None` if the receiver answered with a 2xx status."""
        if message.kind == outbox.EVENT:
            # With the time: after a restored backup numbers are used again, and receivers would ignore a known id.
            return await self.post(f"evt_{message.occurred_at}_{message.event_id}", _event(message), now)
        if self._contents is None:
            return Drop("no_transport")
        content = await self._contents.read(message, now)
        if isinstance(content, Drop):
            return content
        return await self.post(content.id, self._message(content), now)

    async def post(self, message_id: str, body: bytes, now: datetime) -> Refusal | None:
        """Sign and post a body; `None` if the receiver answered with a 2xx status."""
        import httpx2  # imported late: a service without a webhook needs no client

        if self._client is None:
            # Proxies of the environment and redirects are ignored: the operator named this address.
            self._client = httpx2.AsyncClient(
                verify=make_tls_context(),
                timeout=self._timeout,
                trust_env=False,
                follow_redirects=False,
            )
        headers = {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(unix_seconds(now)),
            "webhook-signature": sign(self._key, message_id, unix_seconds(now), body),
        }
        try:
            async with asyncio.timeout(self._timeout):
                async with self._client.stream("POST", self._url, content=body, headers=headers) as answer:
                    status = answer.status_code  # the body is not read
        except (httpx2.HTTPError, OSError, TimeoutError) as error:
            return Refusal(failure_of(error))
        return None if 200 <= status < 300 else Refusal("status", status)

    def _message(self, content: Content) -> bytes:
        """The body of a message to a user: all that its text needs. What does not apply is absent."""
        data = {
            "to": content.to,
            "sub": content.sub,
            "username": content.username,
            "locale": content.locale or self._locale,
            "link": content.link,
            "token": content.token,
            "expires_at": content.expires_at,
            **content.details,
        }
        return write_body(f"message.{content.kind}", content.occurred_at, data)

    def log_delivered(self, message: Message) -> None:
        if message.kind != outbox.EVENT:
            reports.log_sent(message)
            return
        emit(LogName.WEBHOOK_DELIVERED, event_id=message.event_id, attempts=message.attempts + 1)

    def log_refused(self, message: Message, refusal: Refusal, *, again_in: int) -> None:
        if message.kind != outbox.EVENT:
            reports.log_refused(message, refusal, again_in=again_in)
            return
        warn(
            LogName.WEBHOOK_REFUSED,
            event_id=message.event_id,
            status=refusal.status,
            reason=refusal.reason,
            attempts=message.attempts + 1,
            again_in=again_in,
        )


def _event(message: Message) -> bytes:
    data = {"sub": message.user_id, "username": message.username, **json.loads(message.details)}
    return write_body(message.event, message.occurred_at, data)


def write_body(type_: str, occurred_at: int, data: Mapping[str, object]) -> bytes:
    """Return the body of a delivery (Standard Webhooks), without the values that are `None`."""
    return json.dumps(
        {
            "type": type_,
            "timestamp": datetime.fromtimestamp(occurred_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "data": {name: value for name, value in data.items() if value is not None},
        }
    ).encode()
