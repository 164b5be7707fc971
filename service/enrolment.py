"""Turning the second factor on and off.

On: a factor is made unconfirmed, its secret is shown until the first code confirms it (`Login.with_code`), and
a confirmed one is never replaced. Off: the password and a current code, consumed like any other, in the
transaction that removes the factor.
"""

from dataclasses import dataclass
from datetime import datetime

from service import factors, recovery_codes, sessions, totp, users
from service.clock import Clock
from service.database import Database
from service.errors import (
    InvalidCode,
    InvalidCredentials,
    InvalidToken,
    MfaAlreadyEnabled,
    MfaNotEnabled,
    NotFound,
)
from service.factors import Factor, Factors
from service.log import emit
from service.login import Login
from service.recovery_codes import RecoveryCodes
from service.sessions import Caller
from service.throttle import Throttle
from service.tokens import Access, Tokens
from service.users import User


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a person needs to add the account to an authenticator app and to prove that it worked."""

    provisioning_uri: str
    mfa_token: str
    expires_in: int


@dataclass(frozen=True, slots=True)
class SharedSecret:
    """The secret of an unconfirmed factor, as a URI for a QR code and in base32 for typing in."""

    provisioning_uri: str
    secret: str


class Mfa:
    """The second factor of an account: on, shown, off."""

    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        factors: Factors,
        recovery_codes: RecoveryCodes,
        login: Login,
        throttle: Throttle,
        tokens: Tokens,
        totp_issuer: str,
    ) -> None:
        self._clock = clock
        self._database = database
        self._factors = factors
        self._recovery_codes = recovery_codes
        self._login = login
        self._throttle = throttle
        self._tokens = tokens
        self._totp_issuer = totp_issuer

    def enrolment(self, user: User, factor: Factor, now: datetime) -> Enrolment:
        """The answer to whoever just asked for a second factor."""
        return Enrolment(
            totp.provisioning_uri(factor.secret, username=user.username, issuer=self._totp_issuer),
            self._tokens.write_pending(sub=user.id, user_epoch=user.epoch, now=now),
            int(self._tokens.pending_ttl.total_seconds()),
        )

    async def enable(self, access: Access, password: str, caller: Caller) -> Enrolment:
        """Make a factor for the bearer of a live session who repeats the password.

        Raises `InvalidCredentials`, `TooManyAttempts`, `MfaAlreadyEnabled`; `InvalidToken` if the session ended.
        """
        now = self._clock()
        user = await self._login.prove_password(access.username, password, caller, now)
        if user.id != access.sub:
            raise InvalidToken
        async with self._database.begin() as transaction:
            changed = await users.begin_epoch(transaction, user)
            if changed is None:
                raise InvalidCredentials
            factor = await self._factors.add(transaction, changed.id, user_epoch=changed.epoch, now=now)
            if factor is None:
                raise MfaAlreadyEnabled
        emit("mfa.enrolment_started", sub=user.id, factor=factor.id)
        return self.enrolment(changed, factor, now)

    async def show_secret(self, mfa_token: str, username: str, *, as_picture: bool) -> SharedSecret:
        """The secret of the token's own user, until it is confirmed.

        Raises `InvalidToken`; one and the same `NotFound` for another user, none, or a confirmed factor; and
        `TooManyAttempts` for who wants picture after picture.
        """
        now = self._clock()
        pending = self._tokens.read_pending(mfa_token, now=now)
        found = await self._factors.find_pending(pending, now)
        if found is None or pending.sid is not None:  # a step-up shows nothing
            raise InvalidToken
        user, factor = found
        if user.username != username.lower() or factor.is_confirmed:
            raise NotFound
        if as_picture:
            await self._throttle.pay_qrcode(user.id, now)
        uri = totp.provisioning_uri(factor.secret, username=user.username, issuer=self._totp_issuer)
        return SharedSecret(uri, factor.secret)

    async def replace_recovery_codes(self, access: Access) -> tuple[str, ...]:
        """Ten new recovery codes in place of all others. Raises `MfaNotEnabled`; `InvalidToken` if he is disabled."""
        now = self._clock()
        user = await users.find_by_id(self._database, access.sub)
        if user is None or user.is_disabled:
            raise InvalidToken
        if user.mfa != "confirmed":
            raise MfaNotEnabled
        async with self._database.begin() as transaction:
            if not await users.hold(transaction, user):
                raise InvalidToken  # the account changed at this very moment, and so did what the token proves
            codes = await self._recovery_codes.replace_all(transaction, user.id, now)
        emit("recovery_codes.replaced", sub=user.id, sid=access.sid)
        return codes

    async def disable(self, username: str, password: str, otp: str, caller: Caller) -> None:
        """Remove the factor of whoever gives the password and a current code.

        Any failure of the three is `InvalidCredentials`. With a wrong password the code is neither looked at nor
        counted. `TooManyAttempts` for the code is said only to who knows the password.
        """
        now = self._clock()
        user = await self._login.prove_password(username, password, caller, now)
        factor = await self._factors.find(user)
        if factor is None:
            raise InvalidCredentials
        try:
            proof = await self._factors.prove(user, factor, otp, now)
        except (InvalidCode, InvalidToken):
            raise InvalidCredentials from None
        async with self._database.begin() as transaction:
            # The user's row first, as everywhere; consuming then proves the code in the epoch just begun.
            changed = await users.begin_epoch(transaction, user)
            if changed is None or not await self._factors.consume(transaction, changed, proof, now):
                raise InvalidCredentials
            await factors.remove_all(transaction, user.id)
            await recovery_codes.remove_all(transaction, user.id)
            await sessions.end_all(transaction, user.id, reason="mfa_disabled", now=now)
        emit("mfa.disabled", sub=user.id, factor=factor.id, address=caller.address)
