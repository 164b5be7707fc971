"""Rounds of deliveries: at least once, in order for each recipient, with growing waits.

Here a message is any row of the outbox: an event for the webhook, or a message to a user. A round takes up to
`BATCH_SIZE` due messages, for each recipient and address only the first (`outbox.read_due`). If the receiver refuses
a message or does not answer, the message is sent again after a growing wait, and the later messages of that recipient
and address wait for it: for an event without limit, for a message to a user until `outbox.MAX_HOLDING_ATTEMPTS`. That
also holds for a message that cannot be sent because of a defect. The replica that holds the `lease` delivers; the
others do nothing. A message that is of no use any more, or that the mail server refuses permanently, is dropped.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime

from service.clock import unix_seconds
from service.errors import StoreUnavailable
from service.messages import events, outbox
from service.messages.lease import Lease
from service.messages.outbox import Message
from service.messages.reports import log_dropped
from service.messages.settling import Settling
from service.messages.transport import Drop, NotTried, Outcome, Refusal, Transport
from service.storage.database import Database
from service.telemetry.event_names import EventName
from service.waits import SETTLE_SECONDS

BATCH_SIZE = 16
"""The maximum number of deliveries in a round."""

MAX_RETRY_WAIT_SECONDS = 300
"""The longest wait before a message is sent again. The waits are 2, 4, 8 ... seconds."""

MAX_PAUSE_SECONDS = 60
"""The longest pause when the receiver refuses everything."""


class Delivery:
    """Delivers the due messages of one transport, one round for each call of `deliver`."""

    def __init__(
        self,
        database: Database,
        transport: Transport,
        *,
        ticks: Callable[[], float] = time.monotonic,
        settle: float = SETTLE_SECONDS,
    ) -> None:
        self._database = database
        self._transport = transport
        self._lease = Lease(database, transport.name, transport.lease)
        self._settling = Settling(database, ticks=ticks, settle=settle)
        self._rounds_refused = 0
        self._paused_until = 0

    async def close(self) -> None:
        """Give up the lease, and close the transport's connections."""
        await self._lease.release()
        await self._transport.close()

    async def deliver(self, now: datetime) -> int:
        """Deliver one round; return the number of delivered and dropped messages.

        Raises `StoreUnavailable` and, after the round, the error of a message that has a defect.
        """
        waiting = await outbox.find_due(self._database, self._transport.name)
        if waiting is None:
            return 0
        self._settling.see(waiting.newest_event)  # before anything is due, so that it is settled by then
        settled = await self._settling.settle()  # so that a user's events are delivered in order
        if settled == 0 or waiting.first_at > unix_seconds(now) or unix_seconds(now) < self._paused_until:
            return 0
        if not await self._lease.hold(now):
            return 0
        due = await outbox.read_due(self._database, self._transport.name, now, up_to_event=settled, limit=BATCH_SIZE)
        outcomes = await asyncio.gather(*(self._deliver(message, now) for message in due), return_exceptions=True)
        await self._transport.end_round()
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        delivered = sum(outcome is None or isinstance(outcome, Drop) for outcome in outcomes)
        are_refused = all(
            isinstance(outcome, NotTried) or (isinstance(outcome, Refusal) and not outcome.is_of_message)
            for outcome in outcomes
        )
        self._pause_if_refused(now, is_refusing=len(due) == BATCH_SIZE and are_refused)
        return delivered

    def _pause_if_refused(self, now: datetime, *, is_refusing: bool) -> None:
        """Pause deliveries to a receiver that refused a whole round, so that not every message is tried."""
        self._rounds_refused = self._rounds_refused + 1 if is_refusing else 0
        self._paused_until = (
            unix_seconds(now) + min(MAX_PAUSE_SECONDS, 2 ** min(self._rounds_refused, 16)) if is_refusing else 0
        )

    async def _deliver(self, message: Message, now: datetime) -> Outcome:
        """Send one message; return what became of it. One that was accepted or dropped is not due any more."""
        try:
            outcome = await self._transport.send(message, now)
        except StoreUnavailable:
            raise
        except Exception:
            # A defect. Later rounds must have room for the messages of others, however many messages have it.
            await self._postpone(message, now)
            raise
        match outcome:
            case NotTried():
                return outcome
            case Refusal():
                wait = await self._postpone(message, now)
                self._transport.log_refused(message, outcome, again_in=wait)
                return outcome
            case Drop():
                await outbox.remove(self._database, message)
                log_dropped(message, outcome)
                return outcome
        if message.event == EventName.USER_DELETED and message.user_id is not None:
            # The last event of the account: those before it are delivered, and no receiver needs their details. The
            # details are removed before the row of the outbox, so that after a crash between them both run again.
            async with self._database.begin() as transaction:
                await events.remove_details(transaction, message.user_id)
        await outbox.remove(self._database, message)
        self._transport.log_delivered(message)
        return None

    async def _postpone(self, message: Message, now: datetime) -> int:
        """Let the message be sent again after a growing wait, and return the seconds."""
        wait: int = min(MAX_RETRY_WAIT_SECONDS, 2 ** min(message.attempts + 1, 16))
        await outbox.postpone(self._database, message, unix_seconds(now) + wait)
        return wait
