"""Passwords: which are accepted, how they are hashed, and what happens when there are too many to hash."""

import asyncio
import contextlib
import os
import threading
import time
import unicodedata
from base64 import b64encode
from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from hypothesis import event, given, settings
from hypothesis import strategies as st
from passlib.hash import argon2

from service.errors import Busy, WeakPassword
from service.users.foreign_hashes import read as read_foreign
from service.users.mfa_policy import MfaPolicy
from service.users.normalisation import MAX_BYTES, normalise
from service.users.password_policy import PasswordPolicy
from service.users.passwords import CHEAPEST, Cost, Passwords

no_deadline = settings(deadline=None)
SLOW = Cost(memory_kib=19456, passes=12)
"""More than 100 ms, so that something can happen while the hash is computed."""

BY_DEFAULT = PasswordPolicy(MfaPolicy(), 8, alone=15)


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    passwords = Passwords(concurrency=1, queue=4, cost=CHEAPEST)
    yield passwords
    passwords.close()


@pytest.fixture
def small_queue() -> Iterator[Passwords]:
    """Passwords with one slow thread and two places in the queue."""
    passwords = Passwords(concurrency=1, queue=2, cost=SLOW)
    yield passwords
    passwords.close()


async def test_a_password_matches_its_hash_and_no_other(passwords: Passwords) -> None:
    """Hashes are Argon2id in PHC form with a salt: two hashes of one password differ, and both match it."""
    one, two = await passwords.hash("correct horse"), await passwords.hash("correct horse")
    assert one != two
    assert one.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    for hashed in (one, two):
        assert await passwords.verify("correct horse", hashed)
        for other in ("Correct horse", "correct horse ", "correct hors", "", hashed):
            assert not await passwords.verify(other, hashed)


async def test_the_default_cost_is_the_low_memory_profile() -> None:
    """It is m=19456 KiB, t=2, p=1, unless the caller sets another one."""
    default = Passwords(concurrency=1, queue=0)
    assert (await default.hash("correct horse")).startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    default.close()


@no_deadline
@given(st.text(max_size=60))
def test_the_end_of_a_long_password_counts(text: str) -> None:
    """Nothing is cut off, at 72 bytes or elsewhere."""
    try:
        password = normalise("x" * 900 + text)
    except ValueError:
        return

    async def check(cheap: Passwords) -> None:
        hashed = await cheap.hash(password)
        assert await cheap.verify(password, hashed)
        assert not await cheap.verify(password[:-1], hashed)

    with contextlib.closing(Passwords(concurrency=1, queue=0, cost=CHEAPEST)) as cheap:
        asyncio.run(check(cheap))


async def test_no_password_matches_without_a_stored_hash(passwords: Passwords) -> None:
    """For an unknown user nothing matches: neither the password of the dummy hash nor the empty one."""
    for password in ("no user has this password", "", "correct horse"):
        assert not await passwords.verify(password, None)


async def test_not_even_the_password_of_the_dummy_hash_matches_without_a_stored_hash() -> None:
    """A match with the dummy hash admits nobody."""
    with contextlib.closing(Passwords(concurrency=1, queue=0, cost=CHEAPEST)) as passwords:
        passwords.dummy_hash = await passwords.hash("correct horse")
        assert not await passwords.verify("correct horse", None)


@pytest.mark.parametrize("cost", [CHEAPEST, Cost(), Cost(memory_kib=1024, passes=3, lanes=4)])
async def test_the_dummy_hash_costs_as_much_as_a_real_one(cost: Cost) -> None:
    """It has the parameters and the lengths of a real hash, and the library can read it."""
    with contextlib.closing(Passwords(concurrency=1, queue=0, cost=cost)) as passwords:
        *parameters, salt, digest = passwords.dummy_hash.split("$")
        *expected, real_salt, real_digest = (await passwords.hash("correct horse")).split("$")
        assert expected == parameters
        assert (len(real_salt), len(real_digest)) == (len(salt), len(digest))
        with pytest.raises(VerifyMismatchError):
            PasswordHasher().verify(passwords.dummy_hash, "correct horse")


