"""An hour at a steady mixed load: `python -m bench.soak --minutes 60`. What grows then grows for ever.

Every few seconds: the service's memory and file descriptors, its connections to PostgreSQL and Redis, and the keys in
Redis that never expire. The first half is warm-up. Through what is left goes a line by least squares, with its
confidence interval; nothing leaks if a slope of nought lies within it, or if the whole of it comes to too little.
SIGINT gives the figures so far.

The load is a fixed rate, well below what the machine bears: people log in with both keys, or fail to; programs
refresh, verify and introspect; some log out, some look at themselves.
"""

import asyncio
import itertools
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter

import redis.asyncio

from bench.board import Line, command, run, say
from bench.cancelled import REDIS_POOL, SQL_POOL, redis_clients, sql_connections
from bench.figures import blocks, slope
from bench.load import Connection, connections, form, get, post
from bench.processes import descriptors, mebibytes
from bench.worlds import People, Person, Running, Tokens, World, people_of, served

WARM_UP = 1 / 2
"""Of an hour half: what /verify remembers of ended sessions grows for 30 minutes and is trimmed then (bearers.py)."""
STRETCHES = 30
"""Stretches of samples whose means the line goes through; see `figures.blocks`."""
CROWD, SESSIONS = 400, 200
"""People, of whom each logs in once in minutes and so with a code of his own; and sessions that are refreshed."""
FILLED = 100_000
"""Sessions there already: each of SQLite's two connections keeps up to 2 MiB of pages, and a database that is smaller
than that makes memory grow with it."""
AT_ONCE = 8
SAMPLES_AT_LEAST = 60
MOST_SECONDS = 10.0
"""Between two samples."""
TOO_LITTLE = 1.0
"""Of a MiB, or of any other thing: less than that in the whole time that the line goes through is nothing."""
POOLS = {"connections of PostgreSQL": SQL_POOL, "connections of Redis": REDIS_POOL}
"""They may fill; what they hold is no part of the other figures."""


@dataclass(frozen=True, slots=True)
class Sample:
    """At `hours` since the beginning."""

    hours: float
    values: dict[str, float]


class Soak:
    """The load: acts in turn, each on any connection, `per_second` of them."""

    def __init__(self, people: list[Person], sessions: list[Tokens], secret: str) -> None:
        self._people = itertools.cycle(people)
        self._sessions = deque(sessions)
        """The longest not refreshed first. Access tokens live as in earnest: ended sessions are known as long."""
        self._secret = secret
        self._strangers = itertools.count()
        self.done = 0
        self.failures: list[str] = []

    async def act(self, nth: int, line: Connection) -> None:
        acts = (self._verify, self._refresh, self._verify, self._introspect, self._verify, self._log_in, self._verify,
                self._refresh, self._fail, self._look)  # fmt: skip
        await acts[nth % len(acts)](line)
        self.done += 1

    async def _log_in(self, line: Connection) -> None:
        """Both turns, and out again every second time."""
        person = next(self._people)
        pending = (await line.send(person.password_request())).need(200).json()
        admitted = (await line.send(person.code_request(pending["mfa_token"]))).need(200).json()
        if self.done % 2:
            (await line.send(post("/logout", bearer=admitted["access_token"]))).need(204)

    async def _fail(self, line: Connection) -> None:
        name = f"stranger{next(self._strangers)}"
        (await line.send(post("/login", username=name, password="not the password"))).need(401)  # noqa: S106

    async def _refresh(self, line: Connection) -> None:
        session = self._sessions.popleft()
        request = form("/token", grant_type="refresh_token", refresh_token=session.refresh_token)
        fresh = (await line.send(request)).need(200).json()
        self._sessions.append(Tokens(fresh["access_token"], fresh["refresh_token"]))

    def _access(self) -> str:
        """Of any session: each has its turn, as they go round."""
        return self._sessions[self.done % len(self._sessions)].access_token

    async def _verify(self, line: Connection) -> None:
        (await line.send(get("/verify", bearer=self._access()))).need(204)

    async def _introspect(self, line: Connection) -> None:
        request = form("/introspect", token=self._access(), client_id="bench", client_secret=self._secret)
        (await line.send(request)).need(200)

    async def _look(self, line: Connection) -> None:
        for path in ("/me", "/sessions"):
            (await line.send(get(path, bearer=self._access()))).need(200)


async def measure(world: World, options: Namespace) -> list[Line]:
    seconds = options.minutes * 60
    async with served(world) as running:
        async with people_of(world) as people:
            load = await load_of(people)
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stopped.set)
        samples: list[Sample] = []
        async with connections(running.port, AT_ONCE) as lines, asyncio.TaskGroup() as group:
            pressing = group.create_task(press(load, lines, options.rate, seconds, stopped))
            watching = group.create_task(watch(running, world, seconds, samples, stopped))
            await asyncio.wait({pressing, watching})
    return [*verdicts(world, samples, load.done), as_expected(world, load)]


