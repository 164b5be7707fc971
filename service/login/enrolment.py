"""Enrolment of the first authenticator of an account, and the addition of further ones.

Both create an unconfirmed authenticator, whose secret can be shown until its first code confirms it
(`Login.with_proof`). A confirmed authenticator is not replaced, unless its secret has less than 112 bits. Adding
another one requires a fresh second factor.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from service.clock import Clock
from service.errors import InvalidToken, MfaAlreadyEnabled, NotFound, TooManyFactors
from service.factors import totp
from service.factors import totp_authenticators as authenticators
from service.factors.second_factor import SecondFactors
from service.factors.totp_authenticators import DEFAULT_NAME, MAX_AUTHENTICATORS, TotpAuthenticator
from service.login.pending import Pending, PendingTokens
from service.messages.events import Events
from service.origin import Act, Caller
from service.sessions import sessions
from service.sessions.bearers import check_fresh
from service.sessions.sessions import Session
from service.storage.database import Database, Transaction
from service.telemetry.event_names import EventName, LogName
from service.telemetry.log import emit
from service.tokens.access import AccessClaims
from service.tokens.pending import PendingAuthenticator, PendingStepUp
from service.users import deletions, users
from service.users.addresses import fold
from service.users.credentials import Credentials, account_changed
from service.users.mfa_policy import MfaPolicy
from service.users.users import User


@dataclass(frozen=True, slots=True)
class EnrolmentStarted:
    """What a user needs to add the account to an authenticator app and to confirm it."""

    provisioning_uri: str
    mfa_token: str
    expires_in: int


@dataclass(frozen=True, slots=True)
class SharedSecret:
    """The secret of an unconfirmed authenticator, as a URI for a QR code and in base32 for manual entry."""

    provisioning_uri: str
    secret: str


class Enrolment:
    """Starts enrolments, shows their secrets and confirms their authenticators."""

    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        credentials: Credentials,
        second_factors: SecondFactors,
        pending_tokens: PendingTokens,
        events: Events,
        policy: MfaPolicy,
        totp_issuer: str,
    ) -> None:
        self._clock = clock
        self._database = database
        self._credentials = credentials
        self._second_factors = second_factors
        self._pending_tokens = pending_tokens
        self._events = events
        self._policy = policy
        self._totp_issuer = totp_issuer

    async def start(
        self, access: AccessClaims, password: str, caller: Caller, *, name: str | None = None
    ) -> EnrolmentStarted:
        """Create an unconfirmed authenticator for the bearer of a live session, given the password.

        If one is confirmed, this adds another one, which must have a name and requires a fresh second factor.
        Raises `InvalidCredentials`, `TooManyAttempts`, `Busy`, `MfaAlreadyEnabled`, `InsufficientAuthentication`,
        `TooManyFactors`; `InvalidToken` if the session ended.
        """
        proved = await self._credentials.prove(access.username, password, caller)
        user, now = proved.user, proved.at
        if user.id != access.sub:
            raise InvalidToken
        session = None
        if user.mfa == "confirmed":
            session = await self._session_for_another(access, now, name=name)
        async with self._database.begin() as transaction:
            changed = await users.increment_credential_version(transaction, user)
            if changed is None:
                raise account_changed(user, caller)
            if session is not None:
                strong = await authenticators.count_strong(transaction, user.id)
                if strong >= MAX_AUTHENTICATORS:
                    raise TooManyFactors
            authenticator = await self._second_factors.totp.add(transaction, changed, now, name=name or DEFAULT_NAME)
            details = {"factor": authenticator.id, "name": authenticator.name}
            act = Act.of_user(user.id, now, caller)
            await self._events.record(transaction, EventName.MFA_ENROLMENT_STARTED, user.id, act, **details)
        return self.describe(changed, authenticator, now, session=session)

    async def start_at_signup(self, transaction: Transaction, user: User, now: datetime) -> EnrolmentStarted:
        """Create the unconfirmed authenticator of a new account in the transaction that creates it."""
        return self.describe(user, await self._second_factors.totp.add(transaction, user, now), now)

    async def start_if_required(
        self, user: User, now: datetime, caller: Caller, *, for_restore: bool = False
    ) -> User:
        """Start an enrolment if the operator's policy requires a second factor of a user who has none.

        `for_restore`: the user is about to take back the deletion of the account, which is disabled until then.

        Raises `InvalidCredentials` if the account changed since it was read.
        """
        if user.mfa != "off" or not self._policy.applies_to(user.roles):
            return user
        async with self._database.begin() as transaction:
            if for_restore:
                is_current = await deletions.lock_if_restorable(transaction, user, now)
            else:
                is_current = await users.lock_if_current(transaction, user)
            if not is_current:
                raise account_changed(user, caller)  # the next login uses the new state
            await self._second_factors.totp.ensure(transaction, user, now)
            act = Act.of_user(user.id, now, caller)
            await self._events.record(transaction, EventName.MFA_ENROLMENT_STARTED, user.id, act, by="policy")
        return replace(user, mfa="asked")

    async def show_secret(self, mfa_token: str, username: str, *, as_picture: bool) -> SharedSecret:
        """Return the secret of the token's own user, until the authenticator is confirmed.

        Raises `InvalidToken`; the same `NotFound` for any other name and for a confirmed authenticator;
        `TooManyAttempts` if too many QR codes were requested.
        """
        now = self._clock()
        pending = await self._pending_tokens.get(mfa_token, now)
        if isinstance(pending.claims, PendingStepUp):
            raise InvalidToken  # a step-up shows no secret
        user = pending.user
        if not _is_named(user, username) or not pending.is_enrolment:
            raise NotFound
        authenticator = pending.authenticators[0]
        if as_picture:
            await self._pending_tokens.charge_qrcode(pending, now)
        emit(LogName.MFA_SECRET_SHOWN, sub=user.id, factor=authenticator.id)
        uri = self._provisioning_uri(user, authenticator, is_another=isinstance(pending.claims, PendingAuthenticator))
        return SharedSecret(uri, authenticator.secret)

    async def confirm(self, transaction: Transaction, pending: Pending, act: Act) -> tuple[User, tuple[str, ...]]:
        """Change the account for an authenticator that the code confirms: revoke all pending and device tokens.

        The first authenticator also ends the earlier sessions and creates the recovery codes, which are returned with
        the user. Another one removes the authenticators with secrets of less than 112 bits. Raises `InvalidToken` if
        the account changed since the pending token was read.
        """
        user, authenticator, now = pending.user, pending.authenticators[0], act.at
        is_first = user.mfa != "confirmed"
        changed = await users.increment_credential_version(transaction, user)
        if changed is None:
            raise InvalidToken
        event = EventName.MFA_ENABLED if is_first else EventName.FACTOR_ADDED
        details = {"factor": authenticator.id, "name": authenticator.name}
        await self._events.record(transaction, event, user.id, act, **details)
        if not is_first:
            for weak, name in await authenticators.remove_weak(transaction, user.id, replacement=authenticator.id):
                removed = {"factor": weak, "name": name, "reason": "weak_secret"}
                await self._events.record(transaction, EventName.FACTOR_REMOVED, user.id, act, **removed)
            return changed, ()
        await sessions.end_all(transaction, user.id, reason="mfa_enabled", now=now)
        return changed, await self._second_factors.recovery_codes.replace_all(transaction, user.id, now)

    def describe(
        self, user: User, authenticator: TotpAuthenticator, now: datetime, *, session: Session | None = None
    ) -> EnrolmentStarted:
        """Return what the user needs. The first code of the authenticator opens a session, or steps up `session`."""
        pending = self._pending_tokens.write(
            user, now, session=session, authenticator=None if session is None else authenticator
        )
        uri = self._provisioning_uri(user, authenticator, is_another=session is not None)
        return EnrolmentStarted(uri, pending.mfa_token, pending.expires_in)

    async def _session_for_another(self, access: AccessClaims, now: datetime, *, name: str | None) -> Session:
        """Return the live session in which a user with a confirmed authenticator adds another one."""
        if name is None:
            raise MfaAlreadyEnabled
        check_fresh(access, self._clock())
        session = await sessions.find_live(self._database, access.sid, policy=self._policy, now=now)
        if session is None:
            raise InvalidToken
        return session

    def _provisioning_uri(self, user: User, authenticator: TotpAuthenticator, *, is_another: bool) -> str:
        """The URI of an authenticator. Its label has the name if an app could have two entries of one user.

        That is so for another authenticator beside a confirmed one, and for any authenticator that the user named.
        """
        name = authenticator.name if is_another or authenticator.name != DEFAULT_NAME else None
        return totp.provisioning_uri(
            authenticator.secret, username=user.username, issuer=self._totp_issuer, name=name
        )


def _is_named(user: User, name: str) -> bool:
    """Return whether this is the user's username or confirmed address: a client has what was typed at the login."""
    try:
        named = users.normalise(name)
    except ValueError:
        return False
    return named == user.username or (user.email is not None and named == fold(user.email))
