"""Signing keys are published before they sign, and until the last token that they signed has expired."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from service.clock import LEEWAY_SECONDS
from service.components import open_components
from service.errors import ConfigurationError, InvalidToken, StoreUnavailable
from service.settings import MIN_LEAD, Settings
from service.storage.connecting import connect_database
from service.storage.database import Database, Transaction
from service.storage.migrations import migrate
from service.storage.sealing import Sealer, UnsealError
from service.tokens.access import AccessCodec, Subject
from service.tokens.jwt_codec import VerifyingKey
from service.tokens.keys import CACHE_TTL, JWKS_MAX_AGE, LEAD, Keys, generate, signing_at
from service.users.passwords import CHEAPEST
from tests.harness.clients import SECRET
from tests.harness.databases import PATIENT, PATIENT_SECONDS, ForwardingDatabase, opened
from tests.harness.servers import PostgreSQLServer

NOW = datetime(2026, 11, 22, 12, 0, 5, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LIFETIME = timedelta(minutes=10)
DAYS_90 = timedelta(days=90)
MASTER, OTHER_MASTER = b"m" * 32, b"n" * 32
SUBJECT = Subject(
    sub="1", sid="2", username="alice", roles=(), amr=("pwd",), acr="aal1", auth_time=int(NOW.timestamp())
)
TOKENS = AccessCodec(issuer="https://id.example.com", audience="api", ttl=LIFETIME)

Replica = Callable[..., AbstractAsyncContextManager[Keys]]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database of either kind, with the schema and without keys."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'keys.sqlite3'}"
        migrate(url)
        return url
    server: PostgreSQLServer = request.getfixturevalue("postgresql_server")
    return server.url(server.new_database("migrated"))


@asynccontextmanager
async def replica(
    url: str,
    *masters: bytes,
    algorithm: str = "ES256",
    lifetime: timedelta = LIFETIME,
    lead: timedelta = LEAD,
    rotate_after: timedelta | None = None,
) -> AsyncIterator[Keys]:
    """The keys of one replica, which has its own connection, cache and master secrets."""
    database = connect_database(url, timeout=PATIENT_SECONDS)
    await database.open()
    sealer = Sealer(masters or (MASTER,))
    try:
        yield Keys(database, sealer, algorithm=algorithm, access_ttl=lifetime, lead=lead, rotate_after=rotate_after)
    finally:
        await database.close()


@pytest.fixture
async def keys(url: str) -> AsyncIterator[Keys]:
    async with replica(url) as made:
        yield made


async def published(keys: Keys, now: datetime) -> set[str]:
    kids = {jwk["kid"] for jwk in (await keys.jwks(now))["keys"]}
    assert kids == set(await keys.public_keys(now)), "the published keys are the accepted keys"
    return kids


async def signer(keys: Keys, now: datetime) -> str:
    return (await keys.get_signing_key(now)).kid


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


async def test_the_first_key_is_made_when_it_is_needed(keys: Keys) -> None:
    """The first caller makes it, to sign or to publish: verifiers would cache an empty key set for five minutes."""
    (kid,) = await published(keys, NOW)
    assert kid == await signer(keys, NOW)
    assert kid == await signer(keys, NOW + 3650 * 86400 * SECOND), "the key signs until it is rotated"
    assert 1 == len(await keys.list_all())


MEMBERS = {
    "ES256": {"kty": "EC", "crv": "P-256"},
    "EdDSA": {"kty": "OKP", "crv": "Ed25519"},
    "RS256": {"kty": "RSA", "e": "AQAB"},
}
REQUIRED = {"ES256": ("crv", "kty", "x", "y"), "EdDSA": ("crv", "kty", "x"), "RS256": ("e", "kty", "n")}


@pytest.mark.parametrize("algorithm", MEMBERS)
async def test_the_key_set_is_public(url: str, algorithm: str) -> None:
    """It holds the public members only, with `use`, `alg` and a `kid` that is the thumbprint (RFC 7638)."""
    async with replica(url, algorithm=algorithm) as keys:
        await keys.get_signing_key(NOW)
        jwks = await keys.jwks(NOW)
    assert ["keys"] == list(jwks)
    (jwk,) = jwks["keys"]
    assert {*REQUIRED[algorithm], "kid", "use", "alg"} == set(jwk)
    assert {**MEMBERS[algorithm], "use": "sig", "alg": algorithm}.items() <= jwk.items()
    canonical = "{" + ",".join(f'"{name}":"{jwk[name]}"' for name in REQUIRED[algorithm]) + "}"
    assert hashlib.sha256(canonical.encode()).digest() == unb64(jwk["kid"])
    assert "=" not in jwk["kid"]
    size = {"ES256": 32, "EdDSA": 32, "RS256": 256}[algorithm]
    assert size == len(unb64(jwk["n" if algorithm == "RS256" else "x"]))


@pytest.mark.parametrize("algorithm", MEMBERS)
async def test_a_token_is_verified_with_the_key_set_alone(url: str, algorithm: str) -> None:
    """A verifier that knows only the key set, and another replica, read the token."""
    async with replica(url, algorithm=algorithm) as keys, replica(url, algorithm=algorithm) as other:
        token = TOKENS.write(await keys.get_signing_key(NOW), SUBJECT, now=NOW)
        known = jwt.PyJWKSet.from_dict(json.loads(json.dumps(await other.jwks(NOW))))
        header = jwt.get_unverified_header(token)
        assert algorithm == header["alg"]
        options: Any = {"verify_exp": False, "verify_iat": False}
        claims = jwt.decode(token, known[header["kid"]], algorithms=[algorithm], audience="api", options=options)
        assert "alice" == claims["username"]
        public = await other.public_keys(NOW)
        assert SUBJECT.sid == TOKENS.read(token, find_key=public.get, now=NOW).sid


async def test_every_key_is_different(keys: Keys) -> None:
    """Two rotations make two more keys, with different ids and consecutive serial numbers."""
    await keys.rotate(NOW)
    for day in (1, 2):
        assert await keys.rotate(NOW + day * 86400 * SECOND)
    assert 3 == len({key.kid for key in await keys.list_all()})
    assert [1, 2, 3] == [key.serial for key in await keys.list_all()]


def test_no_kid_begins_with_a_dash() -> None:
    """One of 64 thumbprints begins with a dash, and `keyturn keys revoke` would read it as an option."""
    assert not any(generate("EdDSA")[1]["kid"].startswith("-") for _ in range(1000))


async def test_a_rotation_on_an_empty_database_makes_the_first_key(keys: Keys) -> None:
    """There is no older key to sign meanwhile, so it signs at once."""
    first = await keys.rotate(NOW)
    assert first is not None
    assert first.kid == await signer(keys, NOW)
    assert {first.kid} == await published(keys, NOW)


async def test_a_new_key_is_published_an_hour_before_it_signs(keys: Keys) -> None:
    """It signs exactly one hour later; until then every verifier that obeys Cache-Control has fetched it."""
    old = await signer(keys, NOW)
    new = await keys.rotate(NOW)
    assert new is not None
    assert {old, new.kid} == await published(keys, NOW)
    assert old == await signer(keys, NOW + LEAD - SECOND)
    assert new.kid == await signer(keys, NOW + LEAD)
    assert timedelta(hours=1) == LEAD > MIN_LEAD == CACHE_TTL + JWKS_MAX_AGE


async def test_an_old_key_is_published_until_its_last_token_has_expired(keys: Keys) -> None:
    """It stays for the token lifetime after its last signature, and ten seconds more for clocks that differ."""
    old = await signer(keys, NOW)
    new = await keys.rotate(NOW)
    assert new is not None
    last = NOW + LEAD - SECOND
    token = TOKENS.write(await keys.get_signing_key(last), SUBJECT, now=last)
    expires = last + LIFETIME
    public = await keys.public_keys(expires - SECOND)
    assert SUBJECT.sid == TOKENS.read(token, find_key=public.get, now=expires - SECOND).sid
    ends = NOW + LEAD + LIFETIME + LEEWAY_SECONDS * SECOND
    assert {old, new.kid} == await published(keys, ends - SECOND)
    assert {new.kid} == await published(keys, ends)
    with pytest.raises(InvalidToken):
        TOKENS.read(token, find_key=(await keys.public_keys(ends)).get, now=ends)


async def test_every_replica_always_knows_the_key_that_signs(url: str) -> None:
    """Through two rotations, with caches as old as they may be, each replica has the key of every valid token."""
    async with replica(url) as writer, replica(url) as reader, replica(url) as operator:
        await writer.get_signing_key(NOW)
        signed: list[tuple[str, datetime]] = []
        for n in range(0, 3 * 3600, 29):
            now = NOW + n * SECOND
            if n in {29 * 20, 29 * 150}:
                assert await operator.rotate(now)
            signed.append((await signer(writer, now), now + LIFETIME))
            signed = [(kid, expires) for kid, expires in signed if expires > now]
            assert {kid for kid, _ in signed} <= set(await reader.public_keys(now)), n
        assert 3 == len(await operator.list_all())
        assert 1 == len(await published(reader, now))


async def test_a_new_key_reaches_every_replica_within_half_a_minute(url: str) -> None:
    """A replica that read the keys just before a rotation publishes the new one when its cache expires."""
    async with replica(url) as one, replica(url) as two:
        old = await signer(one, NOW)
        new = await two.rotate(NOW)
        assert new is not None
        assert {old} == await published(one, NOW + CACHE_TTL - SECOND)
        assert {old, new.kid} == await published(one, NOW + CACHE_TTL)
        assert {old, new.kid} == await published(two, NOW), "the replica that rotated has it at once"


async def test_the_lead_is_a_setting(url: str) -> None:
    """It applies to rotation by command and by age; a published key keeps the activation time it was made with."""
    day = timedelta(days=1)
    async with replica(url, lead=day, rotate_after=DAYS_90) as patient, replica(url, lead=MIN_LEAD) as hasty:
        old = await signer(patient, NOW)
        new = await patient.rotate(NOW)
        assert new is not None
        assert old == await signer(patient, NOW + day - SECOND)
        assert new.kid == await signer(patient, NOW + day)
        assert {old, new.kid} == await published(hasty, NOW)
        assert old == await signer(hasty, NOW + day - SECOND)
        assert await hasty.rotate(NOW) is None
        due = NOW + day + DAYS_90
        assert {new.kid} == await published(patient, due - day - CACHE_TTL - SECOND)
        assert 2 == len(await published(patient, due - day))
        last = due + SECOND
        assert await hasty.rotate(last)
        assert await signer(hasty, last + MIN_LEAD - SECOND) != await signer(hasty, last + MIN_LEAD)


async def test_a_rotation_is_refused_until_the_last_new_key_signs(keys: Keys) -> None:
    """A rotation is refused until the new key of the last one signs."""
    await keys.get_signing_key(NOW)
    assert await keys.rotate(NOW)
    assert await keys.rotate(NOW) is None
    assert await keys.rotate(NOW + LEAD - SECOND) is None
    assert 2 == len(await keys.list_all())
    assert await keys.rotate(NOW + LEAD)


async def test_of_two_rotations_at_once_one_makes_a_key(url: str) -> None:
    """Two operators rotate at two replicas at the same time: there is one new key, each of five times."""
    async with replica(url) as one, replica(url) as two:
        await one.get_signing_key(NOW)
        for n in range(5):
            now = NOW + n * 86400 * SECOND
            made = await asyncio.gather(one.rotate(now), two.rotate(now), one.rotate(now), two.rotate(now))
            assert 1 == sum(key is not None for key in made)
        everything = await one.list_all()
        assert 6 == len(everything)
        assert 1 == sum(key.retires_at is None for key in await two.list_all())
        activations = [key.activates_at for key in await two.list_all()]
        assert activations[1:] == [key.retires_at for key in await two.list_all()][:-1]


async def test_replicas_that_start_at_once_agree_on_the_first_key(url: str) -> None:
    """Four replicas on an empty database make one key, and all sign with it from the first token on."""
    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(replica(url)) for _ in range(4)]
        assert 1 == len(set(await asyncio.gather(*(signer(keys, NOW) for keys in replicas))))
        assert 1 == len(await replicas[0].list_all())


async def test_replicas_whose_clocks_differ_agree_on_the_first_key(url: str) -> None:
    """A key made by a clock ten seconds ahead also signs at replicas whose clocks are behind."""
    async with replica(url) as ahead, replica(url) as behind:
        kid = await signer(ahead, NOW + LEEWAY_SECONDS * SECOND)
        assert kid == await signer(behind, NOW)
        assert {kid} == await published(behind, NOW)


async def test_a_clock_set_back_still_signs(keys: Keys) -> None:
    """At a time before its first key was made, the service signs with that key and publishes it."""
    kid = await signer(keys, NOW)
    assert kid == await signer(keys, NOW - 3600 * SECOND)
    assert {kid} == await published(keys, NOW - 3600 * SECOND)


async def test_a_new_algorithm_applies_to_the_next_key(url: str) -> None:
    """The setting is for new keys: the old key signs until the rotation, and meanwhile both are published."""
    async with replica(url, algorithm="ES256") as before:
        old = await before.get_signing_key(NOW)
    async with replica(url, algorithm="EdDSA") as after:
        assert old.kid == await signer(after, NOW)
        new = await after.rotate(NOW)
        assert new is not None
        assert ("ES256", "EdDSA") == (old.algorithm, new.algorithm)
        assert {"ES256", "EdDSA"} == {jwk["alg"] for jwk in (await after.jwks(NOW))["keys"]}
        later = NOW + LEAD
        token = TOKENS.write(await after.get_signing_key(later), SUBJECT, now=later)
        assert "EdDSA" == jwt.get_unverified_header(token)["alg"]


async def test_the_list_has_every_key_with_its_times(keys: Keys) -> None:
    """All keys are listed, oldest first, with activation and retirement times, also just after a rotation."""
    await keys.get_signing_key(NOW)
    later = NOW + 86400 * SECOND
    new = await keys.rotate(later)
    assert new is not None
    first, second = await keys.list_all()
    assert second.kid == new.kid
    moment = int((later + LEAD).timestamp())
    assert (moment, None) == (second.activates_at, second.retires_at)
    assert (int(NOW.timestamp()), moment) == (first.activates_at, first.retires_at)
    assert first.kid == signing_at([second, first], moment - 1).kid
    assert second.kid == signing_at([second, first], moment).kid


# While the database is away


class Severed(ForwardingDatabase):
    """A database whose connection a test can cut."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.is_away = False
        self.statements = 0

    def before(self, call: str) -> None:
        self.statements += 1
        if self.is_away:
            raise StoreUnavailable


