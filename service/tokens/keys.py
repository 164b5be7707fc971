"""Signing keys. Law 12: key state is a function of time.

A key is a row with `activates_at` and `retires_at`. At any moment the key that signs is the one activated last;
a key is published from the moment it exists until the last token it signed has expired. A revoked key is published no
longer. No job changes the state and there is no leader: all replicas that read the rows and the clock agree.

A new key is published some time before it signs (`lead`, `KEYTURN_KEY_LEAD`). This is at least as long as replicas
and verifiers cache the set (`CACHE_TTL` and `JWKS_MAX_AGE` together), so that no verifier gets a token before its
key. Two keys sign at once: the first one, and the one that takes over after a revocation. The lead is applied when a
key is made: a later change of the setting does not move a published key.

A key signs for `rotate_after` (`KEYTURN_KEY_ROTATION_DAYS`). Every replica publishes its successor when at most one
lead and one `CACHE_TTL` are left of that time. Of several replicas that do so at once, one INSERT succeeds.

Private keys are stored sealed (law 10: secrets at rest are sealed and bound to their row).
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.utils import base64url_encode

from service.clock import LEEWAY_SECONDS, unix_seconds
from service.errors import StoreUnavailable
from service.storage.database import Database, Row
from service.storage.sealing import SealedColumn, Sealer
from service.telemetry.event_names import LogName
from service.telemetry.log import emit
from service.tokens.jwt_codec import SigningKey, VerifyingKey

JWKS_MAX_AGE = timedelta(minutes=5)
CACHE_TTL = timedelta(seconds=30)
RETRY_AFTER = timedelta(seconds=5)
LEAD = timedelta(hours=1)
"""How long a new key is published before it signs, unless the operator sets another time.

