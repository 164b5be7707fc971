"""The ephemeral store: one-time claims and attempt counters, in this process or, for several replicas, in Redis.

`claim` returns whether no caller has claimed any of the keys before. `charge` counts an attempt before it is made, or
returns how long to wait first (law 4: reserve, then verify). Safety must never depend on this state: if a claim
exists, the request may be refused at once; if none exists, that proves nothing, and SQL decides (law 3: Redis records
used time steps too, to refuse fast).

`WithFallback` joins the shared store, which is Redis, with one in the process. If Redis does not answer in time
(0.35 s), or refuses a command, the process uses its own counters, with the smaller number that the `RateLimit` of
sign-up and login has for that case, and tries Redis again a second later.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from time import monotonic
from typing import Protocol

from service.telemetry import metrics
from service.telemetry.event_names import LogName
from service.telemetry.log import emit, warn

MAX_BACKOFF_SECONDS = 60
"""The longest wait of a rate limit with `backoff`."""

SILENT_KINDS = frozenset({"timed_out", "tls_no_answer"})
"""Kinds of `EphemeralUnavailable` in which the store gave no answer at all."""


class EphemeralUnavailable(Exception):
    """The shared store did not answer, or refused what the service needs.

    `kind` is a short code for machines. `reason` is one sentence without secrets, for operators.
    """

    def __init__(self, kind: str = "other", reason: str = "The shared store does not answer.") -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How many attempts are free within `window` seconds, and what happens to more.

    With `backoff`, further attempts wait 1 s, 2 s, 4 s ... up to a minute, and every attempt restarts the window (law
    5: password failures slow down, they never lock out). Without `backoff`, further attempts are refused until the
    window ends. If `free` is `None`, attempts are only counted, never refused. `fallback_free` replaces `free` while
    the shared store is unavailable, because each worker then counts by itself; if it is `None`, `free` stays.
    """

    free: int | None
    window: int
    backoff: bool = False
    fallback_free: int | None = None


@dataclass(frozen=True, slots=True)
class Bucket:
    """One counter to charge, and its rate limit.

    `aggregate_key` names a counter that several buckets share: all failures of a username, from whatever address. It
    is charged too. When it reaches `aggregate_limit`, each bucket has one free attempt instead of its usual number.
    The shared counter never refuses by itself.
    """

    key: str
    limit: RateLimit
    aggregate_key: str | None = None
    aggregate_limit: RateLimit | None = None


class Ephemeral(Protocol):
    async def claim(self, *keys: str, ttl: timedelta, now: datetime) -> bool:
        """Claim all keys; true if none of them was claimed before: for each key, at most one caller gets true."""
        ...

    async def release(self, *keys: str) -> None:
        """Undo a successful claim. If the store does not answer, the claim stays until it expires."""
        ...

    async def charge(self, *buckets: Bucket, now: datetime) -> float:
        """Charge all buckets or none. Return 0.0 if they were charged, otherwise the seconds to wait.

        If the store fails while it takes back the charges of a refused attempt, they stay.
        """
        ...

    async def charge_tracked(self, *buckets: Bucket, now: datetime) -> "tuple[float, Ephemeral]":
        """Like `charge`, but also return the store that took the charge: only that store may refund it."""
        ...

    async def refund(self, *buckets: Bucket, now: datetime) -> None:
        """Take back the charge of an attempt that succeeded, or whose secret was not checked."""
        ...

    async def ping(self) -> None:
        """Raise `EphemeralUnavailable` unless the store does everything that requests need."""
        ...

    async def close(self) -> None: ...


async def probe(store: Ephemeral) -> None:
    """Ping a store before its first use, up to three times while it gives no answer in time.

    Connecting and loading the scripts takes longer than later calls. Raises `EphemeralUnavailable`.
    """
    for _ in range(2):
        try:
            await store.ping()
        except EphemeralUnavailable as error:
            if error.kind not in SILENT_KINDS:
                raise
        else:
            return
    await store.ping()


@dataclass(slots=True)
class _Counter:
    count: int = 0
    ends: float = 0.0
    until: float = 0.0


class InProcess:
    """The store of a single process, and the fallback of each process while Redis is unavailable.

    Memory is bounded. A counter stays only if its charge was not refunded, and each such charge takes a password
    hash, an SQL statement or a search for a leaked password. Expired counters and claims are removed each time their
    total has doubled.
    """

    def __init__(self) -> None:
        self._claims: dict[str, float] = {}
        self._counters: dict[str, _Counter] = {}
        self._sweep_at = 1024

    @property
    def stored_keys(self) -> list[str]:
        """The keys of the counters and claims in memory."""
        return [*self._counters, *self._claims]

    async def claim(self, *keys: str, ttl: timedelta, now: datetime) -> bool:
        moment = now.timestamp()
        self._sweep(moment)
        free = [key for key in keys if self._claims.get(key, 0.0) <= moment]
        self._claims |= dict.fromkeys(free, moment + ttl.total_seconds())
        return len(free) == len(keys)

    async def release(self, *keys: str) -> None:
        for key in keys:
            self._claims.pop(key, None)

    async def charge(self, *buckets: Bucket, now: datetime) -> float:
        moment = now.timestamp()
        self._sweep(moment)
        waits = [self._charge(bucket, moment) for bucket in buckets]
        worst = max(waits)
        if worst > 0:
            await self.refund(*(c for c, wait in zip(buckets, waits, strict=True) if wait == 0), now=now)
        return worst

    async def charge_tracked(self, *buckets: Bucket, now: datetime) -> tuple[float, Ephemeral]:
        return await self.charge(*buckets, now=now), self

    async def refund(self, *buckets: Bucket, now: datetime) -> None:
        for bucket in buckets:
            self._refund(bucket.key)
            if bucket.aggregate_key is not None:
                self._refund(bucket.aggregate_key)

    async def ping(self) -> None:
        return

    async def close(self) -> None:
        return

    def _charge(self, bucket: Bucket, moment: float) -> float:
        free = bucket.limit.free
        if bucket.aggregate_key is not None and bucket.aggregate_limit is not None:
            limit = bucket.aggregate_limit.free
            if limit is not None and free is not None and self._counter(bucket.aggregate_key, moment).count >= limit:
                free = 1
        counter = self._counter(bucket.key, moment)
        until = counter.until
        if free is not None and until <= moment and counter.count >= free and not bucket.limit.backoff:
            until = counter.ends
        if until > moment:
            return until - moment
        _count(counter, bucket.limit, free, moment)
        if bucket.aggregate_key is not None and bucket.aggregate_limit is not None:
            _count(self._counter(bucket.aggregate_key, moment), bucket.aggregate_limit, None, moment)
        return 0.0

    def _refund(self, key: str) -> None:
        counter = self._counters.get(key)
        if counter is None:
            return
        counter.count -= 1
        counter.until = 0.0
        if counter.count <= 0:
            del self._counters[key]

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