@pytest.fixture
async def severed(url: str) -> AsyncIterator[Severed]:
    database = Severed(connect_database(url, timeout=PATIENT_SECONDS))
    await database.open()
    yield database
    await database.close()


async def test_keys_work_without_the_database(severed: Severed) -> None:
    """Signing, publishing and verifying go on for days, also through a rotation that was published before."""
    keys = Keys(severed, Sealer([MASTER]), algorithm="ES256", access_ttl=LIFETIME)
    old = await signer(keys, NOW)
    new = await keys.rotate(NOW)
    assert new is not None
    await keys.get_signing_key(NOW)
    severed.is_away = True
    assert old == await signer(keys, NOW + LEAD - SECOND)
    assert {old, new.kid} == await published(keys, NOW + LEAD)
    for days in (1, 30):
        assert new.kid == await signer(keys, NOW + days * 86400 * SECOND)
        assert {new.kid} == await published(keys, NOW + days * 86400 * SECOND)


async def test_an_unreachable_database_is_not_queried_at_every_request(severed: Severed) -> None:
    """It is tried once in five seconds, since each attempt may take a second, and used again once it is back."""
    keys = Keys(severed, Sealer([MASTER]), algorithm="ES256", access_ttl=LIFETIME)
    old = await signer(keys, NOW)
    severed.is_away = True
    later = NOW + CACHE_TTL
    severed.statements = 0
    for n in range(50):
        await keys.get_signing_key(later + n * SECOND / 10)
    assert 1 == severed.statements
    severed.is_away = False
    other = Keys(severed, Sealer([MASTER]), algorithm="ES256", access_ttl=LIFETIME)
    new = await other.rotate(later)
    assert new is not None
    assert {old, new.kid} == await published(keys, later + 5 * SECOND)


