"""The outbox: what is due, to whom, and by which transport. It survives restarts.

A row says that an event is to be reported to the operator's system, or that a message to a user follows from it. The
row is inserted in the transaction of the event, so that a crash loses none, and deleted when it is delivered or
dropped. It has the number of the event and no content: what is sent is read when it is sent, and a token that a
message needs is derived then (law 15: logs, metrics, traces, errors and outbox rows hold no secret). A message to a
user has the address that the account had at the event: an attacker who takes an account over and changes its address
does not get the notice of the change. When an old event is deleted, its rows are deleted too.

`delivery` decides when to send and when to try again; this module has the statements of the table.
"""

from dataclasses import dataclass, field
from datetime import datetime

from service.clock import unix_seconds
from service.messages.kinds import MessageKind
from service.storage.database import Database, Row, Transaction

WEBHOOK = "webhook"
"""The transport of `webhook.Webhook`."""

MAIL = "mail"
"""The transport of `mail.Mail`."""

MAX_HOLDING_ATTEMPTS = 6
"""Attempts after which a message to a user no longer holds up the next one to its address.

The sixth follows about one minute after the first, if the mail server answers at once.
"""

EVENT = "event"
"""The kind of a row that reports an event as it was recorded. Those of messages to users are `kinds.MessageKind`."""


@dataclass(frozen=True, slots=True)
class Message:
    """One row of the outbox with its event: it reports the event, or is a message to a user that follows from it.

    `attempts` is the number of failed attempts. `address` is where a message to a user goes; `None` for an event.
    `username` is `None` if the event is about no account.
    """

    id: int
    kind: str
    attempts: int
    event_id: int
    event: str
    occurred_at: int
    details: str
    user_id: str | None
    username: str | None
    address: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Due:
    """The highest number of an event in the outbox of a transport, and the earliest time at which a row is due.

    The time is 0 if a row was never tried.
    """

    newest_event: int
    first_at: int


@dataclass(frozen=True, slots=True)
class WaitingDelivery:
    """One row of the outbox that waits for its transport; times in epoch seconds."""

    kind: str
    transport: str
    event: str
    address: str | None = field(repr=False)
    created_at: int
    due_at: int
    attempts: int


async def put_event(
    transaction: Transaction, event_id: int, *, recipient: str | None, transport: str, now: datetime
) -> None:
    """Insert a row that reports the event to the recipient, due at once."""
    await transaction.execute(
        "INSERT INTO outbox (kind, recipient, transport, event_id, created_at, due_at)"
        " VALUES ($1, $2, $3, $4, $5, $5)",
        EVENT, recipient, transport, event_id, unix_seconds(now),
    )  # fmt: skip


async def put_message(
    transaction: Transaction, event_id: int, kind: MessageKind, *, subject: str, transport: str, now: datetime
) -> None:
    """Insert a message to the address that is stored now, due at once; insert none if there is no address.

    `subject` is the user's id, or that of the invitation. The recipient is the same id.
    """
    match kind:
        case MessageKind.INVITATION:
            table, address = "invitations", "email"
        case MessageKind.EMAIL_CONFIRMATION:
            table, address = "users", "new_email"
        case _:
            table, address = "users", "email"
    await transaction.execute(
        "INSERT INTO outbox (kind, transport, event_id, created_at, due_at, recipient, address)"
        " SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS BIGINT), CAST($4 AS BIGINT), CAST($4 AS BIGINT),"
        f" id, {address} FROM {table} WHERE id = $5 AND {address} IS NOT NULL",
        kind.value, transport, event_id, unix_seconds(now), subject,
    )  # fmt: skip


async def remove_messages(transaction: Transaction, user_id: str) -> None:
    """Remove the messages to a deleted account: it has no address any more."""
    await transaction.execute(
        "DELETE FROM outbox WHERE kind <> $1 AND event_id IN (SELECT id FROM events WHERE user_id = $2)",
        EVENT, user_id,
    )  # fmt: skip


async def find_due(database: Database, transport: str) -> Due | None:
    """Return what is in the outbox for this transport, due or waiting; `None` if nothing is."""
    row = await database.fetch_one(
        "SELECT MAX(event_id) AS newest, MIN(CASE WHEN attempts > 0 THEN due_at ELSE 0 END) AS first_at"
        " FROM outbox WHERE transport = $1",
        transport,
    )
    return None if row is None or row["newest"] is None else Due(row["newest"], row["first_at"])


