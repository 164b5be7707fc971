"""What may be forgotten: claims and counters. In this process by default, in Redis for many.

Two verbs. `claim` says whether nobody had these keys before; `pay` counts attempts before they are made and
says how long to wait instead (law 4). Nothing here may ever be needed for safety: a claim found may refuse, a
claim not found proves nothing (law 3), and SQL decides.

`WithFallback` joins the two stores: when Redis does not answer within a fifth of a second the process goes on
alone, with the smaller budgets that each `Budget` names for that case, and asks Redis again a second later.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlsplit

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

LONGEST_WAIT = 60
"""Seconds that a growing wait grows to."""


class EphemeralUnavailable(Exception):
    """The shared store did not answer."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How many attempts are free within `window` seconds, and what happens then.

    `growing`: the attempts beyond wait 1 s, 2 s, 4 s ... up to a minute, and the window begins anew with each.
    Otherwise: nothing more until the window ends. `free` of `None` only counts and never refuses.
    `alone` is `free` while the shared store is away and each replica counts by itself.
    """

    free: int | None
    window: int
    growing: bool = False
    alone: int | None = None


@dataclass(frozen=True, slots=True)
class Charge:
    """One counter to pay into.

    If `crowd` is given it is counted too, and once more than `crowd_limit` were paid there, `budget` has
    only one free attempt. It never refuses by itself.
    """

    key: str
    budget: Budget
    crowd: str | None = None
    crowd_budget: Budget | None = None


class Ephemeral(Protocol):
    async def claim(self, *keys: str, ttl: timedelta, now: datetime) -> bool:
        """Mark all keys; true if nobody had marked any of them. Exactly one of many callers gets true."""
        ...

    async def pay(self, *charges: Charge, now: datetime) -> float:
        """Pay into all, or into none: 0.0 if paid, else the seconds to wait."""
        ...

    async def refund(self, *charges: Charge, now: datetime) -> None:
        """Take a payment back after a success."""
        ...

    async def ping(self) -> None:
        """Raise `EphemeralUnavailable` if the store does not answer."""
        ...

    async def close(self) -> None: ...


@dataclass(slots=True)
class _Counter:
    paid: int = 0
    ends: float = 0.0
    until: float = 0.0


class InProcess:
    """For a single process, and what is left to each while Redis is away.

    Memory is bounded by time: every counter is paid for with a password hash or a SQL statement, and expired
    ones are swept whenever their number has doubled.
    """

    def __init__(self) -> None:
        self._claims: dict[str, float] = {}
        self._counters: dict[str, _Counter] = {}
        self._sweep_at = 1024

    async def claim(self, *keys: str, ttl: timedelta, now: datetime) -> bool:
        moment = now.timestamp()
        self._sweep(moment)
        free = [key for key in keys if self._claims.get(key, 0.0) <= moment]
        self._claims |= dict.fromkeys(free, moment + ttl.total_seconds())
        return len(free) == len(keys)

    async def pay(self, *charges: Charge, now: datetime) -> float:
        moment = now.timestamp()
        self._sweep(moment)
        waits = [self._pay(charge, moment) for charge in charges]
        worst = max(waits)
        if worst > 0:
            await self.refund(*(c for c, wait in zip(charges, waits, strict=True) if wait == 0), now=now)
        return worst

    async def refund(self, *charges: Charge, now: datetime) -> None:
        for charge in charges:
            self._refund(charge.key)
            if charge.crowd is not None:
                self._refund(charge.crowd)

    async def ping(self) -> None:
        return

    async def close(self) -> None:
        return

    def _pay(self, charge: Charge, moment: float) -> float:
        free = charge.budget.free
        if charge.crowd is not None and charge.crowd_budget is not None:
            limit = charge.crowd_budget.free
            if limit is not None and free is not None and self._counter(charge.crowd, moment).paid >= limit:
                free = 1
        counter = self._counter(charge.key, moment)
        until = counter.until
        if free is not None and until <= moment and counter.paid >= free and not charge.budget.growing:
            until = counter.ends
        if until > moment:
            return until - moment
        _count(counter, charge.budget, free, moment)
        if charge.crowd is not None and charge.crowd_budget is not None:
            _count(self._counter(charge.crowd, moment), charge.crowd_budget, None, moment)
        return 0.0

    def _refund(self, key: str) -> None:
        counter = self._counters.get(key)
        if counter is not None and counter.paid > 0:
            counter.paid -= 1
            counter.until = 0.0

    def _counter(self, key: str, moment: float) -> _Counter:
        counter = self._counters.get(key)
        if counter is None or counter.ends <= moment:
            counter = self._counters[key] = _Counter()
        return counter

    def _sweep(self, moment: float) -> None:
        if len(self._counters) + len(self._claims) < self._sweep_at:
            return
        self._counters = {key: c for key, c in self._counters.items() if c.ends > moment}
        self._claims = {key: ends for key, ends in self._claims.items() if ends > moment}
        self._sweep_at = max(1024, 2 * (len(self._counters) + len(self._claims)))


def _count(counter: _Counter, budget: Budget, free: int | None, moment: float) -> None:
    counter.paid += 1
    if counter.paid == 1 or budget.growing:
        counter.ends = moment + budget.window
    if free is not None and budget.growing and counter.paid >= free:
        counter.until = moment + min(LONGEST_WAIT, 2 ** min(counter.paid - free, 16))


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
  if tonumber(redis.call('HGET', key, 'paid') or 0) > 0 then
    redis.call('HINCRBY', key, 'paid', -1)
    redis.call('HSET', key, 'until', 0)
  end
end
return 1
"""


