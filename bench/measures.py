"""The measurements and their goals. Each function yields rows of the table."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import median
from time import perf_counter

from bench.figures import percentile
from bench.load import Connection, at_rate, connections, form, get, in_turn, login_burst, post, without_pauses
from bench.searching import GOAL_MS, searches, token_of_client, with_admin_api
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
"""Fewer than may hash and queue (17): nothing is shed, and the hashing thread is never idle."""

CODES_AT_ONCE = 16

BURST, BURST_PAUSE = 64, 0.1
"""Connections of a burst, nearly four times as many as may hash and queue; and seconds until a shed one repeats."""

PROBES, PROBES_PER_SECOND = 32, 50.0
"""Connections and rate of the open loop that measures /login-2fa, with and without a burst.

The rate is about that of the hashing on one core: in practice, no more codes than passwords arrive.
"""


Piece = Callable[[Connection], Awaitable[object]]
Probes = Callable[[People, int], Awaitable[list[bytes]]]
"""Makes new requests of a kind."""


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a run: the number of rounds, and the requests in each."""

    rounds: int
    hashing_seconds: float
    logins: int
    codes: int
    bare_requests: int
    bursts: int
    probes: int
    starts: int
    many_sessions: int
    many_users: int
    searches: int


FULL = Size(
    5, hashing_seconds=2, logins=300, codes=1500, bare_requests=8000, bursts=3, probes=500, starts=5,
    many_sessions=1_000_000, many_users=100_000, searches=200,
)  # fmt: skip
QUICK = Size(
    2, hashing_seconds=1, logins=80, codes=600, bare_requests=3000, bursts=1, probes=200, starts=2,
    many_sessions=50_000, many_users=10_000, searches=100,
)  # fmt: skip


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
    """Yield all rows of a world."""
    async for row in starts_and_memory(world, size):
        yield row
    async with served(world) as running, people_of(world) as people:
        await in_turn(running.port, LOGINS_AT_ONCE, logins_of(await people.make(20)))  # connections, caches
        yield await logins(running, people, size)
        yield await codes(running, people, size)
        yield await p99_in_a_burst(running, people, size, "/login-2fa", code_requests)
        async for row in tokens(running, people, size):
            yield row
    async with served(with_admin_api(world)) as running, people_of(world) as people:
        yield await search(running, people, size)


async def tokens(running: Running, people: People, size: Size) -> AsyncIterator[Row]:
    """Measure refresh, verify and introspect, each also during a burst, and refresh with many sessions."""
    secret = await people.register()

    async def introspections(people: People, how_many: int) -> list[bytes]:
        sessions = await people.log_in(how_many)
        return [form("/introspect", token=s.access_token, client_id="bench", client_secret=secret) for s in sessions]

    kinds = (("/token", refreshes), ("/verify", verifications), ("/introspect", introspections))
    async with served_bare() as bare:
        few = [await refresh_rate(running, bare, people, size) for _ in range(size.rounds)]
        yield ratio("/token refresh / bare FastAPI POST", 0.5, few)
        yield await verify_rate(running, bare, people, size)
        yield await introspect_rate(running, bare, people, introspections, size)
        yield await seconds_to_notice(running, people, size)
        for path, make in kinds:
            yield await p99_in_a_burst(running, people, size, path, make)
        await people.fill(size.many_sessions)
        many = [await refresh_rate(running, bare, people, size) for _ in range(size.rounds)]
    of_bare = [rate / base for rate, base in few]
    values = [rate / base / median(of_bare) for rate, base in many]
    remark = f"{median(rate for rate, _ in many):.0f} per second, relative to bare in both cases"
    yield Row(f"/token at {size.many_sessions:,} sessions / at few", 0.9, values, remark, more_is_better=True)


