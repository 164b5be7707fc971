"""What users do with their own accounts: the password, the language of messages, sessions and events.

For the accounts of others see `administration`.
"""

from dataclasses import dataclass

from service.clock import Clock
from service.errors import InvalidToken, NotFound
from service.factors import recovery_codes
from service.messages.events import Event, Events
from service.origin import Act, Caller
from service.sessions import sessions
from service.sessions.sessions import SessionSummary
from service.storage.database import Database
from service.telemetry.event_names import EventName
from service.tokens.access import AccessClaims
from service.users import users
from service.users.credentials import Credentials, account_changed
from service.users.mfa_policy import MfaPolicy
from service.users.password_policy import PasswordPolicy
from service.users.passwords import Passwords
from service.users.users import User


@dataclass(frozen=True, slots=True)
class Account:
    """A user's account. Recovery codes are counted if a second factor is confirmed."""

    user: User
    recovery_codes_left: int | None
    recovery_due_at: int | None


class Accounts:
    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        passwords: Passwords,
        password_policy: PasswordPolicy,
        events: Events,
        credentials: Credentials,
        policy: MfaPolicy,
    ) -> None:
        self._clock = clock
        self._database = database
        self._passwords = passwords
        self._password_policy = password_policy
        self._events = events
        self._credentials = credentials
        self._policy = policy

    async def change_password(self, access: AccessClaims, current: str, new: str, caller: Caller) -> None:
        """Replace the password of the bearer, given the current password. Every other session ends.

        Raises `InvalidToken`, `InvalidCredentials`, `WeakPassword`, `BreachedPassword`, `TooManyAttempts` or `Busy`.
        """
        bearer = await users.find_by_id(self._database, access.sub)
        if bearer is None:
            raise InvalidToken
        await self._password_policy.check_for(bearer, new)
        proved = await self._credentials.prove(access.username, current, caller)
        user = proved.user
        if user.id != access.sub:
            raise InvalidToken
        await self._password_policy.check_breached(new)
        password_hash = await self._passwords.hash(new, origin=caller.network)
        now = self._clock()  # the second hash took time
        async with self._database.begin() as transaction:
            changed = await users.increment_credential_version(transaction, user, password_hash=password_hash)
            if changed is None:
                raise account_changed(user, caller)
            await sessions.end_all(transaction, user.id, reason="password_changed", now=now, except_sid=access.sid)
            act = Act.of_user(user.id, now, caller)
            await self._events.record(transaction, EventName.PASSWORD_CHANGED, user.id, act, sid=access.sid)

    async def get(self, access: AccessClaims) -> Account:
        """The bearer's account as it is now. Raises `InvalidToken`."""
        user = await users.find_by_id(self._database, access.sub)
        if user is None or user.is_disabled:
            raise InvalidToken
        codes_left = await recovery_codes.count_left(self._database, user.id) if user.mfa == "confirmed" else None
        return Account(user, codes_left, user.pending_recovery(self._clock()))

    async def change_locale(self, access: AccessClaims, locale: str | None) -> Account:
        """Change the language of messages to the bearer; `None`: that of the service. Raises `InvalidToken`.

        If the account has this language already, nothing changes and no event is recorded, so that repeated requests
        do not fill the table of events.
        """
        act = Act.of_user(access.sub, self._clock())
        async with self._database.begin() as transaction:
            user = await users.lock(transaction, access.sub)
            if user is None or user.is_disabled:
                raise InvalidToken
            if locale != user.locale:
                await users.set_locale(transaction, user, locale)
                await self._events.record(
                    transaction, EventName.USER_LOCALE_CHANGED, user.id, act, locale=locale or ""
                )
        return await self.get(access)

    async def list_sessions(self, access: AccessClaims) -> list[SessionSummary]:
        """The bearer's live sessions, the most recently used first; at most `MAX_LISTED_SESSIONS`."""
        return await sessions.list_live(self._database, access.sub, policy=self._policy, now=self._clock())

    async def end_session(self, access: AccessClaims, sid: str) -> None:
        """End one of the bearer's own sessions. Raises `NotFound` if it has ended, or is not the bearer's."""
        reason = "logout" if sid == access.sid else "ended_by_user"
        now = self._clock()
        if not sessions.is_id(sid):
            raise NotFound
        async with self._database.begin() as transaction:
            if await sessions.end(transaction, sid, reason=reason, now=now, user_id=access.sub) is None:
                raise NotFound
            act = Act.of_user(access.sub, now)
            await self._events.record(transaction, EventName.SESSION_ENDED, access.sub, act, reason=reason, sid=sid)

    async def end_every_session(self, access: AccessClaims) -> None:
        """End all sessions of the user, including the current one, and revoke all pending and device tokens.

        Raises `InvalidToken` if the account is disabled, or changed at the same time.
        """
        now, reason = self._clock(), "logout_everywhere"
        user = await users.find_by_id(self._database, access.sub)
        async with self._database.begin() as transaction:
            if user is None or await users.increment_credential_version(transaction, user) is None:
                raise InvalidToken
            ended = await sessions.end_all(transaction, user.id, reason=reason, now=now)
            act = Act.of_user(user.id, now)
            await self._events.record(
                transaction, EventName.SESSION_ENDED, user.id, act, reason=reason, sessions=ended
            )

    async def list_events(self, access: AccessClaims) -> list[Event]:
        """The latest events of the bearer's account, the newest first."""
        return await self._events.list_latest(access.sub)
