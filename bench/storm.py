"""A storm of logins on 200 connections: `python -m bench.storm [--connections 200] [--probes 500]`.

What cannot hash or queue is shed with 503 and Retry-After; whoever is shed is back in a third of the second that he
was told to wait. Meanwhile others send second codes, refresh and verify at a steady rate: their 99th percentile may
be three times what it is in calm. After all that the service has its working memory; after more storms, in which
nothing else is asked, it must not have more.
"""

import asyncio
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from statistics import median

from bench.board import Line, command, run
from bench.figures import percentile
from bench.load import Storm, at_rate, in_turn, storm
from bench.measures import (
    LOGINS_AT_ONCE,
    PROBES,
    PROBES_PER_SECOND,
    Probes,
    logins_of,
    passwords_of,
    refreshes,
    second_turns,
    verifications,
)
from bench.worlds import People, Running, World, people_of, served

PAUSE = 1 / 3
"""Seconds until a shed one is back, about; the Retry-After is one."""
SLOWER = 3.0
ROUNDS = 3
STORMS, STORM_SECONDS = 6, 5.0
"""How many more there are for the memory's sake, and how long each is."""
GROWTH = 2.0
"""MiB by which memory may differ between two storms: the allocator's, not the service's."""
PATHS: dict[str, tuple[Probes, int]] = {
    "/login-2fa": (second_turns, 200),
    "/token": (refreshes, 200),
    "/verify": (verifications, 204),
}


async def measure(world: World, options: Namespace) -> list[Line]:
    lines: list[Line] = []
    async with served(world) as running, people_of(world) as people:
        stormers = passwords_of(await people.make(options.connections))
        await in_turn(running.port, LOGINS_AT_ONCE, logins_of(await people.make(20)))  # connections, caches
        total = Storm()
        for path in PATHS:
            reached, is_good = await beside(
                path, running, people, stormers=stormers, probes=options.probes, total=total
            )
            what = f"p99 of {path} beside them ({world.name})"
            lines.append(Line(what, f"at most {SLOWER:.0f} times its own", reached, is_good, command()))
        memory = [running.mebibytes("VmRSS")]
        for _ in range(STORMS):
            async with storm(running.port, len(stormers), stormers, pause=PAUSE):
                await asyncio.sleep(STORM_SECONDS)
            await asyncio.sleep(1)
            memory.append(running.mebibytes("VmRSS"))
    what = f"{len(stormers)} connections log in ({world.name})"
    shed = f"{total.answered:,} answered 200, {total.shed:,} shed by 503 with Retry-After, no other"
    flat = "; ".join(f"{mib:.1f}" for mib in memory)
    is_flat = max(memory) - memory[0] <= GROWTH
    return [
        Line(what, "200 or 503 with Retry-After", shed, total.answered > 0 and total.shed > 0, command()),
        Line(f"MiB before and after {STORMS} storms more ({world.name})", "flat", flat, is_flat, command()),
        *lines,
    ]


async def beside(
    path: str, running: Running, people: People, *, stormers: Sequence[bytes], probes: int, total: Storm
) -> tuple[str, bool]:
    """The median, of some rounds, of the p99 in the storm over that in the calm just before it."""
    make, expected = PATHS[path]
    calm, stormy = [], []

    async def look(requests: Sequence[bytes]) -> float:
        took = await at_rate(running.port, PROBES, PROBES_PER_SECOND, requests, expected=expected)
        return percentile(took, 0.99)

    for _ in range(ROUNDS):
        requests = await make(people, 2 * probes)
        calm.append(await look(requests[:probes]))
        async with storm(running.port, len(stormers), stormers, pause=PAUSE) as counted:
            stormy.append(await look(requests[probes:]))
        total.answered += counted.answered
        total.shed += counted.shed
    ratio = median(s / c for s, c in zip(stormy, calm, strict=True))
    return f"{ratio:.2f} times; {1000 * median(stormy):.1f} of {1000 * median(calm):.1f} ms", ratio <= SLOWER


def main() -> int:
    parser = ArgumentParser(prog="python -m bench.storm", description="A storm of logins.")
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--probes", type=int, default=500, help="of each path, in each round and weather")
    return run(parser, measure)


if __name__ == "__main__":
    sys.exit(main())
