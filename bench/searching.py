"""How long a search of users by the beginning of their name takes: `python -m bench.searching [--users 1000000]`.

An administrator types the beginning of a username, and `GET /admin/users` answers the first page of the matching
users. The usernames are random hexadecimal digits. A prefix has one to six of them, so that it matches between none
and a sixteenth of all users. Each request has another prefix. The pages after the first are measured too: a page must
not take longer because others came before it.

`make bench` measures the same among fewer users.
"""

import random
import string
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter

from bench.board import Line, command, run, say
from bench.figures import percentile
from bench.load import Connection, connections, form, get, without_pauses
from bench.worlds import People, World, people_of, served

GOAL_MS = 10.0
SCOPE = "keyturn:users.read"
LIMIT = 50
LONGEST_PREFIX = 6
PAGES = 5
"""Pages that are read of each tenth search."""


async def measure(world: World, options: Namespace) -> list[Line]:
    async with served(with_admin_api(world)) as running, people_of(world) as people:
        begun = perf_counter()
        await people.fill_users(options.users)
        say(f"  {world.name}: {options.users:,} users made in {perf_counter() - begun:.0f} s")
        async with connections(running.port, 1) as (connection,):
            bearer = await token_of_client(connection, people)
            with without_pauses():
                first, later = await searches(connection, bearer, options.searches)
    return [
        line_of(f"search of users by prefix among {options.users:,}, first page", first, world),
        line_of(f"search of users by prefix among {options.users:,}, later pages", later, world),
    ]


def with_admin_api(world: World) -> World:
    return replace(world, environment={**world.environment, "KEYTURN_ADMIN_API": "on"})


async def token_of_client(connection: Connection, people: People) -> str:
    """Register a client that may search, and return an access token of it."""
    secret = await people.register("search", scopes=(SCOPE,))
    grant = form("/token", grant_type="client_credentials", client_id="search", client_secret=secret)
    return str((await connection.send(grant)).need(200).json()["access_token"])


async def searches(
    connection: Connection, bearer: str, count: int, *, seed: int = 3
) -> tuple[list[float], list[float]]:
    """Return the milliseconds of first pages, and of later ones. Another seed has other prefixes."""
    chance = random.Random(seed)
    first: list[float] = []
    later: list[float] = []
    for number in range(-20, count):
        prefix = "".join(chance.choices(string.hexdigits[:16], k=chance.randint(1, LONGEST_PREFIX)))
        path = f"/admin/users?username={prefix}&limit={LIMIT}"
        cursor: str | None = ""
        for page in range(PAGES if number % 10 == 0 else 1):
            begun = perf_counter()
            answer = (await connection.send(get(f"{path}{cursor}", bearer=bearer))).need(200)
            took = 1000 * (perf_counter() - begun)
            if number >= 0:
                (later if page else first).append(took)
            shown = answer.json()
            if not all(user["username"].startswith(prefix) for user in shown["users"]):
                raise RuntimeError("the service answered users with another beginning of their name")
            if shown["next_cursor"] is None:
                break
            cursor = f"&cursor={shown['next_cursor']}"
    return first, later


def line_of(what: str, milliseconds: Sequence[float], world: World) -> Line:
    """Make a line. A run that is too short for later pages has nothing to judge."""
    if not milliseconds:
        return Line(f"{what} ({world.name})", f"p99 < {GOAL_MS:g} ms", "none was read", None, command())
    p99, median = percentile(milliseconds, 0.99), percentile(milliseconds, 0.5)
    reached = f"{p99:.2f} ms, median {median:.2f} ms, of {len(milliseconds):,}"
    return Line(f"{what} ({world.name})", f"p99 < {GOAL_MS:g} ms", reached, p99 < GOAL_MS, command())


def main() -> int:
    parser = ArgumentParser(
        prog="python -m bench.searching", description="How long a search of users by prefix takes."
    )
    parser.add_argument("--users", type=int, default=1_000_000, help="number of users in the database")
    parser.add_argument("--searches", type=int, default=2000, help="number of searches")
    return run(parser, measure)


if __name__ == "__main__":
    sys.exit(main())
