"""Admission: opening a session after the proofs, or stepping one up, and the tokens that the user gets then."""

from dataclasses import dataclass
from datetime import datetime

from service.clock import unix_seconds
from service.errors import InvalidToken
from service.login.pending import Pending
from service.login.recovery import Recovery
from service.messages.events import Events
from service.origin import Act
from service.sessions import sessions
from service.sessions.issuing import issue
from service.sessions.sessions import Lifetimes, Session, SessionWithUser
from service.storage.database import Transaction
from service.telemetry.event_names import EventName
from service.tokens.jwt_codec import SigningKey
from service.tokens.keys import Keys
from service.tokens.pending import PendingAuthenticator, PendingLogin, PendingRestore, PendingStepUp
from service.tokens.tokens import Tokens
from service.users import deletions, users
from service.users.devices import Device, Devices
from service.users.users import User


@dataclass(frozen=True, slots=True)
class LoginTokens:
    """The tokens of a session that was opened or stepped up.

    Only a code that completes an enrolment yields recovery codes.

    `refresh_token` is `None` after a step-up: the session keeps the one it has.
    """

    access_token: str
    expires_in: int
    refresh_token: str | None
    refresh_expires_in: int
    recovery_codes: tuple[str, ...] = ()
    recovery_codes_left: int | None = None
    device_token: str | None = None


class Admission:
    """The only class that opens sessions and steps them up."""

    def __init__(
        self,
        *,
        events: Events,
        keys: Keys,
        tokens: Tokens,
        lifetimes: Lifetimes,
        devices: Devices,
        recovery: Recovery,
    ) -> None:
        self._events = events
        self._keys = keys
        self._tokens = tokens
        self._lifetimes = lifetimes
        self._devices = devices
        self._recovery = recovery

    async def get_signing_key(self, now: datetime) -> SigningKey:
        """Return the key that signs the access token. Call it before a proof is consumed: it may fail."""
        return await self._keys.get_signing_key(now)

    async def restore(self, transaction: Transaction, user: User, act: Act) -> User | None:
        """Take back the scheduled deletion of the account before `admit`; `None` if that is no longer possible."""
        restored = await deletions.restore(transaction, user, act.at)
        if restored is not None:
            await self._events.record(transaction, EventName.USER_RESTORED, user.id, act)
        return restored

    async def admit(
        self,
        transaction: Transaction,
        user: User,
        act: Act,
        *,
        amr: tuple[str, ...],
        pending: Pending | None = None,
        is_known_device: bool = False,
    ) -> Session:
        """Open a session, or step up that of the pending token.

        Raises `InvalidToken` if the token was used, or if the session to step up has ended.

        A login on a known device causes no notice, nor does one of a user without a confirmed address.
        """
        claims, now, caller = None if pending is None else pending.claims, act.at, act.caller
        assert caller is not None  # a login is a request
        match claims:
            case PendingStepUp() | PendingAuthenticator():
                session = await sessions.step_up_session(
                    transaction, claims.sid, user.id, step_ups=claims.step_ups, amr=amr, now=now
                )
            case PendingLogin() | PendingRestore() | None:
                jti = None if claims is None else claims.jti
                session = await sessions.open_session(
                    transaction, user, amr=amr, caller=caller, lifetimes=self._lifetimes, now=now, pending_jti=jti
                )
        if session is None:
            raise InvalidToken
        event = EventName.SESSION_RAISED if session.step_ups else EventName.LOGIN_ADMITTED
        is_known_device = is_known_device or (isinstance(claims, PendingLogin) and claims.is_known_device)
        notifies = user.email is not None and not is_known_device
        await self._events.record(transaction, event, user.id, act, notifies, sid=session.id, amr=" ".join(amr))
        if "mfa" in amr and user.pending_recovery(now) is not None:
            await self._recovery.cancel(transaction, user.id, act, by="login")
        if "mfa" in amr and user.password_reset_at is not None:
            # Law 17: a mailbox never replaces both factors.
            await users.forget_reset(transaction, user.id)
        return session

    def issue(
        self,
        user: User,
        session: Session,
        key: SigningKey,
        now: datetime,
        *,
        recovery_codes: tuple[str, ...] = (),
        recovery_codes_left: int | None = None,
        device_token: str | None = None,
    ) -> LoginTokens:
        """Write the tokens of a session that was opened or stepped up."""
        issued = issue(self._tokens, SessionWithUser(session, user.username, user.roles, user.claims), key, now)
        return LoginTokens(
            issued.access_token,
            issued.expires_in,
            None if session.step_ups else issued.refresh_token,
            issued.refresh_expires_in,
            recovery_codes,
            recovery_codes_left,
            device_token,
        )

    def accepts_device(self, device: Device | None, user: User, now: datetime) -> bool:
        """Whether the operator accepts this device in place of the user's second factor."""
        return device is not None and user.mfa == "confirmed" and self._devices.replaces_second_factor(device, now)

    def remember_device(self, user: User, now: datetime, *, known: Device | None = None, proved: bool) -> str:
        """Write a device token with the time of the last second factor: now, or earlier on the known device."""
        proved_at = unix_seconds(now) if proved else 0 if known is None else known.proved_at
        return self._devices.write(user, now, proved_at=proved_at)