async def test_without_a_database_there_is_no_first_key(severed: Severed) -> None:
    """A replica that never read a key neither signs, publishes nor rotates, and recovers with the database."""
    keys = Keys(severed, Sealer([MASTER]), algorithm="ES256", access_ttl=LIFETIME)
    severed.is_away = True
    for operation in (keys.get_signing_key, keys.public_keys, keys.jwks, keys.rotate):
        with pytest.raises(StoreUnavailable):
            await operation(NOW)
    severed.is_away = False
    assert await signer(keys, NOW)


# Master secrets


async def test_private_keys_are_sealed(url: str, keys: Keys) -> None:
    """A row holds no key that an attacker with the database could use, and unseals in its own row only."""
    await keys.rotate(NOW)
    await keys.rotate(NOW + 86400 * SECOND)
    async with replica(url, OTHER_MASTER) as attacker:
        for operation in (attacker.get_signing_key, attacker.public_keys):
            with pytest.raises(UnsealError):
                await operation(NOW)
    database = connect_database(url, timeout=PATIENT_SECONDS)
    await database.open()
    try:
        rows = await database.fetch_all("SELECT kid, private_key FROM signing_keys ORDER BY serial")
        for row in rows:
            assert b"\x30\x81" not in bytes(row["private_key"])[:20], "the key is not DER"
        await database.write_one(
            "UPDATE signing_keys SET private_key = $1 WHERE kid = $2 RETURNING kid",
            bytes(rows[0]["private_key"]), rows[1]["kid"],
        )  # fmt: skip
    finally:
        await database.close()
    async with replica(url) as fresh:
        with pytest.raises(UnsealError):
            await fresh.get_signing_key(NOW + 2 * 86400 * SECOND)