@pytest.mark.alone
async def test_an_unknown_user_takes_as_long_as_a_known_one() -> None:
    """A hash with the current parameters is computed for an unknown user (law 8: no answer reveals who exists)."""
    passwords = Passwords(concurrency=1, queue=0, cost=Cost(memory_kib=19456, passes=4))
    hashed = await passwords.hash("correct horse")

    times: dict[str | None, list[float]] = {hashed: [], None: []}
    for stored in (hashed, None) * 8:  # alternating, so that noise of other processes meets both
        begun = time.perf_counter()
        assert not await passwords.verify("wrong horse", stored)
        times[stored].append(time.perf_counter() - begun)
    passwords.close()
    assert 0.5 < min(times[None]) / min(times[hashed]) < 2


BCRYPT = "$2b$12$abcdefghijklmnopqrstuuX2Y3Z4a5b6c7d8e9f0g1h2i3j4k5l6m"
UNREADABLE = {
    "empty": "",
    "a word": "x",
    "bcrypt": BCRYPT,
    "plain": "correct horse",
    "no digest": "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$",
    "no salt": "$argon2id$v=19$m=8,t=1,p=1$$",
    "short digest": "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$Rdes",
    "odd base64": "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$Rdes*Rdes*",
    "unknown version": "$argon2id$v=99$m=8,t=1,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b4dWRWJTmaaJObG",
    "unknown type": "$argon2x$v=19$m=8,t=1,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b4dWRWJTmaaJObG",
    "no passes": "$argon2id$v=19$m=8,t=0,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b4dWRWJTmaaJObG",
    "negative memory": "$argon2id$v=19$m=-8,t=1,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b4dWRWJTmaaJObG",
    "too little memory": "$argon2id$v=19$m=1,t=1,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b4dWRWJTmaaJObG",
    "4 TiB of memory": "$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b4dWRWJTmaaJObG",
    "too many lanes": "$argon2id$v=19$m=8,t=1,p=4294967295$c29tZXNhbHQ$RdescudvJCsgt3ub+b4dWRWJTmaaJObG",
    "too many passes": "$argon2id$v=19$m=8,t=99999999999999999999,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b4dWRWJ",
    "lone surrogate": "$argon2id$v=19$m=8,t=1,p=1$c29t\ud800ZXNhbHQ$RdescudvJCsgt3ub+b4dWRWJTmaaJObG",
    "NUL": "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$Rdes\0cudvJCsgt3ub+b4dWRWJTmaaJObG",
    "5,000 characters": "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$" + "R" * 5000,
    "associated data": "$argon2id$v=19$m=8,t=1,p=1,data=AAAA$c29tZXNhbHQ$RdescudvJCsgt3ub+b4dWRWJTmaaJObG",
    "a key's id": "$argon2id$v=19$m=8,t=1,p=1,keyid=AAAA$c29tZXNhbHQ$RdescudvJCsgt3ub+b4dWRWJTmaaJObG",
    "other digits": "$argon2id$v=19$m=\uff18,t=1,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b4dWRWJTmaaJObG",
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_a_stored_hash_that_cannot_be_read_is_a_wrong_password(passwords: Passwords, name: str) -> None:
    """It may be damaged, foreign, huge or empty: no password matches it, and nothing fails."""
    for password in ("correct horse", "", "no user has this password"):
        assert not await passwords.verify(password, UNREADABLE[name])


async def test_a_truncated_hash_is_a_wrong_password(passwords: Passwords) -> None:
    """A valid hash that is cut anywhere does not match, nor does one with something appended."""
    hashed = await passwords.hash("correct horse")
    for length in range(len(hashed)):
        assert not await passwords.verify("correct horse", hashed[:length]), hashed[:length]
    assert not await passwords.verify("correct horse", hashed + "AAAA")


@no_deadline
@given(hashed=st.text())
def test_any_text_as_a_stored_hash_matches_nothing(hashed: str) -> None:
    """The only outcome is that the password does not match, whatever the column holds."""
    with contextlib.closing(Passwords(concurrency=1, queue=0, cost=CHEAPEST)) as cheap:
        assert not asyncio.run(cheap.verify("no user has this password", hashed))


SOME_BASE64 = st.one_of(
    st.binary(min_size=8, max_size=32).map(lambda data: b64encode(data).decode().rstrip("=")),
    st.text("Az9+/", min_size=1, max_size=44),  # with unused bits, or too short, or without any byte
)


@settings(deadline=None, max_examples=300)
@given(
    cost=st.tuples(st.integers(8, 128), st.integers(1, 2), st.integers(1, 8)),
    version=st.sampled_from(["v=19$", "v=16$", "", "v=019$"]),
    more=st.sampled_from(["", "", "", ",data=AAAA"]),
    salt=SOME_BASE64,
    digest=SOME_BASE64,
)
def test_an_imported_hash_can_be_verified(
    cost: tuple[int, int, int], version: str, more: str, salt: str, digest: str
) -> None:
    """An argon2 hash of any form is refused at the import, or its library can verify a password against it."""
    hashed = "$argon2id${}m={},t={},p={}{}${}${}".format(version, *cost, more, salt, digest)
    try:
        read_foreign(hashed)
    except ValueError:
        return
    event("imported")
    assert not argon2.verify("correct horse", hashed)


async def test_a_password_that_is_not_text_is_wrong(passwords: Passwords) -> None:
    """A lone surrogate or a NUL that reaches the verification does not match and raises no error."""
    hashed = await passwords.hash("correct horse")
    for password in ("correct horse\ud800", "correct horse\0", "\0"):
        assert not await passwords.verify(password, hashed)


async def test_a_hash_with_other_parameters_is_outdated(passwords: Passwords) -> None:
    """A hash with more or less memory, passes or lanes is replaced at the next login; a current one stays."""
    assert not passwords.is_outdated(await passwords.hash("correct horse"))
    for cost in (Cost(16, 1, 1), Cost(8, 2, 1), Cost(16, 1, 2)):
        other = Passwords(concurrency=1, queue=0, cost=cost)
        hashed = await other.hash("correct horse")
        assert passwords.is_outdated(hashed), cost
        assert await passwords.verify("correct horse", hashed)
        other.close()


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("", "8 characters"),
        ("x7$kQ2w", "8 characters"),
        ("\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9", "8 characters"),  # fourteen bytes are still seven characters
        ("password1", "commonly used"),
        ("PassWord1", "commonly used"),
        ("12345678", "commonly used"),
        ("iloveyou", "commonly used"),
        ("alice.liddell", "username"),
        ("Alice.Liddell", "username"),
    ],
)
async def test_a_weak_password_is_refused_with_the_reason(passwords: Passwords, password: str, reason: str) -> None:
    """It is too short, on the list of common passwords in any case, or the username in any case."""
    with pytest.raises(WeakPassword) as refusal:
        await BY_DEFAULT.check(password, username="alice.liddell", has_second_factor=True)
    assert reason in refusal.value.reason
    assert not password or password not in str(refusal.value)


