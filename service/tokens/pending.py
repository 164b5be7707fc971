"""Pending tokens (`mfa_token`): each opens or steps up one session, with the second factor.

Law 1: a password alone yields no more than a pending token. It is signed with HS256 and a derived key that no
verifier has, and has a type and an audience of its own. It carries the credential version of the account (the JWT
claim `epoch`), so that a change of password or factors revokes it. Only the database shows whether it was used.

There are four kinds. They share type and key, and differ in their claims: that of a step-up has a `sid`, that of an
authenticator that the user adds has a `sid` and a `factor`, that of a login that also takes back the deletion of the
account has `restores`, and that of any other login has none of these, but `known_device` on a known device.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from service.errors import InvalidToken
from service.tokens.jwt_codec import JwtCodec, VerifyingKey, text, whole

_USE = "mfa_pending"


@dataclass(frozen=True, slots=True)
class _Pending:
    """The claims of every pending token: its user, and the credential version of the account at its issue."""

    sub: str
    credential_version: int
    jti: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class PendingLogin(_Pending):
    """A login that waits for the second factor, or for the first code of the account's first authenticator."""

    is_known_device: bool = False
    """Whether the password was given on a known device (the JWT claim `known_device`)."""


@dataclass(frozen=True, slots=True)
class PendingRestore(_Pending):
    """A login that waits for the second factor, and that also takes back the scheduled deletion of the account."""


@dataclass(frozen=True, slots=True)
class PendingStepUp(_Pending):
    """A step-up of a session by an authenticator that is confirmed, or by a recovery code."""

    sid: str
    step_ups: int
    """How many step-ups the session had had when the token was written (the JWT claim `raised`)."""


@dataclass(frozen=True, slots=True)
class PendingAuthenticator(_Pending):
    """A step-up of a session by the first code of an authenticator that the user is adding."""

    sid: str
    step_ups: int
    """As in `PendingStepUp`."""
    factor: str


PendingClaims = PendingLogin | PendingRestore | PendingStepUp | PendingAuthenticator
"""The claims of a verified pending token."""


class PendingCodec:
    """Writes and reads pending tokens. `ttl` is their lifetime."""

    def __init__(self, *, issuer: str, ttl: timedelta, keys: Sequence[bytes]) -> None:
        """Of the `keys` the first signs, and all of them verify."""
        self._codec = JwtCodec(typ="mfa+jwt", issuer=issuer, audience=f"{issuer}/login-2fa")
        self._keys = tuple(VerifyingKey("HS256", key) for key in keys)
        self.ttl = ttl

    def write_for_login(
        self, *, sub: str, credential_version: int, now: datetime, is_known_device: bool = False
    ) -> str:
        """Write the token of a `PendingLogin`."""
        known = {"known_device": True} if is_known_device else {}
        return self._write({"sub": sub, "epoch": credential_version, **known}, now)

    def write_for_restore(self, *, sub: str, credential_version: int, now: datetime) -> str:
        """Write the token of a `PendingRestore`."""
        return self._write({"sub": sub, "epoch": credential_version, "restores": True}, now)

    def write_for_step_up(self, *, sub: str, credential_version: int, sid: str, step_ups: int, now: datetime) -> str:
        """Write the token of a `PendingStepUp`."""
        return self._write({"sub": sub, "epoch": credential_version, "sid": sid, "raised": step_ups}, now)

    def write_for_authenticator(
        self, *, sub: str, credential_version: int, sid: str, step_ups: int, factor: str, now: datetime
    ) -> str:
        """Write the token of a `PendingAuthenticator`."""
        claims = {"sub": sub, "epoch": credential_version, "sid": sid, "raised": step_ups, "factor": factor}
        return self._write(claims, now)

    def _write(self, claims: Mapping[str, Any], now: datetime) -> str:
        of_every_kind = {"token_use": _USE, "amr": ["pwd"]}
        lifetime = int(self.ttl.total_seconds())
        return self._codec.write({**of_every_kind, **claims}, self._keys[0], now=now, lifetime=lifetime)

    def read(self, token: str, *, now: datetime) -> PendingClaims:
        """Verify a pending token, or raise `InvalidToken`. No store is read."""
        claims = self._verified(token, now)
        try:
            if claims["token_use"] != _USE:
                raise InvalidToken
            return _kind_of(claims)
        except TypeError:
            raise InvalidToken from None

    def _verified(self, token: str, now: datetime) -> Mapping[str, Any]:
        refused = InvalidToken()
        for key in self._keys:
            try:
                return self._codec.read(token, key, required=("token_use", "epoch"), now=now)
            except InvalidToken as error:
                refused = error
        raise refused


def _kind_of(claims: Mapping[str, Any]) -> PendingClaims:
    """Return the claims as the type of their kind. Raises `TypeError` if they are of none."""
    sub, jti = text(claims["sub"]), text(claims["jti"])
    version, expires_at = whole(claims["epoch"]), whole(claims["exp"])
    step_ups = whole(claims.get("raised", 0))
    match claims:
        case {"restores": True}:
            if not claims.keys().isdisjoint({"sid", "factor"}):
                raise TypeError  # an account to be deleted has no session
            return PendingRestore(sub, version, jti, expires_at)
        case {"restores": _}:
            raise TypeError
        case {"sid": sid, "factor": factor}:
            return PendingAuthenticator(sub, version, jti, expires_at, text(sid), step_ups, text(factor))
        case {"sid": sid}:
            return PendingStepUp(sub, version, jti, expires_at, text(sid), step_ups)
        case {"factor": _}:
            raise TypeError  # an authenticator is added within a session
    return PendingLogin(sub, version, jti, expires_at, claims.get("known_device") is True)
