"""One suite for every ephemeral store: in process, fakeredis, a real Redis, its Sentinel, its Cluster.

Then random sequences compare the two implementations, and tests cover the fallback while Redis is unavailable.
"""

import asyncio
import contextlib
import itertools
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import fakeredis
import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from service.storage import ephemeral_redis
from service.storage.ephemeral import (
    Bucket,
    Ephemeral,
    EphemeralUnavailable,
    InProcess,
    RateLimit,
    WithFallback,
    probe,
)
from service.storage.ephemeral_redis import Redis, connect
from tests.harness.databases import PATIENT_SECONDS
from tests.harness.ports import free_port
from tests.harness.servers import Process, RedisServer, find_program, frozen, killed, wait_until

T = TypeVar("T")

NOW = datetime(2026, 11, 22, 12, 0, 5, 123000, tzinfo=UTC)
TTL = timedelta(seconds=60)
TOLERANCE = 0.002
"""Redis gets the time in milliseconds."""
SOON = 0.5
"""Seconds within which every call returns, whatever Redis does (law 7: no fail-open, no hang)."""

GROWING = RateLimit(free=5, window=900, backoff=True, fallback_free=1)
FIXED = RateLimit(free=3, window=60, fallback_free=2)
ONLY_COUNTED = RateLimit(free=None, window=60)
AGGREGATE = RateLimit(free=10, window=3600, fallback_free=2)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


class _FakeServer(fakeredis.TcpFakeServer):
    request_queue_size = 256  # connections not yet accepted; Python's default is five


