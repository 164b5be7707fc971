"""Lost everything: the second factor is taken off after a delay, and only by a login that then enrols anew.

Asking takes the password only. So that whoever merely knows it gets nothing: the owner is told at once (an event),
any second factor proved meanwhile calls it off, and so does any change of password or factors, or one request of a
session of his. It is carried out by a right password within `WINDOW` after the delay, and then grants no more than a
pending token for an enrolment (law 1: a password alone yields no more than a pending token).
"""

from dataclasses import replace
from datetime import datetime, timedelta

from service import factors, recovery_codes, sessions, users
from service.clock import unix_seconds
from service.database import Database, Transaction
from service.errors import NotFound
from service.events import Events
from service.factors import Factors
from service.users import User

WINDOW = timedelta(days=7)
"""How long after its delay it may be completed; after that, recovery must be requested again."""


class Recovery:
    """`delay` of `None` switches it off."""

    def __init__(self, database: Database, factors: Factors, events: Events, *, delay: timedelta | None) -> None:
        self._database = database
        self._factors = factors
        self._events = events
        self._delay = delay

    @property
    def delay(self) -> timedelta:
        """From asking to being due. Raises `NotFound` if it is switched off."""
        if self._delay is None:
            raise NotFound
        return self._delay

    async def start(self, user: User, now: datetime, *, address: str) -> None:
        """Begin the delay for somebody who gave his password; one that runs already goes on as it was."""
        due_at = unix_seconds(now + self.delay)
        async with self._database.begin() as transaction:
            if await users.start_recovery(transaction, user, due_at=due_at, void_by=unix_seconds(now - WINDOW)):
                await self._events.record(
                    transaction, "recovery.started", user.id, now, due_at=due_at, address=address
                )

    async def cancel(self, transaction: Transaction, user_id: str, now: datetime, *, by: str) -> None:
        """Cancel it, if there is one."""
        if await users.cancel_recovery(transaction, user_id):
            await self._events.record(transaction, "recovery.cancelled", user_id, now, by=by)

    async def complete(self, user: User, now: datetime, *, address: str) -> User:
        """The user after his second factor was taken off and another one made for him, if it is time for that."""
        due_at = user.recovery_due_at
        if self._delay is None or due_at is None or not due_at <= unix_seconds(now) < due_at + WINDOW.total_seconds():
            return user
        async with self._database.begin() as transaction:
            changed = await users.increment_credential_version(transaction, user, recovery_due_at=due_at)
            if changed is None:
                return user  # cancelled at this moment
            await factors.remove_all(transaction, user.id)
            await recovery_codes.remove_all(transaction, user.id)
            await sessions.end_all(transaction, user.id, reason="recovery", now=now)
            await self._factors.add(transaction, changed, now)
            await self._events.record(transaction, "recovery.carried_out", user.id, now, address=address)
        return replace(changed, mfa="asked")