async def test_a_public_key_written_into_the_database_is_not_published(url: str, keys: Keys) -> None:
    """An attacker who can write rows but lacks the master secret cannot publish a key of their own."""
    kid = await signer(keys, NOW)
    (genuine,) = (await keys.jwks(NOW))["keys"]
    forged = {**genuine, "x": base64.urlsafe_b64encode(b"x" * 32).decode().rstrip("=")}
    database = connect_database(url, timeout=PATIENT_SECONDS)
    await database.open()
    try:
        await database.write_one(
            "UPDATE signing_keys SET public_jwk = $1 WHERE kid = $2 RETURNING kid", json.dumps(forged), kid
        )
    finally:
        await database.close()
    async with replica(url) as fresh:
        assert {"keys": [genuine]} == await fresh.jwks(NOW)


async def test_master_secrets_rotate_with_the_keys(url: str) -> None:
    """Put the new secret first, rotate, wait until the old key has expired, remove the old secret: nothing fails."""
    async with replica(url, MASTER) as before:
        old = await signer(before, NOW)
    async with replica(url, OTHER_MASTER, MASTER) as during:
        assert old == await signer(during, NOW)
        new = await during.rotate(NOW)
        assert new is not None
    later = NOW + LEAD + LIFETIME + LEEWAY_SECONDS * SECOND
    async with replica(url, OTHER_MASTER) as after:
        assert new.kid == await signer(after, later)
        assert {new.kid} == await published(after, later)
        assert [old, new.kid] == [key.kid for key in await after.list_all()]
        third = await after.rotate(later)
        assert third is not None
        assert third.kid == await signer(after, later + LEAD)


