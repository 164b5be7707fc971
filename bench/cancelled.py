"""Requests cut midway: `python -m bench.cancelled [--requests 10000]`.

Clients disconnect while they send a request, while it is processed, or while they receive the answer; with FIN or
with RST; with and without other requests in the same connection, before or after it. Then other clients send
requests, and every answer must belong to its request: it has the id of the request, and the username or the session
in question.

Before and after that, without clients, the program records what the service holds open, its connections to the
database and Redis, and whether as many logins as before can hash and wait at once.
"""

import asyncio
import random
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count

import asyncpg
import redis.asyncio
from jwt import decode

from bench.board import Line, command, run, say
from bench.load import Answer, Connection, connections, form, get, post, tagged
from bench.processes import descriptors
from bench.worlds import PASSWORD, People, Running, World, people_of, served

AT_ONCE, PEOPLE = 50, 50
ROOM = 17
"""Logins that may hash and wait at once: one thread, and sixteen in the queue."""
BURSTS, OVERLOAD = 10, 60
SQL_POOL, REDIS_POOL = 10, 16
PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Question:
    """A request, and a test that recognises its answer. A login may be shed, with an answer that says so."""

    request: bytes
    is_its_own: Callable[[Answer], bool]


@dataclass
class Tally:
    """The results of the requests."""

    wanted: int
    cut: int = 0
    followed: int = 0
    crossed: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    identities: "count[int]" = field(default_factory=count)

    def judge(self, identity: str, question: Question, answer: Answer) -> None:
        self.followed += 1
        if answer.status >= 500 and answer.status != 503:
            self.broken.append(f"{answer.status} to {question.request[:40]!r}")
        elif answer.header("x-request-id") != identity or not question.is_its_own(answer):
            self.crossed.append(f"{answer.status} {answer.body[:200]!r} to {question.request[:200]!r}")

    def identify(self) -> str:
        return f"question-{next(self.identities)}"


@dataclass(frozen=True, slots=True)
class State:
    """What the service holds without clients. Without PostgreSQL and Redis their figures are zero."""

    files: int
    clients: int
    sql: int
    sql_in_transaction: int
    redis: int
    shed_of_room: int
    answered_of_overload: int
    waiting: float

    def has_lost_nothing_since(self, before: "State") -> bool:
        """Return whether nothing grew, except pools up to their size."""
        is_open = self.files > before.files or self.clients > before.clients or self.sql_in_transaction
        is_full = self.sql > max(SQL_POOL, before.sql) or self.redis > max(REDIS_POOL, before.redis)
        return not is_open and not is_full

    @property
    def has_all_permits(self) -> bool:
        """Return whether no permit is lost: as many logins succeed as may wait, plus a few that start in between."""
        is_free = self.shed_of_room == 0 and self.waiting == 0
        return is_free and ROOM <= self.answered_of_overload <= ROOM + 10


async def measure(world: World, options: Namespace) -> list[Line]:
    async with served(world) as running:
        async with people_of(world) as people:
            ask = await questions(people, options.requests)
            names = await people.make_without_factor(OVERLOAD)
        logins = [post("/login", username=name, password=PASSWORD) for name in names]
        before = await look(running, world, logins)
        tally = Tally(options.requests)
        async with asyncio.timeout(60 + options.requests / 20), asyncio.TaskGroup() as group:
            for nth in range(AT_ONCE):
                group.create_task(cut_and_follow(running.port, ask, tally, random.Random(nth)))
        after = await look(running, world, logins)
    say(f"  {world.name} before {before}\n  {world.name} after  {after}")
    for what in (*tally.crossed[:5], *tally.broken[:5]):
        say(f"  {what}")
    return lines(world, tally, before, after)


def lines(world: World, tally: Tally, before: State, after: State) -> list[Line]:
    cut = f"{tally.cut:,} requests whose client disconnected midway"
    crossed = f"{len(tally.crossed)} of {tally.followed:,} answers do not; {len(tally.broken)} 5xx other than 503"
    held = f"{after.files} files, {after.sql} connections to PostgreSQL, {after.redis} to Redis, "
    held += f"{after.clients} other sockets (before: {before.files}, {before.sql}, {before.redis}, {before.clients})"
    is_kept = after.has_lost_nothing_since(before)
    permits = (
        f"of {BURSTS} times {ROOM} logins {after.shed_of_room} refused; of {OVERLOAD} at once "
        f"{after.answered_of_overload} accepted"
    )
    permits += f" (before: {before.shed_of_room}; {before.answered_of_overload})"
    is_sorted = not tally.crossed and not tally.broken
    return [
        Line(f"{cut} ({world.name})", "every answer belongs to its request", crossed, is_sorted, command()),
        Line(f"{cut} ({world.name})", "no file or connection stays open", held, is_kept, command()),
        Line(f"{cut} ({world.name})", "no hashing permit is lost", permits, after.has_all_permits, command()),
    ]