async def starts_and_memory(world: World, size: Size) -> AsyncIterator[Row]:
    """Measure a worker on all cores, with two hashing threads (each needs 19 MiB while it hashes)."""
    async with served(world, cores=ALL_CORES, hashing_threads=2) as running:
        first = running.ready_after
    seconds, idle, peak = [], [], []
    for _ in range(size.starts):
        async with served(world, cores=ALL_CORES, hashing_threads=2) as running, people_of(world) as people:
            seconds.append(running.ready_after)
            idle.append(running.mebibytes("VmRSS"))
            everyone = await people.make(BURST)
            async with login_burst(running.port, BURST, passwords_of(everyone), pause=BURST_PAUSE):
                await in_turn(running.port, CODES_AT_ONCE, codes_of(everyone))
                await asyncio.sleep(1)
            peak.append(running.mebibytes("VmHWM"))
    yield Row("seconds from start to ready", 1.5, seconds, f"the first start took {first:.2f}")
    yield Row("MiB of an idle worker", 60, idle)
    yield Row("MiB of a worker at its peak in a burst", 100, peak)


async def logins(running: Running, people: People, size: Size) -> Row:
    """Measure two-factor logins per second, relative to Argon2id alone on the same core."""
    pairs = []
    for _ in range(size.rounds):
        everyone = await people.make(size.logins)
        raw = await hashes_per_second(size.hashing_seconds)
        pairs.append((await in_turn(running.port, LOGINS_AT_ONCE, logins_of(everyone)), raw))
    return ratio("two-factor logins / Argon2id", 0.95, pairs)


async def codes(running: Running, people: People, size: Size) -> Row:
    """Measure `/login-2fa` alone, relative to a bare FastAPI POST of the same bytes on the same core."""
    pairs = []
    async with served_bare() as bare:
        for _ in range(size.rounds):
            everyone = await people.make(size.codes)
            bare_rate = await in_turn(bare.port, CODES_AT_ONCE, codes_of(everyone[:1]) * size.bare_requests)
            pairs.append((await in_turn(running.port, CODES_AT_ONCE, codes_of(everyone)), bare_rate))
    return ratio("/login-2fa / bare FastAPI POST", 0.25, pairs)


async def refresh_rate(running: Running, bare: Running, people: People, size: Size) -> tuple[float, float]:
    """Return refreshes per second, each of another session, and the rate of bare FastAPI."""
    requests = await refreshes(people, size.codes)
    base = await in_turn(bare.port, CODES_AT_ONCE, codes_of(await people.make(1)) * size.bare_requests)
    return await in_turn(running.port, CODES_AT_ONCE, sent(requests, 200)), base


