"""Forgotten passwords: a link with which the user sets a new password.

The link is sent to the confirmed address, or shown to the actor where no message can bring it.

Law 17: a mailbox never replaces both factors. A reset leaves the second factor in place, ends every session, revokes
every pending and device token, and grants no token. Until a login with the second factor has succeeded, the new
password does not start a recovery (`login/recovery`).

Law 8: no answer reveals who exists. `request` returns the same for every name, and `web/password_reset` answers after
the same time.
"""

from dataclasses import dataclass
from datetime import timedelta

from service.clock import Clock, unix_seconds
from service.errors import AccountDisabled, InvalidToken, NotFound
from service.messages.contents import link_to
from service.messages.events import Events
from service.messages.kinds import LINK_LIFETIMES, MessageKind
from service.origin import ANONYMOUS, Act, Actor, Caller
from service.sessions import sessions
from service.storage.database import Database
from service.storage.throttle import Throttle
from service.telemetry.event_names import EventName
from service.tokens.links import Links, PasswordReset
from service.users import users
from service.users.administrators import check_right
from service.users.password_policy import PasswordPolicy
from service.users.passwords import Passwords
from service.users.users import User

MAX_REQUESTS, REQUESTS_WINDOW = 3, timedelta(hours=1)
"""Links that are sent to a user in this time, whatever the number of addresses that request them."""


@dataclass(frozen=True, slots=True)
class ResetLink:
    """A link that no message brings to the user: it is shown to the actor, only now."""

    link: str
    expires_at: int
    """Unix seconds."""


class PasswordResets:
    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        throttle: Throttle,
        passwords: Passwords,
        password_policy: PasswordPolicy,
        events: Events,
        links: Links,
        page_url: str,
    ) -> None:
        self._clock = clock
        self._database = database
        self._throttle = throttle
        self._passwords = passwords
        self._password_policy = password_policy
        self._events = events
        self._links = links
        self._page_url = page_url

    async def request(self, name: str, caller: Caller) -> None:
        """Send a link to the confirmed address of the user with this username or confirmed address.

        Send nothing if there is no such user, if they are disabled or have no confirmed address, or after
        `MAX_REQUESTS`.

        Raises `TooManyAttempts` if too many requests came from the caller's network, whatever the names.
        """
        now = self._clock()
        await self._throttle.charge_password_reset(caller, now)
        user = await users.find(self._database, name)
        if user is None or user.email is None:
            return
        async with self._database.begin() as transaction:
            if not await users.lock_if_current(transaction, user):  # disabled, or changed meanwhile
                return
            # The row is locked, so that the requests of several addresses at once are counted one after the other.
            sent = await self._events.count(
                transaction, EventName.PASSWORD_RESET_REQUESTED, user.id, since=now - REQUESTS_WINDOW
            )
            if sent < MAX_REQUESTS:
                act = Act(ANONYMOUS, now, caller)
                await self._events.record(transaction, EventName.PASSWORD_RESET_REQUESTED, user.id, act)

    async def offer(self, user: User, *, by: Actor) -> ResetLink | None:
        """Send a link to the user. Return it where no message can bring it: no address, or no transport.

        The limit of `request` is for requests that anybody can make, and does not hold here. Raises `NotFound`,
        `AccountDisabled`, and what `check_right` raises.
        """
        now, kind = self._clock(), MessageKind.PASSWORD_RESET
        async with self._database.begin() as transaction:
            await check_right(transaction, by, user.id)
            current = await users.lock(transaction, user.id)
            if current is None:
                raise NotFound
            if current.is_disabled:
                raise AccountDisabled
            is_sent = self._events.sends_messages and current.email is not None
            await self._events.record(transaction, EventName.PASSWORD_RESET_REQUESTED, user.id, Act(by, now), is_sent)
        if is_sent:
            return None
        issued_at = unix_seconds(now)
        claims = PasswordReset(
            issued_at,
            issued_at + int(LINK_LIFETIMES[kind].total_seconds()),
            sub=user.id,
            credential_version=current.credential_version,
        )
        return ResetLink(link_to(self._page_url, kind, self._links.write(claims)), claims.expires_at)

    async def confirm(self, token: str, password: str, caller: Caller) -> None:
        """Set the password of the account that the link names, and end all its sessions.

        Raises `InvalidToken`; `WeakPassword` or `BreachedPassword`, after which the link stays valid; `Busy`.
        """
        link = self._links.read(PasswordReset, token, now=self._clock())
        user = await users.find_by_id(self._database, link.sub)
        if user is None or user.is_disabled or user.credential_version != link.credential_version:
            raise InvalidToken
        await self._password_policy.check_for(user, password)
        await self._password_policy.check_breached(password)
        password_hash = await self._passwords.hash(password, origin=caller.network)
        now = self._clock()  # hashing took time
        async with self._database.begin() as transaction:
            changed = await users.reset_password(transaction, link.sub, link.credential_version, password_hash, now)
            if changed is None:
                raise InvalidToken
            await sessions.end_all(transaction, user.id, reason="password_reset", now=now)
            await self._events.record(
                transaction, EventName.PASSWORD_RESET, user.id, Act.of_user(user.id, now, caller)
            )
