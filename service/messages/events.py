"""Security events of accounts and clients: users see their own at `GET /events`, operators get all of them.

An event is recorded in the transaction of the change that it reports, so that a crash cannot leave one without the
other. After the commit it is in the log too, unless a command of the operator caused it. With a webhook the same
transaction puts it into the `outbox`, and with a transport for messages to users it puts those that follow from the
event there (`kinds`). Refusals of unknown users are in the log only: an attacker must not fill the database. The
details of an event are ids, names, numbers and addresses (law 15: logs, metrics, traces, errors and outbox rows hold
no secret).

Events are the audit trail. They outlive the account that they are about: `user_id` is no foreign key, and deleting an
account takes the details away and leaves the names, the times and the `sub`.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from service.clock import unix_seconds
from service.errors import StoreUnavailable
from service.messages import outbox
from service.messages.kinds import KINDS_OF_EVENT
from service.origin import Act
from service.storage.database import Database, Row, Transaction
from service.telemetry.event_names import EventName
from service.telemetry.log import Detail, emit, warn
from service.users import users

RETENTION = timedelta(days=90)
LISTED_EVENTS = 100
"""Events that a user sees, the newest first."""

REFUSALS_PER_EVENT = 3
"""Refused codes in a row that make one event. The password before them was right, or it was a step-up:
an attacker may know the password or have an access token."""

WARNING_EVENTS = frozenset(
    {EventName.CODE_REFUSED_REPEATEDLY, EventName.RECOVERY_STARTED, EventName.SESSION_REFRESH_REUSED}
)
"""The events that are warnings in the log."""


_COLUMNS = "id, user_id, event, occurred_at, details"

EVENTS_WITH_ADDRESS = frozenset(
    {
        EventName.CODE_REFUSED_REPEATEDLY,
        EventName.EMAIL_CHANGE_CANCELLED,
        EventName.EMAIL_CHANGE_REQUESTED,
        EventName.EMAIL_CHANGED,
        EventName.EMAIL_REMOVED,
        EventName.FACTOR_REMOVED,
        EventName.FACTOR_RENAMED,
        EventName.LOGIN_ADMITTED,
        EventName.MFA_DISABLED,
        EventName.MFA_ENROLMENT_STARTED,
        EventName.PASSWORD_CHANGED,
        EventName.PASSWORD_RESET,
        EventName.PASSWORD_RESET_REQUESTED,
        EventName.RECOVERY_CARRIED_OUT,
        EventName.RECOVERY_STARTED,
        EventName.SESSION_RAISED,
        EventName.SIGNUP,
        EventName.USER_DELETION_SCHEDULED,
        EventName.USER_RESTORED,
    }
)
"""The events whose details have the address of the caller, if a request outside of the admin API caused them."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `occurred_at` in epoch seconds."""

    event: str
    occurred_at: int
    details: dict[str, Detail]


@dataclass(frozen=True, slots=True)
class NumberedEvent:
    """An event with its number, and the `sub` of the user that it is about, if it is about one."""

    id: int
    sub: str | None
    event: Event


class Events:
    """Records events.

    `is_delivered`: there is a webhook, to which each event is due. `message_transport`: the transport by which
    messages to users leave; `None`: they are not sent.
    """

    def __init__(self, database: Database, *, is_delivered: bool, message_transport: str | None = None) -> None:
        self._database = database
        self._is_delivered = is_delivered
        self._message_transport = message_transport

    @property
    def sends_messages(self) -> bool:
        """Whether messages to users are sent."""
        return self._message_transport is not None

    async def record(
        self,
        transaction: Transaction,
        event: EventName,
        user_id: str | None,
        act: Act,
        notifies: bool = True,  # positional: each keyword is a detail
        /,
        **details: Detail,
    ) -> None:
        """Record `event` in the transaction, and log it after the commit. `user_id` is the user that it is about.

        The act adds the address of the caller to the details of some events, and `by` unless the actor is the user or
        anonymous.
        Messages to the user follow from some events (`kinds`) unless `notifies` is `False`. The message of an
        invitation needs the id of the invitation as the detail `invitation`.
        """
        recorded = _details(event, user_id, act, details)
        row = await transaction.fetch_one(
            "INSERT INTO events (user_id, event, occurred_at, details) VALUES ($1, $2, $3, $4) RETURNING id",
            user_id, event.value, unix_seconds(act.at), json.dumps(recorded),
        )  # fmt: skip
        assert row is not None  # an INSERT without ON CONFLICT returns its row
        if self._is_delivered:
            await outbox.put_event(transaction, row["id"], recipient=user_id, transport=outbox.WEBHOOK, now=act.at)
        subject = user_id or details.get("invitation")
        if notifies and self._message_transport is not None and subject is not None:
            for kind in KINDS_OF_EVENT.get(event, ()):
                await outbox.put_message(
                    transaction, row["id"], kind, subject=str(subject), transport=self._message_transport, now=act.at
                )
        about: dict[str, Detail] = {} if user_id is None else {"sub": user_id}
        transaction.on_commit(partial(warn if event in WARNING_EVENTS else emit, event, **about, **recorded))

    async def record_refusal(self, user_id: str, failures: int, act: Act) -> None:
        """Record an event after every third code in a row that was refused, after a right password or in a step-up.

        The code stays refused if the event cannot be recorded: without the database the event is in the log only.
        Of a user who was deleted meanwhile nothing is recorded: `user.deleted` is the last event.
        """
        if failures % REFUSALS_PER_EVENT != 0:
            return
        event = EventName.CODE_REFUSED_REPEATEDLY
        try:
            async with self._database.begin() as transaction:
                if await users.lock(transaction, user_id) is not None:
                    await self.record(transaction, event, user_id, act, failures=failures)
        except StoreUnavailable:
            warn(event, sub=user_id, failures=failures, address=act.address)

    async def count(self, transaction: Transaction, event: EventName, user_id: str, *, since: datetime) -> int:
        """Return how often the event was recorded about this user after `since`, without the events that have `by`.

        In the text of the details a quotation mark inside a value is escaped, so that no value looks like `by`.
        """
        row = await transaction.fetch_one(
            "SELECT COUNT(*) AS n FROM events WHERE user_id = $1 AND event = $2 AND occurred_at > $3"
            " AND details NOT LIKE '%\"by\": %'",
            user_id, event.value, unix_seconds(since),
        )  # fmt: skip
        assert row is not None  # an aggregate has a row
        return int(row["n"])

    async def list_latest(self, user_id: str) -> list[Event]:
        """The user's events, the newest first."""
        rows = await self._database.fetch_all(
            "SELECT event, occurred_at, details FROM events WHERE user_id = $1 ORDER BY id DESC LIMIT $2",
            user_id, LISTED_EVENTS,
        )  # fmt: skip
        return [Event(row["event"], row["occurred_at"], _read(row["details"])) for row in rows]

    async def list_after(self, user_id: str, event_id: int, *, limit: int) -> list[tuple[int, Event]]:
        """Return the user's events after the one with this number, in their order, each with its number."""
        rows = await self._database.fetch_all(
            "SELECT id, event, occurred_at, details FROM events WHERE user_id = $1 AND id > $2 ORDER BY id LIMIT $3",
            user_id, event_id, limit,
        )  # fmt: skip
        return [(row["id"], Event(row["event"], row["occurred_at"], _read(row["details"]))) for row in rows]

    async def sweep(self, now: datetime) -> int:
        """Delete the events past their retention among the thousand oldest; return how many.

        Their rows in the outbox are deleted with them: an event that no receiver accepted in that time is given up.
        """
        oldest = await self._database.fetch_one("SELECT occurred_at FROM events ORDER BY id LIMIT 1")
        if oldest is None or oldest["occurred_at"] >= unix_seconds(now - RETENTION):
            return 0
        async with self._database.begin() as transaction:
            return await transaction.execute(
                "DELETE FROM events WHERE id < (SELECT MIN(id) FROM events) + 1000 AND occurred_at < $1",
                unix_seconds(now - RETENTION),
            )


