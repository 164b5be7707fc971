"""Passwords: how they are hashed, and which are accepted.

Hashing is Argon2id with the parameters of RFC 9106's and OWASP's low-memory profile, in threads of its own,
one per core, with a short queue in front (law 9: hashing is a bounded resource). The permit to hash belongs to the
thread that hashes: a client that goes away frees nothing before its hash is done. The queue is shared fairly by where
requests come from: when it is full, who has less in it takes the place of who has most. `verify` with no hash burns
the same time on a dummy, so that an unknown user costs what a known one does (law 8: no answer reveals who exists).
"""

import asyncio
import ctypes
import os
import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

from passlib.exc import PasswordSizeError, UnknownHashError
from passlib.hash import argon2

from service import foreign_hashes, metrics
from service.errors import Busy, WeakPassword
from service.foreign_hashes import IMPORTED
from service.hash_memory import HashMemory

MAX_BYTES = 1024
"""UTF-8 bytes after NFKC: enough for any passphrase, too little to make hashing the input costly."""

_UNREADABLE = (ValueError, TypeError, NotImplementedError, UnknownHashError, PasswordSizeError)
"""What the libraries raise for a stored hash, or a password, that they cannot read."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_T = TypeVar("_T")


class Password(str):
    """A password in its normal form (NFKC), which is what hashes are made of here.

    `typed` is the text before normalising. It lives as long as the request and is used for one thing: another system
    may have hashed a password as it was typed.
    """

    __slots__ = ("typed",)
    typed: str


@dataclass(frozen=True, slots=True)
class Cost:
    """Argon2id parameters: memory in KiB, passes, lanes (RFC 9106 section 3.1)."""

    memory_kib: int = 19456
    passes: int = 2
    lanes: int = 1


CHEAPEST = Cost(memory_kib=8, passes=1)  # Only for testing!


class Passwords:
    """Hashes and verifies in a bounded number of threads."""

    def __init__(self, *, concurrency: int, queue: int, cost: Cost | None = None) -> None:
        self._cost = cost = cost or Cost()
        self._argon2 = argon2.using(
            type="ID", memory_cost=cost.memory_kib, rounds=cost.passes, parallelism=cost.lanes
        )
        self._threads = ThreadPoolExecutor(concurrency, "hash", initializer=lower_thread_priority)
        self._memory = HashMemory(concurrency, unit_kib=cost.memory_kib)
        self._concurrency = concurrency
        self._room = concurrency + queue
        self._taken: dict[Future[Any], str] = {}  # what runs and waits, the newest last, and where it came from
        self._count = threading.RLock()
        self._dummy = self._argon2.hash("no user has this password")  # and the first, slow call is done
        _trim_heap()

    async def hash(self, password: str, *, origin: str = "") -> str:
        """The password's hash in PHC string format. Raises `Busy` when the queue is full."""
        return await self._run(lambda: self._hash_with_room(password), origin)

    async def verify(self, password: str, hashed: str | None, *, origin: str = "") -> bool:
        """Whether `password` made `hashed`; `None` takes as long and is always false. Raises `Busy`.

        A stored hash that cannot be read is a password that does not match, never a failure of the service. With an
        imported hash a `Password` that normalising changed is tried as it was typed, too: two computations at most,
        in one place of the queue.
        """
        return await self._run(lambda: self._matches_with_room(password, hashed), origin)

    def is_outdated(self, hashed: str) -> bool:
        """Whether the hash was imported, or made with other parameters than today's."""
        return not _is_argon2(hashed) or bool(self._argon2.needs_update(hashed))

    async def check_policy(self, password: str, *, username: str, min_length: int) -> None:
        """Raise `WeakPassword` unless the password may be chosen by `username`."""
        if len(password) < min_length:
            raise WeakPassword(f"It needs at least {min_length} characters.")
        if password.casefold() == username.casefold():
            raise WeakPassword("It is the username.")
        if await asyncio.to_thread(_is_common, password):
            raise WeakPassword("It is one of the passwords that everybody tries first.")

    def ensure_capacity(self, origin: str) -> None:
        """Raise `Busy` if nobody from there gets a place at this moment; who gets one may lose it again."""
        with self._count:
            if len(self._taken) >= self._room and self._busiest_origin(origin) is None:
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
                raise Busy from None  # somebody from elsewhere got the place
            raise

    def _make_room_for(self, origin: str) -> bool:
        """Send away the newest that waits from where most came from, if that is fairer than sending this one away."""
        busiest = self._busiest_origin(origin)
        if busiest is None:
            return False
        newest_first = [future for future, its in reversed(self._taken.items()) if its == busiest]
        return any(future.cancel() for future in newest_first)  # what runs already cannot be

    def _busiest_origin(self, origin: str) -> str | None:
        """Where most came from, if that is fairly more than from this origin."""
        shares = Counter(self._taken.values())
        busiest, most = shares.most_common(1)[0]
        return None if most < shares[origin] + 2 else busiest

    def _free(self, done: "Future[Any]") -> None:
        with self._count:
            self._taken.pop(done, None)
            self._update_queue_metric()

    def _update_queue_metric(self) -> None:
        metrics.HASH_QUEUE.set(max(0, len(self._taken) - self._concurrency))

    def _hash_with_room(self, password: str) -> str:
        with self._memory.reserve(self._cost.memory_kib):
            return str(self._argon2.hash(password))

    def _matches_with_room(self, password: str, hashed: str | None) -> bool:
        with self._memory.reserve(self._memory_of(hashed)):
            return self._matches(password, hashed)

    def _memory_of(self, hashed: str | None) -> int:
        """The KiB that verifying this stored hash needs; for no hash, those of the dummy."""
        try:
            if hashed is None or not self.is_outdated(hashed):
                return self._cost.memory_kib
            return foreign_hashes.read(hashed.removeprefix(IMPORTED)).memory_kib
        except _UNREADABLE:
            return 0  # a stored hash that cannot be read matches nothing, and takes nothing

    def _matches(self, password: str, hashed: str | None) -> bool:
        try:
            if hashed is None:
                self._argon2.verify(password, self._dummy)
                return False
            return any(self._made(text, hashed) for text in self._candidates(password, hashed))
        except _UNREADABLE:
            return False

    def _candidates(self, password: str, hashed: str) -> tuple[str, ...]:
        """The texts that may have made the hash: ours are made of the normal form, others' perhaps of another."""
        typed = password.typed if isinstance(password, Password) else password
        if typed == password or not self.is_outdated(hashed):
            return (password,)
        return (password, typed)

    def _made(self, password: str, hashed: str) -> bool:
        hashed = hashed.removeprefix(IMPORTED)
        if _is_argon2(hashed):
            return bool(self._argon2.verify(password, hashed))
        return foreign_hashes.read(hashed).matches(password)


