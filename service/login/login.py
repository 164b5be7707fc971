"""Login: the password, then the second factor.

`with_password` proves the password. A user with a second factor, or with an enrolment to finish, gets a pending token
and nothing more (law 1: a password alone yields no more than a pending token), unless a known device stands in for
the second factor. Any other user is admitted. `with_code` and `with_recovery_code` prove the second factor and admit.

A wrong code keeps the charge of its attempt. A success refunds it, and so does an attempt that ends before the code
is checked (law 4: reserve, then verify). For the password see `credentials`, which gives one answer for an unknown
user, a wrong password and a disabled user (law 8: no answer reveals who exists).
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from service.clock import Clock, unix_seconds
from service.errors import (
    InvalidCode,
    InvalidCredentials,
    InvalidRecoveryCode,
    InvalidToken,
    MfaNotEnabled,
    StoreUnavailable,
    TooManyAttempts,
)
from service.factors import authenticators as factors
from service.factors import totp
from service.factors.authenticators import Factor, Factors, Proof
from service.factors.recovery_codes import RecoveryCodes, count_left
from service.login.recovery import Recovery
from service.messages.events import Events
from service.sessions import sessions
from service.sessions.sessions import (
    PASSWORD,
    PASSWORD_AND_CODE,
    PASSWORD_AND_RECOVERY_CODE,
    Caller,
    Lifetimes,
    Session,
)
from service.storage.database import Database, Transaction
from service.storage.throttle import Throttle
from service.telemetry.log import emit
from service.tokens.keys import Keys
from service.tokens.tokens import AccessClaims, PendingClaims, SigningKey, Tokens
from service.users import users
from service.users.credentials import Credentials
from service.users.devices import Device, Devices
from service.users.policy import MfaPolicy
from service.users.users import User


@dataclass(frozen=True, slots=True)
class LoginTokens:
    """The tokens of a session that was opened or stepped up. Only the first code yields recovery codes.

    `refresh_token` is `None` after a step-up: the session keeps the one it has.
    """

    access_token: str
    expires_in: int
    refresh_token: str | None
    recovery_codes: tuple[str, ...] = ()
    recovery_codes_left: int | None = None
    device_token: str | None = None


@dataclass(frozen=True, slots=True)
class SecondFactorRequired:
    """The second factor is due, after a right password or for a step-up.

    If `is_confirmed` is false, no authenticator is confirmed yet: show the QR code first.
    """

    mfa_token: str
    expires_in: int
    is_confirmed: bool


class Login:
    """The only class that opens sessions and steps them up."""

    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        credentials: Credentials,
        throttle: Throttle,
        factors: Factors,
        recovery_codes: RecoveryCodes,
        recovery: Recovery,
        devices: Devices,
        events: Events,
        keys: Keys,
        tokens: Tokens,
        lifetimes: Lifetimes,
        policy: MfaPolicy,
        remember_device: timedelta = timedelta(0),
    ) -> None:
        self._clock = clock
        self._database = database
        self._credentials = credentials
        self._throttle = throttle
        self._factors = factors
        self._recovery_codes = recovery_codes
        self._recovery = recovery
        self._devices = devices
        self._events = events
        self._keys = keys
        self._tokens = tokens
        self._lifetimes = lifetimes
        self._policy = policy
        self._remember_device = remember_device

    async def with_password(
        self,
        username: str,
        password: str,
        caller: Caller,
        *,
        device_token: str | None = None,
        remember_device: bool = False,
    ) -> LoginTokens | SecondFactorRequired:
        """Log in with a password. An invalid or expired device token is ignored.

        Raises `InvalidCredentials`, `TooManyAttempts`, `Busy` or `StoreUnavailable`.
        """
        proved = await self._credentials.prove(username, password, address=caller.address, device_token=device_token)
        now = proved.at
        user = await self._recovery.complete(proved.user, now, address=caller.address)
        if user.mfa == "off" and self._policy.applies_to(user.roles):
            user = await self._start_required_enrolment(user, now)
        device = proved.device
        if device is not None and not device.is_of(user):
            device = None  # the completed recovery has revoked its token
        if user.mfa != "off" and not self._replaces_second_factor(device, user, now):
            emit("login.second_factor_required", sub=user.id)
            return SecondFactorRequired(
                self._tokens.write_pending(sub=user.id, credential_version=user.credential_version, now=now),
                int(self._tokens.pending_ttl.total_seconds()),
                user.mfa == "confirmed",
            )
        key = await self._keys.get_signing_key(now)
        async with self._database.begin() as transaction:
            # The row is locked: no change of factors or roles, and no disabling, comes between check and commit.
            if not await users.lock_if_current(transaction, user):
                raise InvalidCredentials
            session = await self._open_or_step_up(transaction, user, caller, now, amr=PASSWORD)
        admitted = self._issue_tokens(user, session, key, now)
        if not remember_device:
            return admitted
        return self._with_device_token(admitted, user, now, proved_at=0 if device is None else device.proved_at)

    async def with_code(
        self, mfa_token: str, otp: str, caller: Caller, *, remember_device: bool = False
    ) -> LoginTokens:
        """Complete a login, an enrolment or a step-up with a verification code.

        The first code confirms the authenticator. For the user's first one the answer has the recovery codes.
        Raises `InvalidToken`, `InvalidCode`, `CodeOutOfStep`, `TooManyAttempts` or `StoreUnavailable`.
        """
        now = self._clock()
        pending, user, candidates = await self._read_pending(mfa_token, now)
        is_enrolment = not candidates[0].is_confirmed
        if is_enrolment and pending.sid is not None and pending.factor is None:
            raise InvalidToken  # a step-up takes a confirmed authenticator, and confirms none
        key = await self._keys.get_signing_key(now)  # before the code is consumed: this may fail
        receipt = await self._throttle.charge_code(pending.jti, "otp", now)
        try:
            proof = await self._factors.prove(user, candidates, otp, now, address=caller.address)
        except (TooManyAttempts, StoreUnavailable):
            await receipt.refund(now)  # the code was not checked
            raise
        new_codes: tuple[str, ...] = ()
        async with self._factors.released_if_unavailable(proof), self._database.begin() as transaction:
            # Every transaction that changes several rows locks the user's row first, or two could deadlock.
            if is_enrolment:
                user, new_codes = await self._confirm(transaction, user, proof.factor, now)
            elif (len(candidates) > 1 or user.recovery_due_at is not None) and not await users.lock_if_current(
                transaction, user
            ):
                raise InvalidToken
            if not await self._factors.consume(transaction, user, proof, now):
                raise InvalidCode(totp.seconds_to_next(now))
            await self._record_realignment(transaction, user, proof, now)
            session = await self._open_or_step_up(
                transaction, user, caller, now, amr=PASSWORD_AND_CODE, pending=pending
            )
        admitted = replace(self._issue_tokens(user, session, key, now), recovery_codes=new_codes)
        return (
            self._with_device_token(admitted, user, now, proved_at=unix_seconds(now)) if remember_device else admitted
        )

    async def with_recovery_code(
        self, mfa_token: str, code: str, caller: Caller, *, remember_device: bool = False
    ) -> LoginTokens:
        """Complete a login or a step-up with a recovery code. The answer says how many codes are left.

        Raises what `with_code` does, except `CodeOutOfStep`.
        """
        now = self._clock()
        pending, user, candidates = await self._read_pending(mfa_token, now)
        if not candidates[0].is_confirmed:
            raise InvalidRecoveryCode  # before the first code there are none, and they confirm no authenticator
        key = await self._keys.get_signing_key(now)  # before anything is charged: this may fail
        receipt = await self._throttle.charge_code(pending.jti, "recovery", now)
        try:
            failures = await self._recovery_codes.charge(user.id, now)
            digest = await self._recovery_codes.find(user.id, code)
        except (TooManyAttempts, StoreUnavailable):
            await receipt.refund(now)  # the code was not checked
            raise
        is_consumed = False
        if digest is not None:
            async with self._database.begin() as transaction:
                if not await users.lock_if_current(transaction, user):
                    raise InvalidToken
                is_consumed = await self._recovery_codes.consume(transaction, user.id, digest, now)
                if is_consumed:
                    left = await count_left(transaction, user.id)
                    await self._events.record(transaction, "recovery_code.used", user.id, now, left=left)
                    session = await self._open_or_step_up(
                        transaction, user, caller, now, amr=PASSWORD_AND_RECOVERY_CODE, pending=pending
                    )
        if not is_consumed:
            emit("recovery_code.refused", sub=user.id)
            await self._events.record_refusal(user.id, failures, now, address=caller.address)
            raise InvalidRecoveryCode
        admitted = replace(self._issue_tokens(user, session, key, now), recovery_codes_left=left)
        return (
            self._with_device_token(admitted, user, now, proved_at=unix_seconds(now)) if remember_device else admitted
        )

    async def step_up(self, access: AccessClaims) -> SecondFactorRequired:
        """Return a pending token for one step-up of the bearer's own session by a second factor.

        Raises `InvalidToken` if the session ended, and `MfaNotEnabled` if the user has no confirmed authenticator.
        """
        now = self._clock()
        session = await sessions.find_live(self._database, access.sid, policy=self._policy, now=now)
        user = await users.find_by_id(self._database, access.sub)
        if session is None or user is None or user.is_disabled:
            raise InvalidToken
        if user.mfa != "confirmed":
            raise MfaNotEnabled
        emit("session.step_up_asked", sub=user.id, sid=session.id)
        token = self._tokens.write_pending(
            sub=user.id,
            credential_version=user.credential_version,
            now=now,
            sid=session.id,
            step_ups=session.step_ups,
        )
        return SecondFactorRequired(token, int(self._tokens.pending_ttl.total_seconds()), is_confirmed=True)

    def _replaces_second_factor(self, device: Device | None, user: User, now: datetime) -> bool:
        """Whether the operator accepts this device in place of the second factor."""
        if device is None or user.mfa != "confirmed":
            return False
        return device.has_proved_within(self._remember_device, now)

    def _with_device_token(self, admitted: LoginTokens, user: User, now: datetime, *, proved_at: int) -> LoginTokens:
        return replace(admitted, device_token=self._devices.write(user, now, proved_at=proved_at))

    async def _read_pending(self, mfa_token: str, now: datetime) -> tuple[PendingClaims, User, list[Factor]]:
        """Return a pending token with its user and authenticators. Raises `InvalidToken`; nothing is charged."""
        pending = self._tokens.read_pending(mfa_token, now=now)
        found = await self._factors.find_pending(pending, now)
        if found is None:
            raise InvalidToken
        return pending, *found

    async def _start_required_enrolment(self, user: User, now: datetime) -> User:
        """Start the enrolment that the operator's policy requires, exactly as if the user had requested it."""
        async with self._database.begin() as transaction:
            if not await users.lock_if_current(transaction, user):
                raise InvalidCredentials  # disabled or changed at the same time: the next login uses the new state
            await self._factors.ensure(transaction, user, now)
            await self._events.record(transaction, "mfa.enrolment_started", user.id, now, by="policy")
        return replace(user, mfa="asked")

    async def _confirm(
        self, transaction: Transaction, user: User, factor: Factor, now: datetime
    ) -> tuple[User, tuple[str, ...]]:
        """Change the account for a newly confirmed authenticator: revoke all other pending tokens.

        The first authenticator also ends the earlier sessions and creates the recovery codes. Another one removes the
        authenticators with secrets of less than 112 bits.
        """
        is_first = user.mfa != "confirmed"
        changed = await users.increment_credential_version(transaction, user)
        if changed is None:
            raise InvalidToken
        event = "mfa.enabled" if is_first else "factor.added"
        await self._events.record(transaction, event, user.id, now, factor=factor.id, name=factor.name)
        if not is_first:
            for weak in await factors.remove_weak(transaction, user.id, replacement=factor.id):
                details = {"name": weak["name"], "reason": "weak_secret"}
                await self._events.record(transaction, "factor.removed", user.id, now, **details)
            return changed, ()
        await sessions.end_all(transaction, user.id, reason="mfa_enabled", now=now)
        return changed, await self._recovery_codes.replace_all(transaction, user.id, now)

    async def _record_realignment(self, transaction: Transaction, user: User, proof: Proof, now: datetime) -> None:
        if proof.realigns:
            seconds = proof.offset_steps * totp.PERIOD
            await self._events.record(
                transaction, "factor.realigned", user.id, now, factor=proof.factor.id, offset_seconds=seconds
            )

    async def _open_or_step_up(
        self,
        transaction: Transaction,
        user: User,
        caller: Caller,
        now: datetime,
        *,
        amr: tuple[str, ...],
        pending: PendingClaims | None = None,
    ) -> Session:
        """Open a session, or step up that of the pending token. Raises `InvalidToken` if the token was used."""
        if pending is not None and pending.sid is not None:
            session = await sessions.step_up_session(
                transaction, pending.sid, user.id, step_ups=pending.step_ups, amr=amr, now=now
            )
        else:
            jti = None if pending is None else pending.jti
            session = await sessions.open_session(
                transaction, user, amr=amr, caller=caller, lifetimes=self._lifetimes, now=now, pending_jti=jti
            )
        if session is None:
            raise InvalidToken
        event = "session.raised" if session.step_ups else "login.admitted"
        await self._events.record(
            transaction, event, user.id, now, sid=session.id, amr=" ".join(amr), address=caller.address
        )
        if "mfa" in amr and user.recovery_due_at is not None:
            await self._recovery.cancel(transaction, user.id, now, by="login")
        return session

    def _issue_tokens(self, user: User, session: Session, key: SigningKey, now: datetime) -> LoginTokens:
        subject = session.subject(user.username, user.roles)
        lifetime = self._tokens.access_lifetime(now, expires_at=session.expires_at)
        return LoginTokens(
            self._tokens.write_access(key, subject, lifetime=lifetime, now=now),
            lifetime,
            None if session.step_ups else self._tokens.write_refresh(session.id, session.generation),
        )
