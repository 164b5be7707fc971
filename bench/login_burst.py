"""A burst of logins on 200 connections: `python -m bench.login_burst [--connections 200] [--probes 500]`.

Logins that find the hashing queue full are answered 503 with Retry-After (1 s); such a client tries again after a
third of that. At the same time other clients send verification codes, refresh and verify at a steady rate: their 99th
percentile may be three times the one without a burst. Then the service has reached its working memory; more bursts,
without other requests, must not increase it by more than 2 MiB.
"""

import asyncio
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from statistics import median

from bench.board import Line, command, run
from bench.figures import percentile
from bench.load import LoginBurst, at_rate, in_turn, login_burst
from bench.measures import (
    LOGINS_AT_ONCE,
    PROBES,
    PROBES_PER_SECOND,
    Probes,
    code_requests,
    logins_of,
    passwords_of,
    refreshes,
    verifications,
)
from bench.worlds import People, Running, World, people_of, served

PAUSE = 1 / 3
"""Seconds, approximately, until a client that got 503 tries again; the Retry-After is one second."""
SLOWER = 3.0
ROUNDS = 3
BURSTS, BURST_SECONDS = 6, 5.0
"""Number of bursts for the measurement of memory, and the seconds of each."""
GROWTH = 2.0
"""MiB by which memory may exceed its value before these bursts, because of the allocator."""
PATHS: dict[str, tuple[Probes, int]] = {
    "/login-2fa": (code_requests, 200),
    "/token": (refreshes, 200),
    "/verify": (verifications, 204),
}


async def measure(world: World, options: Namespace) -> list[Line]:
    lines: list[Line] = []
    async with served(world) as running, people_of(world) as people:
        logging_in = passwords_of(await people.make(options.connections))
        await in_turn(running.port, LOGINS_AT_ONCE, logins_of(await people.make(20)))  # connections, caches
        total = LoginBurst()
        for path in PATHS:
            reached, is_good = await beside(
                path, running, people, logging_in=logging_in, probes=options.probes, total=total
            )
            what = f"p99 of {path} during the login burst ({world.name})"
            lines.append(
                Line(what, f"at most {SLOWER:.0f} times its p99 before the burst", reached, is_good, command())
            )
        memory = [running.mebibytes("VmRSS")]
        for _ in range(BURSTS):
            async with login_burst(running.port, len(logging_in), logging_in, pause=PAUSE):
                await asyncio.sleep(BURST_SECONDS)
            await asyncio.sleep(1)
            memory.append(running.mebibytes("VmRSS"))
    what = f"login burst: {len(logging_in)} connections repeat logins ({world.name})"
    shed = f"{total.answered:,} answered 200, {total.shed:,} answered 503 with Retry-After, no other answers"
    flat = "; ".join(f"{mib:.1f}" for mib in memory)
    is_flat = max(memory) - memory[0] <= GROWTH
    return [
        Line(
            what,
            "some answered 200, all others 503 with Retry-After",
            shed,
            total.answered > 0 and total.shed > 0,
            command(),
        ),
        Line(
            f"memory (MiB) before {BURSTS} more bursts and after each ({world.name})",
            f"grows by at most {GROWTH:g}",
            flat,
            is_flat,
            command(),
        ),
        *lines,
    ]


async def beside(
    path: str, running: Running, people: People, *, logging_in: Sequence[bytes], probes: int, total: LoginBurst
) -> tuple[str, bool]:
    """Return the p99 during a burst, relative to the one just before it: the median of some rounds."""
    make, expected = PATHS[path]
    calm, loaded = [], []

    async def look(requests: Sequence[bytes]) -> float:
        took = await at_rate(running.port, PROBES, PROBES_PER_SECOND, requests, expected=expected)
        return percentile(took, 0.99)

    for _ in range(ROUNDS):
        requests = await make(people, 2 * probes)
        calm.append(await look(requests[:probes]))
        async with login_burst(running.port, len(logging_in), logging_in, pause=PAUSE) as counted:
            loaded.append(await look(requests[probes:]))
        total.answered += counted.answered
        total.shed += counted.shed
    ratio = median(s / c for s, c in zip(loaded, calm, strict=True))
    return f"{ratio:.2f} times: {1000 * median(loaded):.1f} ms, before {1000 * median(calm):.1f} ms", ratio <= SLOWER


def main() -> int:
    parser = ArgumentParser(prog="python -m bench.login_burst", description="A burst of logins.")
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument(
        "--probes", type=int, default=500, help="requests of each path in each round, with and without burst"
    )
    return run(parser, measure)


if __name__ == "__main__":
    sys.exit(main())
