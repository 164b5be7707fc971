"""The ephemeral store in Redis: the same claims and counters as `ephemeral.InProcess`, shared by all replicas.

A claim or a charge is one round trip (on a Cluster, one for each bucket). If only some buckets of a charge refuse the
attempt, a second step refunds the others. Everything that must be atomic is one command or one script. A call
fails after 0.35 s, and each of its commands after 0.2 s (law 7: no fail-open, no hang). A command that timed out is
never repeated, because it may have had its effect.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from service.errors import ConfigurationError
from service.redis_url import read_redis_url
from service.storage.ephemeral import (
    MAX_BACKOFF_SECONDS,
    Bucket,
    Ephemeral,
    EphemeralUnavailable,
    RateLimit,
    WithFallback,
)
from service.storage.timeouts import REDIS_TIMEOUT_SECONDS

MAX_CALL_TIMEOUTS = 1.75
"""The time that one call may take, in timeouts of a command.

It includes new connections, Sentinels and the nodes of a Cluster.
"""

OLDEST_TESTED = (7, 0)
"""The oldest version of Redis that the tests run against."""

# The arithmetic of `ephemeral.InProcess`, in Redis. Times are the caller's (tests set them, replicas agree to a few
# seconds); Redis' own clock only expires the keys.
# KEYS: counter, and its aggregate. The part in braces (the hash tag) is the same, and so the node of a Cluster.
# ARGV: now, free (-1: never refuse), window, backoff (0/1), aggregate's limit (-1: none), aggregate's window.
CHARGE_SCRIPT = (
    f"local MAX_BACKOFF = {MAX_BACKOFF_SECONDS}"
    + """
local now, free, window = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local backoff = ARGV[4] == '1'
local function counter(key)
  local c = redis.call('HMGET', key, 'paid', 'ends', 'until')
  local ends = tonumber(c[2] or 0)
  if ends <= now then return 0, 0, 0 end
  return tonumber(c[1] or 0), ends, tonumber(c[3] or 0)
end
local function keep(key, paid, ends, until_)
  redis.call('HSET', key, 'paid', paid, 'ends', ends, 'until', until_)
  redis.call('PEXPIRE', key, math.ceil((ends - now) * 1000) + 1000)
end
local limit = tonumber(ARGV[5])
if KEYS[2] and limit >= 0 then
  local paid = counter(KEYS[2])
  if paid >= limit and free >= 0 then free = 1 end
end
local paid, ends, until_ = counter(KEYS[1])
if free >= 0 and until_ <= now and paid >= free and not backoff then until_ = ends end
if until_ > now then return tostring(until_ - now) end
paid = paid + 1
if paid == 1 or backoff then ends = now + window end
if free >= 0 and backoff and paid >= free then
  until_ = now + math.min(MAX_BACKOFF, 2 ^ math.min(paid - free, 16))
end
keep(KEYS[1], paid, ends, until_)
if KEYS[2] then
  local total, total_ends = counter(KEYS[2])
  if total == 0 then total_ends = now + tonumber(ARGV[6]) end
  keep(KEYS[2], total + 1, total_ends, 0)
end
return '0'
"""
)

# All keys are claimed, even if one of them was claimed before: they were used. A script, not a transaction, because
# transactions of redis-py's Cluster client connect in a thread with an event loop of its own.
CLAIM_SCRIPT = """
local is_won = 1
for _, key in ipairs(KEYS) do
  if not redis.call('SET', key, 1, 'NX', 'PX', ARGV[1]) then is_won = 0 end
end
return is_won
"""

REFUND_SCRIPT = """
for _, key in ipairs(KEYS) do
  local paid = tonumber(redis.call('HGET', key, 'paid') or 0)
  if paid > 1 then
    redis.call('HSET', key, 'paid', paid - 1, 'until', 0)
  else
    redis.call('DEL', key)
  end