async def test_the_service_does_not_start_with_another_master_secret(url: str, tmp_path: Path) -> None:
    """The error says what to do; with the right secret among several the service starts."""
    async with replica(url, bytes.fromhex(SECRET)) as keys:
        kid = await signer(keys, NOW)

    def settings(*masters: str) -> Settings:
        return (
            Settings(master_secrets=",".join(masters), data_dir=tmp_path)
            if url.startswith("sqlite")
            else Settings(master_secrets=",".join(masters), database_url=url)
        )

    if url.startswith("sqlite"):
        (tmp_path / "keys.sqlite3").rename(tmp_path / "keyturn.sqlite3")
    with pytest.raises(ConfigurationError, match="No master secret opens this database's signing key") as refused:
        async with open_components(settings("ff" * 32), hash_cost=CHEAPEST, timeouts=PATIENT):
            pass
    assert "KEYTURN_MASTER_SECRETS" in str(refused.value)
    assert "ff" * 32 not in str(refused.value)
    async with open_components(
        settings("ff" * 32, SECRET), lambda: NOW, hash_cost=CHEAPEST, timeouts=PATIENT
    ) as parts:
        assert kid == await signer(parts.keys, NOW)


async def test_the_key_set_is_read_once_in_half_a_minute(severed: Severed) -> None:
    """A thousand verifications read the database once."""
    keys = Keys(severed, Sealer([MASTER]), algorithm="ES256", access_ttl=LIFETIME)
    await keys.get_signing_key(NOW)
    severed.statements = 0
    for n in range(1000):
        await keys.public_keys(NOW + n * SECOND * 29 / 1000)
        await keys.get_signing_key(NOW + n * SECOND * 29 / 1000)
    assert 0 == severed.statements
    await asyncio.gather(*(keys.public_keys(NOW + CACHE_TTL) for _ in range(20)))
    assert severed.statements <= 20


