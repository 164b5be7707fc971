"""Enrolment of a second factor, adding and removing authenticators, disabling, and requesting recovery.

Enrolment creates an unconfirmed factor, whose secret is shown until the first code confirms it (`Login.with_code`). A
confirmed factor is never replaced. Adding another authenticator requires a fresh second factor. Disabling requires
the password and a current code, which is consumed like any other code, in the transaction that removes the factors
(law 2: a code is consumed, not checked).

Disabling and requesting recovery take a username and a password, without a token. When disabling, a wrong username,
password and code have one answer; requesting recovery has one answer for every username and password (law 8: no
answer reveals who exists).
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from service.clock import Clock
from service.errors import (
    CodeOutOfStep,
    InvalidCode,
    InvalidCredentials,
    InvalidToken,
    LastFactor,
    MfaAlreadyEnabled,
    MfaNotEnabled,
    NotFound,
    TooManyFactors,
)
from service.factors import authenticators as factors
from service.factors import second_factor, totp
from service.factors.authenticators import DEFAULT_NAME, MAX_AUTHENTICATORS, Factor, Factors
from service.factors.recovery_codes import RecoveryCodes
from service.login.recovery import Recovery
from service.messages.events import Events
from service.sessions import sessions
from service.sessions.bearers import BearerAuth
from service.sessions.sessions import Caller, Session
from service.storage.database import Database, Row
from service.storage.throttle import Throttle
from service.telemetry.log import emit
from service.tokens.tokens import AccessClaims, Tokens
from service.users import users
from service.users.credentials import Credentials
from service.users.policy import MfaPolicy
from service.users.users import User


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a user needs to add the account to an authenticator app and to confirm it."""

    provisioning_uri: str
    mfa_token: str
    expires_in: int


@dataclass(frozen=True, slots=True)
class SharedSecret:
    """The secret of an unconfirmed factor, as a URI for a QR code and in base32 for manual entry."""

    provisioning_uri: str
    secret: str