def _count(counter: _Counter, limit: RateLimit, free: int | None, moment: float) -> None:
    counter.count += 1
    if counter.count == 1 or limit.backoff:
        counter.ends = moment + limit.window
    if free is not None and limit.backoff and counter.count >= free:
        counter.until = moment + min(MAX_BACKOFF_SECONDS, 2 ** min(counter.count - free, 16))


class WithFallback:
    """The shared store while it answers; the store of this process while it does not.

    A circuit breaker: after a failure the circuit is open, and in each `pause` (seconds) one call tries the shared
    store. The first that succeeds closes the circuit.
    """

    def __init__(self, shared: Ephemeral, *, pause: float = 1.0) -> None:
        self._shared = shared
        self._fallback = InProcess()
        self._pause = pause
        self._retry_at = 0.0
        self._reported: set[str] = set()

    async def claim(self, *keys: str, ttl: timedelta, now: datetime) -> bool:
        if self._may_ask_shared():
            try:
                answer = await self._shared.claim(*keys, ttl=ttl, now=now)
            except EphemeralUnavailable as error:
                self._open_circuit(error)
            else:
                self._close_circuit()
                return answer
        return await self._fallback.claim(*keys, ttl=ttl, now=now)

    async def release(self, *keys: str) -> None:
        """Release the keys in both stores: which of them took the claim is not known any more."""
        await self._fallback.release(*keys)
        if self._may_ask_shared():
            try:
                await self._shared.release(*keys)
            except EphemeralUnavailable as error:
                self._open_circuit(error)
            else:
                self._close_circuit()

    async def charge(self, *buckets: Bucket, now: datetime) -> float:
        wait, _ = await self.charge_tracked(*buckets, now=now)
        return wait

    async def charge_tracked(self, *buckets: Bucket, now: datetime) -> "tuple[float, Ephemeral]":
        if self._may_ask_shared():
            try:
                answer = await self._shared.charge(*buckets, now=now)
            except EphemeralUnavailable as error:
                self._open_circuit(error)
            else:
                self._close_circuit()
                return answer, self
        return await self._fallback.charge(*map(_with_fallback_limits, buckets), now=now), self._fallback

    async def refund(self, *buckets: Bucket, now: datetime) -> None:
        """Refund a charge of the shared store; if the store is unavailable now, the charge stays."""
        if self._may_ask_shared():
            try:
                await self._shared.refund(*buckets, now=now)
            except EphemeralUnavailable as error:
                self._open_circuit(error)
            else:
                self._close_circuit()

    async def ping(self) -> None:
        """Probe the shared store in any state of the circuit, and open or close the circuit by the result."""
        try:
            await self._shared.ping()
        except EphemeralUnavailable as error:
            self._open_circuit(error)
            raise
        self._close_circuit()

    async def close(self) -> None:
        await self._shared.close()

    def _may_ask_shared(self) -> bool:
        """Whether to use the shared store: the circuit is closed, or this caller probes the open circuit."""
        moment = monotonic()
        if moment < self._retry_at:
            return False
        if self._retry_at:
            self._retry_at = moment + self._pause  # other callers use the fallback while this one probes
        return True

    def _open_circuit(self, error: EphemeralUnavailable) -> None:
        """Open the circuit, and report each kind of failure once until the store is back."""
        metrics.STORE_ERRORS.labels("redis").inc()
        metrics.BREAKER_OPEN.set(1)
        if error.kind not in self._reported:
            self._reported.add(error.kind)
            meanwhile = "this worker counts alone, with smaller rate limits"
            warn(LogName.REDIS_AWAY, cause=error.kind, reason=error.reason, meanwhile=meanwhile)
        self._retry_at = monotonic() + self._pause

    def _close_circuit(self) -> None:
        if self._retry_at != 0.0:
            metrics.BREAKER_OPEN.set(0)
            self._reported.clear()
            emit(LogName.REDIS_BACK)
        self._retry_at = 0.0


def _with_fallback_limits(bucket: Bucket) -> Bucket:
    def smaller(limit: RateLimit) -> RateLimit:
        return limit if limit.fallback_free is None else replace(limit, free=limit.fallback_free)

    aggregate = None if bucket.aggregate_limit is None else smaller(bucket.aggregate_limit)
    return replace(bucket, limit=smaller(bucket.limit), aggregate_limit=aggregate)