Longer than `Cache-Control` says, because many verifiers keep the set for a time of their own, such as Istio for 20
minutes.
"""

SEALED_COLUMN = SealedColumn(purpose="signing", table="signing_keys", row="kid", column="private_key")
_COLUMNS = "kid, serial, algorithm, created_at, activates_at, retires_at, revoked_at"
_RETIRE = (
    "UPDATE signing_keys SET retires_at = (SELECT MIN(later.activates_at) FROM signing_keys later"
    " WHERE later.serial > signing_keys.serial AND later.revoked_at IS NULL)"
    " WHERE revoked_at IS NULL AND (retires_at IS NULL OR retires_at > $1)"
)
"""Set the retirement of each key in use to the time at which the next key begins to sign; skip revoked keys."""

_LOCK_OLDEST = "UPDATE signing_keys SET serial = serial WHERE serial = (SELECT MIN(serial) FROM signing_keys)"
"""Lock the oldest key before changing several: two transactions that lock different keys first would deadlock."""


@dataclass(frozen=True, slots=True)
class Key:
    """One signing key; times in epoch seconds. `retires_at` is when its successor begins to sign, if any.

    A revoked key neither signs nor is published, whatever its times.
    """

    kid: str
    serial: int
    algorithm: str
    created_at: int
    activates_at: int
    retires_at: int | None
    revoked_at: int | None


@dataclass(frozen=True, slots=True)
class UnsealedKey(Key):
    """A key with its private key. The published key is computed from that, not read: `public_jwk` is not sealed."""

    jwk: dict[str, Any]
    signing: SigningKey
    verifying: VerifyingKey


_K = TypeVar("_K", bound=Key)


def signing_at(keys: Sequence[_K], moment: int) -> _K:
    """The key activated last by `moment`; if none is activated yet (the clock was set back), the oldest key."""
    oldest_first = sorted(keys, key=lambda key: key.serial)
    return next((key for key in reversed(oldest_first) if key.activates_at <= moment), oldest_first[0])


class Keys:
    """The key set of the database, cached for `CACHE_TTL`."""

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        *,
        algorithm: str,
        access_ttl: timedelta,
        lead: timedelta = LEAD,
        rotate_after: timedelta | None = None,
        rotates: bool = True,
    ) -> None:
        """With `rotates`, reading the set also makes the changes that are due (`_rotate_if_due`)."""
        self._database = database
        self._sealer = sealer
        self._algorithm = algorithm
        self._grace = int(access_ttl.total_seconds()) + LEEWAY_SECONDS
        self._lead = lead
        self._rotates = rotates
        self._rotate_after = rotate_after
        self._cache: dict[str, UnsealedKey] = {}
        self._cached_until: datetime | None = None

    async def get_signing_key(self, now: datetime) -> SigningKey:
        """The key that signs at `now`."""
        return signing_at(await self._all(now), unix_seconds(now)).signing

    async def public_keys(self, now: datetime) -> Mapping[str, VerifyingKey]:
        """The keys whose tokens are valid at `now`, by `kid`."""
        return {key.kid: key.verifying for key in await self.list_published(now)}

    async def jwks(self, now: datetime) -> dict[str, Any]:
        """The JWK set (RFC 7517 section 5)."""
        return {"keys": [key.jwk for key in await self.list_published(now)]}

    async def list_published(self, now: datetime) -> list[UnsealedKey]:
        """Every key that signs, will sign, or signed a token that may still be valid."""
        moment = unix_seconds(now)
        return [
            key for key in await self._all(now) if key.retires_at is None or moment < key.retires_at + self._grace
        ]

    async def list_all(self) -> list[Key]:
        """All keys that ever existed, the oldest first; also those whose master secret is no longer listed."""
        rows = await self._database.fetch_all(f"SELECT {_COLUMNS} FROM signing_keys ORDER BY serial")
        return [Key(**row) for row in rows]

    async def rotate(self, now: datetime) -> Key | None:
        """Publish a new key. It begins to sign when the lead is over; the present key retires at that moment.

        `None` if a rotation is in progress already.
        """
        keys = await self.list_all()
        valid = _valid_keys(keys, unix_seconds(now))
        if valid and valid[-1].activates_at > unix_seconds(now):
            return None
        activates_at = now + self._lead if valid else now
        if not await self._insert(serial=_next_serial(keys), activates_at=activates_at, now=now):
            return None
        self._cached_until = None
        return (await self.list_all())[-1]

    async def revoke(self, kid: str, now: datetime) -> Key | None:
        """Revoke a key in an emergency: it is no longer published, and no token that it signed is valid.

        Return the key that signs now: one that is published already, otherwise a new one. `None` if there is no such
        key, or it is revoked already. Other replicas notice within `CACHE_TTL`; verifiers notice when they read the
        set again, which may be later than `JWKS_MAX_AGE`. After `StoreUnavailable` the key may be revoked too.
        """
        async with self._database.begin() as transaction:
            await transaction.execute(_LOCK_OLDEST)
            revoked = await transaction.execute(
                "UPDATE signing_keys SET revoked_at = $1 WHERE kid = $2 AND revoked_at IS NULL",
                unix_seconds(now),
                kid,
            )
            await transaction.execute(_RETIRE, unix_seconds(now))
            if revoked == 1:
                transaction.on_commit(partial(emit, LogName.KEY_REVOKED, kid=kid))
        self._cached_until = None
        if revoked != 1:
            return None
        self._cache.pop(kid, None)
        await self._read(now)  # not `_all`, which gives cached keys if the database fails now
        return signing_at(list(self._cache.values()), unix_seconds(now))

    async def revoke_all(self, now: datetime) -> int:
        """Revoke all keys, and sign with a new one; return how many were revoked. Raises `StoreUnavailable`."""
        async with self._database.begin() as transaction:
            await transaction.execute(_LOCK_OLDEST)
            revoked = await transaction.execute(
                "UPDATE signing_keys SET revoked_at = $1 WHERE revoked_at IS NULL", unix_seconds(now)
            )
        self._cached_until = None
        self._cache.clear()
        await self._read(now)  # not `_all`, as in `revoke`
        return revoked

    async def refresh(self, now: datetime) -> None:
        """Read the set again, between requests, so that no request has to.

        Raises `StoreUnavailable`; `UnsealError` if no listed master secret opens a new key.
        """
        try:
            await self._read(now)
        except StoreUnavailable:
            if self._cache:
                self._cached_until = now + CACHE_TTL  # `refresh` runs again before that
            raise

    async def _all(self, now: datetime) -> Sequence[UnsealedKey]:
        """Return the keys, at most `CACHE_TTL` old.

        If the database is unavailable, older ones are returned, so that requests do not hang; without them it raises
        (law 7: no fail-open, no hang).
        """
        if not self._cache or self._cached_until is None or not now < self._cached_until <= now + CACHE_TTL:
            if self._cache:
                self._cached_until = now + RETRY_AFTER  # one request reads, the others use the cached keys
            try:
                await self._read(now)
            except StoreUnavailable:
                if not self._cache:
                    raise
        return list(self._cache.values())

    async def _read(self, now: datetime) -> None:
        rows = await self._fetch(now)
        while self._rotates and await self._rotate_if_due(now, rows):
            rows = await self._fetch(now)
        # Parsing a private key costs more than signing with it: parse only what is new.
        self._cache = {row["kid"]: self._cached(row) or self._unseal(row) for row in rows}
        self._cached_until = now + CACHE_TTL

    async def _fetch(self, now: datetime) -> list[Row]:
        return await self._database.fetch_all(
            f"SELECT {_COLUMNS}, private_key FROM signing_keys WHERE revoked_at IS NULL"
            " AND (retires_at IS NULL OR retires_at > $1) ORDER BY serial DESC",
            unix_seconds(now) - self._grace,
        )

    def _cached(self, row: Row) -> UnsealedKey | None:
        known = self._cache.get(row["kid"])
        times = (row["activates_at"], row["retires_at"])
        return known if known is not None and (known.activates_at, known.retires_at) == times else None

    async def _rotate_if_due(self, now: datetime, rows: Sequence[Row]) -> bool:
        """Make the change that is due, if no replica has made it yet; false if no change is due.

        All keys are read again, the decision is repeated, and the new serial number comes from the same read. That
        number is unique: of several replicas that decide at once one inserts, and later ones see its key.
        """
        if _find_due_change([_read_key(row) for row in rows], now, self._rotate_after, self._lead) is None:
            return False
        keys = await self.list_all()
        match _find_due_change(keys, now, self._rotate_after, self._lead):
            case datetime() as activates_at:
                await self._insert(serial=_next_serial(keys), activates_at=activates_at, now=now)
            case str() as kid:
                async with self._database.begin() as transaction:
                    await transaction.execute(_LOCK_OLDEST)
                    await transaction.execute(
                        "UPDATE signing_keys SET activates_at = $1 WHERE kid = $2", unix_seconds(now), kid
                    )
                    await transaction.execute(_RETIRE, unix_seconds(now))
        return True

    async def _insert(self, *, serial: int, activates_at: datetime, now: datetime) -> bool:
        private, jwk = await asyncio.to_thread(generate, self._algorithm)  # RSA takes a tenth of a second
        der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        sealed = SEALED_COLUMN.seal(self._sealer, der, row=jwk["kid"])
        async with self._database.begin() as transaction:
            await transaction.execute(_LOCK_OLDEST)
            inserted = await transaction.execute(
                "INSERT INTO signing_keys (kid, serial, algorithm, private_key, public_jwk, created_at,"
                " activates_at) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (serial) DO NOTHING",
                jwk["kid"], serial, self._algorithm, sealed, json.dumps(jwk), unix_seconds(now),
                unix_seconds(activates_at),
            )  # fmt: skip
            if inserted == 1:
                await transaction.execute(_RETIRE, unix_seconds(now))
                details = {"kid": jwk["kid"], "signs_from": unix_seconds(activates_at)}
                transaction.on_commit(partial(emit, LogName.KEY_PUBLISHED, **details))
        return inserted == 1

    def _unseal(self, row: Row) -> UnsealedKey:
        der = SEALED_COLUMN.open(self._sealer, bytes(row["private_key"]), row=row["kid"])
        private: Any = load_der_private_key(der, password=None)
        return UnsealedKey(
            **asdict(_read_key(row)),
            jwk=_public_jwk(private, row["algorithm"]),
            signing=SigningKey(row["kid"], row["algorithm"], private),
            verifying=VerifyingKey(row["algorithm"], private.public_key()),
        )


def public_pem(key: UnsealedKey) -> str:
    """The public key as PEM (SubjectPublicKeyInfo, RFC 7468 section 13)."""
    pem: bytes = key.verifying.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


def _read_key(row: Row) -> Key:
    return Key(**{name: row[name] for name in _COLUMNS.split(", ")})


def _valid_keys(keys: Sequence[Key], moment: int) -> list[Key]:
    """The keys that sign at `moment` or will sign later, the oldest first."""
    valid = [key for key in keys if key.revoked_at is None and (key.retires_at is None or moment < key.retires_at)]
    return sorted(valid, key=lambda key: key.serial)


def _find_due_change(
    keys: Sequence[Key], now: datetime, rotate_after: timedelta | None, lead: timedelta
) -> datetime | str | None:
    """Return the change that is due at `now`; `None` if there is none.

    It is the time at which a new key must begin to sign, or the `kid` of a key that must begin to sign now.
    """
    valid = _valid_keys(keys, unix_seconds(now))
    if not valid:
        return now
    if all(key.activates_at > unix_seconds(now) for key in valid):  # the one before is revoked, or the clock set back
        return valid[0].kid
    if rotate_after is None:
        return None
    ends = datetime.fromtimestamp(valid[-1].activates_at, UTC) + rotate_after
    # The next read may come only after `CACHE_TTL`: without adding it, the new key could begin to sign too late.
    return max(ends, now + lead) if ends <= now + lead + CACHE_TTL else None


def _next_serial(keys: Sequence[Key]) -> int:
    return max((key.serial for key in keys), default=0) + 1


def generate(algorithm: str) -> tuple[Any, dict[str, Any]]:
    """A new private key and its JWK. A `kid` is an argument of commands, so it must not begin with a dash."""
    while True:
        private = _private(algorithm)
        jwk = _public_jwk(private, algorithm)
        if not jwk["kid"].startswith("-"):
            return private, jwk


def _private(algorithm: str) -> Any:
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