@pytest.mark.parametrize(
    "password", ["x7$kQ2w!", "only lower case words", "        ", "alice.liddell1", "\u5bc6\u7801" * 4, "x" * 1024]
)
async def test_any_other_password_is_accepted(passwords: Passwords, password: str) -> None:
    """There are no composition rules: the length is what counts (NIST SP 800-63B section 3.1.1.2)."""
    await BY_DEFAULT.check(password, username="alice.liddell", has_second_factor=True)


async def test_the_minimum_length_is_a_setting(passwords: Passwords) -> None:
    """With a minimum of fourteen characters, fourteen are accepted and thirteen are not."""
    policy = PasswordPolicy(MfaPolicy(), 14, alone=14)
    for has_second_factor in (True, False):
        await policy.check("fourteen chars", username="alice", has_second_factor=has_second_factor)
        with pytest.raises(WeakPassword, match="does not meet the policy") as refusal:
            await policy.check("thirteen char", username="alice", has_second_factor=has_second_factor)
        assert "The password needs at least 14 characters." == refusal.value.reason


def test_equivalent_spellings_of_a_password_have_one_form() -> None:
    """Composed and decomposed, full-width and half-width, ligatures and plain letters are equal (NFKC)."""
    for typed, stored in (
        ("Zoe\u0308", "Zo\u00eb"),
        ("\uff30\uff41\uff53\uff53", "Pass"),
        ("\ufb01sh", "fish"),
        ("a\u00a0b", "a b"),
        ("\u2460", "1"),
    ):
        assert stored == normalise(typed)


