"""Deliver recorded events to a webhook: at least once, in order per user, from an outbox that survives restarts.

The outbox is the rows of `events` with a due time (`due_at`), which are written in the transaction of the event, so
that a crash loses none. One replica at a time delivers: it holds the lease in the only row of `deliverer` and renews
it before each round. A round takes the oldest due event of each of up to `BATCH_SIZE` users. If the receiver refuses
an event or does not answer, it is sent again after a growing wait, and that user's later events wait for it. The
format is that of Standard Webhooks (version 1): an id by which receivers recognise repeats, a timestamp, and an
HMAC-SHA256 over id, timestamp and body.
"""

import asyncio
import base64
import hmac
import json
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from service.clock import unix_seconds
from service.errors import StoreUnavailable
from service.messages.outgoing import failure_of
from service.storage.database import Database, Row
from service.telemetry.log import emit, warn

if TYPE_CHECKING:
    import httpx2

BATCH_SIZE = 16
"""The maximum number of deliveries in a round, each for a different user."""

ANSWER_TIMEOUT_SECONDS = 5.0
"""The time in which the receiver must answer."""

MAX_RETRY_WAIT_SECONDS = 300
"""An event is sent again after 2, 4, 8 ... seconds, at most after this time."""

MAX_PAUSE_SECONDS = 60
"""The longest pause when the receiver refuses everything."""

LEASE = timedelta(seconds=10)
"""The time for which the delivering replica may be silent before another one takes over: longer than a round."""

MAX_PLAUSIBLE_LEASE = timedelta(minutes=10)
"""A lease that ends later than this from now is ignored: the clock of the replica that wrote it was wrong."""

SETTLE_SECONDS = 1.0
"""Seconds from reading an event's number to delivering it. An event gets its number before its transaction commits,
so that one with a lower number may become visible later. Within this time every such transaction has ended
(`database.DATABASE_TIMEOUT_SECONDS`), and a user's events are delivered in order."""


def sign(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the `webhook-signature` (Standard Webhooks, symmetric: v1)."""
    signed = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return f"v1,{base64.b64encode(signed).decode()}"


class Webhook:
    """Delivers the due events, one round for each call of `deliver`."""

    def __init__(
        self, database: Database, *, url: str, key: bytes, ticks: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._url = url
        self._key = key
        self._ticks = ticks
        self._name = secrets.token_hex(8)
        self._client: httpx2.AsyncClient | None = None
        self._rounds_refused = 0
        self._paused_until = 0
        self._seen: list[tuple[float, int]] = []  # monotonic time, highest number then

    async def close(self) -> None:
        """Give up the lease, so that another replica can deliver at once."""
        with suppress(StoreUnavailable):
            await self._database.write_one(
                "UPDATE deliverer SET holds_until = 0 WHERE id = 1 AND holder = $1 RETURNING id", self._name
            )
        if self._client is not None:
            await self._client.aclose()

    async def deliver(self, now: datetime) -> int:
        """Deliver one round; return the number of delivered events. Raises `StoreUnavailable`."""
        settled = await self._find_settled(now)
        if settled == 0 or unix_seconds(now) < self._paused_until or not await self._hold_lease(now):
            return 0
        due = await self._database.fetch_all(
            "SELECT e.id, e.event, e.occurred_at, e.details, e.attempts, e.user_id, u.username FROM events e"
            " JOIN users u ON u.id = e.user_id WHERE e.due_at <= $1 AND e.id <= $2 AND NOT EXISTS ("
            "SELECT 1 FROM events p WHERE p.user_id = e.user_id AND p.id < e.id AND p.due_at IS NOT NULL)"
            " ORDER BY e.id LIMIT $3",
            unix_seconds(now), settled, BATCH_SIZE,
        )  # fmt: skip
        outcomes = await asyncio.gather(*(self._deliver(row, now) for row in due), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        delivered = sum(outcome is True for outcome in outcomes)
        self._pause_if_refused(now, is_refusing=len(due) == BATCH_SIZE and delivered == 0)
        return delivered

    def _pause_if_refused(self, now: datetime, *, is_refusing: bool) -> None:
        """Pause deliveries to a receiver that refused a whole round, so that not every event is tried."""
        self._rounds_refused = self._rounds_refused + 1 if is_refusing else 0
        self._paused_until = (
            unix_seconds(now) + min(MAX_PAUSE_SECONDS, 2 ** min(self._rounds_refused, 16)) if is_refusing else 0
        )

    async def _find_settled(self, now: datetime) -> int:
        """Return the highest number up to which no further event can be committed; 0 if no event is due."""
        row = await self._database.fetch_one(
            "SELECT MAX(id) AS newest, MIN(due_at) AS first_due FROM events WHERE due_at IS NOT NULL"
        )
        moment = self._ticks()
        if row is None or row["newest"] is None:
            self._seen.clear()
            return 0
        self._seen.append((moment, row["newest"]))
        settled = [number for seen, number in self._seen if seen <= moment - SETTLE_SECONDS]
        self._seen = self._seen[max(0, len(settled) - 1) :]
        return max(settled, default=0) if row["first_due"] <= unix_seconds(now) else 0

    async def _hold_lease(self, now: datetime) -> bool:
        """Take or extend the lease; return whether this process delivers."""
        row = await self._database.write_one(
            "UPDATE deliverer SET holder = $1, holds_until = $2"
            " WHERE id = 1 AND (holder = $1 OR holds_until <= $3 OR holds_until > $4) RETURNING id",
            self._name, unix_seconds(now + LEASE), unix_seconds(now), unix_seconds(now + MAX_PLAUSIBLE_LEASE),
        )  # fmt: skip
        return row is not None

    async def _deliver(self, row: Row, now: datetime) -> bool:
        answer = await self._post(row, now)
        if isinstance(answer, int) and 200 <= answer < 300:
            await self._database.write_one("UPDATE events SET due_at = NULL WHERE id = $1 RETURNING id", row["id"])
            emit("webhook.delivered", event_id=row["id"], attempts=row["attempts"] + 1)
            return True
        wait = min(MAX_RETRY_WAIT_SECONDS, 2 ** min(row["attempts"] + 1, 16))
        await self._database.write_one(
            "UPDATE events SET attempts = attempts + 1, due_at = $1"
            " WHERE id = $2 AND due_at IS NOT NULL RETURNING id",
            unix_seconds(now) + wait, row["id"],
        )  # fmt: skip
        status, reason = (answer, "status") if isinstance(answer, int) else (None, answer)
        warn(
            "webhook.refused",
            event_id=row["id"],
            status=status,
            reason=reason,
            attempts=row["attempts"] + 1,
            again_in=wait,
        )
        return False

    async def _post(self, row: Row, now: datetime) -> int | str:
        """Return the receiver's status, or without an answer the reason (a key of `outgoing.FAILURES`)."""
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
        body = json.dumps(
            {
                "type": row["event"],
                "timestamp": datetime.fromtimestamp(row["occurred_at"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "data": {"sub": row["user_id"], "username": row["username"], **json.loads(row["details"])},
            }
        ).encode()
        # With the time: after a restored backup numbers are used again, and receivers would ignore a known id.
        message_id = f"evt_{row['occurred_at']}_{row['id']}"
        headers = {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(unix_seconds(now)),
            "webhook-signature": sign(self._key, message_id, unix_seconds(now), body),
        }
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
                async with self._client.stream("POST", self._url, content=body, headers=headers) as answer:
                    return answer.status_code  # the body is not read
        except (httpx2.HTTPError, OSError, TimeoutError) as error:
            return failure_of(error)