def _timed(work: Callable[[], _T]) -> Callable[[], _T]:
    """The work of a hashing thread, with its wait and its time counted."""
    asked = perf_counter()

    def work_and_count() -> _T:
        begun = perf_counter()
        metrics.HASH_WAIT_SECONDS.observe(begun - asked)
        try:
            return work()
        finally:
            metrics.HASH_SECONDS.observe(perf_counter() - begun)

    return work_and_count


def _is_argon2(hashed: str) -> bool:
    return hashed.startswith("$argon2")


def normalise(typed: str) -> Password:
    """NFKC (RFC 8265 takes NFC; NIST SP 800-63B allows either), so that two keyboards type one password.

    Raises `ValueError`, without the password, if it is not text or longer than 1,024 bytes.
    """
    if _UNPRINTABLE.search(typed):
        raise ValueError("A password has no control characters")
    if len(typed) > MAX_BYTES:  # before NFKC, which can be slow and can grow
        raise ValueError(f"A password has {MAX_BYTES} bytes at most")
    password = Password(unicodedata.normalize("NFKC", typed))
    if len(password.encode()) > MAX_BYTES:
        raise ValueError(f"A password has {MAX_BYTES} bytes at most")
    password.typed = typed
    return password


_common: frozenset[str] = frozenset()
_common_once = threading.Lock()


def _is_common(password: str) -> bool:
    """Whether the password is on zxcvbn's list of 30,000; read when first asked, off the event loop."""
    global _common  # noqa: PLW0603 -- a constant that is made late, since it takes 50 ms
    with _common_once:
        if not _common:
            from zxcvbn.frequency_lists import FREQUENCY_LISTS

            _common = frozenset(word for word in FREQUENCY_LISTS["passwords"] if len(word) >= 8)
    return password.casefold() in _common


def _trim_heap() -> None:
    """The C library keeps the 19 MiB of a hash for the next one, but the hashing threads keep their own."""
    with suppress(AttributeError, OSError):  # glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def lower_thread_priority() -> None:
    """Make this thread nicer than the event loop: with one hashing on each core its lag under load is halved."""
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
