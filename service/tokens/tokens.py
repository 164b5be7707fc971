"""The tokens that Keyturn writes and reads. Each kind has its own type, audience and key.

| kind    | form             | key                                  | read by                          |
|---------|------------------|--------------------------------------|----------------------------------|
| access  | JWT, at+jwt      | a published key (RFC 9068)           | everyone, and `read_access`      |
| client  | JWT, at+jwt      | the same; it has a `scope`, no `sid` | everyone, `read_client_access`   |
| pending | JWT, mfa+jwt     | HS256, derived, never published      | `read_pending` and nothing else  |
| refresh | `ktr_` and bytes | HMAC, derived, never published       | `read_refresh` and nothing else  |

A refresh token consists of session id, generation and MAC (law 11: a session is its refresh family). It is not
stored, and a forged one is refused before any store is read. PyJWT verifies signature, algorithm, issuer and
audience. This module compares the type (RFC 8725 section 3.11), and the times with the caller's `now`, because PyJWT
only uses the machine's clock.
"""

import base64
import binascii
import hmac
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import jwt
from jwt.types import Options

from service.clock import unix_seconds
from service.errors import InvalidToken

MAX_CHARACTERS = 4096
LEEWAY_SECONDS = 10
"""Seconds by which two replicas' clocks may differ."""

FIRST_PARTY = "keyturn"
"""The `client_id` of tokens that users get by logging in at Keyturn, not through a registered client."""

_ACCESS_TYPE, _PENDING_TYPE = "at+jwt", "mfa+jwt"
_REFRESH_PREFIX = "ktr_"  # lets scanners of repositories and logs recognise one
_SID_BYTES, _GENERATION_BYTES, _MAC_BYTES = 16, 4, 32
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")  # RFC 7515 section 2: no padding
_PENDING_USE = "mfa_pending"
_jwt = jwt.PyJWT(options={"enforce_minimum_key_length": True})
_TIMES_NOT_VERIFIED: Options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "strict_aud": True}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, already parsed because parsing takes longer than signing."""

    kid: str
    algorithm: str
    private: Any


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A key that verifies a signature. For HS256 it is not public: it is the signing secret itself."""

    algorithm: str
    key: Any


@dataclass(frozen=True, slots=True)
class Subject:
    """The subject of an access token and how they authenticated."""

    sub: str
    sid: str
    username: str
    roles: tuple[str, ...]
    amr: tuple[str, ...]
    acr: str
    auth_time: int


@dataclass(frozen=True, slots=True)
class AccessClaims(Subject):
    """The claims of a verified access token of a user; times in Unix seconds."""

    jti: str
    kid: str
    issued_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class ClientAccessClaims:
    """The claims of a verified access token of a registered client. It has no user and no session."""

    client_id: str
    scope: str
    jti: str
    issued_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class PendingClaims:
    """The claims of a verified pending token: this user gave the right password, at this credential version.

    With a `sid` it is for a step-up of that session, which had had `step_ups` of them when the token was written (the
    claim is `raised`). With a `factor` too, the step-up is by the first code of that authenticator, which the user is
    adding.
    """

    sub: str
    credential_version: int
    jti: str
    expires_at: int
    sid: str | None = None
    step_ups: int = 0
    factor: str | None = None


@dataclass(frozen=True, slots=True)
class RefreshClaims:
    """The content of a genuine refresh token. Only the database shows whether it is the valid one."""

    sid: str
    generation: int


FindKey = Callable[[str], VerifyingKey | None]
"""Returns the published key of a `kid`."""


