"""Signing keys: published before they sign, until the last token they signed has expired, whoever asks."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from service.components import connect_database, open_components
from service.database import Database, Row, Transaction
from service.errors import ConfigurationError, InvalidToken, StoreUnavailable
from service.keys import CACHE_TTL, JWKS_MAX_AGE, LEAD, Keys, generate, signing_at
from service.migrations import migrate
from service.passwords import CHEAPEST
from service.sealing import Sealer, UnsealError
from service.settings import MIN_LEAD, Settings
from service.tokens import LEEWAY_SECONDS, Subject, Tokens, VerifyingKey
from tests.conftest import SECRET
from tests.servers import PostgreSQLServer

NOW = datetime(2026, 11, 22, 12, 0, 5, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LIFE = timedelta(minutes=10)
DAYS_90 = timedelta(days=90)
MASTER, OTHER_MASTER = b"m" * 32, b"n" * 32
WHO = Subject(sub="1", sid="2", username="alice", roles=(), amr=("pwd",), acr="aal1", auth_time=int(NOW.timestamp()))
TOKENS = Tokens(
    issuer="https://id.example.com",
    audience="api",
    access_ttl=LIFE,
    pending_ttl=timedelta(minutes=5),
    pending_keys=[b"p" * 32],
    refresh_keys=[b"r" * 32],
)

Replica = Callable[..., AbstractAsyncContextManager[Keys]]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh database of either kind, with the schema and no key."""
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
    life: timedelta = LIFE,
    lead: timedelta = LEAD,
    rotate_after: timedelta | None = None,
) -> AsyncIterator[Keys]:
    """The keys as one replica has them: with a connection, a cache and master secrets of its own."""
    database = connect_database(url)
    await database.open()
    sealer = Sealer(masters or (MASTER,))
    try:
        yield Keys(database, sealer, algorithm=algorithm, access_ttl=life, lead=lead, rotate_after=rotate_after)
    finally:
        await database.close()


@pytest.fixture
async def keys(url: str) -> AsyncIterator[Keys]:
    async with replica(url) as made:
        yield made


async def published(keys: Keys, now: datetime) -> set[str]:
    kids = {jwk["kid"] for jwk in (await keys.jwks(now))["keys"]}
    assert kids == set(await keys.public_keys(now)), "what is published is what we accept"
    return kids


async def signer(keys: Keys, now: datetime) -> str:
    return (await keys.get_signing_key(now)).kid


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


async def test_the_first_key_is_made_when_it_is_needed(keys: Keys) -> None:
    """By whoever asks first, to sign or to publish: an empty set would be remembered for five minutes."""
    (kid,) = await published(keys, NOW)
    assert kid == await signer(keys, NOW)
    assert kid == await signer(keys, NOW + 3650 * 86400 * SECOND), "and it signs until somebody rotates"
    assert 1 == len(await keys.list_all())


MEMBERS = {
    "ES256": {"kty": "EC", "crv": "P-256"},
    "EdDSA": {"kty": "OKP", "crv": "Ed25519"},
    "RS256": {"kty": "RSA", "e": "AQAB"},
}
REQUIRED = {"ES256": ("crv", "kty", "x", "y"), "EdDSA": ("crv", "kty", "x"), "RS256": ("e", "kty", "n")}


@pytest.mark.parametrize("algorithm", MEMBERS)
async def test_the_key_set_is_public(url: str, algorithm: str) -> None:
    """Nothing private in it: the public members, `use`, `alg` and a `kid` that is the thumbprint (RFC 7638)."""
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
async def test_what_a_key_signs_anybody_verifies(url: str, algorithm: str) -> None:
    """A verifier that knows the key set and nothing else, and another replica, read the token."""
    async with replica(url, algorithm=algorithm) as keys, replica(url, algorithm=algorithm) as other:
        token = TOKENS.write_access(await keys.get_signing_key(NOW), WHO, now=NOW)
        known = jwt.PyJWKSet.from_dict(json.loads(json.dumps(await other.jwks(NOW))))
        header = jwt.get_unverified_header(token)
        assert algorithm == header["alg"]
        options: Any = {"verify_exp": False, "verify_iat": False}
        claims = jwt.decode(token, known[header["kid"]], algorithms=[algorithm], audience="api", options=options)
        assert "alice" == claims["username"]
        public = await other.public_keys(NOW)
        assert WHO.sid == TOKENS.read_access(token, find_key=public.get, now=NOW).sid


