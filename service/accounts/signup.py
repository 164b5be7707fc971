"""Sign-up: a new account, with an enrolment if the user asks for a second factor."""

from dataclasses import dataclass

from service.clock import Clock
from service.errors import UsernameTaken
from service.factors.second_factor import SecondFactors
from service.login.enrolment import Enrolment, EnrolmentStarted
from service.messages.events import Events
from service.origin import ANONYMOUS, Act, Actor, Caller
from service.storage.database import Database
from service.storage.throttle import Throttle
from service.telemetry.event_names import EventName, LogName
from service.telemetry.log import emit
from service.users import users
from service.users.password_policy import PasswordPolicy
from service.users.passwords import Passwords
from service.users.users import User


@dataclass(frozen=True, slots=True)
class SignUpResult:
    """A new account, and its enrolment if the user asked for a second factor."""

    user: User
    enrolment: EnrolmentStarted | None


class SignUp:
    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        throttle: Throttle,
        passwords: Passwords,
        password_policy: PasswordPolicy,
        second_factors: SecondFactors,
        enrolment: Enrolment,
        events: Events,
    ) -> None:
        self._clock = clock
        self._database = database
        self._throttle = throttle
        self._passwords = passwords
        self._password_policy = password_policy
        self._second_factors = second_factors
        self._enrolment = enrolment
        self._events = events

    async def sign_up(
        self, username: str, password: str, *, enable_mfa: bool, caller: Caller | None, by: Actor = ANONYMOUS
    ) -> SignUpResult:
        """Create an account. Without a `caller` no rate limit applies.

        Raises `WeakPassword`, `BreachedPassword`, `UsernameTaken`, `TooManyAttempts` or `Busy`.
        """
        now = self._clock()
        await self._password_policy.check(password, username=username, has_second_factor=enable_mfa)
        origin = "" if caller is None else caller.network
        self._passwords.ensure_capacity(origin)  # a request that cannot be carried out now must not be charged
        if caller is not None:
            await self._throttle.charge_signup(caller, now)
        await self._password_policy.check_breached(password)  # before the username: the refusal does not depend on it
        if await users.is_taken(self._database, username):
            raise _username_taken(caller)
        password_hash = await self._passwords.hash(password, origin=origin)
        factor = None
        async with self._database.begin() as transaction:
            user = await users.add(transaction, username, password_hash, now)
            if user is None:
                raise _username_taken(caller)
            if enable_mfa:
                factor = await self._second_factors.totp.add(transaction, user, now)
            await self._events.record(transaction, EventName.SIGNUP, user.id, Act(by, now, caller), mfa=enable_mfa)
        return SignUpResult(user, None if factor is None else self._enrolment.describe(user, factor, now))


def _username_taken(caller: Caller | None) -> UsernameTaken:
    """Log the refusal and return the error.

    This response reveals that a username exists. Repeated requests are visible in the log.
    """
    emit(LogName.SIGNUP_REFUSED, reason="username_taken", address=None if caller is None else caller.address)
    return UsernameTaken()