async def verify_rate(running: Running, bare: Running, people: People, size: Size) -> Row:
    """Measure `/verify` of tokens it has seen before, as from a gateway, relative to a bare FastAPI GET."""
    pairs = []
    requests = await verifications(people, 100)
    for _ in range(size.rounds):
        base = await in_turn(bare.port, CODES_AT_ONCE, sent([get("/verify")], 200) * size.bare_requests)
        repeated = sent(requests, 204) * (size.bare_requests // len(requests))
        pairs.append((await in_turn(running.port, CODES_AT_ONCE, repeated), base))
    return ratio("/verify / bare FastAPI GET", 0.8, pairs)


async def introspect_rate(running: Running, bare: Running, people: People, introspections: Probes, size: Size) -> Row:
    """Measure `/introspect`, which has two database queries, relative to the same GET."""
    pairs = []
    for _ in range(size.rounds):
        requests = await introspections(people, size.codes)
        base = await in_turn(bare.port, CODES_AT_ONCE, sent([get("/verify")], 200) * size.bare_requests)
        pairs.append((await in_turn(running.port, CODES_AT_ONCE, sent(requests, 200)), base))
    return ratio("/introspect / bare FastAPI GET (no goal)", 0, pairs)


async def seconds_to_notice(running: Running, people: People, size: Size) -> Row:
    """Measure the time from the answer of /logout until /verify refuses a token that it had accepted before."""
    took = []
    async with connections(running.port, 1) as (connection,):
        for session in await people.log_in(4 * size.rounds):
            question = get("/verify", bearer=session.access_token)
            (await connection.send(question)).need(204)
            (await connection.send(post("/logout", bearer=session.access_token))).need(204)
            begun = perf_counter()
            while (await connection.send(question)).status == 204:
                pass
            took.append(perf_counter() - begun)
    return Row("seconds until /verify knows of a logout", 1, [max(took)], f"the longest of {len(took)}")


async def p99_in_a_burst(running: Running, people: People, size: Size, path: str, make: Probes) -> Row:
    """Measure the 99th percentile of a path during a burst of logins, relative to the one without a burst."""
    calm, loaded, answered, shed = [], [], 0, 0
    logging_in = passwords_of(await people.make(BURST))
    expected = 204 if path == "/verify" else 200

    async def look(probes: Sequence[bytes]) -> float:
        return p99(await at_rate(running.port, PROBES, PROBES_PER_SECOND, probes, expected=expected))

    for _ in range(size.bursts):
        probes = await make(people, 2 * size.probes)
        calm.append(await look(probes[: size.probes]))
        async with login_burst(running.port, BURST, logging_in, pause=BURST_PAUSE) as counted:
            loaded.append(await look(probes[size.probes :]))
        answered, shed = answered + counted.answered, shed + counted.shed
    lasted = size.bursts * size.probes / PROBES_PER_SECOND
    remark = f"{1000 * median(loaded):.1f} of {1000 * median(calm):.1f} ms; per second, {answered / lasted:.0f}"
    remark += f" logins answered and {shed / lasted:.0f} shed"
    values = [s / c for s, c in zip(loaded, calm, strict=True)]
    return Row(f"p99 of {path} in a burst / without", 3, values, remark)


async def search(running: Running, people: People, size: Size) -> Row:
    """Measure the search of users by prefix, first and later pages. `bench.searching` does so with a million."""
    await people.fill_users(size.many_users)
    rounds = []
    async with connections(running.port, 1) as (connection,):
        bearer = await token_of_client(connection, people)
        for seed in range(size.rounds):
            with without_pauses():
                first, later = await searches(connection, bearer, size.searches, seed=seed)
            rounds.append(first + later)
    remark = f"the 99th percentile; the median is {median(chain(*rounds)):.2f} ms"
    return Row(
        f"ms of a search in {size.many_users:,} users", GOAL_MS, [percentile(one, 0.99) for one in rounds], remark
    )


def ratio(what: str, goal: float, pairs: Sequence[tuple[float, float]]) -> Row:
    """Make a row from rounds, each a rate and the rate of comparison."""
    reached, base = (median(rates) for rates in zip(*pairs, strict=True))
    values = [rate / base for rate, base in pairs]
    return Row(what, goal, values, f"{reached:.0f} of {base:.0f} per second", more_is_better=True)


def p99(seconds: Sequence[float]) -> float:
    return sorted(seconds)[len(seconds) * 99 // 100]


async def hashes_per_second(seconds: float) -> float:
    with on_cores(SERVICE_CORE):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.hashing", str(seconds), stdout=asyncio.subprocess.PIPE
        )
    said, _ = await child.communicate()
    return float(said)


def sent(requests: Sequence[bytes], expected: int) -> list[Piece]:
    """Return the work that sends each request once."""

    def piece(request: bytes) -> Piece:
        async def send(connection: Connection) -> None:
            (await connection.send(request)).need(expected)

        return send

    return [piece(request) for request in requests]


async def code_requests(people: People, how_many: int) -> list[bytes]:
    return [person.code_request() for person in await people.make(how_many)]


async def refreshes(people: People, how_many: int) -> list[bytes]:
    sessions = await people.log_in(how_many)
    return [form("/token", grant_type="refresh_token", refresh_token=session.refresh_token) for session in sessions]


async def verifications(people: People, how_many: int) -> list[bytes]:
    return [get("/verify", bearer=session.access_token) for session in await people.log_in(how_many)]


def logins_of(everyone: Sequence[Person]) -> list[Piece]:
    """Return the work of one complete login, with both factors, for each user."""

    def both_steps(person: Person) -> Piece:
        async def log_in(connection: Connection) -> None:
            pending = (await connection.send(person.password_request())).need(200).json()
            (await connection.send(person.code_request(pending["mfa_token"]))).need(200)

        return log_in

    return [both_steps(person) for person in everyone]


def codes_of(everyone: Sequence[Person]) -> list[Piece]:
    """Return the work of one /login-2fa for each user, with the request made beforehand."""

    return sent([person.code_request() for person in everyone], 200)


def passwords_of(everyone: Sequence[Person]) -> list[bytes]:
    return [person.password_request() for person in everyone]