class Mfa:
    """The operations on the second factors of an account."""

    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        factors: Factors,
        recovery_codes: RecoveryCodes,
        recovery: Recovery,
        events: Events,
        credentials: Credentials,
        bearer_auth: BearerAuth,
        throttle: Throttle,
        tokens: Tokens,
        totp_issuer: str,
        policy: MfaPolicy,
    ) -> None:
        self._clock = clock
        self._database = database
        self._factors = factors
        self._recovery_codes = recovery_codes
        self._recovery = recovery
        self._events = events
        self._credentials = credentials
        self._bearer_auth = bearer_auth
        self._throttle = throttle
        self._tokens = tokens
        self._totp_issuer = totp_issuer
        self._policy = policy

    def enrolment(self, user: User, factor: Factor, now: datetime, *, session: Session | None = None) -> Enrolment:
        """The answer to a request for a second factor. Its first code opens a session, or steps up `session`."""
        return Enrolment(
            self._provisioning_uri(user, factor, is_another=session is not None),
            self._tokens.write_pending(
                sub=user.id,
                credential_version=user.credential_version,
                now=now,
                sid=None if session is None else session.id,
                step_ups=0 if session is None else session.step_ups,
                factor=None if session is None else factor.id,
            ),
            int(self._tokens.pending_ttl.total_seconds()),
        )

    def _provisioning_uri(self, user: User, factor: Factor, *, is_another: bool) -> str:
        """The URI of a factor. Its label has the factor's name if an app could have two entries of one user.

        That is so for another authenticator beside a confirmed one, and for any factor that the user named.
        """
        name = factor.name if is_another or factor.name != DEFAULT_NAME else None
        return totp.provisioning_uri(factor.secret, username=user.username, issuer=self._totp_issuer, name=name)

    async def enable(
        self, access: AccessClaims, password: str, caller: Caller, *, name: str | None = None
    ) -> Enrolment:
        """Create an unconfirmed factor for the bearer of a live session, given the password.

        If a factor is confirmed, this adds another one, which must have a name and requires a fresh second factor.
        Raises `InvalidCredentials`, `TooManyAttempts`, `MfaAlreadyEnabled`, `InsufficientAuthentication`,
        `TooManyFactors`; `InvalidToken` if the session ended.
        """
        proved = await self._credentials.prove(access.username, password, address=caller.address)
        user, now = proved.user, proved.at
        if user.id != access.sub:
            raise InvalidToken
        is_another = user.mfa == "confirmed"
        if is_another and name is None:
            raise MfaAlreadyEnabled
        if is_another:
            self._bearer_auth.check_fresh(access)
        session = None
        if is_another:
            session = await sessions.find_live(self._database, access.sid, policy=self._policy, now=now)
        if is_another and session is None:
            raise InvalidToken
        async with self._database.begin() as transaction:
            changed = await users.increment_credential_version(transaction, user)
            if changed is None:
                raise InvalidCredentials
            if (
                is_another
                and await factors.count_confirmed(transaction, user.id, include_weak=False) >= MAX_AUTHENTICATORS
            ):
                raise TooManyFactors
            factor = await self._factors.add(transaction, changed, now, name=name or DEFAULT_NAME)
            details = {"factor": factor.id, "name": factor.name, "address": caller.address}
            await self._events.record(transaction, "mfa.enrolment_started", user.id, now, **details)
        return self.enrolment(changed, factor, now, session=session)

    async def list_factors(self, access: AccessClaims) -> list[Row]:
        """The bearer's authenticators, the oldest first."""
        return await factors.list_all(self._database, access.sub)

    async def remove_factor(self, access: AccessClaims, factor_id: str, caller: Caller) -> None:
        """Remove one of the bearer's authenticators.

        If it was confirmed, every other session ends, because an attacker may have the device. Raises `NotFound`,
        `LastFactor`; `InvalidToken` if the account changed at the same time.
        """
        now = self._clock()
        user = await users.find_by_id(self._database, access.sub)
        async with self._database.begin() as transaction:
            if user is None or await users.increment_credential_version(transaction, user) is None:
                raise InvalidToken
            removed = await factors.remove(transaction, user.id, factor_id)
            if removed is None:
                raise NotFound
            if await factors.count_confirmed(transaction, user.id) == 0:
                raise LastFactor
            if removed["confirmed_at"] is not None:
                await sessions.end_all(transaction, user.id, reason="factor_removed", now=now, except_sid=access.sid)
            details = {"name": removed["name"], "sid": access.sid, "address": caller.address}
            await self._events.record(transaction, "factor.removed", user.id, now, **details)

    async def request_recovery(self, username: str, password: str, caller: Caller) -> int:
        """Start delayed recovery, given the password of an account with a confirmed second factor.

        Returns the delay in seconds, the same for every caller. Raises `TooManyAttempts`, `Busy`; `NotFound` if
        recovery is switched off.
        """
        with suppress(InvalidCredentials):
            proved = await self._credentials.prove(username, password, address=caller.address)
            if proved.user.mfa == "confirmed":
                await self._recovery.start(proved.user, proved.at, address=caller.address)
        return int(self._recovery.delay.total_seconds())

    async def cancel_recovery(self, access: AccessClaims) -> None:
        """Cancel the recovery of the bearer's account, if there is one. Any session of the user may do so."""
        now = self._clock()
        async with self._database.begin() as transaction:
            await self._recovery.cancel(transaction, access.sub, now, by="session")

    async def show_secret(self, mfa_token: str, username: str, *, as_picture: bool) -> SharedSecret:
        """Return the secret of the token's own user, until the factor is confirmed.

        Raises `InvalidToken`; the same `NotFound` for any other username and for a confirmed factor;
        `TooManyAttempts` if too many QR codes were requested.
        """
        now = self._clock()
        pending = self._tokens.read_pending(mfa_token, now=now)
        found = await self._factors.find_pending(pending, now)
        if found is None or (pending.sid is not None and pending.factor is None):  # a step-up shows no secret
            raise InvalidToken
        user, (factor, *_) = found
        if user.username != _normalised(username) or factor.is_confirmed:
            raise NotFound
        if as_picture:
            await self._throttle.charge_qrcode(user.id, now)
        emit("mfa.secret_shown", sub=user.id, factor=factor.id)
        uri = self._provisioning_uri(user, factor, is_another=pending.factor is not None)
        return SharedSecret(uri, factor.secret)

    async def replace_recovery_codes(self, access: AccessClaims) -> tuple[str, ...]:
        """Return ten new recovery codes and delete all others.

        Raises `MfaNotEnabled`; `InvalidToken` if the user is disabled.
        """
        now = self._clock()
        user = await users.find_by_id(self._database, access.sub)
        if user is None or user.is_disabled:
            raise InvalidToken
        if user.mfa != "confirmed":
            raise MfaNotEnabled
        async with self._database.begin() as transaction:
            if not await users.lock_if_current(transaction, user):
                raise InvalidToken  # the account changed at the same time, so the token may prove less
            codes = await self._recovery_codes.replace_all(transaction, user.id, now)
            await self._events.record(transaction, "recovery_codes.replaced", user.id, now, sid=access.sid)
        return codes

    async def disable(self, username: str, password: str, otp: str, caller: Caller) -> None:
        """Remove the factors of the user who gives the password and a current code.

        A wrong username, password or code raises `InvalidCredentials`. With a wrong password the code is neither
        checked nor counted. `TooManyAttempts` for the code is raised only if the password is right.
        """
        proved = await self._credentials.prove(username, password, address=caller.address)
        user, now = proved.user, proved.at
        usable = await self._factors.list_usable(user)
        if not usable:
            raise InvalidCredentials
        try:
            proof = await self._factors.prove(user, usable, otp, now, address=caller.address)
        except (InvalidCode, CodeOutOfStep, InvalidToken):
            raise InvalidCredentials from None
        async with self._factors.released_if_unavailable(proof), self._database.begin() as transaction:
            # The user's row is locked first, as everywhere; then the code is consumed at the new credential version.
            changed = await users.increment_credential_version(transaction, user)
            if changed is None or not await self._factors.consume(transaction, changed, proof, now):
                raise InvalidCredentials
            await second_factor.remove_all(transaction, user.id)
            await sessions.end_all(transaction, user.id, reason="mfa_disabled", now=now)
            await self._events.record(transaction, "mfa.disabled", user.id, now, address=caller.address)


def _normalised(username: str) -> str | None:
    """The stored spelling of a username, or `None` if the text cannot be a username."""
    try:
        return users.normalise(username)
    except ValueError:
        return None
