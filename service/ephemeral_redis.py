"""The volatile store in Redis: the same claims and counters as `ephemeral.InProcess`, shared by all replicas.

Each verb is one round trip, and what must be atomic is one script or one transaction. An answer that does not come
within a fifth of a second is none (law 7): what it may have done is never repeated.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from service.ephemeral import LONGEST_WAIT, Charge, Ephemeral, EphemeralUnavailable, WithFallback
from service.errors import ConfigurationError

if TYPE_CHECKING:
    from redis.asyncio import Redis as Client
    from redis.asyncio.cluster import RedisCluster

REDIS_TIMEOUT = 0.2
"""Seconds for one Redis command or connection; two in a row still answer within half a second."""

SENTINEL, CLUSTER = "redis+sentinel", "redis+cluster"
"""URL schemes beside redis-py's own."""

LONGEST_ANSWER = 0.35
"""Seconds for everything that Redis is asked at one time, connections, Sentinels and nodes of a Cluster included."""

CONNECTIONS = 16

# The same arithmetic, in Redis. Times are the caller's (a test moves them, replicas agree to a few seconds);
# Redis' own clock only lets the keys go. KEYS: counter, and its crowd (one hash tag, so one Cluster slot).
# ARGV: now, free (-1: never refuse), window, growing (0/1), crowd's limit (-1: none), crowd's window.
_PAY = (
    f"local LONGEST = {LONGEST_WAIT}"
    + """
local now, free, window = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local growing = ARGV[4] == '1'
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
if free >= 0 and until_ <= now and paid >= free and not growing then until_ = ends end
if until_ > now then return tostring(until_ - now) end
paid = paid + 1
if paid == 1 or growing then ends = now + window end
if free >= 0 and growing and paid >= free then
  until_ = now + math.min(LONGEST, 2 ^ math.min(paid - free, 16))
end
keep(KEYS[1], paid, ends, until_)
if KEYS[2] then
  local crowd, crowd_ends = counter(KEYS[2])
  if crowd == 0 then crowd_ends = now + tonumber(ARGV[6]) end
  keep(KEYS[2], crowd + 1, crowd_ends, 0)
end
return '0'
"""
)