class Redis:
    """Shared by all replicas. Never retries: a command repeated after a timeout would count twice."""

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

    async def refund(self, *charges: Charge, now: datetime) -> None:
        await self._run(self._refund_script, [(_keys(charge), ()) for charge in charges])

    async def ping(self) -> None:
        async with self._asked():
            await self._client.ping()

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


class WithFallback:
    """The shared store while it answers; this process alone while it does not."""

    def __init__(self, shared: Ephemeral, *, pause: float = 1.0) -> None:
        self._shared = shared
        self._alone = InProcess()
        self._pause = pause
        self._ask_again_at = 0.0

    async def claim(self, *keys: str, ttl: timedelta, now: datetime) -> bool:
        if self._is_closed():
            try:
                answer = await self._shared.claim(*keys, ttl=ttl, now=now)
            except EphemeralUnavailable:
                self._go_on_alone()
            else:
                self._ask_again_at = 0.0
                return answer
        return await self._alone.claim(*keys, ttl=ttl, now=now)

    async def pay(self, *charges: Charge, now: datetime) -> float:
        if self._is_closed():
            try:
                answer = await self._shared.pay(*charges, now=now)
            except EphemeralUnavailable:
                self._go_on_alone()
            else:
                self._ask_again_at = 0.0
                return answer
        return await self._alone.pay(*map(_by_itself, charges), now=now)

    async def refund(self, *charges: Charge, now: datetime) -> None:
        await self._alone.refund(*charges, now=now)  # where it was paid is not remembered; neither goes below 0
        if self._is_closed():
            try:
                await self._shared.refund(*charges, now=now)
            except EphemeralUnavailable:
                self._go_on_alone()
            else:
                self._ask_again_at = 0.0

    async def ping(self) -> None:
        await self._shared.ping()

    async def close(self) -> None:
        await self._shared.close()

    def _is_closed(self) -> bool:
        """Whether the circuit is closed, that is whether to ask; one caller at a time probes an open one."""
        moment = monotonic()
        if moment < self._ask_again_at:
            return False
        if self._ask_again_at:
            self._ask_again_at = moment + self._pause  # the others go on alone while this one probes
        return True

    def _go_on_alone(self) -> None:
        self._ask_again_at = monotonic() + self._pause


def connect(url: str | None) -> Ephemeral:
    """The store that `url` names, joined with its fall-back; without one, this process."""
    if url is None:
        return InProcess()
    try:
        return WithFallback(Redis(url))
    except ValueError:  # its text may quote a part of the URL, and so of a password
        raise ConfigurationError("KEYTURN_REDIS_URL cannot be read: is its port a number?") from None


def _by_itself(charge: Charge) -> Charge:
    def smaller(budget: Budget) -> Budget:
        return budget if budget.alone is None else replace(budget, free=budget.alone)

    crowd = None if charge.crowd_budget is None else smaller(charge.crowd_budget)
    return replace(charge, budget=smaller(charge.budget), crowd_budget=crowd)


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