# --- rotation by age ---


async def test_a_key_is_replaced_by_age(url: str) -> None:
    """Its successor is published an hour ahead and signs after exactly ninety days, and so on."""
    async with replica(url, rotate_after=DAYS_90) as keys:
        first = await signer(keys, NOW)
        due = NOW + DAYS_90
        assert {first} == await published(keys, due - LEAD - CACHE_TTL - SECOND)
        both = await published(keys, due - LEAD)
        (second,) = both - {first}
        assert first == await signer(keys, due - SECOND)
        assert second == await signer(keys, due)
        assert {second} == await published(keys, due + LIFETIME + LEEWAY_SECONDS * SECOND)
        assert second == await signer(keys, due + DAYS_90 - LEAD)
        assert await signer(keys, due + DAYS_90) not in {first, second}
        assert 3 == len(await keys.list_all())


async def test_one_of_many_replicas_makes_the_key_that_is_due(url: str) -> None:
    """All replicas find at the same time that a key is due."""
    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(replica(url, rotate_after=DAYS_90)) for _ in range(6)]
        await signer(replicas[0], NOW)
        for rotation in range(1, 4):
            moment = NOW + rotation * DAYS_90 - LEAD + SECOND
            seen = await asyncio.gather(*(published(keys, moment) for keys in replicas))
            assert 1 == len({frozenset(kids) for kids in seen})
            assert rotation + 1 == len(await replicas[0].list_all())


async def test_after_a_year_of_downtime_a_key_is_still_published_ahead(url: str) -> None:
    """The successor of an overdue key signs only when verifiers can have fetched it."""
    async with replica(url, rotate_after=DAYS_90) as keys:
        first = await signer(keys, NOW)
        later = NOW + timedelta(days=365)
        assert first == await signer(keys, later)
        assert 2 == len(await published(keys, later))
        assert first == await signer(keys, later + LEAD - SECOND)
        assert first != await signer(keys, later + LEAD)


