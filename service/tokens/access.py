"""Access tokens (RFC 9068), of users and of registered clients. Relying services verify them with the key set.

Both kinds have the type `at+jwt`. That of a client has a `scope` and no session, and its `sub` is the client itself.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from service.clock import unix_seconds
from service.errors import InvalidToken
from service.static_claims import Value
from service.tokens.jwt_codec import JwtCodec, SigningKey, VerifyingKey, read_kid, text, texts, whole

FIRST_PARTY = "keyturn"
"""The `client_id` of tokens that users get by logging in at Keyturn, not through a registered client."""

FindKey = Callable[[str], VerifyingKey | None]
"""Returns the published key of a `kid`."""


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
    kid: str
    issued_at: int
    expires_at: int


class AccessCodec:
    """Writes and reads access tokens. `ttl` is their lifetime unless the session expires earlier.

    `static_claims`: the names of those static claims of a user that the tokens contain.
    """

    def __init__(self, *, issuer: str, audience: str, ttl: timedelta, static_claims: Collection[str] = ()) -> None:
        self._codec = JwtCodec(typ="at+jwt", issuer=issuer, audience=audience)
        self._static_claims = static_claims
        self.ttl = ttl

    def lifetime(self, now: datetime, *, expires_at: int) -> int:
        """Return the lifetime in seconds of an access token written now, if its session expires at `expires_at`."""
        return min(int(self.ttl.total_seconds()), max(1, expires_at - unix_seconds(now)))

    def select_static(self, claims: Mapping[str, Value]) -> dict[str, Value]:
        """Return those of a user's static claims that tokens contain."""
        return {name: claims[name] for name in self._static_claims if name in claims}

    def write(
        self,
        key: SigningKey,
        subject: Subject,
        *,
        now: datetime,
        static: Mapping[str, Value] | None = None,
        lifetime: int | None = None,
    ) -> str:
        """Write an access token (RFC 9068 section 2) with `key`.

        `static`: the static claims of the user, of which the token contains the selected ones. `lifetime`: seconds,
        instead of `ttl`.
        """
        claims = {
            **self.select_static(static or {}),
            "sub": subject.sub,
            "client_id": FIRST_PARTY,
            "sid": subject.sid,
            "auth_time": subject.auth_time,
            "acr": subject.acr,
            "amr": list(subject.amr),
            "username": subject.username,
            "roles": list(subject.roles),
        }
        return self._codec.write(claims, key, now=now, lifetime=lifetime or int(self.ttl.total_seconds()))

    def write_for_client(self, key: SigningKey, client_id: str, scope: str, *, now: datetime) -> str:
        """Write an access token of a registered client: `sub` is the client itself (RFC 9068 section 2.2)."""
        claims = {"sub": client_id, "client_id": client_id, "scope": scope}
        return self._codec.write(claims, key, now=now, lifetime=int(self.ttl.total_seconds()))

    def read(self, token: str, *, find_key: FindKey, now: datetime) -> AccessClaims:
        """Verify a user's access token with the published key that it names, or raise `InvalidToken`."""
        return self._of_user(*self._claims(token, find_key, now), now)

    def read_of_client(self, token: str, *, find_key: FindKey, now: datetime) -> ClientAccessClaims:
        """Verify a registered client's access token, or raise `InvalidToken`."""
        return self._of_client(*self._claims(token, find_key, now), now)

    def read_of_either(self, token: str, *, find_key: FindKey, now: datetime) -> AccessClaims | ClientAccessClaims:
        """Verify an access token, of a user if it has a `sid`, otherwise of a client, or raise `InvalidToken`."""
        kid, claims = self._claims(token, find_key, now)
        return self._of_user(kid, claims, now) if "sid" in claims else self._of_client(kid, claims, now)

    def _of_user(self, kid: str, claims: Mapping[str, Any], now: datetime) -> AccessClaims:
        try:
            return AccessClaims(
                sub=text(claims["sub"]),
                sid=text(claims["sid"]),
                username=text(claims["username"]),
                roles=texts(claims.get("roles", [])),
                amr=texts(claims["amr"], at_least=1),
                acr=text(claims["acr"]),
                auth_time=whole(claims["auth_time"]),
                jti=text(claims["jti"]),
                kid=kid,
                issued_at=whole(claims["iat"]),
                expires_at=self._expires_at(claims, now),
            )
        except (KeyError, TypeError):
            raise InvalidToken from None

    def _of_client(self, kid: str, claims: Mapping[str, Any], now: datetime) -> ClientAccessClaims:
        try:
            if claims["client_id"] != claims["sub"]:
                raise InvalidToken  # a user's token
            return ClientAccessClaims(
                client_id=text(claims["client_id"]),
                scope=str(claims["scope"]),
                jti=text(claims["jti"]),
                kid=kid,
                issued_at=whole(claims["iat"]),
                expires_at=self._expires_at(claims, now),
            )
        except (KeyError, TypeError):
            raise InvalidToken from None

    def _claims(self, token: str, find_key: FindKey, now: datetime) -> tuple[str, Mapping[str, Any]]:
        """Verify an access token and return its `kid` and its claims."""
        kid = read_kid(token)
        key = find_key(kid)
        if key is None:
            raise InvalidToken
        return kid, self._codec.read(token, key, required=(), now=now)

    def _expires_at(self, claims: Mapping[str, Any], now: datetime) -> int:
        """Return when an access token expires for this service. Raises `InvalidToken` if it has expired.

        That is earlier than its `exp` if the operator has shortened `ttl` since it was written. Ended sessions stay
        in memory only for minutes more than `ttl`: after that, the token of an ended session would be accepted again.
        """
        expires_at = min(whole(claims["exp"]), whole(claims["iat"]) + int(self.ttl.total_seconds()))
        if unix_seconds(now) >= expires_at:
            raise InvalidToken
        return expires_at