async def test_every_key_is_another(keys: Keys) -> None:
    """Two rotations make two more keys, and none is made twice."""
    await keys.rotate(NOW)
    for day in (1, 2):
        assert await keys.rotate(NOW + day * 86400 * SECOND)
    assert 3 == len({key.kid for key in await keys.list_all()})
    assert [1, 2, 3] == [key.serial for key in await keys.list_all()]


def test_no_kid_begins_like_an_option() -> None:
    """One of 64 thumbprints begins with a dash, and `keyturn keys revoke` would take it for an option."""
    assert not any(generate("EdDSA")[1]["kid"].startswith("-") for _ in range(1000))


async def test_a_rotation_on_an_empty_database_makes_the_first_key(keys: Keys) -> None:
    """There is nobody to announce it to: it signs at once."""
    first = await keys.rotate(NOW)
    assert first is not None
    assert first.kid == await signer(keys, NOW)
    assert {first.kid} == await published(keys, NOW)


async def test_a_new_key_is_published_an_hour_before_it_signs(keys: Keys) -> None:
    """To the second; and by then every verifier that keeps the set as long as it may has it."""
    old = await signer(keys, NOW)
    new = await keys.rotate(NOW)
    assert new is not None
    assert {old, new.kid} == await published(keys, NOW)
    assert old == await signer(keys, NOW + LEAD - SECOND)
    assert new.kid == await signer(keys, NOW + LEAD)
    assert timedelta(hours=1) == LEAD > MIN_LEAD == CACHE_TTL + JWKS_MAX_AGE


async def test_an_old_key_is_published_until_its_last_token_has_expired(keys: Keys) -> None:
    """Ten minutes after its last signature, ten seconds more for clocks that differ, and then no longer."""
    old = await signer(keys, NOW)
    new = await keys.rotate(NOW)
    assert new is not None
    last = NOW + LEAD - SECOND
    token = TOKENS.write_access(await keys.get_signing_key(last), WHO, now=last)
    expires = last + LIFE
    public = await keys.public_keys(expires - SECOND)
    assert WHO.sid == TOKENS.read_access(token, find_key=public.get, now=expires - SECOND).sid
    ends = NOW + LEAD + LIFE + LEEWAY_SECONDS * SECOND
    assert {old, new.kid} == await published(keys, ends - SECOND)
    assert {new.kid} == await published(keys, ends)
    with pytest.raises(InvalidToken):
        TOKENS.read_access(token, find_key=(await keys.public_keys(ends)).get, now=ends)


async def test_at_every_moment_every_replica_knows_the_key_that_signs(url: str) -> None:
    """Through two rotations, with caches as old as they may be: no token meets a replica without its key."""
    async with replica(url) as writer, replica(url) as reader, replica(url) as operator:
        await writer.get_signing_key(NOW)
        signed: list[tuple[str, datetime]] = []
        for n in range(0, 3 * 3600, 29):
            now = NOW + n * SECOND
            if n in {29 * 20, 29 * 150}:
                assert await operator.rotate(now)
            signed.append((await signer(writer, now), now + LIFE))
            signed = [(kid, expires) for kid, expires in signed if expires > now]
            assert {kid for kid, _ in signed} <= set(await reader.public_keys(now)), n
        assert 3 == len(await operator.list_all())
        assert 1 == len(await published(reader, now))