class Tokens:
    """Writes and reads the tokens of all kinds for one issuer."""

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        access_ttl: timedelta,
        pending_ttl: timedelta,
        pending_keys: Sequence[bytes],
        refresh_keys: Sequence[bytes],
    ) -> None:
        self._issuer = issuer
        self._audience = audience
        self._pending_audience = f"{issuer}/login-2fa"
        self._pending_key = pending_keys[0]
        self._pending_keys = tuple(VerifyingKey("HS256", key) for key in pending_keys)
        self._refresh_keys = tuple(refresh_keys)
        self.access_ttl = access_ttl
        self.pending_ttl = pending_ttl

    def access_lifetime(self, now: datetime, *, expires_at: int) -> int:
        """Return the lifetime in seconds of an access token written now, if its session expires at `expires_at`."""
        return min(int(self.access_ttl.total_seconds()), max(1, expires_at - unix_seconds(now)))

    def write_access(self, key: SigningKey, subject: Subject, *, now: datetime, lifetime: int | None = None) -> str:
        """Write an access token (RFC 9068 section 2) with `key`. `lifetime`: seconds, instead of `access_ttl`."""
        subject_claims = {
            "sub": subject.sub,
            "client_id": FIRST_PARTY,
            "sid": subject.sid,
            "auth_time": subject.auth_time,
            "acr": subject.acr,
            "amr": list(subject.amr),
            "username": subject.username,
            "roles": list(subject.roles),
        }
        return self._sign(key, subject_claims, now, lifetime=lifetime)

    def write_client_access(self, key: SigningKey, client_id: str, scope: str, *, now: datetime) -> str:
        """Write an access token of a registered client: `sub` is the client itself (RFC 9068 section 2.2)."""
        return self._sign(key, {"sub": client_id, "client_id": client_id, "scope": scope}, now)

    def _sign(
        self, key: SigningKey, subject_claims: Mapping[str, Any], now: datetime, *, lifetime: int | None = None
    ) -> str:
        issued = unix_seconds(now)
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "iat": issued,
            "exp": issued + (lifetime or int(self.access_ttl.total_seconds())),
            "jti": secrets.token_urlsafe(16),
            **subject_claims,
        }
        headers = {"typ": _ACCESS_TYPE, "kid": key.kid}
        return _jwt.encode(claims, key.private, algorithm=key.algorithm, headers=headers)

    def read_access(self, token: str, *, find_key: FindKey, now: datetime) -> AccessClaims:
        """Verify a user's access token with the published key that it names, or raise `InvalidToken`."""
        kid, claims = self._published_claims(token, find_key, ("sid", "auth_time", "acr", "amr", "username"), now)
        try:
            return AccessClaims(
                sub=_text(claims["sub"]),
                sid=_text(claims["sid"]),
                username=_text(claims["username"]),
                roles=_texts(claims.get("roles", [])),
                amr=_texts(claims["amr"], at_least=1),
                acr=_text(claims["acr"]),
                auth_time=_whole(claims["auth_time"]),
                jti=_text(claims["jti"]),
                kid=kid,
                issued_at=_whole(claims["iat"]),
                expires_at=self._expires_at(claims, now),
            )
        except TypeError:
            raise InvalidToken from None

    def read_client_access(self, token: str, *, find_key: FindKey, now: datetime) -> ClientAccessClaims:
        """Verify a registered client's access token, or raise `InvalidToken`."""
        _, claims = self._published_claims(token, find_key, ("client_id", "scope"), now)
        if claims["client_id"] != claims["sub"]:
            raise InvalidToken  # a user's token
        try:
            return ClientAccessClaims(
                client_id=_text(claims["client_id"]),
                scope=str(claims["scope"]),
                jti=_text(claims["jti"]),
                issued_at=_whole(claims["iat"]),
                expires_at=self._expires_at(claims, now),
            )
        except TypeError:
            raise InvalidToken from None

    def _expires_at(self, claims: Mapping[str, Any], now: datetime) -> int:
        """Return when an access token expires for this service. Raises `InvalidToken` if it has expired.

        That is earlier than its `exp` if the operator has shortened `access_ttl` since it was written. Ended sessions
        are kept for `access_ttl` only, so an older token of such a session would be accepted again.
        """
        expires_at = min(_whole(claims["exp"]), _whole(claims["iat"]) + int(self.access_ttl.total_seconds()))
        if unix_seconds(now) >= expires_at:
            raise InvalidToken
        return expires_at

    def _published_claims(
        self, token: str, find_key: FindKey, required: Sequence[str], now: datetime
    ) -> tuple[str, Mapping[str, Any]]:
        """Verify an access token and return its `kid` and its claims."""
        _check_form(token)
        try:
            kid = jwt.get_unverified_header(token).get("kid")
        except (jwt.PyJWTError, ValueError):
            raise InvalidToken from None
        key = find_key(kid) if isinstance(kid, str) else None
        if key is None:
            raise InvalidToken
        required = ("iss", "sub", "aud", "iat", "exp", "jti", *required)
        return str(kid), self._claims(
            token, key, typ=_ACCESS_TYPE, audience=self._audience, required=required, now=now
        )

    def write_refresh(self, sid: str, generation: int) -> str:
        """Write the refresh token of a session's generation. It is the same at every call."""
        body = base64.urlsafe_b64decode(sid + "==") + generation.to_bytes(_GENERATION_BYTES, "big")
        return _REFRESH_PREFIX + _base64(body + hmac.digest(self._refresh_keys[0], body, "sha256"))

    def read_refresh(self, token: str) -> RefreshClaims:
        """Verify a refresh token by its MAC, or raise `InvalidToken`. No store is read."""
        text = token.removeprefix(_REFRESH_PREFIX)
        try:
            data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise InvalidToken from None
        if len(data) != _SID_BYTES + _GENERATION_BYTES + _MAC_BYTES or token != _REFRESH_PREFIX + _base64(data):
            raise InvalidToken  # base64 can spell some bytes in several ways, and write_refresh uses one
        body, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
        if not any(hmac.compare_digest(mac, hmac.digest(key, body, "sha256")) for key in self._refresh_keys):
            raise InvalidToken
        return RefreshClaims(_base64(body[:_SID_BYTES]), int.from_bytes(body[_SID_BYTES:], "big"))

    def write_pending(
        self,
        *,
        sub: str,
        credential_version: int,
        now: datetime,
        sid: str | None = None,
        step_ups: int = 0,
        factor: str | None = None,
    ) -> str:
        """Write a pending token, which admits only to the second factor; `PendingClaims` describes its kinds.

        Law 1: a password alone yields no more than a pending token.
        """
        issued = unix_seconds(now)
        claims = {
            "iss": self._issuer,
            "sub": sub,
            "aud": self._pending_audience,
            "iat": issued,
            "exp": issued + int(self.pending_ttl.total_seconds()),
            "jti": secrets.token_urlsafe(16),
            "token_use": _PENDING_USE,
            "amr": ["pwd"],
            "epoch": credential_version,
            **({} if sid is None else {"sid": sid, "raised": step_ups}),
            **({} if factor is None else {"factor": factor}),
        }
        return _jwt.encode(claims, self._pending_key, algorithm="HS256", headers={"typ": _PENDING_TYPE})

    def read_pending(self, token: str, *, now: datetime) -> PendingClaims:
        """Verify a pending token, or raise `InvalidToken`. Only the database shows whether it was used."""
        _check_form(token)
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
                return PendingClaims(
                    sub=_text(claims["sub"]),
                    credential_version=_whole(claims["epoch"]),
                    jti=_text(claims["jti"]),
                    expires_at=_whole(claims["exp"]),
                    sid=None if "sid" not in claims else _text(claims["sid"]),
                    step_ups=_whole(claims.get("raised", 0)),
                    factor=None if "factor" not in claims else _text(claims["factor"]),
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
                options={**_TIMES_NOT_VERIFIED, "require": list(required)},
            )
            claims: dict[str, Any] = decoded["payload"]
            begins = max(_whole(claims["iat"]), _whole(claims.get("nbf", 0)))
            is_current = begins - LEEWAY_SECONDS <= unix_seconds(now) < _whole(claims["exp"])
            if decoded["header"].get("typ") != typ or not is_current:
                raise InvalidToken
        except (jwt.PyJWTError, TypeError, ValueError):
            raise InvalidToken from None
        return claims


def _check_form(token: str) -> None:
    """Reject what we never issue (excess length, padding, other characters) before PyJWT reads it."""
    if len(token) > MAX_CHARACTERS or _FORM.fullmatch(token) is None:
        raise InvalidToken


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError
    return value


def _texts(value: object, *, at_least: int = 0) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) < at_least:
        raise TypeError
    return tuple(_text(item) for item in value)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value
