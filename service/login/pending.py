"""Pending tokens: the user of each one, what it may be exchanged for, and how often a code may be tried with it.

Law 1: a password alone yields no more than a pending token. A pending token completes one operation at most, and
allows five codes of each kind.
"""

from dataclasses import dataclass
from datetime import datetime

from service.clock import unix_seconds
from service.errors import InvalidToken
from service.factors.second_factor import Kind, SecondFactors
from service.factors.totp_authenticators import TotpAuthenticator, usable
from service.sessions import sessions
from service.sessions.sessions import Session
from service.storage.database import Database
from service.storage.throttle import Receipt, Throttle
from service.tokens.pending import (
    PendingAuthenticator,
    PendingClaims,
    PendingCodec,
    PendingLogin,
    PendingRestore,
    PendingStepUp,
)
from service.users import deletions, users
from service.users.users import User


@dataclass(frozen=True, slots=True)
class SecondFactorRequired:
    """The second factor is due, after a right password or for a step-up.

    If `is_confirmed` is false, no authenticator is confirmed yet: show the QR code first. `methods` names the proofs
    that the pending token can be exchanged with.
    """

    mfa_token: str
    expires_in: int
    is_confirmed: bool
    methods: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pending:
    """A valid pending token with its user, and the authenticators whose codes it takes.

    An enrolment has exactly one: the authenticator that is not confirmed yet.
    """

    claims: PendingClaims
    user: User
    authenticators: list[TotpAuthenticator]

    @property
    def is_enrolment(self) -> bool:
        """Whether the first code of an authenticator is due, which confirms it."""
        return self.user.mfa != "confirmed" or isinstance(self.claims, PendingAuthenticator)


class PendingTokens:
    """Writes pending tokens, and finds their users."""

    def __init__(
        self, *, database: Database, codec: PendingCodec, throttle: Throttle, second_factors: SecondFactors
    ) -> None:
        self._database = database
        self._codec = codec
        self._throttle = throttle
        self._second_factors = second_factors

    def write(
        self,
        user: User,
        now: datetime,
        *,
        session: Session | None = None,
        authenticator: TotpAuthenticator | None = None,
        restores: bool = False,
        is_known_device: bool = False,
    ) -> SecondFactorRequired:
        """Write a pending token for a login, or for one step-up of `session`.

        With an `authenticator`, only the first code of that one is accepted. If `restores` is true, the login with
        the token also takes back the scheduled deletion of the account.
        """
        sub, version = user.id, user.credential_version
        if restores:
            mfa_token = self._codec.write_for_restore(sub=sub, credential_version=version, now=now)
        elif session is None:
            mfa_token = self._codec.write_for_login(
                sub=sub, credential_version=version, now=now, is_known_device=is_known_device
            )
        elif authenticator is None:
            mfa_token = self._codec.write_for_step_up(
                sub=sub, credential_version=version, sid=session.id, step_ups=session.step_ups, now=now
            )
        else:
            mfa_token = self._codec.write_for_authenticator(
                sub=sub,
                credential_version=version,
                sid=session.id,
                step_ups=session.step_ups,
                factor=authenticator.id,
                now=now,
            )
        is_confirmed = user.mfa == "confirmed"
        methods = self._second_factors.methods(is_confirmed=is_confirmed and authenticator is None)
        return SecondFactorRequired(mfa_token, int(self._codec.ttl.total_seconds()), is_confirmed, methods)

    async def get(self, mfa_token: str, now: datetime) -> Pending:
        """Return a pending token with its user and authenticators. Nothing is charged.

        Raises `InvalidToken` if the token is forged or expired, or not valid any more: it belongs to an older
        credential version of the account, to an account that is disabled (for a restore: that cannot be restored), to
        a session that ended, or to an authenticator that has been confirmed or removed since, or it was used already.
        """
        claims = self._codec.read(mfa_token, now=now)
        parameters: tuple[str | int, ...]
        state = "users.disabled_at IS NULL"
        match claims:
            case PendingLogin() | PendingRestore():
                condition = "NOT EXISTS (SELECT 1 FROM sessions WHERE pending_jti = $3)"
                parameters = (claims.jti,)
                if isinstance(claims, PendingRestore):
                    state, parameters = deletions.RESTORABLE, (claims.jti, unix_seconds(now))
            case PendingStepUp() | PendingAuthenticator():
                condition = f"EXISTS (SELECT 1 FROM sessions WHERE {sessions.STEP_UP_ALLOWED})"
                parameters = (claims.sid, claims.step_ups, unix_seconds(now))
        rows = await self._database.fetch_all(
            f"SELECT {users.COLUMNS}, f.id AS factor_id, f.name, f.secret, f.confirmed_at, f.offset_steps"
            " FROM users LEFT JOIN totp_authenticators f ON f.user_id = users.id"
            f" WHERE users.id = $1 AND users.epoch = $2 AND {state} AND {condition}",
            claims.sub, claims.credential_version, *parameters,
        )  # fmt: skip
        user = users.from_row(rows[0]) if rows else None
        if user is None:
            raise InvalidToken
        from_row = self._second_factors.totp.from_row
        authenticators = [
            from_row({**row, "user_id": row["id"], "id": row["factor_id"]})
            for row in rows
            if row["factor_id"] is not None
        ]
        match claims:
            case PendingAuthenticator():
                candidates = [one for one in authenticators if one.id == claims.factor and not one.is_confirmed]
            case PendingLogin() | PendingRestore() | PendingStepUp():
                candidates = usable(user, authenticators)
        pending = Pending(claims, user, candidates)
        if pending.is_enrolment and not candidates:
            raise InvalidToken  # the authenticator was confirmed or removed since
        if pending.is_enrolment and isinstance(claims, PendingStepUp):
            raise InvalidToken  # a step-up takes a confirmed second factor, and confirms none
        return pending

    async def charge(self, pending: Pending, kind: Kind, now: datetime) -> Receipt:
        """Charge one proof of a kind. Raises `InvalidToken` from the sixth of that kind on."""
        return await self._throttle.charge_code(pending.claims.jti, kind.rate_limit, now)

    async def charge_qrcode(self, pending: Pending, now: datetime) -> None:
        """Charge one QR code. Raises `TooManyAttempts` if this user's QR code was requested too often."""
        await self._throttle.charge_qrcode(pending.user.id, now)
