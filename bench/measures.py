"""What is measured, and what is good enough (section 5 of the design). Each function gives rows of the table."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median

from bench.load import Connection, at_rate, in_turn, storm
from bench.worlds import (
    ALL_CORES,
    SERVICE_CORE,
    People,
    Person,
    Running,
    World,
    on_cores,
    people_of,
    served,
    served_bare,
)

LOGINS_AT_ONCE = 8
"""Below what may hash and queue (17): nothing is shed, and the hashing thread is never idle."""

CODES_AT_ONCE = 16

STORM, STORM_PAUSE = 64, 0.1
"""Connections of a storm, four times what may hash and queue; and seconds until a shed one is back."""

PROBES, PROBES_PER_SECOND = 32, 50.0
"""Connections and rate of the open loop that looks how long /login-2fa takes, in calm and in storm.

The rate is about what the hashing of one core lets through: more second turns than first ones is no case.
"""


@dataclass(frozen=True, slots=True)
class Size:
    """How long a run is: how many rounds, and what is done in each."""

    rounds: int
    hashing_seconds: float
    logins: int
    codes: int
    bare_requests: int
    storms: int
    probes: int
    starts: int


FULL = Size(5, hashing_seconds=2, logins=300, codes=1500, bare_requests=8000, storms=3, probes=500, starts=5)
QUICK = Size(2, hashing_seconds=1, logins=80, codes=600, bare_requests=3000, storms=1, probes=200, starts=2)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. Its figure is the median of the rounds."""

    what: str
    goal: float
    values: Sequence[float]
    remark: str = ""
    more_is_better: bool = False

    @property
    def reached(self) -> float:
        return median(self.values)

    @property
    def is_good(self) -> bool:
        return self.reached >= self.goal if self.more_is_better else self.reached <= self.goal


async def measure(world: World, size: Size) -> AsyncIterator[Row]:
    """All rows of a world."""
    async for row in starts_and_memory(world, size):
        yield row
    async with served(world) as running, people_of(world) as people:
        await in_turn(running.port, LOGINS_AT_ONCE, logins_of(await people.make(20)))  # connections, caches
        yield await logins(running, people, size)
        yield await codes(running, people, size)
        yield await codes_in_a_storm(running, people, size)


async def starts_and_memory(world: World, size: Size) -> AsyncIterator[Row]:
    """An ordinary worker on all cores, with two hashing threads (each needs 19 MiB while it hashes)."""
    async with served(world, cores=ALL_CORES, hashing_threads=2) as running:
        first = running.ready_after
    seconds, idle, peak = [], [], []
    for _ in range(size.starts):
        async with served(world, cores=ALL_CORES, hashing_threads=2) as running, people_of(world) as people:
            seconds.append(running.ready_after)
            idle.append(running.mebibytes("VmRSS"))
            everyone = await people.make(STORM)
            async with storm(running.port, STORM, passwords_of(everyone), pause=STORM_PAUSE):
                await in_turn(running.port, CODES_AT_ONCE, codes_of(everyone))
                await asyncio.sleep(1)
            peak.append(running.mebibytes("VmHWM"))
    yield Row("seconds from start to ready", 1.5, seconds, f"the very first start {first:.2f}")
    yield Row("MiB of an idle worker", 60, idle)
    yield Row("MiB of a worker at its peak in a storm", 100, peak)


async def logins(running: Running, people: People, size: Size) -> Row:
    """Full two-factor logins a second, over Argon2id alone on the same core."""
    pairs = []
    for _ in range(size.rounds):
        everyone = await people.make(size.logins)
        raw = await hashes_per_second(size.hashing_seconds)
        pairs.append((await in_turn(running.port, LOGINS_AT_ONCE, logins_of(everyone)), raw))
    return ratio("two-factor logins / Argon2id", 0.95, pairs)


async def codes(running: Running, people: People, size: Size) -> Row:
    """`/login-2fa` alone, over a bare FastAPI POST of the same bytes on the same core."""
    pairs = []
    async with served_bare() as bare:
        for _ in range(size.rounds):
            everyone = await people.make(size.codes)
            bare_rate = await in_turn(bare.port, CODES_AT_ONCE, codes_of(everyone[:1]) * size.bare_requests)
            pairs.append((await in_turn(running.port, CODES_AT_ONCE, codes_of(everyone)), bare_rate))
    return ratio("/login-2fa / bare FastAPI POST", 0.25, pairs)


async def codes_in_a_storm(running: Running, people: People, size: Size) -> Row:
    """The 99th percentile of `/login-2fa` while logins storm, over its own in calm."""
    calm, stormy, answered, shed = [], [], 0, 0
    stormers = passwords_of(await people.make(STORM))
    for _ in range(size.storms):
        everyone = await people.make(2 * size.probes)
        probes = [person.code_request() for person in everyone]
        calm.append(p99(await at_rate(running.port, PROBES, PROBES_PER_SECOND, probes[: size.probes])))
        async with storm(running.port, STORM, stormers, pause=STORM_PAUSE) as counted:
            stormy.append(p99(await at_rate(running.port, PROBES, PROBES_PER_SECOND, probes[size.probes :])))
        answered, shed = answered + counted.answered, shed + counted.shed
    lasted = size.storms * size.probes / PROBES_PER_SECOND
    remark = f"{1000 * median(stormy):.1f} of {1000 * median(calm):.1f} ms; a second, {answered / lasted:.0f}"
    remark += f" logins answered and {shed / lasted:.0f} shed"
    return Row(
        "p99 of /login-2fa in a storm / in calm", 3, [s / c for s, c in zip(stormy, calm, strict=True)], remark
    )


def ratio(what: str, goal: float, pairs: Sequence[tuple[float, float]]) -> Row:
    """Of rounds, each a rate and the rate that it is compared with."""
    reached, base = (median(rates) for rates in zip(*pairs, strict=True))
    values = [rate / base for rate, base in pairs]
    return Row(what, goal, values, f"{reached:.0f} of {base:.0f} a second", more_is_better=True)


def p99(seconds: Sequence[float]) -> float:
    return sorted(seconds)[len(seconds) * 99 // 100]


async def hashes_per_second(seconds: float) -> float:
    with on_cores(SERVICE_CORE):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.hashing", str(seconds), stdout=asyncio.subprocess.PIPE
        )
    said, _ = await child.communicate()
    return float(said)


Piece = Callable[[Connection], Awaitable[object]]


def logins_of(everyone: Sequence[Person]) -> list[Piece]:
    """Both turns of the key, for each."""

    def both_turns(person: Person) -> Piece:
        async def log_in(connection: Connection) -> None:
            pending = (await connection.send(person.password_request())).need(200).json()
            (await connection.send(person.code_request(pending["mfa_token"]))).need(200)

        return log_in

    return [both_turns(person) for person in everyone]


def codes_of(everyone: Sequence[Person]) -> list[Piece]:
    """The second turn only, for each; written beforehand."""

    def second_turn(request: bytes) -> Piece:
        async def give_code(connection: Connection) -> None:
            (await connection.send(request)).need(200)

        return give_code

    return [second_turn(person.code_request()) for person in everyone]


def passwords_of(everyone: Sequence[Person]) -> list[bytes]:
    return [person.password_request() for person in everyone]