@dataclass
class Verifier:
    """A verifier that fetches the key set only when its copy is older than Cache-Control allows."""

    keys: Keys
    known: Mapping[str, VerifyingKey] = field(default_factory=dict)
    fetched: datetime | None = None

    async def accepts(self, token: str, now: datetime) -> bool:
        if self.fetched is None or now >= self.fetched + JWKS_MAX_AGE:
            self.known, self.fetched = dict(await self.keys.public_keys(now)), now
        try:
            TOKENS.read(token, find_key=self.known.get, now=now)
        except InvalidToken:
            return False
        return True


async def test_a_verifier_that_obeys_the_cache_never_refuses_a_valid_token(url: str) -> None:
    """There are three rotations within the token lifetime, and five verifiers that fetch at different times."""
    hour, soon = timedelta(hours=1), timedelta(minutes=15)
    async with replica(url, lifetime=hour, lead=soon) as keys, replica(url, lifetime=hour, lead=soon) as other:
        verifiers = [Verifier(keys) for _ in range(5)]
        issued: list[tuple[datetime, str]] = []
        rotations = 0
        for second in range(0, 3600, 7):
            now = NOW + second * SECOND
            if second > 60 and rotations < 3 and await keys.rotate(now) is not None:
                rotations += 1
            if second % 91 == 0:
                replica_now = (keys, other)[second // 91 % 2]  # one of them reads the new key half a minute late
                issued.append((now, TOKENS.write(await replica_now.get_signing_key(now), SUBJECT, now=now)))
            verifier = verifiers[second // 7 % 5]
            for at, token in issued:
                if now < at + LIFETIME:  # the tokens' own exp
                    assert await verifier.accepts(token, now)
        assert 3 == rotations
        assert 4 == len({jwt.get_unverified_header(token)["kid"] for _, token in issued})


# --- revocation ---


async def test_a_revoked_key_is_removed_at_once_and_another_signs(url: str) -> None:
    """The key is neither published nor accepted; the new one signs at once, since no other key is left to sign."""
    async with replica(url) as keys:
        leaked = await signer(keys, NOW)
        taken_over = await keys.revoke(leaked, NOW + SECOND)
        assert taken_over is not None
        assert taken_over.kid == await signer(keys, NOW + SECOND) != leaked
        assert {taken_over.kid} == await published(keys, NOW + SECOND)
        assert await keys.revoke(leaked, NOW + SECOND) is None, "the key is revoked already"
        assert await keys.revoke("no such key", NOW + SECOND) is None
        assert 2 == len(await keys.list_all())


async def test_after_a_revocation_the_published_successor_signs(url: str) -> None:
    """Verifiers know that key already."""
    async with replica(url) as keys:
        leaked = await signer(keys, NOW)
        following = await keys.rotate(NOW)
        assert following is not None
        taken_over = await keys.revoke(leaked, NOW + 60 * SECOND)
        assert taken_over is not None
        assert following.kid == taken_over.kid == await signer(keys, NOW + 60 * SECOND)
        assert 2 == len(await keys.list_all())
        assert await keys.rotate(NOW + 61 * SECOND) is not None, "it is rotated like any other key"


async def test_a_key_whose_successor_is_revoked_keeps_signing(url: str) -> None:
    """It signs beyond its planned end, and may be rotated again."""
    async with replica(url) as keys:
        first = await signer(keys, NOW)
        following = await keys.rotate(NOW)
        assert following is not None
        assert first == getattr(await keys.revoke(following.kid, NOW + SECOND), "kid", None)
        assert first == await signer(keys, NOW + LEAD + SECOND)
        assert {first} == await published(keys, NOW + LEAD + LIFETIME)
        assert await keys.rotate(NOW + LEAD + LIFETIME) is not None


async def test_a_retired_key_does_not_come_back(url: str) -> None:
    """When its successor is revoked, a new key signs, not the retired one."""
    async with replica(url) as keys:
        first = await signer(keys, NOW)
        second = await keys.rotate(NOW)
        assert second is not None
        later = NOW + LEAD + timedelta(days=1)
        third = await keys.revoke(second.kid, later)
        assert third is not None
        assert third.kid not in {first, second.kid}
        assert {third.kid} == await published(keys, later)


async def test_after_all_keys_are_revoked_at_once_one_new_key_signs(url: str) -> None:
    """In whatever order the replicas revoke, one new key signs in the end, for all of them."""
    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(replica(url)) for _ in range(4)]
        first = await signer(replicas[0], NOW)
        following = await replicas[0].rotate(NOW)
        assert following is not None
        kids = [first, following.kid] * 2
        await asyncio.gather(*(keys.revoke(kid, NOW + SECOND) for keys, kid in zip(replicas, kids, strict=True)))
        later = NOW + CACHE_TTL + 2 * SECOND
        (signing,) = {await signer(keys, later) for keys in replicas}
        assert signing not in kids


async def test_another_replica_notices_a_revocation_within_half_a_minute(url: str) -> None:
    """A replica caches the key set for that long."""
    async with replica(url) as revoking, replica(url) as other:
        leaked = await signer(revoking, NOW)
        assert leaked == await signer(other, NOW)
        await revoking.revoke(leaked, NOW)
        assert leaked not in await published(other, NOW + CACHE_TTL)


class SeveredByCommit(Severed):
    """A database that cannot be reached any more once a transaction is committed."""

    severs = False

    @asynccontextmanager
    async def _begun(self) -> AsyncIterator[Transaction]:
        async with super()._begun() as transaction:
            yield transaction
        self.is_away = self.severs


REVOCATIONS: dict[str, Callable[[Keys, str], Awaitable[object]]] = {
    "one key": lambda keys, kid: keys.revoke(kid, NOW),
    "all keys": lambda keys, _kid: keys.revoke_all(NOW),
}


@pytest.mark.parametrize("revoke", REVOCATIONS.values(), ids=REVOCATIONS)
async def test_a_revoked_key_does_not_sign_if_the_database_fails_after_the_revocation(
    url: str, revoke: Callable[[Keys, str], Awaitable[object]]
) -> None:
    """Neither is it reported as the key that signs: the command fails, and another key signs after the outage."""
    async with opened(url) as database:
        severed = SeveredByCommit(database)
        keys = Keys(severed, Sealer((MASTER,)), algorithm="ES256", access_ttl=LIFETIME)
        leaked = await signer(keys, NOW)
        severed.severs = True
        with pytest.raises(StoreUnavailable):
            await revoke(keys, leaked)
        with pytest.raises(StoreUnavailable):
            await keys.get_signing_key(NOW)
        severed.severs = severed.is_away = False
        assert leaked != await signer(keys, NOW)
        assert leaked not in await published(keys, NOW)


async def test_a_retired_key_is_not_reported_if_the_database_fails_after_a_revocation(url: str) -> None:
    """The key before the revoked one is still published, so that it is known, and does not sign any more."""
    async with opened(url) as database:
        severed = SeveredByCommit(database)
        keys = Keys(severed, Sealer((MASTER,)), algorithm="ES256", access_ttl=LIFETIME)
        retired = await signer(keys, NOW)
        assert await keys.rotate(NOW) is not None
        leaked = await signer(keys, NOW + LEAD)
        assert {retired, leaked} == await published(keys, NOW + LEAD)
        severed.severs = True
        with pytest.raises(StoreUnavailable):
            await keys.revoke(leaked, NOW + LEAD)


async def test_reading_in_the_background_hides_no_outage(severed: Severed) -> None:
    """Started while the database is unreachable, the service has no key set: verifiers would cache an empty one."""
    keys = Keys(severed, Sealer((MASTER,)), algorithm="ES256", access_ttl=LIFETIME)
    severed.is_away = True
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await keys.refresh(NOW)
        with pytest.raises(StoreUnavailable):
            await keys.jwks(NOW)
        with pytest.raises(StoreUnavailable):
            await keys.get_signing_key(NOW)
