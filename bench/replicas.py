"""The gain of a second replica, and the needs of ten million users: `python -m bench.replicas [--write FILE]`.

The program compares two replicas on one database with one replica, by requests without a hash. With four cores or
more, each replica has a core of its own, and the load and the stores have the others. With fewer cores the load and
the stores share cores with the replicas, and the ratio is reported but not judged. Then the program measures the cost
of one request of each kind (`costs.py`) and the size of a row; `estimate.py` computes from these. `--write` writes
docs/scale.md from both; a test checks the arithmetic of the estimate.

The database runs without fsync, as in all benchmarks: the figures do not include the time that commits wait for
disks.
"""

import asyncio
import multiprocessing
import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median

import pytest
import uvloop

from bench.board import Line, command, say, tell
from bench.costs import STATISTICS, Meter, costs, meter
from bench.estimate import Sizes, page
from bench.load import form, in_turn
from bench.measures import Probes, refreshes, sent, verifications
from bench.processes import pid_of
from bench.worlds import ALL_CORES, People, Running, World, on_cores, people_of, production, served

GROWTH = 1.7
CORES_NEEDED = 4
ROUNDS = 3
AT_ONCE = 16
SIZED = 2000
"""Users and sessions in the tables when the size of rows is measured."""


async def measure(world: World, requests: int) -> tuple[list[Line], str]:
    """Return the lines, and the page made of all figures."""
    cores = sorted(ALL_CORES)
    is_fair = len(cores) >= CORES_NEEDED
    own = cores[:2] if len(cores) > 1 else cores * 2
    if is_fair:
        for store in world.stores.values():
            os.sched_setaffinity(pid_of(store), cores[2:])
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(served(world, cores={own[0]}))
        people = await stack.enter_async_context(people_of(world))
        reading = await stack.enter_async_context(meter(first, world))
        found = await costs(first, people, reading, requests)
        sizes = await sizes_of(people, reading)
        second = await stack.enter_async_context(served(world, cores={own[1]}))
        with on_cores(set(cores[2:]) if is_fair else ALL_CORES):
            lines = await growth(first, second, people, requests, is_fair)
    for cost in found:
        say(f"  {cost.what:22} {cost.service:7.2f} ms, PostgreSQL {cost.sql:5.2f}, Redis {cost.redis:5.2f};"
            f" {cost.statements:4.1f} statements, {cost.commands:4.1f} commands, {cost.wal:5.0f} of WAL")  # fmt: skip
    return lines, page(found, sizes, lines, cores=len(cores))


async def sizes_of(people: People, reading: Meter) -> Sizes:
    """Return the sizes of the rows of four tables, each with its share of the indexes."""
    await people.make(SIZED)
    await people.log_in(SIZED)
    tables = ("users", "totp_authenticators", "sessions", "events")
    return Sizes(**{table: await reading.bytes_of(table) for table in tables})


async def growth(first: Running, second: Running, people: People, requests: int, is_fair: bool) -> list[Line]:
    secret = await people.register("other")

    async def introspections(people: People, how_many: int) -> list[bytes]:
        client = {"client_id": "other", "client_secret": secret}
        return [form("/introspect", token=s.access_token, **client) for s in await people.log_in(how_many)]

    kinds: dict[str, tuple[Probes, int]] = {
        "/verify": (verifications, 204), "/token": (refreshes, 200), "/introspect": (introspections, 200)
    }  # fmt: skip
    lines = []
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        for path, (make, expected) in kinds.items():
            ratios, best = [], 0.0
            for _ in range(ROUNDS):
                work = await make(people, 4 * requests)
                half = len(work) // 2
                alone = await rate(pool, [first.port], [work[:half]], expected)
                both = await rate(pool, [first.port, second.port], [work[half::2], work[half + 1 :: 2]], expected)
                ratios.append(both / alone)
                best = max(best, both)
            reached = f"{median(ratios):.2f} times (best round: {best:,.0f} per second with two replicas)"
            if not is_fair:
                reached += (
                    f". Not judged: this machine has {os.cpu_count()} cores, and the comparison needs {CORES_NEEDED}."
                )
            is_good = median(ratios) >= GROWTH if is_fair else None
            what = f"rate of {path}: two replicas / one replica"
            lines.append(Line(what, f"at least {GROWTH} times", reached, is_good, command()))
    return lines


async def rate(
    pool: ProcessPoolExecutor, ports: Sequence[int], work: Sequence[Sequence[bytes]], expected: int
) -> float:
    """Return requests per second of all ports together, each with a load process of its own."""
    loop = asyncio.get_running_loop()
    pressing = [
        loop.run_in_executor(pool, press, port, list(requests), expected)
        for port, requests in zip(ports, work, strict=True)
    ]
    return sum(await asyncio.gather(*pressing))


def press(port: int, requests: list[bytes], expected: int) -> float:
    return uvloop.run(in_turn(port, AT_ONCE, sent(requests, expected)))


def main() -> int:
    parser = ArgumentParser(prog="python -m bench.replicas", description="Replicas, and what a request costs.")
    parser.add_argument("--requests", type=int, default=1500, help="number of requests of each kind")
    parser.add_argument("--write", type=Path, help="write the page docs/scale.md to this file")
    parser.add_argument("--json", type=Path, help="also write the lines of the table to this file")
    options = parser.parse_args()
    try:
        with production(STATISTICS) as world:
            lines, text = uvloop.run(measure(world, options.requests))
    except pytest.skip.Exception as missing:
        return tell([Line("two replicas", "", f"not measured: {missing.msg}", None, command())], options.json)
    if options.write is not None:
        options.write.write_text(text, "utf-8")
    return tell(lines, options.json)


if __name__ == "__main__":
    sys.exit(main())
