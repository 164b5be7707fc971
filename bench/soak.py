"""An hour of steady mixed load: `python -m bench.soak --minutes 60`. A leak shows as growth.

Every few seconds the program records the service's memory and file descriptors, its connections to PostgreSQL and
Redis, and the keys in Redis that never expire. The first half is warm-up. It fits a line by least squares through the
rest, with a confidence interval. Nothing leaks if the interval reaches down to zero, or if the total growth is
negligible. SIGINT ends the run with the figures so far.

The load has a fixed rate, well below the capacity of the machine: users log in with two factors, or fail to; programs
refresh, verify and introspect; some users log out, some read their account.
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
"""Half of an hour: the list of ended sessions in /verify grows for 30 minutes and is then trimmed (bearers.py)."""
STRETCHES = 30
"""Stretches of samples; the line is fitted to their means, see `figures.blocks`."""
USERS, SESSIONS = 400, 200
"""Users: each logs in every 50 s at the default rate, and so with a new code. And sessions that are refreshed."""
FILLED = 100_000
"""Sessions in the database before the run: each of SQLite's two connections caches up to 2 MiB of pages, and with a
smaller database the memory would grow with it."""
AT_ONCE = 8
SAMPLES_AT_LEAST = 60
MOST_SECONDS = 10.0
"""Maximum seconds between two samples."""
TOO_LITTLE = 1.0
"""MiB, or units of another figure: less total growth in the evaluated time is negligible."""
POOLS = {"connections of PostgreSQL": SQL_POOL, "connections of Redis": REDIS_POOL}
"""Pools may fill; their connections do not count in the other figures."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The figures at `hours` since the start."""

    hours: float
    values: dict[str, float]


class Soak:
    """The load: a sequence of steps, each on any connection, `per_second` of them."""

    def __init__(self, people: list[Person], sessions: list[Tokens], secret: str) -> None:
        self._people = itertools.cycle(people)
        self._sessions = deque(sessions)
        """The session with the oldest refresh first. Access tokens keep their default lifetime: so long does /verify
        remember ended sessions."""
        self._secret = secret
        self._strangers = itertools.count()
        self.done = 0
        self.failures: list[str] = []

    async def act(self, nth: int, line: Connection) -> None:
        steps = (self._verify, self._refresh, self._verify, self._introspect, self._verify, self._log_in,
                 self._verify, self._refresh, self._fail, self._look)  # fmt: skip
        await steps[nth % len(steps)](line)
        self.done += 1

    async def _log_in(self, line: Connection) -> None:
        """Log in with both factors, and log out every second time."""
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
        """Return the access token of the next session."""
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
    users = await people.make(USERS)
    await people.fill(FILLED)
    return Soak(users, await people.log_in(SESSIONS), await people.register())


async def press(
    load: Soak, lines: list[Connection], per_second: float, seconds: float, stopped: asyncio.Event
) -> None:
    """Run the steps when they are due, shared between connections. Missed steps are not repeated."""
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
                if stopped.is_set():  # a terminal also sends SIGINT to the service
                    return
                raise
            except RuntimeError as other_answer:
                if stopped.is_set():
                    return
                load.failures.append(
                    str(other_answer)
                )  # record the failure and continue, to keep the figures of an hour
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
    say(f"  {world.name}: {done:,} steps in {lasted:.1f} minutes, {len(samples)} samples")
    kept = [sample for sample in samples if sample.hours >= WARM_UP * samples[-1].hours]
    if len(kept) < 3:
        return [Line(f"growth under load ({world.name})", "", "not measured: the run was too short", None, command())]
    return [verdict(world, kept, what, lasted) for what in kept[0].values]


def as_expected(world: World, load: Soak) -> Line:
    for failure in load.failures[:5]:
        say(f"  {failure}")
    reached = f"{len(load.failures)} of {load.done + len(load.failures):,}"
    return Line(
        f"steps of the load with an unexpected answer ({world.name})", "none", reached, not load.failures, command()
    )


def verdict(world: World, samples: list[Sample], what: str, lasted: float) -> Line:
    """Judge a figure: good if the interval reaches down to zero or growth is negligible; a pool, within its size."""
    points = [(sample.hours, sample.values[what]) for sample in samples]
    found = slope(blocks(points, STRETCHES))
    is_good = found.at_least <= 0 or found.at_most * (points[-1][0] - points[0][0]) <= TOO_LITTLE
    if what in POOLS:
        is_good = max(value for _, value in points) <= POOLS[what]
    goal = f"at most {POOLS[what]}" if what in POOLS else f"no growth, or at most {TOO_LITTLE:g} in the second half"
    reached = f"{found.per_unit:+.2f} ± {found.margin:.2f} per hour; from {points[0][1]:.0f} to {points[-1][1]:.0f}"
    return Line(f"{what} in {lasted:.0f} minutes of load ({world.name})", goal, reached, is_good, command())


def main() -> int:
    parser = ArgumentParser(prog="python -m bench.soak", description="A steady mixed load, and what grows.")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=80, help="steps per second, of which a fifth hash a password")
    return run(parser, measure, worlds=("production",), quiet=False)


if __name__ == "__main__":
    sys.exit(main())
