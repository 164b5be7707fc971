"""Logging in: the two turns of the key.

`with_password` proves the first key. Whoever asked for MFA gets a pending token for it and nothing more
(law 1); everyone else is admitted. `with_code` proves the second key and admits.

A refusal costs its attempt, a success gets it back (law 4). Every refusal before the last step of
`with_password` is one and the same `InvalidCredentials` after one password hash (law 8).
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from service import sessions, users
from service.clock import Clock, epoch
from service.database import Database
from service.errors import Busy, InvalidCode, InvalidCredentials, InvalidToken, TooManyAttempts
from service.events import emit
from service.factors import Factors
from service.keys import Keys
from service.passwords import Passwords
from service.sessions import Caller, Session
from service.throttle import Throttle
from service.tokens import Access, SigningKey, Tokens
from service.users import User


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """Admitted: a session is open, and this is its access token."""

    access_token: str
    expires_in: int


@dataclass(frozen=True, slots=True)
class SecondFactorRequired:
    """The password was right; the second factor is due. Not confirmed: show the QR code first."""

    mfa_token: str
    expires_in: int
    is_confirmed: bool


class Login:
    """The only place that opens sessions."""

    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        throttle: Throttle,
        passwords: Passwords,
        factors: Factors,
        keys: Keys,
        tokens: Tokens,
        session_lifetime: timedelta,
    ) -> None:
        self._clock = clock
        self._database = database
        self._throttle = throttle
        self._passwords = passwords
        self._factors = factors
        self._keys = keys
        self._tokens = tokens
        self._session_lifetime = session_lifetime

    async def with_password(self, username: str, password: str, caller: Caller) -> LoggedIn | SecondFactorRequired:
        """Raises `InvalidCredentials`, `TooManyAttempts`, `Busy` or `StoreUnavailable`."""
        now = self._clock()
        user = await self.prove_password(username, password, caller, now)
        factor = await self._factors.find(user)
        if factor is not None:
            emit("login.second_factor_required", sub=user.id)
            return SecondFactorRequired(
                self._tokens.write_pending(sub=user.id, user_epoch=user.epoch, now=now),
                int(self._tokens.pending_ttl.total_seconds()),
                factor.is_confirmed,
            )
        key = await self._keys.get_signing_key(now)
        async with self._database.begin() as transaction:
            # The row is held, so that a factor or a disabling that comes now comes before or after, not between.
            if not await users.hold(transaction, user):
                raise InvalidCredentials
            session = await sessions.open_session(
                transaction, user, amr=("pwd",), caller=caller, lifetime=self._session_lifetime, now=now
            )
        if session is None:
            raise RuntimeError("a session without a pending token is always opened")
        emit("login.admitted", sub=user.id, sid=session.id, amr="pwd", address=caller.address)
        return self._logged_in(user, session, now, key)

    async def with_code(self, mfa_token: str, otp: str, caller: Caller) -> LoggedIn:
        """Raises `InvalidToken`, `InvalidCode`, `TooManyAttempts` or `StoreUnavailable`."""
        now = self._clock()
        pending = self._tokens.read_pending(mfa_token, now=now)
        user = await users.find_pending(self._database, pending.sub, epoch=pending.epoch, jti=pending.jti)
        factor = None if user is None else await self._factors.find(user)
        if user is None or factor is None:
            raise InvalidToken
        payment = await self._throttle.pay_code(pending.jti, now)
        try:
            proof = await self._factors.prove(user, factor, otp, now)
        except TooManyAttempts:
            await payment.refund(now)  # the code was not looked at
            raise
        key = await self._keys.get_signing_key(now)  # before the code is used up: this may fail
        amr = ("pwd", "otp", "mfa")
        async with self._database.begin() as transaction:
            if not factor.is_confirmed:
                # Confirming changes the account: every other pending token and every session without the
                # second factor ends. The user's row comes first in every transaction, or two could deadlock.
                user = await users.begin_epoch(transaction, user)
                if user is None:
                    raise InvalidToken
                await sessions.end_all(transaction, user.id, reason="mfa_enabled", now=now)
            if not await self._factors.consume(transaction, user, proof, now):
                emit("code.refused", reason="consumed", sub=user.id, factor=factor.id)
                raise InvalidCode
            session = await sessions.open_session(
                transaction, user, amr=amr, caller=caller, lifetime=self._session_lifetime, now=now,
                pending_jti=pending.jti,
            )  # fmt: skip
            if session is None:
                raise InvalidToken
        if not factor.is_confirmed:
            emit("mfa.enabled", sub=user.id, factor=factor.id)
        emit("login.admitted", sub=user.id, sid=session.id, amr=" ".join(amr), address=caller.address)
        return self._logged_in(user, session, now, key)

    async def prove_password(self, username: str, password: str, caller: Caller, now: datetime) -> User:
        """The user whose password this is, at the price of one attempt.

        Raises `InvalidCredentials` for an unknown user, a wrong password and a disabled user alike.
        """
        payment = await self._throttle.pay_password(username, caller.address, now)
        user = await users.find(self._database, username)
        try:
            is_right = await self._passwords.verify(password, None if user is None else user.password_hash)
        except Busy:
            await payment.refund(now)  # nothing was looked at
            raise
        if user is None or not is_right or user.is_disabled:
            reason = "unknown_user" if user is None else "wrong_password" if not is_right else "disabled"
            emit("login.refused", reason=reason, sub=None if user is None else user.id, address=caller.address)
            raise InvalidCredentials
        await payment.refund(now)
        if self._passwords.is_outdated(user.password_hash):
            with suppress(Busy):  # the next login will do
                await users.rehash(self._database, user, await self._passwords.hash(password))
        return user

    def _logged_in(self, user: User, session: Session, now: datetime, key: SigningKey) -> LoggedIn:
        access = Access(
            sub=user.id,
            sid=session.id,
            username=user.username,
            amr=session.amr,
            acr=session.acr,
            auth_time=epoch(now),
        )
        token = self._tokens.write_access(key, access, roles=user.roles, now=now)
        return LoggedIn(token, int(self._tokens.access_ttl.total_seconds()))
