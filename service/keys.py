"""Signing keys. Law 12: key state is a function of time.

A key is a row with `activates_at` and `retires_at`. At any moment the key that signs is the one activated last;
a key is published from the moment it exists until the last token it signed has expired. Nothing runs in the
background and nobody leads: every replica that reads the rows and the clock agrees.

A new key is published some time before it signs (`lead`, `KEYTURN_KEY_LEAD`), which is longer than replicas and
verifiers remember the set (`CACHED_FOR` and `JWKS_MAX_AGE` together), so that no verifier meets a token before its
key. The lead counts when a key is made: a later change of the setting moves no key that is published. Whoever finds
that the newest key will have signed for `rotation_days` by then publishes its successor: one INSERT wins.
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

from service.clock import epoch
from service.database import Database, Row
from service.errors import StoreUnavailable
from service.log import emit
from service.sealing import Sealed, Sealer
from service.tokens import LEEWAY, SigningKey, VerifyingKey

JWKS_MAX_AGE = timedelta(minutes=5)
CACHED_FOR = timedelta(seconds=30)
ASK_AGAIN_AFTER = timedelta(seconds=5)
LEAD = timedelta(hours=1)
"""How long a new key is published before it signs, unless the operator says otherwise.

Longer than `Cache-Control` asks for, because many verifiers keep the set as long as they like: Istio for 20 minutes,
for example.
"""

SEALED = Sealed(purpose="signing", table="signing_keys", row="kid", column="private_key")
_FACTS = "kid, serial, algorithm, created_at, activates_at, retires_at, revoked_at"
_RETIRE = (
    "UPDATE signing_keys SET retires_at = (SELECT MIN(later.activates_at) FROM signing_keys later"
    " WHERE later.serial > signing_keys.serial AND later.revoked_at IS NULL)"
    " WHERE revoked_at IS NULL AND (retires_at IS NULL OR retires_at > $1)"
)
"""Every key that has not retired yet does so when the next one that is good begins to sign."""

_HOLD = "UPDATE signing_keys SET serial = serial WHERE serial = (SELECT MIN(serial) FROM signing_keys)"
"""Hold the oldest key before changing several: two that hold two keys would wait for each other for ever."""


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

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        *,
        algorithm: str,
        access_ttl: timedelta,
        lead: timedelta = LEAD,
        rotate_after: timedelta | None = None,
        tends: bool = True,
    ) -> None:
        """`tends`: reading the set does what time asks for (`_tend`). Without it the set is read as it is."""
        self._database = database
        self._sealer = sealer
        self._algorithm = algorithm
        self._grace = int(access_ttl.total_seconds()) + LEEWAY
        self._lead = lead
        self._tends = tends
        self._rotate_after = rotate_after
        self._known: dict[str, OpenKey] = {}
        self._fresh_until: datetime | None = None

    async def get_signing_key(self, now: datetime) -> SigningKey:
        """The key that signs at `now`."""
        return signing_at(await self._all(now), epoch(now)).signing

    async def public_keys(self, now: datetime) -> Mapping[str, VerifyingKey]:
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
        """Publish a new key that begins to sign after the lead, when the newest one retires.

        `None` if a rotation is under way already.
        """
        keys = await self.list_all()
        good = _good(keys, epoch(now))
        if good and good[-1].activates_at > epoch(now):
            return None
        activates_at = now + self._lead if good else now
        if not await self._insert(serial=_next_serial(keys), activates_at=activates_at, now=now):
            return None
        self._fresh_until = None
        return (await self.list_all())[-1]

    async def revoke(self, kid: str, now: datetime) -> Key | None:
        """In an emergency: `kid` is not published any more and no token it signed is good. The key that signs now.

        A key that is published already takes over at once, or else a new one. `None` if there is no such key, or
        it is revoked already. Other replicas notice within `CACHED_FOR`, verifiers within `JWKS_MAX_AGE`.
        """
        async with self._database.begin() as transaction:
            await transaction.execute(_HOLD)
            revoked = await transaction.execute(
                "UPDATE signing_keys SET revoked_at = $1 WHERE kid = $2 AND revoked_at IS NULL", epoch(now), kid
            )
            await transaction.execute(_RETIRE, epoch(now))
            if revoked == 1:
                transaction.afterwards(partial(emit, "key.revoked", kid=kid))
        self._fresh_until = None
        return signing_at(await self._all(now), epoch(now)) if revoked == 1 else None

    async def revoke_all(self, now: datetime) -> int:
        """Revoke every key that there is, and sign with a new one; how many those were."""
        async with self._database.begin() as transaction:
            await transaction.execute(_HOLD)
            revoked = await transaction.execute(
                "UPDATE signing_keys SET revoked_at = $1 WHERE revoked_at IS NULL", epoch(now)
            )
        self._fresh_until = None
        await self._all(now)
        return revoked

    async def refresh(self, now: datetime) -> None:
        """Read the set anew, between requests, so that none has to. Raises `StoreUnavailable`."""
        try:
            await self._read(now)
        except StoreUnavailable:
            if self._known:
                self._fresh_until = now + CACHED_FOR  # this is tried again before a request has to
            raise

    async def _all(self, now: datetime) -> Sequence[OpenKey]:
        """The keys, at most `CACHED_FOR` old; older ones if the database is away (law 7: no fail-open, no hang)."""
        if not self._known or self._fresh_until is None or not now < self._fresh_until <= now + CACHED_FOR:
            if self._known:
                self._fresh_until = now + ASK_AGAIN_AFTER  # one request asks, the others go on with what is known
            try:
                await self._read(now)
            except StoreUnavailable:
                if not self._known:
                    raise
        return list(self._known.values())

    async def _read(self, now: datetime) -> None:
        rows = await self._fetch(now)
        while self._tends and await self._tend(now, rows):
            rows = await self._fetch(now)
        # Parsing a private key costs more than signing with it: parse only what is new.
        self._known = {row["kid"]: self._remembered(row) or self._key(row) for row in rows}
        self._fresh_until = now + CACHED_FOR

    async def _fetch(self, now: datetime) -> list[Row]:
        return await self._database.fetch_all(
            f"SELECT {_FACTS}, private_key FROM signing_keys WHERE revoked_at IS NULL"
            " AND (retires_at IS NULL OR retires_at > $1) ORDER BY serial DESC",
            epoch(now) - self._grace,
        )

    def _remembered(self, row: Row) -> OpenKey | None:
        known = self._known.get(row["kid"])
        times = (row["activates_at"], row["retires_at"])
        return known if known is not None and (known.activates_at, known.retires_at) == times else None

    async def _tend(self, now: datetime, rows: Sequence[Row]) -> bool:
        """Do what time asks for, if nobody has done it yet; false if the set is in order.

        The decision is made anew on what the serial number of a new key is taken from: that number is unique, so
        of many who decide at once one inserts, and who comes later sees it.
        """
        if _due([_facts(row) for row in rows], now, self._rotate_after, self._lead) is None:
            return False
        keys = await self.list_all()
        match _due(keys, now, self._rotate_after, self._lead):
            case datetime() as activates_at:
                await self._insert(serial=_next_serial(keys), activates_at=activates_at, now=now)
            case str() as kid:
                async with self._database.begin() as transaction:
                    await transaction.execute(_HOLD)
                    await transaction.execute(
                        "UPDATE signing_keys SET activates_at = $1 WHERE kid = $2", epoch(now), kid
                    )
                    await transaction.execute(_RETIRE, epoch(now))
        return True

    async def _insert(self, *, serial: int, activates_at: datetime, now: datetime) -> bool:
        private, jwk = await asyncio.to_thread(generate, self._algorithm)  # RSA takes a tenth of a second
        der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        sealed = SEALED.seal(self._sealer, der, row=jwk["kid"])
        async with self._database.begin() as transaction:
            await transaction.execute(_HOLD)
            inserted = await transaction.execute(
                "INSERT INTO signing_keys (kid, serial, algorithm, private_key, public_jwk, created_at,"
                " activates_at) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (serial) DO NOTHING",
                jwk["kid"], serial, self._algorithm, sealed, json.dumps(jwk), epoch(now), epoch(activates_at),
            )  # fmt: skip
            if inserted == 1:
                await transaction.execute(_RETIRE, epoch(now))
                told = {"kid": jwk["kid"], "signs_from": epoch(activates_at)}
                transaction.afterwards(partial(emit, "key.published", **told))
        return inserted == 1

    def _key(self, row: Row) -> OpenKey:
        der = SEALED.open(self._sealer, bytes(row["private_key"]), row=row["kid"])
        private: Any = load_der_private_key(der, password=None)
        return OpenKey(
            **asdict(_facts(row)),
            jwk=_public_jwk(private, row["algorithm"]),
            signing=SigningKey(row["kid"], row["algorithm"], private),
            verifying=VerifyingKey(row["algorithm"], private.public_key()),
        )


def public_pem(key: OpenKey) -> str:
    """The public key as PEM (SubjectPublicKeyInfo, RFC 7468 section 13)."""
    pem: bytes = key.verifying.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


def _facts(row: Row) -> Key:
    return Key(**{name: row[name] for name in _FACTS.split(", ")})


def _good(keys: Sequence[Key], moment: int) -> list[Key]:
    """Those that sign at `moment` or will, the oldest first."""
    good = [key for key in keys if key.revoked_at is None and (key.retires_at is None or moment < key.retires_at)]
    return sorted(good, key=lambda key: key.serial)


def _due(
    keys: Sequence[Key], now: datetime, rotate_after: timedelta | None, lead: timedelta
) -> datetime | str | None:
    """What the set lacks at `now`: a new key, from when it is to sign; the `kid` of one to sign at once; nothing."""
    good = _good(keys, epoch(now))
    if not good:
        return now
    if all(key.activates_at > epoch(now) for key in good):  # the one before was revoked, or the clock set back
        return good[0].kid
    if rotate_after is None:
        return None
    ends = datetime.fromtimestamp(good[-1].activates_at, UTC) + rotate_after
    # The set is looked at every `CACHED_FOR`: that much earlier still, or the new key could only begin too late.
    return max(ends, now + lead) if ends <= now + lead + CACHED_FOR else None


def _next_serial(keys: Sequence[Key]) -> int:
    return max((key.serial for key in keys), default=0) + 1


def generate(algorithm: str) -> tuple[Any, dict[str, Any]]:
    """A new private key and its JWK. A `kid` is an argument of commands: none begins like an option."""
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