async def test_a_key_is_used_everywhere_within_half_a_minute(url: str) -> None:
    """A replica that read the keys just before a rotation publishes the new one when its cache is old."""
    async with replica(url) as one, replica(url) as two:
        old = await signer(one, NOW)
        new = await two.rotate(NOW)
        assert new is not None
        assert {old} == await published(one, NOW + CACHE_TTL - SECOND)
        assert {old, new.kid} == await published(one, NOW + CACHE_TTL)
        assert {old, new.kid} == await published(two, NOW), "and who rotated knows at once"


async def test_the_lead_is_the_operators_choice(url: str) -> None:
    """By command and by age alike; a key that is published keeps the moment that it was made with."""
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


async def test_there_is_one_rotation_at_a_time(keys: Keys) -> None:
    """Until the new key signs, another rotation is refused; then it is not."""
    await keys.get_signing_key(NOW)
    assert await keys.rotate(NOW)
    assert await keys.rotate(NOW) is None
    assert await keys.rotate(NOW + LEAD - SECOND) is None
    assert 2 == len(await keys.list_all())
    assert await keys.rotate(NOW + LEAD)


async def test_of_two_rotations_at_once_one_makes_a_key(url: str) -> None:
    """Two operators, two replicas, the same moment: one new key; five times."""
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
    """Four of them on an empty database: one key, and all sign with it from the first token on."""
    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(replica(url)) for _ in range(4)]
        assert 1 == len(set(await asyncio.gather(*(signer(keys, NOW) for keys in replicas))))
        assert 1 == len(await replicas[0].list_all())


async def test_replicas_whose_clocks_differ_agree_on_the_first_key(url: str) -> None:
    """A key that is made by a clock ten seconds ahead signs for those behind it as well."""
    async with replica(url) as ahead, replica(url) as behind:
        kid = await signer(ahead, NOW + LEEWAY_SECONDS * SECOND)
        assert kid == await signer(behind, NOW)
        assert {kid} == await published(behind, NOW)


async def test_a_clock_set_back_still_signs(keys: Keys) -> None:
    """Before its first key was made the service signs with that key, and publishes it."""
    kid = await signer(keys, NOW)
    assert kid == await signer(keys, NOW - 3600 * SECOND)
    assert {kid} == await published(keys, NOW - 3600 * SECOND)


async def test_another_algorithm_comes_with_the_next_key(url: str) -> None:
    """The setting is for new keys: the old one signs until the rotation, and both are published meanwhile."""
    async with replica(url, algorithm="ES256") as before:
        old = await before.get_signing_key(NOW)
    async with replica(url, algorithm="EdDSA") as after:
        assert old.kid == await signer(after, NOW)
        new = await after.rotate(NOW)
        assert new is not None
        assert ("ES256", "EdDSA") == (old.algorithm, new.algorithm)
        assert {"ES256", "EdDSA"} == {jwk["alg"] for jwk in (await after.jwks(NOW))["keys"]}
        later = NOW + LEAD
        token = TOKENS.write_access(await after.get_signing_key(later), WHO, now=later)
        assert "EdDSA" == jwt.get_unverified_header(token)["alg"]


async def test_the_list_says_what_each_key_is_for(keys: Keys) -> None:
    """Every key there ever was, the oldest first, with when it signs from and until; also just after a rotation."""
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