end
return 1
"""


_PROBE_TIME = datetime(2000, 1, 1, tzinfo=UTC)
"""The time of all probes: the same for all replicas, which share the counter."""
# In a Cluster the first of these is in slot 0 and the other in slot 16381, so that they are on different nodes.
_PROBE_BUCKET = Bucket(
    "probe:{probe2964}:here",
    RateLimit(None, 1),
    aggregate_key="probe:{probe2964}",
    aggregate_limit=RateLimit(None, 1),
)
_PROBE_CLAIM = "probe:{probe3838}"


@dataclass(frozen=True, slots=True)
class State:
    """What Redis reports about itself. A field is `None` if the user of `KEYTURN_REDIS_URL` lacks the permission."""

    now: int | None
    """Its clock in epoch seconds."""
    info: "Info | None"


@dataclass(frozen=True, slots=True)
class Info:
    """The fields of `INFO` that are used."""

    product: str
    """`Redis` or `Valkey`."""
    version: str
    compatible_with: str
    """The version of Redis that it is, or that it is compatible with."""
    policy: str
    """Which keys it evicts when its memory is full (`maxmemory-policy`)."""
    has_append_only_file: bool
    """Whether it has an append-only file."""


class Redis:
    """An `Ephemeral`. Never retries: a command repeated after a timeout would count twice."""

    def __init__(self, url: str, *, timeout: float = REDIS_TIMEOUT_SECONDS) -> None:
        """`timeout` is in seconds: for one command, or one attempt to connect.

        Raises `ValueError` if the URL is not valid, `ConfigurationError` if a certificate or key cannot be used.
        """
        from redis.exceptions import NoScriptError, RedisClusterException, RedisError, ResponseError

        from service.storage.redis_client import MAX_CONNECTIONS, make_client
        from service.storage.redis_faults import explain

        address = read_redis_url(url)
        self._explain, self._has_answered = partial(explain, address=address), False
        self._no_script_error, self._response_error = NoScriptError, ResponseError
        self._has_pipelines = address.kind != "cluster"  # a Cluster's pipelines run no scripts
        self._store_errors = (RedisError, RedisClusterException, OSError, TimeoutError)
        self._max_call_seconds = MAX_CALL_TIMEOUTS * timeout
        self._connection_slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._client, self._sentinels = make_client(address, timeout=timeout)
        self._claim_script = self._client.register_script(CLAIM_SCRIPT)
        self._charge_script = self._client.register_script(CHARGE_SCRIPT)
        self._refund_script = self._client.register_script(REFUND_SCRIPT)

    async def claim(self, *keys: str, ttl: timedelta, now: datetime) -> bool:
        async with self._bounded_call():
            return await self._claim(keys, ttl)

    async def release(self, *keys: str) -> None:
        async with self._bounded_call():
            for key in keys:  # one command each: on a Cluster the keys may be on different nodes
                await self._client.delete(f"keyturn:{key}")

    async def charge(self, *buckets: Bucket, now: datetime) -> float:
        worst = 0.0
        try:
            async with self._bounded_call():
                waits = [float(wait) for wait in await self._run(self._charge_calls(buckets, now))]
                worst = max(waits)
                if worst > 0:
                    charged = [bucket for bucket, wait in zip(buckets, waits, strict=True) if wait == 0]
                    await self._run(self._refund_calls(charged))
        except EphemeralUnavailable:
            if worst == 0:
                raise
            # Redis has refused. What it charged beside that stays: stricter, and no other store decides instead.
        return worst

    async def charge_tracked(self, *buckets: Bucket, now: datetime) -> tuple[float, Ephemeral]:
        return await self.charge(*buckets, now=now), self

    async def refund(self, *buckets: Bucket, now: datetime) -> None:
        async with self._bounded_call():
            await self._run(self._refund_calls(buckets))

    async def ping(self) -> None:
        """Run the commands that requests need, on keys of its own: a Redis that answers `PING` may refuse them."""
        async with self._bounded_call():
            await self._claim([_PROBE_CLAIM], timedelta(seconds=1))
            await self._run([*self._charge_calls([_PROBE_BUCKET], _PROBE_TIME), *self._refund_calls([_PROBE_BUCKET])])

    async def inspect(self) -> State:
        """Return what Redis reports about itself. Raises `EphemeralUnavailable` if it does not answer."""
        now, info = None, None
        async with self._bounded_call():
            with suppress(self._response_error):
                seconds, _ = _first_node_answer(await self._client.time())
                now = int(seconds)
            with suppress(self._response_error):
                info = _read_info(_first_node_answer(await self._client.info()))
        return State(now, info)

    async def close(self) -> None:
        for client in (self._client, *self._sentinels):
            await client.aclose()

    async def _claim(self, keys: Sequence[str], ttl: timedelta) -> bool:
        milliseconds = math.ceil(ttl.total_seconds() * 1000)
        if len(keys) == 1:
            return bool(await self._client.set(f"keyturn:{keys[0]}", 1, nx=True, px=milliseconds))
        return bool(await self._claim_script(keys=[f"keyturn:{key}" for key in keys], args=[milliseconds]))

    def _charge_calls(self, buckets: Sequence[Bucket], now: datetime) -> "list[_Call]":
        return [_Call(self._charge_script, _keys(bucket), _arguments(bucket, now)) for bucket in buckets]

    def _refund_calls(self, buckets: Sequence[Bucket]) -> "list[_Call]":
        return [_Call(self._refund_script, _keys(bucket), ()) for bucket in buckets]

    async def _run(self, calls: "Sequence[_Call]") -> list[Any]:
        """Run the scripts, in one round trip if possible."""
        if len(calls) == 1 or not self._has_pipelines:
            return [await script(keys=keys, args=arguments) for script, keys, arguments in calls]
        pipe: Any = self._client.pipeline(transaction=False)
        for script, keys, arguments in calls:
            pipe.evalsha(script.sha, len(keys), *keys, *arguments)
        answers = await pipe.execute(raise_on_error=False)
        for n, (script, keys, arguments) in enumerate(calls):
            if isinstance(answers[n], self._no_script_error):  # it did not run; this call also loads it
                answers[n] = await script(keys=keys, args=arguments)
            elif isinstance(answers[n], Exception):
                raise answers[n]
        return list(answers)

    @asynccontextmanager
    async def _bounded_call(self) -> AsyncIterator[None]:
        """Limit the number of concurrent calls and the time of each, for every kind of client.

        The clients of Sentinel and Cluster raise an error at a hundred connections, and try one node after another:
        three nodes that do not answer would take three times as long as one.
        """
        try:
            async with asyncio.timeout(self._max_call_seconds), self._connection_slots:
                yield
            self._has_answered = True
        except self._store_errors as error:
            fault = self._explain(error, has_answered=self._has_answered)
            raise EphemeralUnavailable(fault.kind, fault.reason) from error


def connect(url: str, *, timeout: float = REDIS_TIMEOUT_SECONDS) -> WithFallback:
    """Return the store in the Redis at `url`, with this process as the fallback. Raises `ConfigurationError`."""
    try:
        return WithFallback(Redis(url, timeout=timeout))
    except ValueError as error:
        raise ConfigurationError(f"{error}.") from None


class _Call(NamedTuple):
    """One run of a script."""

    script: Any
    keys: Sequence[str]
    arguments: Sequence[Any]


def _read_info(info: Mapping[str, Any]) -> Info:
    redis_version = str(info.get("redis_version", ""))
    valkey_version = str(info.get("valkey_version", ""))
    return Info(
        product="Valkey" if valkey_version else "Redis",
        version=valkey_version or redis_version,
        compatible_with=redis_version,
        policy=info.get("maxmemory_policy", ""),
        has_append_only_file=bool(info.get("aof_enabled")),
    )


def _first_node_answer(answer: Any) -> Any:
    """The answer of the first node, if a Cluster's client returned one answer per node."""
    is_by_node = isinstance(answer, dict) and answer and all(":" in str(name) for name in answer)
    return next(iter(answer.values())) if is_by_node else answer


def _arguments(bucket: Bucket, now: datetime) -> tuple[str | int, ...]:
    """The ARGV of `CHARGE_SCRIPT`."""
    free, aggregate = bucket.limit.free, bucket.aggregate_limit
    return (
        f"{now.timestamp():.3f}",
        -1 if free is None else free,
        bucket.limit.window,
        int(bucket.limit.backoff),
        -1 if aggregate is None or aggregate.free is None else aggregate.free,
        0 if aggregate is None else aggregate.window,
    )


def _keys(bucket: Bucket) -> Sequence[str]:
    keys = [bucket.key] if bucket.aggregate_key is None else [bucket.key, bucket.aggregate_key]
    return [f"keyturn:{key}" for key in keys]
