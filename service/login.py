"""Logging in: the two turns of the key.

`with_password` proves the first key. Whoever asked for MFA gets a pending token for it and nothing more
(law 1: a password alone yields no more than a pending token); everyone else is admitted. `with_code` proves the
second key and admits.

A refusal costs its attempt, a success gets it back (law 4: reserve, then verify). Every refusal before the last step
of `with_password` is one and the same `InvalidCredentials` after one password hash (law 8: no answer reveals who
exists).
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from service import factors, sessions, totp, users
from service.clock import Clock, epoch
from service.database import Database, Transaction
from service.devices import Device, Devices
from service.errors import (
    Busy,
    InvalidCode,
    InvalidCredentials,
    InvalidRecoveryCode,
    InvalidToken,
    MfaNotEnabled,
    StoreUnavailable,
    TooManyAttempts,
)
from service.events import Events
from service.factors import Factor, Factors, Proof
from service.keys import Keys
from service.log import emit
from service.passwords import Passwords
from service.policy import MfaPolicy
from service.recovery import Recovery
from service.recovery_codes import RecoveryCodes, count_left
from service.sessions import PASSWORD, PASSWORD_AND_CODE, PASSWORD_AND_RECOVERY_CODE, Caller, Lifetimes, Session
from service.throttle import Throttle, network
from service.tokens import Access, Pending, SigningKey, Tokens
from service.users import User


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """Admitted: a session is open, and these are its tokens. Recovery codes come with the first code only.

    No refresh token where a session was raised: it keeps its own, and who came with a bearer token gets no more.
    """

    access_token: str
    expires_in: int
    refresh_token: str | None
    recovery_codes: tuple[str, ...] = ()
    recovery_codes_left: int | None = None
    device_token: str | None = None


@dataclass(frozen=True, slots=True)
class SecondFactorRequired:
    """The password was right; the second factor is due. Not confirmed: show the QR code first."""

    mfa_token: str
    expires_in: int
    is_confirmed: bool


class Login:
    """The only place that opens sessions, and that raises them."""

    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        throttle: Throttle,
        passwords: Passwords,
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
        self._throttle = throttle
        self._passwords = passwords
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
    ) -> LoggedIn | SecondFactorRequired:
        """Raises `InvalidCredentials`, `TooManyAttempts`, `Busy` or `StoreUnavailable`.

        A device token that is not good (any more) counts as none.
        """
        now = self._clock()
        device = None if device_token is None else self._devices.read(device_token, now)
        user = await self.prove_password(username, password, caller, now, device=device)
        now = self._clock()  # the hash may have waited for its turn
        user = await self._recovery.carry_out(user, now, address=caller.address)
        if user.mfa == "off" and self._policy.names(user.roles):
            user = await self._ask_for_mfa(user, now)
        proved_at = 0 if device is None or not device.is_of(user) else device.proved_at
        if user.mfa != "off" and not self._stands_in(device, user, now):
            emit("login.second_factor_required", sub=user.id)
            return SecondFactorRequired(
                self._tokens.write_pending(sub=user.id, user_epoch=user.epoch, now=now),
                int(self._tokens.pending_ttl.total_seconds()),
                user.mfa == "confirmed",
            )
        key = await self._keys.get_signing_key(now)
        async with self._database.begin() as transaction:
            # The row is held: a change of factors, of roles, or a disabling comes before or after, not in between.
            if not await users.hold(transaction, user):
                raise InvalidCredentials
            session = await self._admit(transaction, user, caller, now, amr=PASSWORD)
        admitted = self._logged_in(user, session, key, now)
        return self._remembered(admitted, user, now, proved_at=proved_at) if remember_device else admitted

    async def with_code(self, mfa_token: str, otp: str, caller: Caller, *, remember_device: bool = False) -> LoggedIn:
        """Raises `InvalidToken`, `InvalidCode`, `CodeOutOfStep`, `TooManyAttempts` or `StoreUnavailable`.

        The first code confirms the factor; if it is the person's first, the answer has the recovery codes.
        """
        now = self._clock()
        pending, user, owed = await self._read_pending(mfa_token, now)
        is_enrolment = not owed[0].is_confirmed
        if is_enrolment and pending.sid is not None and pending.factor is None:
            raise InvalidToken  # a step-up proves what was proved before, and confirms nothing
        key = await self._keys.get_signing_key(now)  # before the code is used up: this may fail
        payment = await self._throttle.pay_code(pending.jti, "otp", now)
        try:
            proof = await self._factors.prove(user, owed, otp, now, address=caller.address)
        except (TooManyAttempts, StoreUnavailable):
            await payment.refund(now)  # the code was not looked at
            raise
        new_codes: tuple[str, ...] = ()
        async with self._factors.released_if_unavailable(proof), self._database.begin() as transaction:
            # The user's row is first in every transaction that has several rows to change, or two could deadlock.
            if is_enrolment:
                user, new_codes = await self._confirm(transaction, user, proof.factor, now)
            elif (len(owed) > 1 or user.recovery_due_at is not None) and not await users.hold(transaction, user):
                raise InvalidToken
            if not await self._factors.consume(transaction, user, proof, now):
                raise InvalidCode(totp.seconds_to_next(now))
            await self._note_clock(transaction, user, proof, now)
            session = await self._admit(transaction, user, caller, now, amr=PASSWORD_AND_CODE, pending=pending)
        admitted = replace(self._logged_in(user, session, key, now), recovery_codes=new_codes)
        return self._remembered(admitted, user, now, proved_at=epoch(now)) if remember_device else admitted

    async def with_recovery_code(
        self, mfa_token: str, code: str, caller: Caller, *, remember_device: bool = False
    ) -> LoggedIn:
        """The way in without the phone. Raises what `with_code` does; the answer says how many codes are left."""
        now = self._clock()
        pending, user, owed = await self._read_pending(mfa_token, now)
        if not owed[0].is_confirmed:
            raise InvalidRecoveryCode  # there are none before the first code, and none confirms an authenticator
        payment = await self._throttle.pay_code(pending.jti, "recovery", now)
        try:
            failures = await self._recovery_codes.reserve(user.id, now)
        except (TooManyAttempts, StoreUnavailable):
            await payment.refund(now)
            raise
        digest = await self._recovery_codes.find(user.id, code)
        key = await self._keys.get_signing_key(now)
        is_consumed = False
        if digest is not None:
            async with self._database.begin() as transaction:
                if not await users.hold(transaction, user):
                    raise InvalidToken
                is_consumed = await self._recovery_codes.consume(transaction, user.id, digest, now)
                if is_consumed:
                    left = await count_left(transaction, user.id)
                    await self._events.record(transaction, "recovery_code.used", user.id, now, left=left)
                    session = await self._admit(
                        transaction, user, caller, now, amr=PASSWORD_AND_RECOVERY_CODE, pending=pending
                    )
        if not is_consumed:
            emit("recovery_code.refused", sub=user.id)
            await self._events.note_refusal(user.id, failures, now, address=caller.address)
            raise InvalidRecoveryCode
        admitted = replace(self._logged_in(user, session, key, now), recovery_codes_left=left)
        return self._remembered(admitted, user, now, proved_at=epoch(now)) if remember_device else admitted

    async def step_up(self, access: Access) -> SecondFactorRequired:
        """A pending token for raising the bearer's own session, once, by a second factor.

        Raises `InvalidToken` if the session ended, and `MfaNotEnabled` for who has no confirmed factor.
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
            sub=user.id, user_epoch=user.epoch, now=now, sid=session.id, raised=session.raised
        )
        return SecondFactorRequired(token, int(self._tokens.pending_ttl.total_seconds()), is_confirmed=True)

    async def prove_password(
        self, username: str, password: str, caller: Caller, now: datetime, *, device: Device | None = None
    ) -> User:
        """The user whose password this is, at the price of one attempt; from a known device at a price of its own.

        It may take its time: read the clock again for what is done afterwards, above all for ending sessions, which
        /verify looks for by the time of their ending.
        Raises `InvalidCredentials` for an unknown user, a wrong password and a disabled user alike.
        """
        try:
            self._passwords.check_room(network(caller.address))
        except Busy:  # before any store is asked: a storm that is shed must not cost those who are not
            emit("login.refused", reason="busy", sub=None, address=caller.address)
            raise
        if device is not None and await self._is_known(device, username):
            payment = await self._throttle.pay_password_on_device(device.id, now)
        else:
            payment = await self._throttle.pay_password(username, caller.address, now)
        user: User | None = None
        try:
            user = await users.find(self._database, username)
            known = None if user is None else user.password_hash
            is_right = await self._passwords.verify(password, known, origin=network(caller.address))
        except (Busy, StoreUnavailable) as error:
            if isinstance(error, Busy):
                emit("login.refused", reason="busy", sub=None if user is None else user.id, address=caller.address)
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

    async def _is_known(self, device: Device, username: str) -> bool:
        """Whether the device is of this very person, with the password and the factors of today."""
        if device.username != username:
            return False
        user = await users.find(self._database, username)
        return user is not None and device.is_of(user)

    def _stands_in(self, device: Device | None, user: User, now: datetime) -> bool:
        """Whether the operator lets this device stand in for the second factor."""
        if device is None or not device.is_of(user) or user.mfa != "confirmed":
            return False
        return device.has_proved_within(self._remember_device, now)

    def _remembered(self, admitted: LoggedIn, user: User, now: datetime, *, proved_at: int) -> LoggedIn:
        return replace(admitted, device_token=self._devices.write(user, now, proved_at=proved_at))

    async def _read_pending(self, mfa_token: str, now: datetime) -> tuple[Pending, User, list[Factor]]:
        """Who holds this pending token, if it is alive; a dead one costs nothing."""
        pending = self._tokens.read_pending(mfa_token, now=now)
        found = await self._factors.find_pending(pending, now)
        if found is None:
            raise InvalidToken
        return pending, *found

    async def _ask_for_mfa(self, user: User, now: datetime) -> User:
        """Begin the enrolment that the operator's policy demands: from here on it is as if he had asked for it."""
        async with self._database.begin() as transaction:
            if not await users.hold(transaction, user):
                raise InvalidCredentials  # disabled, or changed at this very moment: the next login is right again
            await self._factors.ensure(transaction, user, now)
            await self._events.record(transaction, "mfa.enrolment_started", user.id, now, by="policy")
        return replace(user, mfa="asked")

    async def _confirm(
        self, transaction: Transaction, user: User, factor: Factor, now: datetime
    ) -> tuple[User, tuple[str, ...]]:
        """Confirming changes the account: other pending tokens end, and so do authenticators with weak secrets.

        With the first factor the sessions before it end too, and the recovery codes are made.
        """
        is_first = user.mfa != "confirmed"
        changed = await users.begin_epoch(transaction, user)
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

    async def _note_clock(self, transaction: Transaction, user: User, proof: Proof, now: datetime) -> None:
        if proof.realigns:
            seconds = proof.offset_steps * totp.PERIOD
            await self._events.record(
                transaction, "factor.realigned", user.id, now, factor=proof.factor.id, offset_seconds=seconds
            )

    async def _admit(
        self,
        transaction: Transaction,
        user: User,
        caller: Caller,
        now: datetime,
        *,
        amr: tuple[str, ...],
        pending: Pending | None = None,
    ) -> Session:
        """Open a session, or raise the one of a step-up. `InvalidToken` if the pending token did so already."""
        if pending is not None and pending.sid is not None:
            session = await sessions.raise_session(
                transaction, pending.sid, user.id, raised=pending.raised, amr=amr, now=now
            )
        else:
            jti = None if pending is None else pending.jti
            session = await sessions.open_session(
                transaction, user, amr=amr, caller=caller, lifetimes=self._lifetimes, now=now, pending_jti=jti
            )
        if session is None:
            raise InvalidToken
        what = "session.raised" if session.raised else "login.admitted"
        await self._events.record(
            transaction, what, user.id, now, sid=session.id, amr=" ".join(amr), address=caller.address
        )
        if "mfa" in amr and user.recovery_due_at is not None:
            await self._recovery.cancel(transaction, user.id, now, by="login")
        return session

    def _logged_in(self, user: User, session: Session, key: SigningKey, now: datetime) -> LoggedIn:
        subject = session.subject(user.username, user.roles)
        life = self._tokens.access_life(now, expires_at=session.expires_at)
        return LoggedIn(
            self._tokens.write_access(key, subject, life=life, now=now),
            life,
            None if session.raised else self._tokens.write_refresh(session.id, session.generation),
        )