@given(text=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40))
@no_deadline
def test_normalising_twice_changes_nothing(text: str) -> None:
    """The form at signup is the form at login."""
    once = normalise(text)
    assert once == normalise(once) == unicodedata.normalize("NFKC", text)


@pytest.mark.parametrize(
    "character", ["\0", "\n", "\r", "\t", "\x1b", "\x1f", "\x7f", "\x80", "\x85", "\x9f", "\ud800"]
)
def test_control_characters_and_surrogates_are_refused(character: str) -> None:
    """They are refused at the beginning, inside and at the end; the error does not repeat the password."""
    for text in (f"{character}secret7", f"secret{character}7", f"secret7{character}"):
        with pytest.raises(ValueError, match="control characters") as refusal:
            normalise(text)
        assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("character", "fits"),
    [
        ("x", 1024),
        ("\u00e9", 512),
        ("\u5bc6", 341),
        ("\U0001f511", 256),
        ("\ufdfa", 31),  # NFKC makes eighteen characters of 33 bytes of this one, the greatest growth there is
        ("\u2126", 512),  # NFKC makes this one shorter: OHM SIGN, three bytes, becomes GREEK OMEGA, two
    ],
)
def test_a_password_has_at_most_1024_bytes(character: str, fits: int) -> None:
    """The bytes are those of UTF-8 after NFKC: the longest that fits is accepted, one character more is not."""
    assert len(normalise(character * fits).encode()) <= MAX_BYTES
    with pytest.raises(ValueError, match="1024 bytes") as refusal:
        normalise(character * (fits + 1))
    assert character not in str(refusal.value)


def test_a_far_too_long_password_is_not_normalised() -> None:
    """Sixteen million characters that NFKC would grow eighteenfold are refused without that cost."""
    begun = time.thread_time()
    with pytest.raises(ValueError, match="1024 bytes"):
        normalise("\ufdfa" * 2**24)
    assert time.thread_time() - begun < 1


async def test_requests_beyond_threads_and_queue_get_busy(small_queue: Passwords) -> None:
    """One request hashes, two wait, and all others are refused at once; those admitted are served."""
    begun = time.perf_counter()
    tasks = [asyncio.create_task(small_queue.hash("correct horse")) for _ in range(10)]
    await asyncio.wait(tasks, timeout=0.05)
    refused = [task for task in tasks if task.done()]
    assert {Busy} == {type(task.exception()) for task in refused}
    assert 7 == len(refused)
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert 3 == sum(isinstance(answer, str) for answer in answers)
    assert time.perf_counter() - begun > 0.1
    assert await small_queue.verify("correct horse", str(answers[0])), "the queue has room again"


async def test_many_requests_of_one_origin_leave_room_for_others() -> None:
    """In a full queue, a new job of an origin with fewer jobs evicts one of the origin with most jobs.
    Among origins with equally many, the earlier job stays.
    """
    slow = Passwords(concurrency=1, queue=5, cost=SLOW)
    many = [asyncio.create_task(slow.hash("correct horse", origin="many")) for _ in range(8)]
    others = [asyncio.create_task(slow.hash("correct horse", origin="elsewhere")) for _ in range(5)]
    third = asyncio.create_task(slow.hash("correct horse", origin="third"))
    answers = await asyncio.gather(*many, *others, third, return_exceptions=True)
    slow.close()
    outcomes = "".join("y" if isinstance(answer, str) else "n" for answer in answers)
    # Of six places "many" has all, loses three to "elsewhere" (then they are even), and one more to "third".
    assert ("yynnnnnn", "yyynn", "y") == (outcomes[:8], outcomes[8:13], outcomes[13])
    assert 8 == sum(isinstance(answer, Busy) for answer in answers)


async def test_a_job_that_runs_does_not_protect_the_waiting_ones_of_another_origin() -> None:
    """Two origins have equally many jobs, and only those of the second one wait: the newest of them is evicted."""
    slow = Passwords(concurrency=2, queue=2, cost=SLOW)
    running = [asyncio.create_task(slow.hash("correct horse", origin="running")) for _ in range(2)]
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(slow.hash("correct horse", origin="waiting")) for _ in range(2)]
    await asyncio.sleep(0)
    slow.ensure_capacity("third")
    third = asyncio.create_task(slow.hash("correct horse", origin="third"))
    answers = await asyncio.gather(*running, *waiting, third, return_exceptions=True)
    slow.close()
    assert [str, str, str, Busy, str] == [type(answer) for answer in answers]


