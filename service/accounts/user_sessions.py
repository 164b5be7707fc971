"""The administration of a user's sessions: list them, end one or all."""

from service.clock import Clock
from service.errors import NotFound
from service.messages.events import Events
from service.origin import Act, Actor
from service.sessions import sessions
from service.sessions.sessions import SessionSummary
from service.storage.database import Database
from service.telemetry.event_names import EventName
from service.users import users
from service.users.administrators import check_right
from service.users.mfa_policy import MfaPolicy
from service.users.users import User


class UserSessions:
    def __init__(self, *, clock: Clock, database: Database, events: Events, policy: MfaPolicy) -> None:
        self._clock = clock
        self._database = database
        self._events = events
        self._policy = policy

    async def list_live(self, user: User) -> list[SessionSummary]:
        """Return the user's live sessions, the most recently used first; at most `MAX_LISTED_SESSIONS`."""
        return await sessions.list_live(self._database, user.id, policy=self._policy, now=self._clock())

    async def end_all(self, user: User, *, by: Actor) -> None:
        """End every session of the user, and revoke pending and device tokens.

        Raises `NotFound` if the account was deleted, and what `check_right` does.
        """
        act, reason = Act(by, self._clock()), "ended_by_administrator"
        async with self._database.begin() as transaction:
            await check_right(transaction, by, user.id)
            if await users.revoke_tokens(transaction, user.id) is None:
                raise NotFound
            ended = await sessions.end_all(transaction, user.id, reason=reason, now=act.at)
            await self._events.record(
                transaction, EventName.SESSION_ENDED, user.id, act, reason=reason, sessions=ended
            )

    async def end(self, user: User, sid: str, *, by: Actor) -> None:
        """End one session. Raises `NotFound` if it has ended or is not the user's, and what `check_right` does."""
        act, reason = Act(by, self._clock()), "ended_by_administrator"
        if not sessions.is_id(sid):
            raise NotFound
        async with self._database.begin() as transaction:
            await check_right(transaction, by, user.id)
            if await sessions.end(transaction, sid, reason=reason, now=act.at, user_id=user.id) is None:
                raise NotFound
            await self._events.record(transaction, EventName.SESSION_ENDED, user.id, act, reason=reason, sid=sid)
