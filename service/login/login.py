"""Login: the password, then the second factor.

`with_password` proves the password. A user with a second factor, or with an enrolment to finish, gets a pending token
and nothing more (law 1: a password alone yields no more than a pending token), unless a known device stands in for
the second factor. Any other user is admitted. `with_proof` proves the second factor and admits.

Each attempt at a code is charged to the pending token and to budgets: those of the authenticators that do not wait,
or that of the recovery codes. A wrong code keeps all charges. A success refunds the budgets and uses up the token. If
an attempt ends before the code is checked, the charge to the token is refunded; a charge to a budget stays (law 4:
reserve, then verify). For the password see `credentials`, which gives one answer for an unknown user, a wrong
password and a disabled user (law 8: no answer reveals who exists).
"""

from dataclasses import replace

from service.clock import Clock
from service.errors import InvalidToken, StoreUnavailable, TooManyAttempts
from service.factors.second_factor import Checked, Kind, Proof, SecondFactors
from service.login.admission import Admission, LoginTokens
from service.login.enrolment import Enrolment
from service.login.pending import Pending, PendingTokens, SecondFactorRequired
from service.login.recovery import Recovery
from service.origin import Act, Caller
from service.sessions.sessions import PASSWORD
from service.storage.database import Database, Transaction
from service.telemetry.event_names import LogName
from service.telemetry.log import emit
from service.tokens.jwt_codec import SigningKey
from service.tokens.pending import PendingRestore
from service.users import users
from service.users.credentials import Credentials, Proved, account_changed
from service.users.devices import Device
from service.users.users import User


class NotConsumed(Exception):
    """Since the proof was checked, another request consumed it or the account changed. Rolls the transaction back."""


class Login:
    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        credentials: Credentials,
        second_factors: SecondFactors,
        recovery: Recovery,
        enrolment: Enrolment,
        pending_tokens: PendingTokens,
        admission: Admission,
    ) -> None:
        self._clock = clock
        self._database = database
        self._credentials = credentials
        self._second_factors = second_factors
        self._recovery = recovery
        self._enrolment = enrolment
        self._pending_tokens = pending_tokens
        self._admission = admission

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
        proved = await self._credentials.prove(username, password, caller, device_token=device_token)
        act = Act.of_user(proved.user.id, proved.at, caller)
        user = await self._recovery.complete(proved.user, act)
        user = await self._enrolment.start_if_required(user, proved.at, caller)
        device = _still_known(proved, user)
        if user.mfa != "off" and not self._admission.accepts_device(device, user, proved.at):
            emit(LogName.LOGIN_SECOND_FACTOR_REQUIRED, sub=user.id)
            return self._pending_tokens.write(user, proved.at, is_known_device=device is not None)
        return await self._admit_by_password(user, device, act, remember_device=remember_device)

    async def with_proof(
        self, mfa_token: str, proof: Proof, caller: Caller, *, remember_device: bool = False
    ) -> LoginTokens:
        """Complete a login, an enrolment or a step-up with a proof of the second factor.

        The first verification code of an authenticator confirms it. If it is the first authenticator of the account,
        the result has the recovery codes. After a recovery code the result says how many are left.

        Raises `InvalidToken`; `InvalidCode`, `CodeOutOfStep` or `InvalidRecoveryCode`, depending on the proof;
        `TooManyAttempts` or `StoreUnavailable`.
        """
        now = self._clock()
        pending = await self._pending_tokens.get(mfa_token, now)
        act = Act.of_user(pending.user.id, now, caller)
        kind = self._second_factors.kind_of(proof)
        if pending.is_enrolment and kind.enrolment_error is not None:
            raise kind.enrolment_error  # nothing is charged
        key = await self._admission.get_signing_key(now)  # before the proof is charged: this may fail
        receipt = await self._pending_tokens.charge(pending, kind, now)
        try:
            checked = await kind.check(pending.user, pending.authenticators, proof, act)
        except (TooManyAttempts, StoreUnavailable):
            await receipt.refund(now)  # the proof was not checked
            raise
        try:
            return await self._admit_by_proof(pending, kind, checked, act, key=key, remember_device=remember_device)
        except NotConsumed:
            raise await kind.refusal(pending.user, checked, act) from None

    async def _admit_by_password(
        self, user: User, device: Device | None, act: Act, *, remember_device: bool
    ) -> LoginTokens:
        now = act.at
        key = await self._admission.get_signing_key(now)
        async with self._database.begin() as transaction:
            # The row is locked: no change of factors or roles, and no disabling, comes between check and commit.
            if not await users.lock_if_current(transaction, user):
                raise account_changed(user, act.caller)
            session = await self._admission.admit(
                transaction, user, act, amr=PASSWORD, is_known_device=device is not None
            )
        token = self._admission.remember_device(user, now, known=device, proved=False) if remember_device else None
        return self._admission.issue(user, session, key, now, device_token=token)

    async def _admit_by_proof(
        self,
        pending: Pending,
        kind: Kind,
        checked: Checked,
        act: Act,
        *,
        key: SigningKey,
        remember_device: bool,
    ) -> LoginTokens:
        """Consume the proof and admit the user in one transaction.

        Raises `NotConsumed`; `InvalidToken` if the token was used, or the account or the session changed, meanwhile.
        """
        user, now, recovery_codes = pending.user, act.at, tuple[str, ...]()
        async with kind.released_if_unavailable(checked), self._database.begin() as transaction:
            # Every transaction that changes several rows locks the user's row first, or two could deadlock.
            if isinstance(pending.claims, PendingRestore):
                pending = await self._restore(transaction, pending, act)
                user = pending.user
            if pending.is_enrolment:
                user, recovery_codes = await self._enrolment.confirm(transaction, pending, act)
            elif checked.locks_user or user.pending_recovery(now) is not None or user.password_reset_at is not None:
                await _lock(transaction, user)
            if not await kind.consume(transaction, user, checked, now):
                raise NotConsumed
            left = await kind.record_use(transaction, user, checked, act)
            session = await self._admission.admit(transaction, user, act, amr=kind.amr, pending=pending)
        token = self._admission.remember_device(user, now, proved=True) if remember_device else None
        return self._admission.issue(
            user, session, key, now, recovery_codes=recovery_codes, recovery_codes_left=left, device_token=token
        )

    async def _restore(self, transaction: Transaction, pending: Pending, act: Act) -> Pending:
        """Take back the deletion of the account; return the pending token with the user as stored then."""
        restored = await self._admission.restore(transaction, pending.user, act)
        if restored is None:
            raise InvalidToken  # due, or disabled by another actor, or changed, since the token was read
        return replace(pending, user=restored)


def _still_known(proved: Proved, user: User) -> Device | None:
    """Return the known device on which the password was given, unless a completed recovery has revoked its token."""
    return proved.device if proved.device is not None and proved.device.is_of(user) else None


async def _lock(transaction: Transaction, user: User) -> None:
    if not await users.lock_if_current(transaction, user):
        raise InvalidToken