async def test_the_capacity_check_agrees_with_the_queue(small_queue: Passwords) -> None:
    """It raises where hashing would: for an origin that fills the queue, but not for another origin."""
    small_queue.ensure_capacity("many")
    tasks = [asyncio.create_task(small_queue.hash("correct horse", origin="many")) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        small_queue.ensure_capacity("many")
    small_queue.ensure_capacity("elsewhere")
    assert [str, str, str] == [type(answer) for answer in await asyncio.gather(*tasks)], "the check takes no place"
    small_queue.ensure_capacity("many")


async def test_an_unknown_user_takes_a_place_in_the_queue(small_queue: Passwords) -> None:
    """An unknown user costs the same as a known one, in the queue as well."""
    tasks = [asyncio.create_task(small_queue.verify("correct horse", None)) for _ in range(4)]
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [False, False, False] == answers[:3]
    assert isinstance(answers[3], Busy)


async def test_a_place_is_held_until_the_thread_has_finished(small_queue: Passwords) -> None:
    """A cancelled request frees its place at once while it waits, but only at the end once it hashes.
    Law 9: hashing is a bounded resource.
    """
    tasks = [asyncio.create_task(small_queue.hash("correct horse")) for _ in range(3)]
    await asyncio.wait(tasks, timeout=0.03)
    for task in tasks:
        task.cancel()
    assert {asyncio.CancelledError} == {type(a) for a in await asyncio.gather(*tasks, return_exceptions=True)}

    # The thread still hashes for the first of them: there is room for two requests, not for three.
    tasks = [asyncio.create_task(small_queue.hash("correct horse")) for _ in range(3)]
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str, str, Busy] == [type(answer) for answer in answers]

    tasks = [asyncio.create_task(small_queue.hash("correct horse")) for _ in range(4)]
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str, str, str, Busy] == [type(answer) for answer in answers], "there is room for three again"


async def test_cancelled_requests_do_not_exceed_the_threads(small_queue: Passwords) -> None:
    """Rounds of three cancelled requests never use more threads than configured, and no place is lost."""
    before = threading.active_count()
    begun, refused = time.perf_counter(), 0
    while time.perf_counter() - begun < 0.5:
        tasks = [asyncio.create_task(small_queue.hash("correct horse")) for _ in range(3)]
        await asyncio.wait(tasks, timeout=0.01)
        for task in tasks:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        refused += sum(isinstance(answer, Busy) for answer in answers)
    assert refused > 3
    assert before + 1 == threading.active_count()
    deadline = time.perf_counter() + 30
    while time.perf_counter() < deadline:
        answers = await asyncio.gather(*(small_queue.hash("x") for _ in range(3)), return_exceptions=True)
        if not any(isinstance(answer, Busy) for answer in answers):
            break
    assert [str, str, str] == [type(answer) for answer in answers]


async def test_hashing_does_not_block_the_event_loop() -> None:
    """The event loop runs more than a thousand iterations during one hash."""
    slow = Passwords(concurrency=1, queue=0, cost=SLOW)
    task = asyncio.create_task(slow.hash("correct horse"))
    iterations = 0
    while not task.done():
        await asyncio.sleep(0)
        iterations += 1
    slow.close()
    assert iterations > 1000


@pytest.mark.skipif(not hasattr(os, "setpriority"), reason="this system has no priorities of threads")
async def test_hashing_threads_have_a_lower_priority(small_queue: Passwords) -> None:
    """Their nice value is higher than that of the event loop, which keeps its own."""
    own, before = os.getpriority(os.PRIO_PROCESS, 0), threading.enumerate()
    await small_queue.hash("correct horse")
    (thread,) = [thread for thread in threading.enumerate() if thread not in before]
    assert os.getpriority(os.PRIO_PROCESS, thread.native_id or 0) >= min(19, own + 1)
    assert own == os.getpriority(os.PRIO_PROCESS, 0)