async def read_due(
    database: Database, transport: str, now: datetime, *, up_to_event: int, limit: int
) -> list[Message]:
    """Return due messages, for each recipient and address only the first in the outbox.

    First come messages that were never tried, then those that were refused, both in the order of their events. Each
    group gets half of the places if the other one needs the rest. So many messages that are refused again and again
    do not keep others from being tried.

    One that was never tried is due whatever its time: the clock of the replica that inserted it may have been fast.
    An event comes before the messages that follow from it. Messages to two addresses of a user do not wait for each
    other: a stranger may have set one of the addresses, and if its mail server refuses messages, the notices to the
    other address must not wait. A message that was refused `MAX_HOLDING_ATTEMPTS` times no longer holds up the next
    ones to its address: a filter of the mail server may refuse one text for days. Events keep their order always.
    """
    fresh, refused = [
        await _read_due(database, transport, now, up_to_event=up_to_event, limit=limit, were_refused=were_refused)
        for were_refused in (False, True)
    ]
    places = max(limit // 2, limit - len(fresh))
    return [*fresh[: limit - min(places, len(refused))], *refused[:places]]


async def _read_due(
    database: Database, transport: str, now: datetime, *, up_to_event: int, limit: int, were_refused: bool
) -> list[Message]:
    rows = await database.fetch_all(
        "SELECT o.id, o.kind, o.attempts, o.event_id, e.event, e.occurred_at, e.details, e.user_id, u.username,"
        " o.address"
        " FROM outbox o JOIN events e ON e.id = o.event_id LEFT JOIN users u ON u.id = e.user_id"
        " WHERE o.transport = $1 AND (o.due_at <= $2 OR o.attempts = 0) AND o.event_id <= $3"
        " AND CASE WHEN o.attempts = 0 THEN 0 ELSE 1 END = $5"
        " AND NOT EXISTS (SELECT 1 FROM outbox p"
        " WHERE p.transport = o.transport AND p.recipient = o.recipient AND p.event_id <= o.event_id"
        " AND coalesce(p.address = o.address, TRUE)"
        f" AND (p.kind = '{EVENT}' OR p.attempts < {MAX_HOLDING_ATTEMPTS})"
        " AND (p.event_id < o.event_id OR p.id < o.id)) ORDER BY o.event_id, o.id LIMIT $4",
        transport, unix_seconds(now), up_to_event, limit, int(were_refused),
    )  # fmt: skip
    return [_message(row) for row in rows]


async def list_waiting(database: Database, user_id: str) -> list[WaitingDelivery]:
    """Return what waits to be sent about or to this user, in the order of the events.

    The recipient of an invitation is the invitation, so its message counts for the user who signed up with it.
    """
    rows = await database.fetch_all(
        "SELECT o.kind, o.transport, e.event, o.address, o.created_at, o.due_at, o.attempts"
        " FROM outbox o JOIN events e ON e.id = o.event_id"
        " WHERE o.transport IN ($1, $2) AND o.recipient IN"
        " (SELECT CAST($3 AS TEXT) UNION SELECT id FROM invitations WHERE used_by = $3)"
        " ORDER BY o.event_id, o.id",
        WEBHOOK, MAIL, user_id,
    )  # fmt: skip
    return [WaitingDelivery(**row) for row in rows]


async def remove(database: Database, message: Message) -> None:
    """Delete the row of a message that was delivered or dropped."""
    await database.write_one("DELETE FROM outbox WHERE id = $1 RETURNING id", message.id)


async def postpone(database: Database, message: Message, until: int) -> None:
    """Count a failed attempt, and make the message due again at this time (epoch seconds)."""
    await database.write_one(
        "UPDATE outbox SET attempts = attempts + 1, due_at = $1 WHERE id = $2 RETURNING id", until, message.id
    )


async def oldest(database: Database, transport: str) -> int | None:
    """Return the time of the oldest event that is not delivered yet (epoch seconds)."""
    row = await database.fetch_one("SELECT MIN(created_at) AS created_at FROM outbox WHERE transport = $1", transport)
    return None if row is None else row["created_at"]


async def max_attempts(database: Database, transport: str) -> int:
    """Return the largest number of failed attempts of one message that is not delivered yet."""
    row = await database.fetch_one("SELECT MAX(attempts) AS attempts FROM outbox WHERE transport = $1", transport)
    return 0 if row is None or row["attempts"] is None else int(row["attempts"])


def _message(row: Row) -> Message:
    return Message(
        row["id"], row["kind"], row["attempts"], row["event_id"], row["event"], row["occurred_at"], row["details"],
        row["user_id"], row["username"], row["address"],
    )  # fmt: skip
