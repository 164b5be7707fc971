"""Signing up, and what an operator does to accounts."""

from dataclasses import dataclass

from service import factors, recovery_codes, sessions, users
from service.clock import Clock
from service.database import Database, Row
from service.enrolment import Enrolment, Mfa
from service.errors import NotFound, UsernameTaken
from service.events import emit
from service.factors import Factors
from service.passwords import Passwords
from service.sessions import Caller
from service.throttle import Throttle
from service.users import User


@dataclass(frozen=True, slots=True)
class SignedUp:
    """A new account, and what it needs to confirm the second factor if it asked for one."""

    user: User
    enrolment: Enrolment | None


class Accounts:
    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        throttle: Throttle,
        passwords: Passwords,
        password_min_length: int,
        factors: Factors,
        mfa: Mfa,
    ) -> None:
        self._clock = clock
        self._database = database
        self._throttle = throttle
        self._passwords = passwords
        self._password_min_length = password_min_length
        self._factors = factors
        self._mfa = mfa

    async def sign_up(self, username: str, password: str, *, enable_mfa: bool, caller: Caller | None) -> SignedUp:
        """Raises `WeakPassword`, `UsernameTaken`, `TooManyAttempts` or `Busy`. No `caller`, no limit."""
        now = self._clock()
        await self._passwords.accept(password, username=username, min_length=self._password_min_length)
        if caller is not None:
            await self._throttle.pay_signup(caller.address, now)
        if await users.find(self._database, username) is not None:
            raise UsernameTaken
        password_hash = await self._passwords.hash(password)
        factor = None
        async with self._database.begin() as transaction:
            user = await users.add(transaction, username, password_hash, now)
            if user is None:
                raise UsernameTaken
            if enable_mfa:
                factor = await self._factors.add(transaction, user.id, user_epoch=user.epoch, now=now)
        emit("signup", sub=user.id, mfa=enable_mfa, address=caller.address if caller else None)
        return SignedUp(user, None if factor is None else self._mfa.enrolment(user, factor, now))

    async def list_page(self, *, after: str = "") -> list[Row]:
        return await users.list_all(self._database, after=after)

    async def set_disabled(self, username: str, *, disabled: bool) -> None:
        """Disable an account and end its sessions, or enable it again. Raises `NotFound`."""
        now = self._clock()
        async with self._database.begin() as transaction:
            user = await users.override(transaction, username, disabled_at=now if disabled else None)
            if user is None:
                raise NotFound
            if disabled:
                await sessions.end_all(transaction, user.id, reason="disabled", now=now)
        emit("user.disabled" if disabled else "user.enabled", sub=user.id)

    async def reset_mfa(self, username: str) -> bool:
        """Remove the second factor of somebody who lost it, ending all sessions. Whether there was one.

        Raises `NotFound`.
        """
        now = self._clock()
        async with self._database.begin() as transaction:
            user = await users.override(transaction, username)
            if user is None:
                raise NotFound
            removed = await factors.remove_all(transaction, user.id)
            await recovery_codes.remove_all(transaction, user.id)
            await sessions.end_all(transaction, user.id, reason="mfa_reset", now=now)
        emit("mfa.reset", sub=user.id, factors=removed)
        return removed > 0