async def load_of(people: People) -> Soak:
    crowd = await people.make(CROWD)
    await people.fill(FILLED)
    return Soak(crowd, await people.log_in(SESSIONS), await people.register())


async def press(
    load: Soak, lines: list[Connection], per_second: float, seconds: float, stopped: asyncio.Event
) -> None:
    """Each connection does its share of the acts, when they are due; what is missed is not made up for."""
    begun = perf_counter()

    async def share(nth: int) -> None:
        n = nth
        while (now := perf_counter() - begun) < seconds and not stopped.is_set():
            due = n / per_second
            if due > now:
                await asyncio.sleep(due - now)
            try:
                await load.act(n, lines[nth])
            except (asyncio.IncompleteReadError, ConnectionError):
                if stopped.is_set():  # a terminal sends SIGINT to the service, too
                    return
                raise
            except RuntimeError as other_answer:
                if stopped.is_set():
                    return
                load.failures.append(str(other_answer))  # an hour's figures are worth more than a stop
            n += AT_ONCE * max(1, int((perf_counter() - begun - due) * per_second / AT_ONCE))

    async with asyncio.TaskGroup() as group:
        for nth in range(AT_ONCE):
            group.create_task(share(nth))


async def watch(
    running: Running, world: World, seconds: float, samples: list[Sample], stopped: asyncio.Event
) -> None:
    begun, every = perf_counter(), min(MOST_SECONDS, seconds / SAMPLES_AT_LEAST)
    while (passed := perf_counter() - begun) < seconds and not stopped.is_set():
        samples.append(Sample(passed / 3600, await look(running, world)))
        with suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), every)


async def look(running: Running, world: World) -> dict[str, float]:
    opened, _ = descriptors(running.pid)
    if "KEYTURN_REDIS_URL" not in world.environment:
        return {"MiB of memory": mebibytes(running.pid), "file descriptors": opened}
    sql, volatile = (await sql_connections(world))[0], await redis_clients(world)
    return {
        "MiB of memory": mebibytes(running.pid),
        "file descriptors": opened - sql - volatile,
        **dict(zip(POOLS, (sql, volatile), strict=True)),
        "Redis keys that never expire": await eternal_keys(world),
    }


async def eternal_keys(world: World) -> float:
    async with redis.asyncio.Redis.from_url(world.environment["KEYTURN_REDIS_URL"]) as client:
        spaces = (await client.info("keyspace")).values()
    return float(sum(space["keys"] - space["expires"] for space in spaces))


def verdicts(world: World, samples: list[Sample], done: int) -> list[Line]:
    lasted = 60 * samples[-1].hours if samples else 0.0
    say(f"  {world.name}: {done:,} acts in {lasted:.1f} minutes, {len(samples)} samples")
    kept = [sample for sample in samples if sample.hours >= WARM_UP * samples[-1].hours]
    if len(kept) < 3:
        return [Line(f"a soak ({world.name})", "no slope", "too short for a slope", None, command())]
    return [verdict(world, kept, what, lasted) for what in kept[0].values]


def as_expected(world: World, load: Soak) -> Line:
    for failure in load.failures[:5]:
        say(f"  {failure}")
    reached = f"{len(load.failures)} of {load.done + len(load.failures):,}"
    return Line(f"acts not answered as they must be ({world.name})", "none", reached, not load.failures, command())


def verdict(world: World, samples: list[Sample], what: str, lasted: float) -> Line:
    """Good if nought lies within the interval, or if all of it comes to too little; a pool, if it has its size."""
    points = [(sample.hours, sample.values[what]) for sample in samples]
    found = slope(blocks(points, STRETCHES))
    is_good = found.at_least <= 0 or found.at_most * (points[-1][0] - points[0][0]) <= TOO_LITTLE
    if what in POOLS:
        is_good = max(value for _, value in points) <= POOLS[what]
    reached = f"{found.per_unit:+.2f} ± {found.margin:.2f} an hour; {points[0][1]:.0f} to {points[-1][1]:.0f}"
    return Line(f"{what} in {lasted:.0f} minutes of load ({world.name})", "no slope", reached, is_good, command())


def main() -> int:
    parser = ArgumentParser(prog="python -m bench.soak", description="A steady mixed load, and what grows.")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=80, help="acts a second, of which a fifth hash a password")
    return run(parser, measure, worlds=("production",), quiet=False)


if __name__ == "__main__":
    sys.exit(main())
