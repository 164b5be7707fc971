"""JSON Web Tokens (RFC 7519): what access tokens and pending tokens have in common.

PyJWT verifies signature, algorithm, issuer and audience. This module compares the type (RFC 8725 section 3.11), and
the times with the caller's `now`, because PyJWT only uses the machine's clock. The key decides on the algorithm, not
the header (RFC 8725 section 2.1).
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jwt
from jwt.types import Options

from service.clock import LEEWAY_SECONDS, unix_seconds
from service.errors import InvalidToken

MAX_CHARACTERS = 6144
"""Enough for a user with every role, long names and all static claims; HTTP servers accept 8 KiB in a header."""

_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")  # RFC 7515 section 2: no padding
_REGISTERED = ("iss", "sub", "aud", "iat", "exp", "jti")
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


class JwtCodec:
    """Writes and verifies the JWTs of one type, issuer and audience."""

    def __init__(self, *, typ: str, issuer: str, audience: str) -> None:
        self._typ = typ
        self._issuer = issuer
        self._audience = audience

    def write(
        self, claims: Mapping[str, Any], key: SigningKey | VerifyingKey, *, now: datetime, lifetime: int
    ) -> str:
        """Write a token with these claims, valid for `lifetime` seconds from now on.

        The header has the `kid` of a `SigningKey`, by which verifiers find its public key. An HS256 key has no `kid`.
        """
        issued = unix_seconds(now)
        registered = {
            "iss": self._issuer,
            "aud": self._audience,
            "iat": issued,
            "exp": issued + lifetime,
            "jti": secrets.token_urlsafe(16),
        }
        match key:
            case SigningKey(kid=kid, private=secret):
                headers = {"typ": self._typ, "kid": kid}
            case VerifyingKey(key=secret):
                headers = {"typ": self._typ}
        return _jwt.encode({**registered, **claims}, secret, algorithm=key.algorithm, headers=headers)

    def read(self, token: str, key: VerifyingKey, *, required: Sequence[str], now: datetime) -> Mapping[str, Any]:
        """Verify a token and return its claims, or raise `InvalidToken`. It must have the `required` claims."""
        check_form(token)
        try:
            decoded = _jwt.decode_complete(
                token,
                key.key,
                algorithms=[key.algorithm],
                audience=self._audience,
                issuer=self._issuer,
                options={**_TIMES_NOT_VERIFIED, "require": [*_REGISTERED, *required]},
            )
            claims: dict[str, Any] = decoded["payload"]
            begins = max(whole(claims["iat"]), whole(claims.get("nbf", 0)))
            is_current = begins - LEEWAY_SECONDS <= unix_seconds(now) < whole(claims["exp"])
            if decoded["header"].get("typ") != self._typ or not is_current:
                raise InvalidToken
        except (jwt.PyJWTError, TypeError, ValueError):
            raise InvalidToken from None
        return claims


def check_form(token: str) -> None:
    """Reject what we never issue (excess length, padding, other characters) before PyJWT reads it."""
    if len(token) > MAX_CHARACTERS or _FORM.fullmatch(token) is None:
        raise InvalidToken


def read_kid(token: str) -> str:
    """Return the `kid` of a token that is not verified yet. Raises `InvalidToken` if it has none."""
    check_form(token)
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except (jwt.PyJWTError, ValueError):
        raise InvalidToken from None
    if not isinstance(kid, str):
        raise InvalidToken
    return kid


def text(value: object) -> str:
    """Return a claim that must be a text and not empty. Raises `TypeError`, as the next two functions do."""
    if not isinstance(value, str) or not value:
        raise TypeError
    return value


def texts(value: object, *, at_least: int = 0) -> tuple[str, ...]:
    """Return a claim that must be a list of texts."""
    if not isinstance(value, list) or len(value) < at_least:
        raise TypeError
    return tuple(text(item) for item in value)


def whole(value: object) -> int:
    """Return a claim that must be a whole number. A boolean does not count as one."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value
