"""Delayed recovery, for users who lost every authenticator and recovery code.

After the delay, a login with the password removes the second factor and starts a new enrolment. A request for
recovery needs only the password, so that an attacker who knows the password can make one, too. Therefore its event
and the message to the user are sent at once, and until the recovery completes, each of these cancels it: a proved
second factor, whatever increments the credential version (such as a change of password or factors), and `cancel_own`
from a session of the user. A login with the password within `RECOVERY_WINDOW` after the delay completes the recovery,
and yields no more than a pending token for an enrolment (law 1: a password alone yields no more than a pending
token).
"""

from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from service.clock import Clock, unix_seconds
from service.errors import InvalidCredentials, NotFound
from service.factors.second_factor import SecondFactors
from service.messages.events import Events
from service.origin import Act, Caller
from service.sessions import sessions
from service.storage.database import Database, Transaction
from service.telemetry.event_names import EventName
from service.tokens.access import AccessClaims
from service.users import users
from service.users.credentials import Credentials
from service.users.users import RECOVERY_WINDOW, User


class Recovery:
    """Delayed recovery for all users; a `delay` of `None` switches it off."""

    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        credentials: Credentials,
        second_factors: SecondFactors,
        events: Events,
        delay: timedelta | None,
    ) -> None:
        self._clock = clock
        self._database = database
        self._credentials = credentials
        self._second_factors = second_factors
        self._events = events
        self._delay = delay

    @property
    def delay(self) -> timedelta:
        """The time from the request to the due time. Raises `NotFound` if recovery is switched off."""
        if self._delay is None:
            raise NotFound
        return self._delay

    async def request(self, username: str, password: str, caller: Caller) -> int:
        """Start delayed recovery, given the password of an account with a confirmed second factor.

        A password that was reset with a link counts only after a login with the second factor (law 17: a mailbox
        never replaces both factors).

        Returns the delay in seconds, the same for every caller (law 8: no answer reveals who exists). Raises
        `TooManyAttempts`, `Busy`; `NotFound` if recovery is switched off.
        """
        delay = self.delay
        with suppress(InvalidCredentials):
            proved = await self._credentials.prove(username, password, caller)
            if proved.user.mfa == "confirmed" and proved.user.password_reset_at is None:
                await self._start(proved.user, Act.of_user(proved.user.id, proved.at, caller))
        return int(delay.total_seconds())

    async def cancel_own(self, access: AccessClaims) -> None:
        """Cancel the recovery of the bearer's account, if there is one. Any session of the user may do so."""
        act = Act.of_user(access.sub, self._clock())
        async with self._database.begin() as transaction:
            await self.cancel(transaction, access.sub, act, by="session")

    async def _start(self, user: User, act: Act) -> None:
        """Start the delay for a user who gave the password. A recovery that is under way stays as it is."""
        now, due_at = act.at, unix_seconds(act.at + self.delay)
        async with self._database.begin() as transaction:
            if await users.start_recovery(transaction, user, due_at=due_at, void_by=_void_by(now)):
                await self._events.record(transaction, EventName.RECOVERY_STARTED, user.id, act, due_at=due_at)

    async def cancel(self, transaction: Transaction, user_id: str, act: Act, *, by: str) -> None:
        """Cancel the user's recovery, if one is under way."""
        if await users.cancel_recovery(transaction, user_id, void_by=_void_by(act.at)):
            await self._events.record(transaction, EventName.RECOVERY_CANCELLED, user_id, act, by=by)

    async def complete(self, user: User, act: Act) -> User:
        """Remove the second factor and start an enrolment if recovery is due; return the user as stored then."""
        now, due_at = act.at, user.pending_recovery(act.at)
        if self._delay is None or due_at is None or unix_seconds(now) < due_at:
            return user
        async with self._database.begin() as transaction:
            changed = await users.increment_credential_version(transaction, user, recovery_due_at=due_at)
            if changed is None:
                return user  # the recovery was cancelled, or the account changed, since the user was read
            await self._second_factors.remove_all(transaction, user.id)
            await sessions.end_all(transaction, user.id, reason="recovery", now=now)
            await self._second_factors.totp.add(transaction, changed, now)
            await self._events.record(transaction, EventName.RECOVERY_CARRIED_OUT, user.id, act)
        return replace(changed, mfa="asked")


def _void_by(now: datetime) -> int:
    """The latest due time (epoch seconds) of the recoveries that can no longer be completed."""
    return unix_seconds(now - RECOVERY_WINDOW)