async def list_before(database: Database, user_id: str, number: int, *, limit: int) -> list[NumberedEvent]:
    """Return the user's events with lower numbers, the newest first."""
    rows = await database.fetch_all(
        f"SELECT {_COLUMNS} FROM events WHERE user_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
        user_id, number, limit,
    )  # fmt: skip
    return [_numbered(row) for row in rows]


async def list_between(database: Database, after: int, up_to: int, *, limit: int) -> list[NumberedEvent]:
    """Return events in the order of their numbers, beginning after `after`."""
    rows = await database.fetch_all(
        f"SELECT {_COLUMNS} FROM events WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3", after, up_to, limit
    )
    return [_numbered(row) for row in rows]


async def find_gap(database: Database, after: int) -> int:
    """Return the lowest number above `after` that no visible event has.

    It reads 1,000 events: if there is no gap between them, it returns the number after them, which may have an event.
    """
    rows = await database.fetch_all("SELECT id FROM events WHERE id > $1 ORDER BY id LIMIT 1000", after)
    return next((n for n, row in enumerate(rows, after + 1) if row["id"] != n), after + len(rows) + 1)


async def newest_number(database: Database) -> int | None:
    """Return the highest number of an event; `None` if there is no event."""
    row = await database.fetch_one("SELECT MAX(id) AS id FROM events")
    return None if row is None else row["id"]


def _numbered(row: Row) -> NumberedEvent:
    return NumberedEvent(row["id"], row["user_id"], Event(row["event"], row["occurred_at"], _read(row["details"])))


async def remove_details(transaction: Transaction, user_id: str) -> None:
    """Remove the details, which name addresses and devices, from the events of a deleted account.

    An event that is still due keeps them until it is delivered, because its receiver gets them. Messages to the user
    are not sent any more.
    """
    await outbox.remove_messages(transaction, user_id)
    await transaction.execute(
        "UPDATE events SET details = '{}' WHERE user_id = $1 AND details <> '{}'"
        " AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.event_id = events.id)",
        user_id,
    )


async def list_latest_logins(database: Database, limit: int) -> list[tuple[str, str]]:
    """The latest logins, each as user id and address."""
    rows = await database.fetch_all(
        "SELECT user_id, details FROM events WHERE event = $1 ORDER BY id DESC LIMIT $2",
        EventName.LOGIN_ADMITTED.value, limit,
    )  # fmt: skip
    return [(row["user_id"], str(_read(row["details"]).get("address", ""))) for row in rows]


async def newest_event(database: Database) -> int | None:
    """The time of the newest event (epoch seconds)."""
    row = await database.fetch_one("SELECT occurred_at FROM events ORDER BY id DESC LIMIT 1")
    return None if row is None else row["occurred_at"]


def _details(event: EventName, user_id: str | None, act: Act, details: dict[str, Detail]) -> dict[str, Detail]:
    """Return the details to record. The order is part of none of the formats, but stays the same."""
    address = act.address if event in EVENTS_WITH_ADDRESS else None
    found = {**details, "address": address, "by": details.get("by", act.actor.by(user_id))}
    return {name: detail for name, detail in found.items() if detail is not None}


def _read(details: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(details)
    return read
