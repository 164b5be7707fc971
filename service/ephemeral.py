"""What may be forgotten: claims and counters. In this process by default, in Redis for many.

Two verbs. `claim` says whether nobody had these keys before; `pay` counts attempts before they are made and
says how long to wait instead (law 4: reserve, then verify). Nothing here may ever be needed for safety: a claim found
may refuse, a claim not found proves nothing (law 3: Redis tracks used windows too, as a fast refusal), and SQL
decides.

`WithFallback` joins the two stores: when Redis does not answer within a fifth of a second, or refuses, the process
goes on alone, with the smaller budgets that each `Budget` names for that case, and asks Redis again a second later.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from time import monotonic
from typing import Protocol

from service import metrics
from service.log import emit, warn

LONGEST_WAIT = 60
"""Seconds that a growing wait grows to."""

LATE = frozenset({"timed_out", "tls_no_answer"})
"""Kinds of `EphemeralUnavailable` in which the store said nothing at all."""


class EphemeralUnavailable(Exception):
    """The shared store did not answer, or refused what the service needs.

    `kind` is one of few words, for machines. `reason` is one sentence without secrets, for operators.
    """

    def __init__(self, kind: str = "other", reason: str = "The shared store does not answer.") -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


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

    async def release(self, *keys: str) -> None:
        """Take the marks of a successful claim back. Where the store does not answer they stay until they expire."""
        ...

    async def pay(self, *charges: Charge, now: datetime) -> float:
        """Pay into all, or into none: 0.0 if paid, else the seconds to wait."""
        ...

    async def pay_noting(self, *charges: Charge, now: datetime) -> "tuple[float, Ephemeral]":
        """Pay, and say who is to refund it: what one store took, another must not give back."""
        ...

    async def refund(self, *charges: Charge, now: datetime) -> None:
        """Take a payment back after a success."""
        ...

    async def ping(self) -> None:
        """Raise `EphemeralUnavailable` unless the store does all that serving needs."""
        ...

    async def close(self) -> None: ...


async def probe(store: Ephemeral) -> None:
    """Ping a store that is used for the first time: one that is only late is asked three times.

    Connecting and loading the scripts takes longer than what follows. Raises `EphemeralUnavailable`.
    """
    for _ in range(2):
        try:
            await store.ping()
        except EphemeralUnavailable as error:
            if error.kind not in LATE:
                raise
        else:
            return
    await store.ping()


@dataclass(slots=True)
class _Counter:
    paid: int = 0
    ends: float = 0.0
    until: float = 0.0


class InProcess:
    """For a single process, and what is left to each while Redis is away.

    Memory is bounded by time: a counter stays only for what was paid and not refunded, a password hash or a SQL
    statement each, and expired ones are swept whenever their number has doubled.
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

    async def release(self, *keys: str) -> None:
        for key in keys:
            self._claims.pop(key, None)

    async def pay(self, *charges: Charge, now: datetime) -> float:
        moment = now.timestamp()
        self._sweep(moment)
        waits = [self._pay(charge, moment) for charge in charges]
        worst = max(waits)
        if worst > 0:
            await self.refund(*(c for c, wait in zip(charges, waits, strict=True) if wait == 0), now=now)
        return worst

    async def pay_noting(self, *charges: Charge, now: datetime) -> tuple[float, Ephemeral]:
        return await self.pay(*charges, now=now), self

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
        if counter is None:
            return
        counter.paid -= 1
        counter.until = 0.0
        if counter.paid <= 0:
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


def _count(counter: _Counter, budget: Budget, free: int | None, moment: float) -> None:
    counter.paid += 1
    if counter.paid == 1 or budget.growing:
        counter.ends = moment + budget.window
    if free is not None and budget.growing and counter.paid >= free:
        counter.until = moment + min(LONGEST_WAIT, 2 ** min(counter.paid - free, 16))


class WithFallback:
    """The shared store while it answers; this process alone while it does not."""

    def __init__(self, shared: Ephemeral, *, pause: float = 1.0) -> None:
        self._shared = shared
        self._alone = InProcess()
        self._pause = pause
        self._ask_again_at = 0.0
        self._reported: set[str] = set()

    async def claim(self, *keys: str, ttl: timedelta, now: datetime) -> bool:
        if self._is_closed():
            try:
                answer = await self._shared.claim(*keys, ttl=ttl, now=now)
            except EphemeralUnavailable as error:
                self._go_on_alone(error)
            else:
                self._it_answered()
                return answer
        return await self._alone.claim(*keys, ttl=ttl, now=now)

    async def release(self, *keys: str) -> None:
        """In both: which of them took the claim is not known any more."""
        await self._alone.release(*keys)
        if self._is_closed():
            try:
                await self._shared.release(*keys)
            except EphemeralUnavailable as error:
                self._go_on_alone(error)
            else:
                self._it_answered()

    async def pay(self, *charges: Charge, now: datetime) -> float:
        wait, _ = await self.pay_noting(*charges, now=now)
        return wait

    async def pay_noting(self, *charges: Charge, now: datetime) -> "tuple[float, Ephemeral]":
        if self._is_closed():
            try:
                answer = await self._shared.pay(*charges, now=now)
            except EphemeralUnavailable as error:
                self._go_on_alone(error)
            else:
                self._it_answered()
                return answer, self
        return await self._alone.pay(*map(_by_itself, charges), now=now), self._alone

    async def refund(self, *charges: Charge, now: datetime) -> None:
        """Of what the shared store took; if it is away by now, that stays paid."""
        if self._is_closed():
            try:
                await self._shared.refund(*charges, now=now)
            except EphemeralUnavailable as error:
                self._go_on_alone(error)
            else:
                self._it_answered()

    async def ping(self) -> None:
        """Probe the shared store, whatever state the circuit is in, and set the circuit by what came of it."""
        try:
            await self._shared.ping()
        except EphemeralUnavailable as error:
            self._go_on_alone(error)
            raise
        self._it_answered()

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

    def _go_on_alone(self, error: EphemeralUnavailable) -> None:
        """Open the circuit, and report each kind of failure once until the store is back."""
        metrics.STORE_ERRORS.labels("redis").inc()
        metrics.BREAKER_OPEN.set(1)
        if error.kind not in self._reported:
            self._reported.add(error.kind)
            meanwhile = "this worker counts alone, with smaller budgets"
            warn("redis.away", cause=error.kind, reason=error.reason, meanwhile=meanwhile)
        self._ask_again_at = monotonic() + self._pause

    def _it_answered(self) -> None:
        if self._ask_again_at != 0.0:
            metrics.BREAKER_OPEN.set(0)
            self._reported.clear()
            emit("redis.back")
        self._ask_again_at = 0.0


def _by_itself(charge: Charge) -> Charge:
    def smaller(budget: Budget) -> Budget:
        return budget if budget.alone is None else replace(budget, free=budget.alone)

    crowd = None if charge.crowd_budget is None else smaller(charge.crowd_budget)
    return replace(charge, budget=smaller(charge.budget), crowd_budget=crowd)
