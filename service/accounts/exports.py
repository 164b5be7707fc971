"""The export of an account by its user: everything that is stored about them, without secrets.

Password hashes, secrets of authenticators, the recovery codes themselves and tokens are not in it. An export may have
any number of sessions and events, so they are read page by page while the export is sent.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from service.clock import Clock, unix_seconds
from service.errors import InsufficientAuthentication, InvalidToken
from service.factors import stored as stored_factors
from service.factors.attempts import Budget
from service.factors.stored import StoredAuthenticator, StoredRecoveryCode
from service.messages import outbox
from service.messages.events import Event, Events
from service.messages.outbox import WaitingDelivery
from service.sessions import stored as stored_sessions
from service.sessions.bearers import FRESH_AUTHENTICATION_SECONDS, check_fresh
from service.sessions.stored import StoredSession
from service.storage.database import Database
from service.tokens.access import AccessClaims
from service.users import invitations, users
from service.users.invitations import Invitation
from service.users.users import User

ROWS_PER_READ = 200
"""Sessions that are read at a time, and events likewise."""


@dataclass(frozen=True, slots=True)
class Export:
    """Everything about one user. The sessions and the events are read when they are iterated."""

    exported_at: int
    user: User
    authenticators: list[StoredAuthenticator]
    recovery_codes: list[StoredRecoveryCode]
    recovery_budget: Budget | None
    """`None` without recovery codes."""
    invitation: Invitation | None
    """The invitation with which the account was made."""
    deliveries: list[WaitingDelivery]
    """What waits in the outbox."""
    sessions: AsyncIterator[StoredSession]
    """Those whose rows are kept, live or not, in the order of their ids."""
    events: AsyncIterator[Event]
    """The oldest first."""


class Exports:
    def __init__(
        self, *, clock: Clock, database: Database, events: Events, rows_per_read: int = ROWS_PER_READ
    ) -> None:
        self._clock = clock
        self._database = database
        self._events = events
        self._rows_per_read = rows_per_read

    async def read(self, access: AccessClaims) -> Export:
        """Return the export of the bearer's account, given a recent login.

        A user with a confirmed second factor must have proved it within `FRESH_AUTHENTICATION_SECONDS`. A user
        without one must have given the password within that time: a GET has no body in which to repeat it. Raises
        `InsufficientAuthentication` or `InvalidToken`.
        """
        now = self._clock()
        user = await users.find_by_id(self._database, access.sub)
        if user is None or user.is_disabled:
            raise InvalidToken
        if user.mfa == "confirmed":
            check_fresh(access, now)
        elif unix_seconds(now) - access.auth_time > FRESH_AUTHENTICATION_SECONDS:
            raise InsufficientAuthentication(acr=None, max_age=FRESH_AUTHENTICATION_SECONDS)
        return Export(
            unix_seconds(now),
            user,
            await stored_factors.list_authenticators(self._database, user.id),
            await stored_factors.list_recovery_codes(self._database, user.id),
            await stored_factors.find_recovery_budget(self._database, user.id),
            await invitations.find_used_by(self._database, user.id),
            await outbox.list_waiting(self._database, user.id),
            self._iterate_sessions(user.id),
            self._iterate_events(user.id),
        )

    async def _iterate_sessions(self, user_id: str) -> AsyncIterator[StoredSession]:
        last_id = ""
        while page := await stored_sessions.list_after(self._database, user_id, last_id, limit=self._rows_per_read):
            for session in page:
                yield session
            last_id = page[-1].id

    async def _iterate_events(self, user_id: str) -> AsyncIterator[Event]:
        last_id = 0
        while page := await self._events.list_after(user_id, last_id, limit=self._rows_per_read):
            for _, event in page:
                yield event
            last_id, _ = page[-1]