async def questions(people: People, how_many: int) -> Callable[[random.Random], Question]:
    """Return a function that makes questions, each about one user or session, which its answer names."""
    secret = await people.register()
    named = [(await people.log_in(1))[0] for _ in range(PEOPLE)]
    names = [claims_of(session.access_token)["username"] for session in named]
    once = iter(await people.log_in(how_many))
    plain = await people.make_without_factor(PEOPLE)

    def verify(n: int) -> Question:
        return Question(
            get("/verify", bearer=named[n].access_token),
            lambda answer: (answer.status, answer.header("x-auth-username")) == (204, names[n]),
        )

    def me(n: int) -> Question:
        return Question(
            get("/me", bearer=named[n].access_token),
            lambda answer: answer.status == 200 and answer.json()["username"] == names[n],
        )

    def introspect(n: int) -> Question:
        request = form("/introspect", token=named[n].access_token, client_id="bench", client_secret=secret)
        sid = claims_of(named[n].access_token)["sid"]
        return Question(request, lambda answer: answer.status == 200 and answer.json()["sid"] == sid)

    def refresh(_: int) -> Question:
        session = next(once, None)
        if session is None:  # each refresh token is valid once
            return verify(0)
        sid = claims_of(session.access_token)["sid"]
        return Question(
            form("/token", grant_type="refresh_token", refresh_token=session.refresh_token),
            lambda answer: answer.status == 200 and claims_of(answer.json()["access_token"])["sid"] == sid,
        )

    def log_in(n: int) -> Question:
        def is_its_own(answer: Answer) -> bool:
            if answer.status != 200:
                return (answer.status, answer.json()["code"]) == (503, "busy")
            return bool(claims_of(answer.json()["access_token"])["username"] == plain[n])

        return Question(post("/login", username=plain[n], password=PASSWORD), is_its_own)

    kinds = (verify, me, introspect, refresh, log_in)

    def ask(chance: random.Random) -> Question:
        return chance.choice(kinds)(chance.randrange(PEOPLE))

    return ask


def claims_of(token: str) -> dict[str, str]:
    claims: dict[str, str] = decode(token, options={"verify_signature": False})
    return claims


async def cut_and_follow(
    port: int, ask: Callable[[random.Random], Question], tally: Tally, chance: random.Random
) -> None:
    while tally.cut < tally.wanted:
        async with connections(port, 1) as (line,):
            await cut(line, [ask(chance) for _ in range(chance.choice((1, 1, 1, 2, 4)))], tally, chance)
        async with connections(port, 1) as (line,):
            await follow(line, [ask(chance) for _ in range(chance.choice((1, 1, 3)))], tally)


async def cut(line: Connection, asked: Sequence[Question], tally: Tally, chance: random.Random) -> None:
    """Send the requests, the last perhaps in part; read some answers, the last perhaps in part; disconnect."""
    identities = [tally.identify() for _ in asked]
    sent = [tagged(question.request, identity) for question, identity in zip(asked, identities, strict=True)]
    where = chance.choice(("in the request", "before the answer", "in the answer"))
    if where == "in the request":
        sent[-1] = sent[-1][: chance.randrange(1, len(sent[-1]))]
    line.write(b"".join(sent))
    taken = chance.randrange(len(asked))
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        async with asyncio.timeout(PATIENCE):
            for n in range(taken):
                tally.judge(identities[n], asked[n], await line.receive())
            if where == "before the answer":
                await asyncio.sleep(chance.random() ** 2 * 0.04)
            elif where == "in the answer":
                await line.receive_some(chance.randrange(1, 200))
    tally.cut += len(asked) - taken
    if chance.random() < 0.5:
        line.reset()


async def follow(line: Connection, asked: Sequence[Question], tally: Tally) -> None:
    """Send the requests in one packet, and read every answer."""
    identities = [tally.identify() for _ in asked]
    line.write(b"".join(tagged(q.request, identity) for q, identity in zip(asked, identities, strict=True)))
    async with asyncio.timeout(PATIENCE):
        for identity, question in zip(identities, asked, strict=True):
            tally.judge(identity, question, await line.receive())


async def look(running: Running, world: World, logins: Sequence[bytes]) -> State:
    """Send bursts of logins, and read afterwards what the service still holds."""
    shed = 0
    await asyncio.sleep(1)  # a login whose client disconnected keeps its permit until the hash is done
    for _ in range(BURSTS):
        shed += sum(answer.status == 503 for answer in await at_once(running.port, logins[:ROOM]))
    overload = await at_once(running.port, logins[:OVERLOAD])
    await asyncio.sleep(0.5)
    async with connections(running.port, 1) as (line,):
        metrics = (await line.send(get("/metrics"))).need(200).body.decode()
    waiting = float(metrics.partition("\nkeyturn_hash_queue ")[2].split()[0])
    await asyncio.sleep(0.5)
    opened, sockets = descriptors(running.pid)
    sql, in_transaction = await sql_connections(world)
    volatile = await redis_clients(world)
    return State(
        files=opened - sockets,
        clients=sockets - sql - volatile,
        sql=sql,
        sql_in_transaction=in_transaction,
        redis=volatile,
        shed_of_room=shed,
        answered_of_overload=sum(answer.status == 200 for answer in overload),
        waiting=waiting,
    )


async def at_once(port: int, requests: Sequence[bytes]) -> list[Answer]:
    async with connections(port, len(requests)) as lines, asyncio.timeout(PATIENCE):
        return await asyncio.gather(*(line.send(r) for line, r in zip(lines, requests, strict=True)))


async def sql_connections(world: World) -> tuple[int, int]:
    """Return the service's connections to PostgreSQL, and how many of them are not idle."""
    url = world.environment.get("KEYTURN_DATABASE_URL")
    if url is None:
        return 0, 0
    connection = await asyncpg.connect(url)
    try:
        states = [
            row["state"]
            for row in await connection.fetch("SELECT state FROM pg_stat_activity WHERE application_name = 'keyturn'")
        ]
    finally:
        await connection.close()
    return len(states), len(states) - states.count("idle")


async def redis_clients(world: World) -> int:
    url = world.environment.get("KEYTURN_REDIS_URL")
    if url is None:
        return 0
    async with redis.asyncio.Redis.from_url(url) as client:
        return int((await client.info("clients"))["connected_clients"]) - 1


def main() -> int:
    parser = ArgumentParser(prog="python -m bench.cancelled", description="Requests that are cut midway.")
    parser.add_argument("--requests", type=int, default=10_000)
    return run(parser, measure, quiet=False)


if __name__ == "__main__":
    sys.exit(main())
