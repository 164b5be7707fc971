"""Sign-up: a new account, with an enrolment if the user asks for a second factor."""

from dataclasses import dataclass

from service.accounts.invitations import Invitations
from service.clock import Clock
from service.errors import InvalidRequest, UsernameTaken
from service.login.enrolment import Enrolment, EnrolmentStarted
from service.messages.events import Events
from service.origin import ANONYMOUS, Act, Actor, Caller
from service.roles import check_roles
from service.storage.database import Database, Transaction
from service.storage.throttle import Throttle
from service.telemetry.event_names import EventName, LogName
from service.telemetry.log import emit
from service.tokens.links import digest_address
from service.users import emails, users
from service.users.administrators import check_right
from service.users.invitations import Invitation
from service.users.password_policy import PasswordPolicy
from service.users.passwords import Passwords
from service.users.users import User


@dataclass(frozen=True, slots=True)
class SignUpResult:
    """A new account, and its enrolment if the user asked for a second factor."""

    user: User
    enrolment: EnrolmentStarted | None


@dataclass(frozen=True, slots=True)
class SignUpDetails:
    """What a sign-up may have besides a username and a password."""

    email: str | None = None
    """An address to confirm: see `users/emails`."""
    locale: str | None = None
    """The language of messages to the user, as a tag of RFC 5646."""
    invitation: str | None = None
    """The token of an invitation."""
    roles: tuple[str, ...] = ()
    """Roles that the actor gives the account, by the command or at the admin API."""


class SignUp:
    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        throttle: Throttle,
        passwords: Passwords,
        password_policy: PasswordPolicy,
        enrolment: Enrolment,
        invitations: Invitations,
        events: Events,
    ) -> None:
        self._clock = clock
        self._database = database
        self._throttle = throttle
        self._passwords = passwords
        self._password_policy = password_policy
        self._enrolment = enrolment
        self._invitations = invitations
        self._events = events

    async def sign_up(
        self,
        username: str,
        password: str,
        *,
        enable_mfa: bool,
        caller: Caller | None,
        by: Actor = ANONYMOUS,
        details: SignUpDetails = SignUpDetails(),
    ) -> SignUpResult:
        """Create an account. Without a `caller` no rate limit applies.

        A given address is only requested: the link that is sent to it confirms it. The address of an invitation
        counts as confirmed, because the maker of the invitation named it.

        Raises `WeakPassword`, `BreachedPassword`, `UsernameTaken`, `InvalidInvitation`, `TooManyAttempts` or `Busy`;
        `EmailTaken` for the address of an invitation; `InvalidRequest` for a role that cannot exist, and for an
        address that no message can confirm; what `check_right` does.
        """
        now = self._clock()
        origin = "" if caller is None else caller.network
        invitation = None
        try:
            check_roles(details.roles)
        except ValueError as error:
            raise InvalidRequest((("roles", str(error)),)) from None
        if details.invitation is not None:
            invitation = await self._invitations.get_usable(details.invitation, email=details.email, now=now)
        is_confirmed = invitation is not None and invitation.email is not None
        if details.email is not None and not is_confirmed and not self._events.sends_messages:
            raise InvalidRequest((("email", "This service sends no messages: leave the address out"),))
        await self._password_policy.check(
            password,
            username=username,
            has_second_factor=enable_mfa,
            roles=invitation.roles if invitation else details.roles,
        )
        self._passwords.ensure_capacity(origin)  # a request that cannot be carried out now must not be charged
        if caller is not None:
            await self._throttle.charge_signup(caller, now)
            if details.email is not None:
                await self._throttle.charge_message(digest_address(details.email), now)
        await self._password_policy.check_breached(password)  # before the username: the refusal does not depend on it
        if await users.is_taken(self._database, username):
            raise _username_taken(caller)
        password_hash = await self._passwords.hash(password, origin=origin)
        act, enrolment = Act(by, now, caller), None
        async with self._database.begin() as transaction:
            if by.kind != "anonymous":
                await check_right(transaction, by, gives=details.roles)
            user = await users.add(transaction, username, password_hash, now)
            if user is None:
                raise _username_taken(caller)
            if enable_mfa:
                enrolment = await self._enrolment.start_at_signup(transaction, user, now)
            await self._events.record(transaction, EventName.SIGNUP, user.id, act, mfa=enable_mfa)
            user = await self._add_details(transaction, user, details, invitation, act)
        return SignUpResult(user, enrolment)

    async def _add_details(
        self, transaction: Transaction, user: User, details: SignUpDetails, invitation: Invitation | None, act: Act
    ) -> User:
        """Consume the invitation, set roles and language, and set or request the address.

        Raises `InvalidInvitation` or `EmailTaken`.
        """
        locale, roles = details.locale, tuple(sorted(set(details.roles)))
        if roles:
            await self._events.record(transaction, EventName.USER_ROLES_CHANGED, user.id, act, roles=" ".join(roles))
        if invitation is not None:
            await self._invitations.consume(transaction, invitation, user, act)
            roles, locale = invitation.roles, locale or invitation.locale
        if roles or locale is not None:
            user = await users.set_signup_details(transaction, user, roles=roles, locale=locale)
        if invitation is not None and invitation.email is not None:
            await self._events.record(transaction, EventName.EMAIL_CHANGED, user.id, act)
            await emails.set_confirmed(transaction, user, invitation.email)
        elif details.email is not None:
            await emails.request(transaction, user, details.email, act.at)
            await self._events.record(transaction, EventName.EMAIL_CHANGE_REQUESTED, user.id, act)
        return user


def _username_taken(caller: Caller | None) -> UsernameTaken:
    """Log the refusal and return the error.

    This response reveals that a username exists. Repeated requests are visible in the log.
    """
    emit(LogName.SIGNUP_REFUSED, reason="username_taken", address=None if caller is None else caller.address)
    return UsernameTaken()
