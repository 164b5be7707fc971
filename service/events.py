"""Security events of accounts: what their owners may see at `GET /events`, and what operators are told of.

An event is recorded in the transaction of what it tells: neither is there without the other, whatever dies between.
Once that is committed it is in the log too. With a webhook it is due at once (`webhook`), and stays so until it was
delivered. Refusals of unknown people are in the log only: an attacker must not fill the database.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from service.clock import unix_seconds
from service.database import Database, Transaction
from service.errors import StoreUnavailable
from service.log import Detail, emit, warn

RETENTION = timedelta(days=90)
LISTED_EVENTS = 100
"""Events that a person sees, the newest first."""

REFUSALS_PER_EVENT = 3
"""Codes refused after the right password: that password is known to somebody."""

WARNING_EVENTS = frozenset({"code.refused_repeatedly", "recovery.started", "session.refresh_reused"})
"""What is a warning in the log."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `occurred_at` in epoch seconds."""

    event: str
    occurred_at: int
    details: dict[str, Detail]


class Events:
    """Records events. `is_delivered`: there is a webhook, and each is due there."""

    def __init__(self, database: Database, *, is_delivered: bool) -> None:
        self._database = database
        self._is_delivered = is_delivered

    async def record(
        self, transaction: Transaction, event: str, user_id: str, now: datetime, **details: Detail
    ) -> None:
        """Record `event` with the transaction, and log it once that is committed."""
        recorded = {name: detail for name, detail in details.items() if detail is not None}
        await transaction.execute(
            "INSERT INTO events (user_id, event, occurred_at, details, due_at) VALUES ($1, $2, $3, $4, $5)",
            user_id, event, unix_seconds(now), json.dumps(recorded),
            unix_seconds(now) if self._is_delivered else None,
        )  # fmt: skip
        transaction.on_commit(partial(warn if event in WARNING_EVENTS else emit, event, sub=user_id, **recorded))

    async def record_refusal(self, user_id: str, failures: int, now: datetime, *, address: str) -> None:
        """After every third code in a row that was refused though the password was right: say so.

        The refusal stands whatever becomes of the event: without a database it is in the log only.
        """
        if failures % REFUSALS_PER_EVENT != 0:
            return
        event = "code.refused_repeatedly"
        details: dict[str, Detail] = {"failures": failures, "address": address}
        try:
            async with self._database.begin() as transaction:
                await self.record(transaction, event, user_id, now, **details)
        except StoreUnavailable:
            warn(event, sub=user_id, **details)

    async def list_latest(self, user_id: str) -> list[Event]:
        """The user's events, the newest first."""
        rows = await self._database.fetch_all(
            "SELECT event, occurred_at, details FROM events WHERE user_id = $1 ORDER BY id DESC LIMIT $2",
            user_id, LISTED_EVENTS,
        )  # fmt: skip
        return [Event(row["event"], row["occurred_at"], _read(row["details"])) for row in rows]

    async def sweep(self, now: datetime) -> int:
        """Delete what is too old, of the thousand oldest; how many those were."""
        oldest = await self._database.fetch_one("SELECT occurred_at FROM events ORDER BY id LIMIT 1")
        if oldest is None or oldest["occurred_at"] >= unix_seconds(now - RETENTION):
            return 0
        async with self._database.begin() as transaction:
            return await transaction.execute(
                "DELETE FROM events WHERE id < (SELECT MIN(id) FROM events) + 1000 AND occurred_at < $1",
                unix_seconds(now - RETENTION),
            )


async def list_latest_logins(database: Database, limit: int) -> list[tuple[str, str]]:
    """Who logged in last (user id), and from which address."""
    rows = await database.fetch_all(
        "SELECT user_id, details FROM events WHERE event = 'login.admitted' ORDER BY id DESC LIMIT $1", limit
    )
    return [(row["user_id"], str(_read(row["details"]).get("address", ""))) for row in rows]


async def oldest_due(database: Database) -> int | None:
    """When the oldest event occurred that was not delivered yet (epoch seconds)."""
    row = await database.fetch_one("SELECT MIN(occurred_at) AS occurred_at FROM events WHERE due_at IS NOT NULL")
    return None if row is None else row["occurred_at"]


async def max_attempts_of_pending(database: Database) -> int:
    """How often a delivery was tried in vain of the event that was tried most, among those not delivered yet."""
    row = await database.fetch_one("SELECT MAX(attempts) AS attempts FROM events WHERE due_at IS NOT NULL")
    return 0 if row is None or row["attempts"] is None else int(row["attempts"])


async def newest_event(database: Database) -> int | None:
    """When the last event happened (epoch seconds)."""
    row = await database.fetch_one("SELECT occurred_at FROM events ORDER BY id DESC LIMIT 1")
    return None if row is None else row["occurred_at"]


def _read(details: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(details)
    return read
