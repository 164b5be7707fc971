"""The tokens we write and read. Each kind has a type, an audience and a key of its own.

| kind    | typ      | key                                   | read by                         |
|---------|----------|---------------------------------------|---------------------------------|
| access  | at+jwt   | a published one (RFC 9068)            | everyone, and `read_access`     |
| pending | mfa+jwt  | HS256, derived, known to no verifier  | `read_pending` and nothing else |

PyJWT proves signature, algorithm, issuer and audience; the type is compared here (RFC 8725 section 3.11), and
times are compared here with the act's `now`, because PyJWT can only ask the machine's clock.
"""

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import jwt
from jwt.types import Options

from service.clock import epoch
from service.errors import InvalidToken

MAX_CHARACTERS = 4096
LEEWAY = 10
"""Seconds by which two replicas' clocks may differ."""

FIRST_PARTY = "keyturn"
"""The `client_id` of tokens that people get by logging in here, not through a registered client."""

_ACCESS_TYPE, _PENDING_TYPE = "at+jwt", "mfa+jwt"
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")  # RFC 7515 section 2: no padding
_PENDING_USE = "mfa_pending"
_jwt = jwt.PyJWT(options={"enforce_minimum_key_length": True})
_TIMES_ARE_OURS: Options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "strict_aud": True}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key ready to sign with: parsed once, since parsing costs more than signing."""

    kid: str
    algorithm: str
    private: Any


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """What proves a signature. (For HS256 there is nothing public about it: it is the same secret.)"""

    algorithm: str
    key: Any


@dataclass(frozen=True, slots=True)
class Access:
    """What a proven access token says."""

    sub: str
    sid: str
    username: str
    amr: tuple[str, ...]
    acr: str
    auth_time: int


@dataclass(frozen=True, slots=True)
class Pending:
    """What a proven pending token says: this person gave the right password, in this epoch of the account."""

    sub: str
    epoch: int
    jti: str
    expires_at: int


class Tokens:
    """Writes and reads both kinds for one issuer."""

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        access_ttl: timedelta,
        pending_ttl: timedelta,
        pending_keys: Sequence[bytes],
    ) -> None:
        self._issuer = issuer
        self._audience = audience
        self._pending_audience = f"{issuer}/login-2fa"
        self._pending_key = pending_keys[0]
        self._pending_keys = tuple(VerifyingKey("HS256", key) for key in pending_keys)
        self.access_ttl = access_ttl
        self.pending_ttl = pending_ttl

    def write_access(self, key: SigningKey, access: Access, *, roles: Sequence[str], now: datetime) -> str:
        """An access token (RFC 9068 section 2) signed with `key`."""
        issued = epoch(now)
        claims = {
            "iss": self._issuer,
            "sub": access.sub,
            "aud": self._audience,
            "client_id": FIRST_PARTY,
            "iat": issued,
            "exp": issued + int(self.access_ttl.total_seconds()),
            "jti": secrets.token_urlsafe(16),
            "sid": access.sid,
            "auth_time": access.auth_time,
            "acr": access.acr,
            "amr": list(access.amr),
            "username": access.username,
            "roles": list(roles),
        }
        headers = {"typ": _ACCESS_TYPE, "kid": key.kid}
        return _jwt.encode(claims, key.private, algorithm=key.algorithm, headers=headers)

    def read_access(self, token: str, *, find_key: Callable[[str], VerifyingKey | None], now: datetime) -> Access:
        """Prove an access token with the published key it names, or raise `InvalidToken`."""
        _refuse_oddities(token)
        try:
            kid = jwt.get_unverified_header(token).get("kid")
        except (jwt.PyJWTError, ValueError):
            raise InvalidToken from None
        key = find_key(kid) if isinstance(kid, str) else None
        if key is None:
            raise InvalidToken
        required = ("iss", "sub", "aud", "iat", "exp", "jti", "sid", "auth_time", "acr", "amr", "username")
        claims = self._claims(token, key, typ=_ACCESS_TYPE, audience=self._audience, required=required, now=now)
        try:
            return Access(
                sub=_text(claims["sub"]),
                sid=_text(claims["sid"]),
                username=_text(claims["username"]),
                amr=_texts(claims["amr"]),
                acr=_text(claims["acr"]),
                auth_time=_whole(claims["auth_time"]),
            )
        except TypeError:
            raise InvalidToken from None

    def write_pending(self, *, sub: str, user_epoch: int, now: datetime) -> str:
        """A token that admits to the second factor and to nothing else (law 1)."""
        issued = epoch(now)
        claims = {
            "iss": self._issuer,
            "sub": sub,
            "aud": self._pending_audience,
            "iat": issued,
            "exp": issued + int(self.pending_ttl.total_seconds()),
            "jti": secrets.token_urlsafe(16),
            "token_use": _PENDING_USE,
            "amr": ["pwd"],
            "epoch": user_epoch,
        }
        return _jwt.encode(claims, self._pending_key, algorithm="HS256", headers={"typ": _PENDING_TYPE})

    def read_pending(self, token: str, *, now: datetime) -> Pending:
        """Prove a pending token, or raise `InvalidToken`. Whether it was used up only the database knows."""
        _refuse_oddities(token)
        required = ("iss", "sub", "aud", "iat", "exp", "jti", "token_use", "epoch")
        refused = InvalidToken()
        for key in self._pending_keys:
            try:
                claims = self._claims(
                    token, key, typ=_PENDING_TYPE, audience=self._pending_audience, required=required, now=now
                )
            except InvalidToken as error:
                refused = error
                continue
            try:
                if claims["token_use"] != _PENDING_USE:
                    raise InvalidToken
                return Pending(
                    sub=_text(claims["sub"]),
                    epoch=_whole(claims["epoch"]),
                    jti=_text(claims["jti"]),
                    expires_at=_whole(claims["exp"]),
                )
            except TypeError:
                raise InvalidToken from None
        raise refused

    def _claims(
        self, token: str, key: VerifyingKey, *, typ: str, audience: str, required: Sequence[str], now: datetime
    ) -> Mapping[str, Any]:
        try:
            decoded = _jwt.decode_complete(
                token,
                key.key,
                algorithms=[key.algorithm],
                audience=audience,
                issuer=self._issuer,
                options={**_TIMES_ARE_OURS, "require": list(required)},
            )
            claims: dict[str, Any] = decoded["payload"]
            begins = max(_whole(claims["iat"]), _whole(claims.get("nbf", 0)))
            is_current = begins - LEEWAY <= epoch(now) < _whole(claims["exp"])
            if decoded["header"].get("typ") != typ or not is_current:
                raise InvalidToken
        except (jwt.PyJWTError, TypeError, ValueError):
            raise InvalidToken from None
        return claims


def _refuse_oddities(token: str) -> None:
    """What no token of ours is, and what PyJWT would stumble over or forgive: padding, for one."""
    if len(token) > MAX_CHARACTERS or _FORM.fullmatch(token) is None:
        raise InvalidToken


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise TypeError
    return tuple(_text(item) for item in value)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value
