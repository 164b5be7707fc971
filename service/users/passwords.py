"""Hashing and verifying passwords.

Hashing is Argon2id with parameters that OWASP recommends (19 MiB, 2 passes, 1 lane), in separate threads, by default
at most one per core, with a short queue in front (law 9: hashing is a bounded resource). If a client disconnects, its
waiting job frees its place at once, and its running job when the hash is done. The queue is shared fairly between
origins (client networks): when it is full, a request takes the place of the newest waiting job of the origin that
holds the most places, if its own origin holds at least two fewer. `verify` without a hash spends the same time on a
dummy hash, so that an unknown user takes as long as a known one (law 8: no answer reveals who exists).
"""

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

from passlib.exc import PasswordSizeError, UnknownHashError
from passlib.hash import argon2

from service.errors import Busy
from service.telemetry import metrics
from service.users import foreign_hashes
from service.users.foreign_hashes import IMPORTED
from service.users.hash_memory import HashMemory
from service.users.normalisation import Password

_UNREADABLE = (ValueError, TypeError, NotImplementedError, UnknownHashError, PasswordSizeError)
"""The errors that the libraries raise for a stored hash, or a password, that they cannot read."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Cost:
    """Argon2id parameters: memory in KiB, passes, lanes (RFC 9106 section 3.1)."""

    memory_kib: int = 19456
    passes: int = 2
    lanes: int = 1


CHEAPEST = Cost(memory_kib=8, passes=1)  # Only for testing!


class Passwords:
    """Hashes and verifies passwords in a bounded number of threads."""

    def __init__(self, *, concurrency: int, queue: int, cost: Cost | None = None) -> None:
        self._cost = cost = cost or Cost()
        self._argon2 = argon2.using(
            type="ID", memory_cost=cost.memory_kib, rounds=cost.passes, parallelism=cost.lanes
        )
        self._threads = ThreadPoolExecutor(concurrency, "hash", initializer=lower_thread_priority)
        self._memory = HashMemory(concurrency, unit_kib=cost.memory_kib)
        self._concurrency = concurrency
        self._room = concurrency + queue
        self._taken: dict[Future[Any], str] = {}  # running and waiting jobs, newest last, with origins
        self._count = threading.RLock()
        self.dummy_hash = _dummy_hash(cost)
        """What a password is verified against without a stored hash."""

    async def hash(self, password: str, *, origin: str = "") -> str:
        """Return the password's hash in PHC string format.

        Raises `Busy` if it gets no place in the queue, or loses its place to another origin.
        """
        return await self._run(lambda: self._hash_with_room(password), origin)

    async def verify(self, password: str, hashed: str | None, *, origin: str = "") -> bool:
        """Return whether `hashed` is a hash of `password`. Raises `Busy` like `hash`.

        Without a hash, verify against a dummy hash so that an unknown user takes as long as a known one, and return
        `False`. A stored hash that cannot be read matches no password; it is not a failure of the service. With an
        imported hash, a `Password` that normalisation changed is also tried as it was typed: at most two
        computations, in one place of the queue.
        """
        stored = self.dummy_hash if hashed is None else hashed  # read in the same way (law 8)
        is_match = await self._run(lambda: self._matches_with_room(password, stored), origin)
        return is_match and hashed is not None

    def is_outdated(self, hashed: str) -> bool:
        """Return whether the hash was imported, or made with parameters other than the current ones."""
        return not _is_argon2(hashed) or bool(self._argon2.needs_update(hashed))

    def ensure_capacity(self, origin: str) -> None:
        """Raise `Busy` if a job of `origin` would get no place in the queue now. This reserves no place."""
        with self._count:
            if len(self._taken) >= self._room and not self._list_replaceable(origin):
                metrics.HASH_REFUSED.inc()
                raise Busy

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    async def _run(self, work: Callable[[], _T], origin: str) -> _T:
        with self._count:
            if len(self._taken) >= self._room and not self._make_room_for(origin):
                metrics.HASH_REFUSED.inc()
                raise Busy
            future = self._threads.submit(_timed(work))
            self._taken[future] = origin
            self._update_queue_metric()
        future.add_done_callback(self._free)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if future.cancelled() and not (task and task.cancelling()):
                metrics.HASH_REFUSED.inc()
                raise Busy from None  # a job of another origin took the place
            raise

    def _make_room_for(self, origin: str) -> bool:
        """Cancel a waiting job of another origin, if that is fairer than refusing a job of `origin`."""
        return any(future.cancel() for future in self._list_replaceable(origin))

    def _list_replaceable(self, origin: str) -> list["Future[Any]"]:
        """Return the waiting jobs of the origins that hold at least two places more than `origin`.

        Those of the busiest origin come first; of one origin, the newest comes first.
        """
        shares = Counter(self._taken.values())
        return [
            future
            for busy, jobs in shares.most_common()
            if jobs >= shares[origin] + 2
            for future, its in reversed(self._taken.items())
            if its == busy and not future.running()
        ]

    def _free(self, done: "Future[Any]") -> None:
        with self._count:
            self._taken.pop(done, None)
            self._update_queue_metric()

    def _update_queue_metric(self) -> None:
        metrics.HASH_QUEUE.set(max(0, len(self._taken) - self._concurrency))

    def _hash_with_room(self, password: str) -> str:
        with self._memory.reserve(self._cost.memory_kib):
            return str(self._argon2.hash(password))

    def _matches_with_room(self, password: str, hashed: str) -> bool:
        with self._memory.reserve(self._memory_of(hashed)):
            return self._matches(password, hashed)

    def _memory_of(self, hashed: str) -> int:
        """Return the KiB that verifying this stored hash needs."""
        try:
            if not self.is_outdated(hashed):
                return self._cost.memory_kib
            return foreign_hashes.read(hashed.removeprefix(IMPORTED)).memory_kib
        except _UNREADABLE:
            return 0  # an unreadable stored hash matches no password and needs no memory

    def _matches(self, password: str, hashed: str) -> bool:
        try:
            return any(self._is_hash_of(text, hashed) for text in self._candidates(password, hashed))
        except _UNREADABLE:
            return False

    def _candidates(self, password: str, hashed: str) -> tuple[str, ...]:
        """Return the texts to try: our hashes are of the normal form, imported ones perhaps of the typed form."""
        typed = password.typed if isinstance(password, Password) else password
        if typed == password or not self.is_outdated(hashed):
            return (password,)
        return (password, typed)

    def _is_hash_of(self, password: str, hashed: str) -> bool:
        hashed = hashed.removeprefix(IMPORTED)
        if _is_argon2(hashed):
            return bool(self._argon2.verify(password, hashed))
        return foreign_hashes.read(hashed).matches(password)


def _timed(work: Callable[[], _T]) -> Callable[[], _T]:
    """Wrap the work of a hashing thread to measure its wait and its duration."""
    queued_at = perf_counter()

    def timed_work() -> _T:
        started_at = perf_counter()
        metrics.HASH_WAIT_SECONDS.observe(started_at - queued_at)
        try:
            return work()
        finally:
            metrics.HASH_SECONDS.observe(perf_counter() - started_at)

    return timed_work


def _is_argon2(hashed: str) -> bool:
    return hashed.startswith("$argon2")


def _dummy_hash(cost: Cost) -> str:
    """Return a hash of no password, which takes as long to verify as one of this cost.

    Its salt and digest are those of the cheapest hash: a hash of this cost would delay every start and every command.
    The first call of the library is slow, and is made here.
    """
    made = argon2.using(type="ID", memory_cost=8 * cost.lanes, rounds=1, parallelism=cost.lanes).hash(os.urandom(16))
    salt_and_digest = made.split("$", 4)[4]
    return f"$argon2id$v=19$m={cost.memory_kib},t={cost.passes},p={cost.lanes}${salt_and_digest}"


def lower_thread_priority() -> None:
    """Give this thread less priority than the event loop: with a hash on each core, that halves the loop's lag."""
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