_REFUND = """
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


@dataclass(frozen=True, slots=True)
class State:
    """How a Redis is set up: its clock in epoch seconds, its eviction policy, whether it has an append-only file."""

    now: int
    policy: str
    is_kept: bool


class Redis:
    """An `Ephemeral`. Never retries: a command repeated after a timeout would count twice."""

    def __init__(self, url: str) -> None:
        from redis.exceptions import NoScriptError, RedisClusterException, RedisError

        self._forgotten = NoScriptError
        self._has_pipelines = not url.startswith(CLUSTER)  # there, scripts do not go into pipelines
        self._failures = (RedisError, RedisClusterException, OSError, TimeoutError)
        self._turns = asyncio.Semaphore(CONNECTIONS)
        self._client, self._sentinels = _redis_client(url)
        self._pay_script = self._client.register_script(_PAY)
        self._refund_script = self._client.register_script(_REFUND)

    async def claim(self, *keys: str, ttl: timedelta, now: datetime) -> bool:
        milliseconds = math.ceil(ttl.total_seconds() * 1000)
        async with self._asked():
            if len(keys) == 1:
                return bool(await self._client.set(f"keyturn:{keys[0]}", 1, nx=True, px=milliseconds))
            pipe = self._client.pipeline(transaction=True)  # or two callers could each get one of the keys
            for key in keys:
                pipe.set(f"keyturn:{key}", 1, nx=True, px=milliseconds)
            return all(await pipe.execute())

    async def pay(self, *charges: Charge, now: datetime) -> float:
        calls = [(_keys(charge), _arguments(charge, now)) for charge in charges]
        waits = [float(wait) for wait in await self._run(self._pay_script, calls)]
        worst = max(waits)
        if worst > 0:
            await self.refund(*(c for c, wait in zip(charges, waits, strict=True) if wait == 0), now=now)
        return worst

    async def pay_noting(self, *charges: Charge, now: datetime) -> tuple[float, Ephemeral]:
        return await self.pay(*charges, now=now), self

    async def refund(self, *charges: Charge, now: datetime) -> None:
        await self._run(self._refund_script, [(_keys(charge), ()) for charge in charges])

    async def ping(self) -> None:
        async with self._asked():
            await self._client.ping()

    async def inspect(self) -> "State":
        """How Redis is set up. Raises `EphemeralUnavailable`."""
        async with self._asked():
            seconds, _ = _one_node(await self._client.time())
            memory = _one_node(await self._client.info("memory"))
            persistence = _one_node(await self._client.info("persistence"))
        return State(int(seconds), memory.get("maxmemory_policy", ""), bool(persistence.get("aof_enabled")))

    async def close(self) -> None:
        for client in (self._client, *self._sentinels):
            await client.aclose()

    async def _run(self, script: Any, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """Run a script for each of the calls, in one round trip if it can be."""
        async with self._asked():
            if len(calls) == 1 or not self._has_pipelines:
                return [await script(keys=keys, args=arguments) for keys, arguments in calls]
            pipe: Any = self._client.pipeline(transaction=False)
            for keys, arguments in calls:
                pipe.evalsha(script.sha, len(keys), *keys, *arguments)
            answers = await pipe.execute(raise_on_error=False)
            for n, (keys, arguments) in enumerate(calls):
                if isinstance(answers[n], self._forgotten):  # it did not run; called this way it loads itself
                    answers[n] = await script(keys=keys, args=arguments)
                elif isinstance(answers[n], Exception):
                    raise answers[n]
        return list(answers)

    @asynccontextmanager
    async def _asked(self) -> AsyncIterator[None]:
        """A turn at one of few connections, and an end to it, whichever client it is.

        Those of Sentinel and Cluster raise when they have a hundred connections, and ask one node after the
        other: three that are silent would take three times as long as one.
        """
        try:
            async with asyncio.timeout(LONGEST_ANSWER), self._turns:
                yield
        except self._failures as error:
            raise EphemeralUnavailable from error


def connect(url: str) -> WithFallback:
    """The Redis that `url` names, and this process alone while it does not answer."""
    try:
        return WithFallback(Redis(url))
    except ValueError:  # its text may quote a part of the URL, and so of a password
        raise ConfigurationError("KEYTURN_REDIS_URL cannot be read: is its port a number?") from None


def _one_node(answer: Any) -> Any:
    """A Cluster's client answers by node: the first one's word."""
    is_by_node = isinstance(answer, dict) and answer and all(":" in str(name) for name in answer)
    return next(iter(answer.values())) if is_by_node else answer


def _arguments(charge: Charge, now: datetime) -> tuple[str | int, ...]:
    """What `_PAY` takes as ARGV."""
    free, crowd = charge.budget.free, charge.crowd_budget
    return (
        f"{now.timestamp():.3f}",
        -1 if free is None else free,
        charge.budget.window,
        int(charge.budget.growing),
        -1 if crowd is None or crowd.free is None else crowd.free,
        0 if crowd is None else crowd.window,
    )


def _keys(charge: Charge) -> Sequence[str]:
    keys = [charge.key] if charge.crowd is None else [charge.key, charge.crowd]
    return [f"keyturn:{key}" for key in keys]


def _redis_client(url: str) -> "tuple[Client | RedisCluster, Sequence[Client]]":
    """A client for `redis://`, `rediss://`, `redis+sentinel://h:p,h:p/service` or `redis+cluster://h:p`.

    And the clients of the Sentinels that it asks, which it does not close by itself.
    """
    from redis.asyncio import BlockingConnectionPool
    from redis.asyncio import Redis as Client
    from redis.asyncio.cluster import ClusterNode, RedisCluster
    from redis.asyncio.retry import Retry
    from redis.asyncio.sentinel import Sentinel
    from redis.backoff import NoBackoff

    patience: dict[str, Any] = {
        "socket_timeout": REDIS_TIMEOUT,
        "socket_connect_timeout": REDIS_TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
    }
    parts = urlsplit(url)
    if parts.scheme in {SENTINEL, CLUSTER}:
        credentials, _, hosts = parts.netloc.rpartition("@")
        user, _, password = credentials.partition(":")
        if credentials:
            patience |= {"username": unquote(user) or None, "password": unquote(password) or None}
        nodes = [_host_and_port(host) for host in hosts.split(",")]
        if parts.scheme == CLUSTER:
            return RedisCluster(startup_nodes=[ClusterNode(*node) for node in nodes], **patience), ()
        name = parts.path.strip("/") or "mymaster"
        sentinel: Any = Sentinel(nodes, sentinel_kwargs=patience, **patience)  # type: ignore[no-untyped-call]
        master: Client = sentinel.master_for(name)
        return master, sentinel.sentinels
    pool = BlockingConnectionPool.from_url(url, max_connections=16, timeout=REDIS_TIMEOUT, **patience)
    return Client.from_pool(pool), ()  # from_pool: closing the client closes the pool


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)