class Severed:
    """A database whose cable somebody pulls."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.is_away = False
        self.asked = 0

    async def open(self) -> None:
        await self._database.open()

    async def close(self) -> None:
        await self._database.close()

    def begin(self) -> AbstractAsyncContextManager[Transaction]:
        self._ask()
        return self._database.begin()

    async def fetch_one(self, sql: str, *parameters: object) -> Row | None:
        self._ask()
        return await self._database.fetch_one(sql, *parameters)

    async def fetch_all(self, sql: str, *parameters: object) -> list[Row]:
        self._ask()
        return await self._database.fetch_all(sql, *parameters)

    async def write_one(self, sql: str, *parameters: object) -> Row | None:
        self._ask()
        return await self._database.write_one(sql, *parameters)

    async def probe(self) -> None:
        self._ask()
        await self._database.probe()

    def _ask(self) -> None:
        self.asked += 1
        if self.is_away:
            raise StoreUnavailable


@pytest.fixture
async def severed(url: str) -> AsyncIterator[Severed]:
    database = Severed(connect_database(url))
    await database.open()
    yield database
    await database.close()


async def test_keys_outlive_their_database(severed: Severed) -> None:
    """Signing, publishing and verifying go on for days, also through a rotation that was announced before."""
    keys = Keys(severed, Sealer([MASTER]), algorithm="ES256", access_ttl=LIFE)
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


async def test_a_database_that_is_away_is_not_asked_at_every_request(severed: Severed) -> None:
    """Once in five seconds, since each time may take a second; and it is asked again when it is back."""
    keys = Keys(severed, Sealer([MASTER]), algorithm="ES256", access_ttl=LIFE)
    old = await signer(keys, NOW)
    severed.is_away = True
    later = NOW + CACHE_TTL
    severed.asked = 0
    for n in range(50):
        await keys.get_signing_key(later + n * SECOND / 10)
    assert 1 == severed.asked
    severed.is_away = False
    other = Keys(severed, Sealer([MASTER]), algorithm="ES256", access_ttl=LIFE)
    new = await other.rotate(later)
    assert new is not None
    assert {old, new.kid} == await published(keys, later + 5 * SECOND)


async def test_without_a_database_there_is_no_first_key(severed: Severed) -> None:
    """A replica that never saw it signs nothing, publishes nothing and rotates nothing; and recovers."""
    keys = Keys(severed, Sealer([MASTER]), algorithm="ES256", access_ttl=LIFE)
    severed.is_away = True
    for act in (keys.get_signing_key, keys.public_keys, keys.jwks, keys.rotate):
        with pytest.raises(StoreUnavailable):
            await act(NOW)
    severed.is_away = False
    assert await signer(keys, NOW)


# Master secrets


async def test_private_keys_are_sealed(url: str, keys: Keys) -> None:
    """The row holds no key that a thief of the database could use, and it opens in its own row only."""
    await keys.rotate(NOW)
    await keys.rotate(NOW + 86400 * SECOND)
    async with replica(url, OTHER_MASTER) as thief:
        for act in (thief.get_signing_key, thief.public_keys):
            with pytest.raises(UnsealError):
                await act(NOW)
    database = connect_database(url)
    await database.open()
    try:
        rows = await database.fetch_all("SELECT kid, private_key FROM signing_keys ORDER BY serial")
        for row in rows:
            assert b"\x30\x81" not in bytes(row["private_key"])[:20], "no DER"
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
    """Who can write rows but does not have the master secret can make nobody trust a key of his own."""
    kid = await signer(keys, NOW)
    (genuine,) = (await keys.jwks(NOW))["keys"]
    forged = {**genuine, "x": base64.urlsafe_b64encode(b"x" * 32).decode().rstrip("=")}
    database = connect_database(url)
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
    """New secret in front, rotate, wait until the old key is gone, drop the old secret: and everything works on."""
    async with replica(url, MASTER) as before:
        old = await signer(before, NOW)
    async with replica(url, OTHER_MASTER, MASTER) as during:
        assert old == await signer(during, NOW)
        new = await during.rotate(NOW)
        assert new is not None
    later = NOW + LEAD + LIFE + LEEWAY_SECONDS * SECOND
    async with replica(url, OTHER_MASTER) as after:
        assert new.kid == await signer(after, later)
        assert {new.kid} == await published(after, later)
        assert [old, new.kid] == [key.kid for key in await after.list_all()]
        third = await after.rotate(later)
        assert third is not None
        assert third.kid == await signer(after, later + LEAD)


async def test_another_master_secret_refuses_to_start(url: str, tmp_path: Path) -> None:
    """With a sentence that says what to do; with the right one among several it starts."""
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
        async with open_components(settings("ff" * 32), hash_cost=CHEAPEST):
            pass
    assert "KEYTURN_MASTER_SECRETS" in str(refused.value)
    assert "ff" * 32 not in str(refused.value)
    async with open_components(settings("ff" * 32, SECRET), lambda: NOW, hash_cost=CHEAPEST) as parts:
        assert kid == await signer(parts.keys, NOW)


async def test_the_set_is_asked_of_the_database_once_in_half_a_minute(severed: Severed) -> None:
    """A thousand verifications are one question."""
    keys = Keys(severed, Sealer([MASTER]), algorithm="ES256", access_ttl=LIFE)
    await keys.get_signing_key(NOW)
    severed.asked = 0
    for n in range(1000):
        await keys.public_keys(NOW + n * SECOND * 29 / 1000)
        await keys.get_signing_key(NOW + n * SECOND * 29 / 1000)
    assert 0 == severed.asked
    await asyncio.gather(*(keys.public_keys(NOW + CACHE_TTL) for _ in range(20)))
    assert severed.asked <= 20


# --- rotation by age ---


async def test_a_key_is_followed_by_age_alone(url: str) -> None:
    """Published an hour before it signs, which it does to the second after ninety days; and so on."""
    async with replica(url, rotate_after=DAYS_90) as keys:
        first = await signer(keys, NOW)
        due = NOW + DAYS_90
        assert {first} == await published(keys, due - LEAD - CACHE_TTL - SECOND)
        both = await published(keys, due - LEAD)
        (second,) = both - {first}
        assert first == await signer(keys, due - SECOND)
        assert second == await signer(keys, due)
        assert {second} == await published(keys, due + LIFE + LEEWAY_SECONDS * SECOND)
        assert second == await signer(keys, due + DAYS_90 - LEAD)
        assert await signer(keys, due + DAYS_90) not in {first, second}
        assert 3 == len(await keys.list_all())


async def test_of_many_replicas_one_makes_the_key_that_is_due(url: str) -> None:
    """They all see at the same moment that it is."""
    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(replica(url, rotate_after=DAYS_90)) for _ in range(6)]
        await signer(replicas[0], NOW)
        for turn in range(1, 4):
            moment = NOW + turn * DAYS_90 - LEAD + SECOND
            seen = await asyncio.gather(*(published(keys, moment) for keys in replicas))
            assert 1 == len({frozenset(kids) for kids in seen})
            assert turn + 1 == len(await replicas[0].list_all())


async def test_a_service_that_slept_for_a_year_still_publishes_ahead(url: str) -> None:
    """The overdue key signs no sooner than verifiers can know it."""
    async with replica(url, rotate_after=DAYS_90) as keys:
        first = await signer(keys, NOW)
        later = NOW + timedelta(days=365)
        assert first == await signer(keys, later)
        assert 2 == len(await published(keys, later))
        assert first == await signer(keys, later + LEAD - SECOND)
        assert first != await signer(keys, later + LEAD)


@dataclass
class Verifier:
    """Another service, which fetches the key set when its copy is older than Cache-Control allows, and never else."""

    keys: Keys
    known: Mapping[str, VerifyingKey] = field(default_factory=dict)
    fetched: datetime | None = None

    async def accepts(self, token: str, now: datetime) -> bool:
        if self.fetched is None or now >= self.fetched + JWKS_MAX_AGE:
            self.known, self.fetched = dict(await self.keys.public_keys(now)), now
        try:
            TOKENS.read_access(token, find_key=self.known.get, now=now)
        except InvalidToken:
            return False
        return True


async def test_an_obedient_verifier_never_refuses_a_good_token(url: str) -> None:
    """Three rotations within the lifetime of the tokens, five verifiers that fetched at different times."""
    hour, soon = timedelta(hours=1), timedelta(minutes=15)
    async with replica(url, life=hour, lead=soon) as keys, replica(url, life=hour, lead=soon) as other:
        verifiers = [Verifier(keys) for _ in range(5)]
        issued: list[tuple[datetime, str]] = []
        rotations = 0
        for second in range(0, 3600, 7):
            now = NOW + second * SECOND
            if second > 60 and rotations < 3 and await keys.rotate(now) is not None:
                rotations += 1
            if second % 91 == 0:
                replica_now = (keys, other)[second // 91 % 2]  # one of them learns of it half a minute late
                issued.append((now, TOKENS.write_access(await replica_now.get_signing_key(now), WHO, now=now)))
            verifier = verifiers[second // 7 % 5]
            for at, token in issued:
                if now < at + LIFE:  # the tokens' own exp
                    assert await verifier.accepts(token, now)
        assert 3 == rotations
        assert 4 == len({jwt.get_unverified_header(token)["kid"] for _, token in issued})


# --- revocation ---


async def test_a_revoked_key_is_gone_at_once_and_another_signs(url: str) -> None:
    """Not published, not accepted; the new one needs no publishing ahead, for there is nothing else to sign with."""
    async with replica(url) as keys:
        leaked = await signer(keys, NOW)
        taken_over = await keys.revoke(leaked, NOW + SECOND)
        assert taken_over is not None
        assert taken_over.kid == await signer(keys, NOW + SECOND) != leaked
        assert {taken_over.kid} == await published(keys, NOW + SECOND)
        assert await keys.revoke(leaked, NOW + SECOND) is None, "once is enough"
        assert await keys.revoke("no such key", NOW + SECOND) is None
        assert 2 == len(await keys.list_all())


async def test_a_key_that_is_published_already_takes_over(url: str) -> None:
    """Verifiers know it."""
    async with replica(url) as keys:
        leaked = await signer(keys, NOW)
        following = await keys.rotate(NOW)
        assert following is not None
        taken_over = await keys.revoke(leaked, NOW + 60 * SECOND)
        assert taken_over is not None
        assert following.kid == taken_over.kid == await signer(keys, NOW + 60 * SECOND)
        assert 2 == len(await keys.list_all())
        assert await keys.rotate(NOW + 61 * SECOND) is not None, "and it is followed like any other"


async def test_the_following_key_is_revoked(url: str) -> None:
    """Then the one that signs goes on, beyond what had been its end, and may be rotated anew."""
    async with replica(url) as keys:
        first = await signer(keys, NOW)
        following = await keys.rotate(NOW)
        assert following is not None
        assert first == getattr(await keys.revoke(following.kid, NOW + SECOND), "kid", None)
        assert first == await signer(keys, NOW + LEAD + SECOND)
        assert {first} == await published(keys, NOW + LEAD + LIFE)
        assert await keys.rotate(NOW + LEAD + LIFE) is not None


async def test_a_retired_key_does_not_come_back(url: str) -> None:
    """When its successor is revoked a new key signs, not the one before."""
    async with replica(url) as keys:
        first = await signer(keys, NOW)
        second = await keys.rotate(NOW)
        assert second is not None
        later = NOW + LEAD + timedelta(days=1)
        third = await keys.revoke(second.kid, later)
        assert third is not None
        assert third.kid not in {first, second.kid}
        assert {third.kid} == await published(keys, later)


async def test_every_key_revoked_at_once_by_many_replicas(url: str) -> None:
    """Whatever their order, one new key signs in the end, for all of them."""
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
    """That is how long it remembers the set."""
    async with replica(url) as here, replica(url) as there:
        leaked = await signer(here, NOW)
        assert leaked == await signer(there, NOW)
        await here.revoke(leaked, NOW)
        assert leaked not in await published(there, NOW + CACHE_TTL)


async def test_reading_in_the_background_hides_no_outage(url: str) -> None:
    """Started while the database is away there is no set: not an empty one, which verifiers would remember."""
    async with replica(url) as keys:
        keys._database = gone = connect_database("postgresql://nobody@127.0.0.1:1/nothing")
        await gone.open()
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await keys.refresh(NOW)
            with pytest.raises(StoreUnavailable):
                await keys.jwks(NOW)
            with pytest.raises(StoreUnavailable):
                await keys.get_signing_key(NOW)
        await gone.close()