class FakeRedis:
    """fakeredis behind a socket, so that the production client connects to it."""

    def __init__(self) -> None:
        self._server = _FakeServer(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.url = f"redis://127.0.0.1:{self._server.server_address[1]}/0"

    def start(self) -> None:
        self._thread.start()
        # It closes the connection after every error, even the NOSCRIPT after which a client loads the script.
        with redis.Redis.from_url(self.url) as client:
            for script in (
                ephemeral_redis.CLAIM_SCRIPT,
                ephemeral_redis.CHARGE_SCRIPT,
                ephemeral_redis.REFUND_SCRIPT,
            ):
                client.script_load(script)

    def flush(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class ClusterServer(RedisServer):
    """A Redis Cluster of one node that has every slot."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "--cluster-enabled", "yes", "--cluster-port", str(free_port()))

    def start(self) -> None:
        super().start()
        with redis.Redis.from_url(self.url) as client:
            if client.cluster("INFO")["cluster_slots_assigned"] == "0":
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(self.is_whole)

    def is_whole(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            assert "ok" == client.cluster("INFO")["cluster_state"]


class SentinelServer(Process):
    """A Sentinel of one master, with the same password."""

    def __init__(self, folder: Path, master: RedisServer, password: str) -> None:
        self.port = free_port()
        self._password = password
        self._file = folder / "sentinel.conf"
        self._file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\nrequirepass {password}\n"
            f"sentinel monitor keyturn 127.0.0.1 {master.port} 1\nsentinel auth-pass keyturn {password}\n"
        )
        super().__init__([find_program("redis-server"), str(self._file), "--sentinel"])

    def start(self) -> None:
        super().start()
        wait_until(self.ping)

    def ping(self) -> None:
        with redis.Redis(port=self.port, password=self._password) as client:
            client.ping()


class LockedServer(RedisServer):
    """A Redis that requires a password."""

    def __init__(self, folder: Path, password: str) -> None:
        super().__init__(folder, "--requirepass", password)
        self.url = f"redis://:{quote(password, safe='')}@127.0.0.1:{self.port}/0"


@pytest.fixture(scope="module")
def fake_server() -> Iterator[FakeRedis]:
    server = FakeRedis()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def cluster_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterServer]:
    server = ClusterServer(tmp_path_factory.mktemp("cluster"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def sentinel_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    password = "p@ss:word/1"
    master = LockedServer(tmp_path_factory.mktemp("master"), password)
    master.start()
    sentinel = SentinelServer(tmp_path_factory.mktemp("sentinel"), master, password)
    sentinel.start()
    yield f"redis+sentinel://:{quote(password, safe='')}@127.0.0.1:{sentinel.port}/keyturn"
    sentinel.stop()
    master.stop()


@dataclass
class Kept:
    """A store, and how many concurrent callers the tests use."""

    store: Ephemeral
    callers: int = 200
    is_redis: bool = True


@pytest.fixture(params=["in process", "fakeredis", "redis", "sentinel", "cluster"])
async def kept(request: pytest.FixtureRequest) -> AsyncIterator[Kept]:
    """Every store, one after the other, each empty."""
    match request.param:
        case "in process":
            chosen = Kept(InProcess(), is_redis=False)
        case "fakeredis":
            fake: FakeRedis = request.getfixturevalue("fake_server")
            fake.flush()
            chosen = Kept(Redis(fake.url, timeout=PATIENT_SECONDS), callers=16)
        case "redis":
            server: RedisServer = request.getfixturevalue("redis_server")
            server.flush()
            chosen = Kept(Redis(server.url, timeout=PATIENT_SECONDS))
        case "cluster":
            cluster: ClusterServer = request.getfixturevalue("cluster_server")
            cluster.flush()
            chosen = Kept(Redis(f"redis+cluster://127.0.0.1:{cluster.port}", timeout=PATIENT_SECONDS))
        case _:
            chosen = Kept(Redis(request.getfixturevalue("sentinel_url"), timeout=PATIENT_SECONDS))
    yield chosen
    await chosen.store.close()


_names = itertools.count()


@pytest.fixture
def store(kept: Kept) -> Ephemeral:
    return kept.store


@pytest.fixture
def key() -> str:
    """Return an unused name, with the hash tag that keeps all its keys on one node."""
    return f"{{person{next(_names)}}}"


async def waits(store: Ephemeral, *buckets: Bucket, times: int, at: float = 0) -> list[float]:
    return [await store.charge(*buckets, now=later(at)) for _ in range(times)]


def near(seconds: float) -> object:
    return pytest.approx(seconds, abs=TOLERANCE)


# Claims


async def test_of_many_callers_one_claims(kept: Kept, key: str) -> None:
    """Two hundred call at once: one claim succeeds."""
    answers = await asyncio.gather(*(kept.store.claim(key, ttl=TTL, now=NOW) for _ in range(kept.callers)))
    assert 1 == sum(answers)
    assert not await kept.store.claim(key, ttl=TTL, now=NOW)


async def test_of_many_callers_one_claims_several_keys(kept: Kept, key: str) -> None:
    """Each claims two keys, in either order: never two succeed, and never none."""
    pairs = [(f"{key}:a", f"{key}:b"), (f"{key}:b", f"{key}:a")]
    answers = await asyncio.gather(*(kept.store.claim(*pairs[n % 2], ttl=TTL, now=NOW) for n in range(kept.callers)))
    assert 1 == sum(answers)


async def test_a_claim_stays(store: Ephemeral, key: str) -> None:
    """A second claim of the key fails; other keys are independent."""
    assert await store.claim(key, ttl=TTL, now=NOW)
    assert not await store.claim(key, ttl=TTL, now=NOW)
    assert await store.claim(f"{key}:other", ttl=TTL, now=NOW)


async def test_a_released_claim_can_be_claimed_again(store: Ephemeral, key: str) -> None:
    """One caller succeeds, as before; a key that was never claimed can be released, too."""
    assert await store.claim(key, ttl=TTL, now=NOW)
    await store.release(key, f"{key}:other")
    assert await store.claim(key, ttl=TTL, now=NOW)
    assert not await store.claim(key, ttl=TTL, now=NOW)


async def test_keys_are_claimed_together(store: Ephemeral, key: str) -> None:
    """If one of them is taken the claim fails, but the others are claimed all the same, because they were used."""
    one, two, three = (f"{name}{key}" for name in ("one", "two", "three"))
    assert await store.claim(one, ttl=TTL, now=NOW)
    assert not await store.claim(two, one, three, ttl=TTL, now=NOW)
    assert not await store.claim(two, ttl=TTL, now=NOW)
    assert not await store.claim(three, ttl=TTL, now=NOW)


async def test_a_claim_ends(store: Ephemeral, key: str) -> None:
    """After its time the key is free again, and a refused claim does not extend it."""
    ttl = timedelta(seconds=0.4)
    assert await store.claim(key, ttl=ttl, now=NOW)
    begun = time.monotonic()

    async def claim_after(seconds: float) -> bool:
        await asyncio.sleep(begun + seconds - time.monotonic())  # Redis expires keys by its own clock
        return await store.claim(key, ttl=ttl, now=later(seconds))

    assert not await claim_after(0.2)
    assert await claim_after(0.42)


async def test_a_claim_ends_by_the_callers_clock_in_process(key: str) -> None:
    """It ends exactly at the end of its time, whatever this machine's own clock says."""
    store = InProcess()
    assert await store.claim(key, ttl=TTL, now=NOW)
    assert not await store.claim(key, ttl=TTL, now=later(59.999))
    assert not await InProcess.claim(store, key, ttl=TTL, now=later(-3600))
    assert await store.claim(f"{key}:2", ttl=TTL, now=NOW)
    assert await store.claim(f"{key}:2", ttl=TTL, now=later(60))


# Charges


async def test_a_growing_wait(store: Ephemeral, key: str) -> None:
    """Five attempts are free, then the wait is 1 s, 2 s, 4 s ... and never longer than a minute."""
    bucket, at = Bucket(key, GROWING), 0.0
    assert [0.0] * 5 == await waits(store, bucket, times=5)
    for expected in (1, 2, 4, 8, 16, 32, 60, 60, 60):
        assert expected == near(await store.charge(bucket, now=later(at)))
        assert TOLERANCE + expected / 2 == near(await store.charge(bucket, now=later(at + expected / 2 - TOLERANCE)))
        at += expected
        assert 0.0 == await store.charge(bucket, now=later(at))


async def test_refused_attempts_are_not_charged(store: Ephemeral, key: str) -> None:
    """Attempts during a wait do not extend the wait."""
    bucket = Bucket(key, GROWING)
    await waits(store, bucket, times=5)
    assert {1.0} == {round(wait, 2) for wait in await waits(store, bucket, times=20)}
    assert 0.0 == await store.charge(bucket, now=later(1))
    assert 2 == near(await store.charge(bucket, now=later(1)))


async def test_the_window_of_a_growing_wait_restarts(store: Ephemeral, key: str) -> None:
    """Failures are forgotten when the window has passed since the last of them, not since the first."""
    bucket = Bucket(key, GROWING)
    await waits(store, bucket, times=4)
    assert 0.0 == await store.charge(bucket, now=later(899))  # the fifth, just before the end of the window
    assert 1 == near(await store.charge(bucket, now=later(899)))
    assert 0.0 == await store.charge(bucket, now=later(899 + 899))
    assert 2 == near(await store.charge(bucket, now=later(899 + 899)))
    assert [0.0] * 5 == await waits(store, bucket, times=5, at=899 + 899 + 900)


async def test_a_fixed_window(store: Ephemeral, key: str) -> None:
    """Three are free in a minute, then none until the end of the minute that began with the first."""
    bucket = Bucket(key, FIXED)
    assert [0.0] * 2 == await waits(store, bucket, times=2)
    assert 0.0 == await store.charge(bucket, now=later(50))
    assert 10 == near(await store.charge(bucket, now=later(50)))
    assert 1 == near(await store.charge(bucket, now=later(59)))
    assert [0.0] * 3 == await waits(store, bucket, times=3, at=60)
    assert 60 == near(await store.charge(bucket, now=later(60)))


async def test_a_rate_limit_without_a_number_refuses_nothing(store: Ephemeral, key: str) -> None:
    """Without a number the limit is switched off, however large the aggregate count is."""
    alone = Bucket(f"{key}:alone", ONLY_COUNTED)
    aggregated = Bucket(f"{key}:aggregated", ONLY_COUNTED, aggregate_key=key, aggregate_limit=AGGREGATE)
    assert [0.0] * 15 == await waits(store, alone, times=15)
    assert [0.0] * 15 == await waits(store, aggregated, times=15)
    growing = Bucket(f"{key}:growing", RateLimit(free=None, window=60, backoff=True))
    assert [0.0] * 15 == await waits(store, growing, times=15)


def bucket_of(address: int, key: str, aggregate: RateLimit = AGGREGATE) -> Bucket:
    return Bucket(f"{key}:{address}", GROWING, aggregate_key=key, aggregate_limit=aggregate)


async def test_the_aggregate_limit_leaves_each_bucket_one_free_attempt(store: Ephemeral, key: str) -> None:
    """Beyond the aggregate limit, a bucket without failures has one free attempt and then waits 1 s, 2 s, 4 s."""
    for address in range(10):
        assert 0.0 == await store.charge(bucket_of(address, key), now=NOW)
    newcomer, at = bucket_of(99, key), 0
    assert 0.0 == await store.charge(newcomer, now=NOW)
    for expected in (1, 2, 4):
        assert expected == near(await store.charge(newcomer, now=later(at)))
        at += expected
        assert 0.0 == await store.charge(newcomer, now=later(at))


async def test_the_aggregate_limit_refuses_no_first_attempt(store: Ephemeral, key: str) -> None:
    """After failures of forty addresses on one username, an address without failures still has a free attempt."""
    for address in range(40):
        assert 0.0 == await store.charge(bucket_of(address, key), now=NOW)


async def test_an_aggregate_count_below_its_limit_changes_nothing(store: Ephemeral, key: str) -> None:
    """After nine of ten, five attempts of a bucket are free as usual."""
    for address in range(4):
        assert 0.0 == await store.charge(bucket_of(address, key), now=NOW)
    assert [0.0] * 5 == await waits(store, bucket_of(99, key), times=5)
    assert 1 == near(await store.charge(bucket_of(99, key), now=NOW))


async def test_the_aggregate_window_ends(store: Ephemeral, key: str) -> None:
    """When the window since the first failure has passed, each bucket has five free attempts again."""
    for address in range(12):
        await store.charge(bucket_of(address, key), now=NOW)
    assert 0.0 == await store.charge(bucket_of(99, key), now=later(3599))
    assert 1 == near(await store.charge(bucket_of(99, key), now=later(3599)))
    assert [0.0] * 5 == await waits(store, bucket_of(98, key), times=5, at=3600)


async def test_an_aggregate_without_a_number_changes_nothing(store: Ephemeral, key: str) -> None:
    """With that limit switched off, each address has its own five attempts."""
    for address in range(15):
        await store.charge(bucket_of(address, key, ONLY_COUNTED), now=NOW)
    assert [0.0] * 5 == await waits(store, bucket_of(99, key, ONLY_COUNTED), times=5)


async def test_a_refund_undoes_one_charge(store: Ephemeral, key: str) -> None:
    """Any number of successes is free, and earlier failures stay counted."""
    bucket = Bucket(key, GROWING)
    await waits(store, bucket, times=4)
    for _ in range(8):
        assert 0.0 == await store.charge(bucket, now=NOW)
        await store.refund(bucket, now=NOW)
    assert 0.0 == await store.charge(bucket, now=NOW)
    assert 1 == near(await store.charge(bucket, now=NOW))


async def test_a_refund_opens_a_full_window(store: Ephemeral, key: str) -> None:
    """The third of three attempts succeeded, so one more is allowed."""
    bucket = Bucket(key, FIXED)
    await waits(store, bucket, times=3)
    assert await store.charge(bucket, now=NOW) > 0
    await store.refund(bucket, now=NOW)
    assert 0.0 == await store.charge(bucket, now=NOW)
    assert 60 == near(await store.charge(bucket, now=NOW))


async def test_a_refund_applies_to_the_aggregate_too(store: Ephemeral, key: str) -> None:
    """Users who know their passwords do not fill the aggregate limit."""
    for address in range(15):
        await store.charge(bucket_of(address, key), now=NOW)
        await store.refund(bucket_of(address, key), now=NOW)
    assert [0.0] * 5 == await waits(store, bucket_of(99, key), times=5)


async def test_no_refund_exceeds_the_charges(store: Ephemeral, key: str) -> None:
    """Refunds without a charge, or too many refunds, give no further attempts."""
    bucket = bucket_of(1, key)
    for _ in range(10):
        await store.refund(bucket, Bucket(f"{key}:unheard-of", FIXED), now=NOW)
    await store.charge(bucket, now=NOW)
    for _ in range(10):
        await store.refund(bucket, now=NOW)
    assert [0.0] * 5 == await waits(store, bucket, times=5)
    assert 1 == near(await store.charge(bucket, now=NOW))
    assert [0.0] * 3 == await waits(store, Bucket(f"{key}:unheard-of", FIXED), times=3)
    assert await store.charge(Bucket(f"{key}:unheard-of", FIXED), now=NOW) > 0


async def test_all_buckets_are_charged_or_none(store: Ephemeral, key: str) -> None:
    """An attempt that one of several buckets refuses is charged to none of them, in either order."""
    name, address = bucket_of(1, key), Bucket(f"address{key}", FIXED)
    await waits(store, address, times=3)
    for buckets in ((name, address), (address, name)):
        assert {60.0} == {round(wait, 2) for wait in await waits(store, *buckets, times=3)}
    assert [0.0] * 5 == await waits(store, name, times=5), "neither the bucket nor its aggregate was charged"

    other = Bucket(f"other{key}", FIXED)
    for buckets in ((name, other), (other, name)):
        assert {1.0} == {round(wait, 2) for wait in await waits(store, *buckets, times=3)}
    assert [0.0] * 3 == await waits(store, other, times=3)


async def test_the_longest_wait_counts(store: Ephemeral, key: str) -> None:
    """An attempt that two buckets refuse waits for the later one, in either order."""
    short, long = Bucket(f"short{key}", GROWING), Bucket(f"long{key}", FIXED)
    await waits(store, short, times=5)
    await waits(store, long, times=3)
    assert 60 == near(await store.charge(long, short, now=NOW))
    assert 60 == near(await store.charge(short, long, now=NOW))


async def test_a_thousand_parallel_guesses_are_a_thousand_charges(kept: Kept, key: str) -> None:
    """Of many parallel attempts exactly the free ones are admitted (law 4: reserve, then verify)."""
    for limit, free in ((GROWING, 5), (FIXED, 3)):
        bucket = Bucket(f"{key}:{free}", limit)
        answers = await asyncio.gather(*(kept.store.charge(bucket, now=NOW) for _ in range(kept.callers)))
        assert answers.count(0.0) == free
        assert await kept.store.charge(bucket, now=NOW) > 0


async def test_parallel_charges_of_several_buckets_lose_nothing(kept: Kept, key: str) -> None:
    """Parallel attempts on two buckets: no more are admitted than the smaller one allows, and no charge is left over.

    An attempt may be refused without need because of others; it is never admitted without a charge.
    """
    buckets = (Bucket(f"wide{key}", RateLimit(free=5, window=60)), Bucket(f"narrow{key}", FIXED))
    answers = await asyncio.gather(*(kept.store.charge(*buckets, now=NOW) for _ in range(kept.callers // 2)))
    assert answers.count(0.0) <= 3
    left = 5 - answers.count(0.0)
    assert [0.0] * left == await waits(kept.store, buckets[0], times=left)
    assert await kept.store.charge(buckets[0], now=NOW) > 0


async def test_unused_keys_are_forgotten_in_process() -> None:
    """Time bounds the memory: of ten thousand names an hour, for a day, only the recent ones are kept."""
    store = InProcess()
    for hour in range(24):
        for n in range(1000):
            await store.charge(Bucket(f"{hour}-{n}", GROWING), now=later(3600 * hour))
            await store.claim(f"{hour}-{n}", ttl=TTL, now=later(3600 * hour))
    assert len(store.stored_keys) < 8000


async def test_unused_keys_expire_in_redis(redis_server: RedisServer, key: str) -> None:
    """Every key has an expiry, so that an attacker's names do not stay."""
    store = Redis(redis_server.url, timeout=PATIENT_SECONDS)
    await store.charge(bucket_of(1, key), now=NOW)
    await store.charge(bucket_of(1, key), now=NOW)
    await store.refund(bucket_of(1, key), now=NOW)
    await store.claim(f"{key}:claimed", ttl=TTL, now=NOW)
    await store.close()
    with redis.Redis.from_url(redis_server.url) as client:
        names = list(client.scan_iter(f"*{key}*"))
        assert 3 == len(names)
        assert all(0 < client.pttl(name) <= 3_602_000 for name in names)


async def test_scripts_survive_a_flush(redis_server: RedisServer, key: str) -> None:
    """The scripts are loaded again after a flush, with one bucket and with several; no attempt counts twice."""
    store = Redis(redis_server.url, timeout=PATIENT_SECONDS)
    one, two = Bucket(f"one{key}", FIXED), Bucket(f"two{key}", FIXED)
    with redis.Redis.from_url(redis_server.url) as client:
        for buckets in ((one, two), (one,), (two,), (one, two)):
            client.script_flush()
            assert 0.0 == await store.charge(*buckets, now=NOW)
        client.script_flush()
        await store.refund(one, two, now=NOW)
    assert 0.0 == await store.charge(one, two, now=NOW)
    assert await store.charge(one, now=NOW) > 0
    assert await store.charge(two, now=NOW) > 0
    await store.close()


# The two implementations compared

RATE_LIMITS = [
    GROWING,
    FIXED,
    ONLY_COUNTED,
    RateLimit(free=1, window=30),
    RateLimit(free=1, window=120, backoff=True),
    RateLimit(free=2, window=45, backoff=True),
]
AGGREGATES = [None, RateLimit(free=2, window=90), RateLimit(free=4, window=600), RateLimit(free=None, window=60)]

charges_ = st.builds(lambda number, aggregate: (number, aggregate), st.integers(0, 5), st.integers(0, 3))
acts = st.one_of(
    st.tuples(st.just("pay"), st.lists(charges_, min_size=1, max_size=2, unique_by=lambda pair: pair[0])),
    st.tuples(st.just("refund"), st.lists(charges_, min_size=1, max_size=2, unique_by=lambda pair: pair[0])),
    st.tuples(st.just("pass"), st.integers(1, 120_000)),
)


def charge_of(story: int, number: int, aggregate: int) -> Bucket:
    """Return the bucket of `number`, which always has the same rate limit; each aggregate has one of its own."""
    limit = AGGREGATES[aggregate]
    key = f"{{story{story}}}:{number}"
    if limit is None:
        return Bucket(key, RATE_LIMITS[number])
    return Bucket(
        key, RATE_LIMITS[number], aggregate_key=f"{{story{story}}}:aggregate{aggregate}", aggregate_limit=limit
    )


_stories = itertools.count()


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(story=[("pay", [(4, 1)])] * 3 + [("pass", 90_000)] + [("pay", [(4, 1)])] * 3)
@given(story=st.lists(acts, max_size=30))
def test_redis_and_the_process_give_equal_waits(redis_server: RedisServer, story: list[tuple[str, object]]) -> None:
    """Any sequence of charges, refunds and pauses gives the same waits, to two milliseconds."""

    async def tell() -> None:
        number = next(_stories)
        shared, alone, moment = Redis(redis_server.url, timeout=PATIENT_SECONDS), InProcess(), NOW
        try:
            for act, detail in story:
                if act == "pass":
                    assert isinstance(detail, int)
                    moment += timedelta(milliseconds=detail)
                    continue
                assert isinstance(detail, list)
                buckets = [charge_of(number, *pair) for pair in detail]
                if act == "refund":
                    await shared.refund(*buckets, now=moment)
                    await alone.refund(*buckets, now=moment)
                else:
                    expected = await alone.charge(*buckets, now=moment)
                    assert expected == near(await shared.charge(*buckets, now=moment)), (act, detail)
        finally:
            await shared.close()

    asyncio.run(tell())


# While Redis is unavailable


@pytest.fixture(scope="module")
def fragile_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("fragile"))
    server.start()
    yield server
    server.stop()


def configure(server: RedisServer, **values: str) -> None:
    with redis.Redis.from_url(server.url) as client:
        for name, value in values.items():
            client.config_set(name.replace("_", "-"), value)


@contextlib.contextmanager
def full(server: RedisServer) -> Iterator[None]:
    configure(server, maxmemory="1", maxmemory_policy="noeviction")
    try:
        yield
    finally:
        configure(server, maxmemory="0")


@contextlib.contextmanager
def read_only(server: RedisServer) -> Iterator[None]:
    with redis.Redis.from_url(server.url) as client:
        client.replicaof("127.0.0.1", str(free_port()))
        try:
            yield
        finally:
            client.replicaof("NO", "ONE")


@contextlib.contextmanager
def locked(server: RedisServer) -> Iterator[None]:
    configure(server, requirepass="changed")
    with redis.Redis.from_url(server.url, password="changed") as client:
        client.client_kill_filter(_type="normal", skipme=True)
        try:
            yield
        finally:
            client.config_set("requirepass", "")


FAULTS = {"frozen": frozen, "killed": killed, "full": full, "read only": read_only, "locked": locked}


@pytest.fixture(params=FAULTS)
def fault(request: pytest.FixtureRequest) -> Callable[[RedisServer], contextlib.AbstractContextManager[None]]:
    """A fault that a Redis may have."""
    return FAULTS[request.param]


@pytest.fixture
async def falling_back(fragile_server: RedisServer) -> AsyncIterator[WithFallback]:
    """A store whose Redis may fail; it tries Redis again after a fifth of a second."""
    fragile_server.flush()
    store = WithFallback(Redis(fragile_server.url), pause=0.2)
    await store.ping()
    yield store
    await store.close()


async def soon(answer: Awaitable[T]) -> T:
    begun = time.perf_counter()
    value = await answer
    assert time.perf_counter() - begun < SOON
    return value


async def test_without_redis_the_process_uses_its_own_memory(
    fragile_server: RedisServer,
    falling_back: WithFallback,
    fault: Callable[[RedisServer], contextlib.AbstractContextManager[None]],
    key: str,
) -> None:
    """Each call returns within 0.5 s, with the smaller rate limits. Claims stay exclusive; nothing is raised."""
    assert await falling_back.claim(f"{key}:before", ttl=TTL, now=NOW)
    with fault(fragile_server):
        assert await soon(falling_back.claim(key, ttl=TTL, now=NOW))
        assert not await soon(falling_back.claim(key, ttl=TTL, now=NOW))
        growing, fixed = Bucket(f"growing{key}", GROWING), Bucket(f"fixed{key}", FIXED)
        assert 0.0 == await soon(falling_back.charge(growing, now=NOW))
        assert 1 == near(await soon(falling_back.charge(growing, now=NOW)))
        assert 0.0 == await soon(falling_back.charge(fixed, now=NOW))
        wait, charged_store = await soon(falling_back.charge_tracked(fixed, now=NOW))
        assert 0.0 == wait
        assert await soon(falling_back.charge(growing, fixed, now=NOW)) > 0
        await soon(charged_store.refund(fixed, now=NOW))
        assert 0.0 == await soon(falling_back.charge(fixed, now=NOW))


async def test_redis_is_used_again_by_itself(
    fragile_server: RedisServer,
    falling_back: WithFallback,
    fault: Callable[[RedisServer], contextlib.AbstractContextManager[None]],
    key: str,
) -> None:
    """When Redis answers again, every call uses it within the retry interval, and all five attempts are free."""
    with fault(fragile_server):
        await falling_back.charge(Bucket(f"{key}:during", GROWING), now=NOW)
    deadline = time.monotonic() + 5
    with redis.Redis.from_url(fragile_server.url) as client:
        for n in itertools.count():
            await falling_back.claim(f"{key}:{n}", ttl=TTL, now=NOW)
            if client.exists(f"keyturn:{key}:{n}"):
                break
            assert time.monotonic() < deadline, "it never used Redis again"
            await asyncio.sleep(0.02)
        answers = [await falling_back.charge(Bucket(f"{key}:after", GROWING), now=NOW) for _ in range(5)]
        assert [0.0] * 5 == answers, "it fell back again"
        assert b"5" == client.hget(f"keyturn:{key}:after", "paid")
        for n in range(20):
            await falling_back.claim(f"{key}:again{n}", ttl=TTL, now=NOW)
            assert client.exists(f"keyturn:{key}:again{n}")


@pytest.mark.alone
async def test_many_requests_meet_a_frozen_redis(
    fragile_server: RedisServer, falling_back: WithFallback, key: str
) -> None:
    """Two hundred requests when it stops and two hundred while it is probed each take less than half a second."""
    with frozen(fragile_server):
        for round_ in range(2):
            buckets = [Bucket(f"{key}:{round_}-{n}", GROWING) for n in range(200)]
            assert {0.0} == set(await asyncio.gather(*(soon(falling_back.charge(c, now=NOW)) for c in buckets)))
            await asyncio.sleep(0.25)


@pytest.mark.alone
async def test_one_request_at_a_time_probes_redis(
    fragile_server: RedisServer, falling_back: WithFallback, key: str
) -> None:
    """While one waits for a Redis that may still be stopped, the others use the process's memory at once."""
    with frozen(fragile_server):
        await falling_back.claim(f"{key}:first", ttl=TTL, now=NOW)
        await asyncio.sleep(0.25)

        async def seconds(n: int) -> float:
            begun = time.perf_counter()
            await falling_back.claim(f"{key}:{n}", ttl=TTL, now=NOW)
            return time.perf_counter() - begun

        times = sorted(await asyncio.gather(*(seconds(n) for n in range(50))))
    assert times[-1] > 0.15 > times[-2]


async def test_the_aggregate_limit_is_smaller_without_redis(
    fragile_server: RedisServer, falling_back: WithFallback, key: str
) -> None:
    """The aggregate limit is smaller too while each replica counts by itself."""
    lenient = RateLimit(free=5, window=900, backoff=True, fallback_free=3)
    with killed(fragile_server):
        for address in range(2):
            bucket = Bucket(f"{key}:{address}", lenient, aggregate_key=key, aggregate_limit=AGGREGATE)
            assert 0.0 == await falling_back.charge(bucket, now=NOW)
        newcomer = Bucket(f"{key}:99", lenient, aggregate_key=key, aggregate_limit=AGGREGATE)
        assert 0.0 == await falling_back.charge(newcomer, now=NOW)
        assert 1 == near(await falling_back.charge(newcomer, now=NOW))


async def test_a_rate_limit_without_a_smaller_number_does_not_change(
    fragile_server: RedisServer, falling_back: WithFallback, key: str
) -> None:
    """Five codes under a pending token stay five codes, with or without Redis."""
    bucket = Bucket(key, RateLimit(free=5, window=300))
    with killed(fragile_server):
        assert [0.0] * 5 == await waits(falling_back, bucket, times=5)
        assert await falling_back.charge(bucket, now=NOW) > 0


KINDS = {
    "frozen": {"timed_out"},
    "killed": {"closed", "refused"},
    "full": {"full"},
    "read only": {"read_only"},
    "locked": {"closed", "password_missing"},
}
"""The cause that a probe reports for each fault; a fault that cuts connections may first report that."""


@pytest.mark.parametrize("name", FAULTS)
async def test_a_ping_says_whether_redis_can_be_used(
    fragile_server: RedisServer, falling_back: WithFallback, name: str
) -> None:
    """Readiness probes the shared store within half a second for what logins need, and gets the cause."""
    with FAULTS[name](fragile_server):
        with pytest.raises(EphemeralUnavailable) as refusal:
            await soon(falling_back.ping())
        assert refusal.value.kind in KINDS[name]
    await falling_back.ping()


@pytest.mark.alone
async def test_a_ping_opens_and_closes_the_circuit(
    fragile_server: RedisServer, falling_back: WithFallback, key: str
) -> None:
    """After a failed probe requests use the process's memory at once; after a success they use Redis at once."""
    with frozen(fragile_server):
        with pytest.raises(EphemeralUnavailable):
            await falling_back.ping()
        begun = time.perf_counter()
        assert await falling_back.claim(f"{key}:alone", ttl=TTL, now=NOW)
        assert time.perf_counter() - begun < 0.1
    await falling_back.ping()
    assert await falling_back.claim(f"{key}:shared", ttl=TTL, now=NOW)
    with redis.Redis.from_url(fragile_server.url) as client:
        assert [0, 1] == [client.exists(f"keyturn:{key}:{name}") for name in ("alone", "shared")]


class Hesitates(InProcess):
    """A store that fails as often as the test requires, and counts its pings."""

    def __init__(self, *kinds: str) -> None:
        super().__init__()
        self.kinds, self.pings = list(kinds), 0

    async def ping(self) -> None:
        self.pings += 1
        if self.kinds:
            raise EphemeralUnavailable(self.kinds.pop(0))


@pytest.mark.parametrize(
    ("kinds", "pings", "is_refused"),
    [
        ((), 1, False),
        (("timed_out", "tls_no_answer"), 3, False),
        (("timed_out",) * 3, 3, True),
        (("refused",), 1, True),
        (("timed_out", "missing_right"), 2, True),
    ],
)
async def test_a_first_probe_is_repeated_if_it_is_late(kinds: tuple[str, ...], pings: int, is_refused: bool) -> None:
    """It is repeated at most three times, and never after a definite failure."""
    store = Hesitates(*kinds)
    with pytest.raises(EphemeralUnavailable) if is_refused else contextlib.nullcontext():
        await probe(store)
    assert pings == store.pings


@contextlib.contextmanager
def silent_servers(count: int) -> Iterator[str]:
    """Yield `host:port,...` of listeners that accept connections and never send anything."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=256)) for _ in range(count)]
        yield ",".join(f"127.0.0.1:{listener.getsockname()[1]}" for listener in listeners)


@pytest.mark.parametrize("form", ["redis{}://{}/0", "redis{}+sentinel://{}/keyturn", "redis{}+cluster://{}"])
@pytest.mark.parametrize("tls", ["", "s"])
@pytest.mark.parametrize("presence", ["silent", "absent"])
async def test_no_kind_of_redis_is_waited_for(form: str, tls: str, presence: str, key: str) -> None:
    """A server, three Sentinels or three Cluster nodes, silent or absent: the call returns within half a second."""
    count = 1 if form.startswith("redis{}://") else 3
    with silent_servers(count) as silent:
        absent = ",".join(f"127.0.0.1:{free_port()}" for _ in range(count))
        store = connect(form.format(tls, silent if presence == "silent" else absent))
        try:
            assert await soon(store.claim(key, ttl=TTL, now=NOW))
            assert 0.0 == await soon(store.charge(Bucket(key, GROWING), now=NOW))
            assert 1 == near(await soon(store.charge(Bucket(key, GROWING), now=NOW)))
            with pytest.raises(EphemeralUnavailable):
                await soon(store.ping())
        finally:
            await store.close()


async def test_a_master_that_stops_behind_its_sentinel_is_not_waited_for(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, key: str
) -> None:
    """The Sentinel answers and the master does not: calls return within half a second, and Redis is used later."""
    master = LockedServer(tmp_path, "secret")
    master.start()
    sentinel = SentinelServer(tmp_path_factory.mktemp("sentinel"), master, "secret")
    sentinel.start()
    shared = Redis(f"redis+sentinel://:secret@127.0.0.1:{sentinel.port}/keyturn")
    store = WithFallback(shared, pause=0.1)
    try:
        assert 0.0 == await store.charge(Bucket(key, GROWING), now=NOW)
        with frozen(master):
            assert 0.0 == await soon(store.charge(Bucket(key, GROWING), now=NOW))
            assert 1 == near(await soon(store.charge(Bucket(key, GROWING), now=NOW)))
        await asyncio.sleep(0.15)
        assert [0.0] * 5 == await waits(store, Bucket(f"{key}:after", GROWING), times=5)
    finally:
        await store.close()
        sentinel.stop()
        master.stop()


async def test_a_node_that_stops_in_a_cluster_is_not_waited_for(cluster_server: ClusterServer, key: str) -> None:
    """Calls return within half a second, also for two buckets on different nodes, and Redis is used later."""
    store = WithFallback(Redis(f"redis+cluster://127.0.0.1:{cluster_server.port}"), pause=0.1)
    two = Bucket(key, GROWING), Bucket(f"{{other}}{key}", FIXED)
    try:
        assert 0.0 == await store.charge(*two, now=NOW)
        for fault in (frozen, killed):
            with fault(cluster_server):
                wait, charged_store = await soon(store.charge_tracked(*two, now=NOW))
                assert 0.0 == wait
                assert 1 == near(await soon(store.charge(*two, now=NOW)))
                await soon(charged_store.refund(*two, now=NOW))
                with pytest.raises(EphemeralUnavailable):
                    await soon(store.ping())
            await asyncio.sleep(0.15)
            assert 0.0 == await soon(store.charge(*two, now=NOW))
    finally:
        await store.close()


async def test_the_store_in_process_is_always_available(key: str) -> None:
    """It is available while the process runs."""
    store = InProcess()
    await store.ping()
    assert await store.claim(key, ttl=TTL, now=NOW)
    assert not await store.claim(key, ttl=TTL, now=NOW)
    await store.close()


async def refuse_a_thousand(store: Ephemeral, key: str) -> None:
    """Charge a full bucket and, with each refused attempt, two unused ones."""
    full = Bucket(f"{key}:address", FIXED)
    for _ in range(3):
        assert 0.0 == await store.charge(full, now=NOW)
    for n in range(1000):
        name = Bucket(f"{{{key}{n}}}:here", GROWING, aggregate_key=f"{{{key}{n}}}", aggregate_limit=AGGREGATE)
        assert await store.charge(name, full, now=NOW) > 0


async def test_a_refused_charge_leaves_nothing_behind(key: str) -> None:
    """A refused attempt costs the caller nothing, so it must not use memory: invented names would fill it."""
    store = InProcess()
    await refuse_a_thousand(store, key)
    assert [f"{key}:address"] == store.stored_keys


async def test_a_refused_charge_leaves_nothing_behind_in_redis(redis_server: RedisServer, key: str) -> None:
    """The same holds in Redis."""
    redis_server.flush()
    store = Redis(redis_server.url, timeout=PATIENT_SECONDS)
    await refuse_a_thousand(store, key)
    await store.close()
    with redis.Redis.from_url(redis_server.url) as client:
        assert 1 == client.dbsize()


class Flaps(InProcess):
    """A shared store that is available or not, as the test sets it."""

    is_up = True

    async def charge(self, *buckets: Bucket, now: datetime) -> float:
        if not self.is_up:
            raise EphemeralUnavailable
        return await super().charge(*buckets, now=now)

    async def refund(self, *buckets: Bucket, now: datetime) -> None:
        if not self.is_up:
            raise EphemeralUnavailable
        await super().refund(*buckets, now=now)


async def test_a_refusal_stands_although_its_refund_fails(redis_server: RedisServer, key: str) -> None:
    """Another store, which has counted nothing, must not decide instead. The refund is the only user of HGET."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.execute_command("ACL", "SETUSER", "without-refunds", "on", ">secret", "~*", "+@all", "-hget")
    store = Redis(redis_server.url.replace("//", "//without-refunds:secret@"), timeout=PATIENT_SECONDS)
    try:
        full, other = Bucket(f"{key}:full", RateLimit(1, 60)), Bucket(f"{key}:other", RateLimit(5, 60))
        assert 0.0 == await store.charge(full, now=NOW)
        assert await store.charge(full, other, now=NOW) > 0
        with pytest.raises(EphemeralUnavailable):
            await store.refund(other, now=NOW)
    finally:
        await store.close()


async def test_a_charge_of_one_store_is_not_refunded_in_the_other(key: str) -> None:
    """Otherwise an outage at the right moment would give guesses to an attacker with a valid password."""
    shared = Flaps()
    store = WithFallback(shared, pause=0.0)
    bucket = Bucket(key, FIXED)
    for _ in range(3):
        assert 0.0 == await store.charge(bucket, now=NOW)
    shared.is_up = False
    _, charged_store = await store.charge_tracked(bucket, now=NOW)
    shared.is_up = True
    await charged_store.refund(bucket, now=NOW)
    assert await store.charge(bucket, now=NOW) > 0, "charged and refunded in the process"
    other = Bucket(f"{key}:other", FIXED)
    _, charged_store = await store.charge_tracked(other, now=NOW)
    shared.is_up = False
    await charged_store.refund(other, now=NOW)
    assert [0.0, 0.0] == [await store.charge(other, now=NOW) for _ in range(2)]
    assert await store.charge(other, now=NOW) > 0, "nothing was refunded in this store"
