"""Signing keys. Their state is a function of time (law 12).

A key is a row with `activates_at` and `retires_at`. At any moment the key that signs is the one activated last;
a key is published from the moment it exists until the last token it signed has expired. Nothing runs in the
background and nobody leads: every replica that reads the rows and the clock agrees.

A new key is published `PUBLISHED_AHEAD` before it signs, which is longer than replicas and verifiers remember
the set (`CACHED_FOR` and `JWKS_MAX_AGE` together), so that no verifier meets a token before its key.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.utils import base64url_encode

from service.clock import epoch
from service.database import Database, Row
from service.errors import StoreUnavailable
from service.sealing import Sealer
from service.tokens import LEEWAY, SigningKey, VerifyingKey

JWKS_MAX_AGE = timedelta(minutes=5)
CACHED_FOR = timedelta(seconds=30)
ASK_AGAIN_AFTER = timedelta(seconds=5)
PUBLISHED_AHEAD = timedelta(minutes=15)

_PURPOSE, _TABLE = "signing", "signing_keys"
_FACTS = "kid, serial, algorithm, created_at, activates_at, retires_at"


@dataclass(frozen=True, slots=True)
class Key:
    """One signing key; times in epoch seconds. `retires_at` is when its successor begins to sign, if any."""

    kid: str
    serial: int
    algorithm: str
    created_at: int
    activates_at: int
    retires_at: int | None


@dataclass(frozen=True, slots=True)
class OpenKey(Key):
    """A key whose seal is open. What is published is made from it, not read from a row that is not sealed."""

    jwk: dict[str, Any]
    signing: SigningKey
    verifying: VerifyingKey


_K = TypeVar("_K", bound=Key)


def signing_at(keys: Sequence[_K], moment: int) -> _K:
    """The key activated last before `moment`; the oldest one if a clock set back shows none activated."""
    oldest_first = sorted(keys, key=lambda key: key.serial)
    return next((key for key in reversed(oldest_first) if key.activates_at <= moment), oldest_first[0])


class Keys:
    """The key set, as the database has it, remembered for `CACHED_FOR`."""

    def __init__(self, database: Database, sealer: Sealer, *, algorithm: str, access_ttl: timedelta) -> None:
        self._database = database
        self._sealer = sealer
        self._algorithm = algorithm
        self._grace = int(access_ttl.total_seconds()) + LEEWAY
        self._known: dict[str, OpenKey] = {}
        self._fresh_until: datetime | None = None

    async def get_signing_key(self, now: datetime) -> SigningKey:
        """The key that signs at `now`; the first one is made when it is first needed."""
        keys = await self._all(now)
        if not keys:
            await self._insert(serial=1, activates_at=now, now=now)
            self._fresh_until = None
            keys = await self._all(now)
        return signing_at(keys, epoch(now)).signing

    async def public_keys(self, now: datetime) -> dict[str, VerifyingKey]:
        """By `kid`, the keys whose tokens are good at `now`."""
        return {key.kid: key.verifying for key in await self.list_published(now)}

    async def jwks(self, now: datetime) -> dict[str, Any]:
        """The JWK set (RFC 7517 section 5)."""
        return {"keys": [key.jwk for key in await self.list_published(now)]}

    async def list_published(self, now: datetime) -> list[OpenKey]:
        """Every key that signs, will sign, or signed a token that may still be good."""
        moment = epoch(now)
        return [
            key for key in await self._all(now) if key.retires_at is None or moment < key.retires_at + self._grace
        ]

    async def list_all(self) -> list[Key]:
        """Every key there ever was, the oldest first; also those whose master secret is no longer listed."""
        rows = await self._database.fetch_all(f"SELECT {_FACTS} FROM signing_keys ORDER BY serial")
        return [Key(**row) for row in rows]

    async def rotate(self, now: datetime) -> Key | None:
        """Publish a new key that begins to sign `PUBLISHED_AHEAD` from now, when the newest one retires.

        `None` if a rotation is under way already.
        """
        keys = await self.list_all()
        if not keys:
            await self._insert(serial=1, activates_at=now, now=now)
        elif keys[-1].activates_at > epoch(now):
            return None
        else:
            activates_at = now + PUBLISHED_AHEAD
            if not await self._insert(serial=keys[-1].serial + 1, activates_at=activates_at, now=now):
                return None
        self._fresh_until = None
        return (await self.list_all())[-1]

    async def _all(self, now: datetime) -> Sequence[OpenKey]:
        """The keys, at most `CACHED_FOR` old; older ones if the database is away (law 7)."""
        if self._fresh_until is None or not now < self._fresh_until <= now + CACHED_FOR:
            try:
                rows = await self._database.fetch_all(
                    f"SELECT {_FACTS}, private_key FROM signing_keys WHERE retires_at IS NULL OR retires_at > $1"
                    " ORDER BY serial DESC",
                    epoch(now) - self._grace,
                )
            except StoreUnavailable:
                if not self._known:
                    raise
                self._fresh_until = now + ASK_AGAIN_AFTER  # not every request waits for a database that is away
            else:
                # Parsing a private key costs more than signing with it: parse only what is new.
                self._known = {
                    row["kid"]: (
                        known
                        if (known := self._known.get(row["kid"])) and known.retires_at == row["retires_at"]
                        else self._key(row)
                    )
                    for row in rows
                }
                self._fresh_until = now + CACHED_FOR
        return list(self._known.values())

    async def _insert(self, *, serial: int, activates_at: datetime, now: datetime) -> bool:
        private = _generate(self._algorithm)
        jwk = _public_jwk(private, self._algorithm)
        der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        sealed = self._sealer.seal(der, purpose=_PURPOSE, table=_TABLE, row=jwk["kid"])
        async with self._database.begin() as transaction:
            inserted = await transaction.execute(
                "INSERT INTO signing_keys (kid, serial, algorithm, private_key, public_jwk, created_at,"
                " activates_at) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (serial) DO NOTHING",
                jwk["kid"], serial, self._algorithm, sealed, json.dumps(jwk), epoch(now), epoch(activates_at),
            )  # fmt: skip
            if inserted == 1:
                await transaction.execute(
                    "UPDATE signing_keys SET retires_at = $1 WHERE serial < $2 AND retires_at IS NULL",
                    epoch(activates_at), serial,
                )  # fmt: skip
        return inserted == 1

    def _key(self, row: Row) -> OpenKey:
        der = self._sealer.open(bytes(row["private_key"]), purpose=_PURPOSE, table=_TABLE, row=row["kid"])
        private: Any = load_der_private_key(der, password=None)
        return OpenKey(
            kid=row["kid"],
            serial=row["serial"],
            algorithm=row["algorithm"],
            created_at=row["created_at"],
            activates_at=row["activates_at"],
            retires_at=row["retires_at"],
            jwk=_public_jwk(private, row["algorithm"]),
            signing=SigningKey(row["kid"], row["algorithm"], private),
            verifying=VerifyingKey(row["algorithm"], private.public_key()),
        )


def _generate(algorithm: str) -> Any:
    match algorithm:
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "EdDSA":
            return ed25519.Ed25519PrivateKey.generate()
        case "RS256":
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    raise ValueError(algorithm)


def _public_jwk(private: Any, algorithm: str) -> dict[str, Any]:
    """The public key as a JWK with `kid` = its thumbprint (RFC 7638), `use` and `alg`."""
    to_jwk: Any = {"ES256": ECAlgorithm.to_jwk, "EdDSA": OKPAlgorithm.to_jwk, "RS256": RSAAlgorithm.to_jwk}[algorithm]
    members: dict[str, Any] = to_jwk(private.public_key(), as_dict=True)
    required = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}
    canonical = {name: members[name] for name in required[members["kty"]]}
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"))
    kid = base64url_encode(sha256(text.encode()).digest()).decode()
    return {**canonical, "kid": kid, "use": "sig", "alg": algorithm}
