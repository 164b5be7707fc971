"""Two thousand slow connections: `python -m bench.sockets [--sockets 2000] [--seconds 60]`.

They are idle or send byte by byte (see `slow_clients.py`), for a minute. Each must be closed within ten seconds of
its deadline, and other clients may wait at most twice as long as without them. The service does not limit connections
by address, because behind a gateway all come from one address. The deadline limits them.
"""

import asyncio
import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from bench.board import Line, command, run
from bench.figures import percentile
from bench.load import at_rate
from bench.measures import refreshes, verifications
from bench.processes import descriptors, mebibytes
from bench.slow_clients import WAIT, allow
from bench.worlds import People, Running, World, people_of, served

LATEST = 10.0
"""Seconds after its deadline within which a connection must be closed."""
MOST = 2.0
PROBES_AT_ONCE, PROBES_PER_SECOND = 16, 25.0
STRETCH = 20.0
"""Seconds of one measurement of the other clients."""


@dataclass(frozen=True, slots=True)
class Path:
    name: str
    expected: int
    probes: list[bytes]

    def take(self, how_many: int) -> list[bytes]:
        taken, self.probes[:how_many] = self.probes[:how_many], []
        return taken


async def measure(world: World, options: Namespace) -> list[Line]:
    allow(options.sockets)
    stretches = max(1, round(options.seconds / STRETCH))
    async with served(world) as running, people_of(world) as people:
        paths = await probes(people, 2 * stretches * int(STRETCH * PROBES_PER_SECOND))
        calm = await watch(running, paths, stretches)
        before = descriptors(running.pid)[1]
        async with slow_clients(running.port, options.sockets, stretches * STRETCH + 10) as arrived:
            await asyncio.sleep(7)  # until all are connected
            loaded = await watch(running, paths, stretches)
            most = descriptors(running.pid)[1], mebibytes(running.pid)
            seen = await arrived
        await asyncio.sleep(1)
        left = descriptors(running.pid)[1] - before
    where = f"{seen['most']:,} connections at a time, idle or sending byte by byte ({world.name})"
    latest = max(seen["latest"].values())
    reached = f"{seen['closed']:,} closed, at most {latest:.1f} s after the deadline"
    is_closed = latest <= LATEST and not seen["left"] and not seen["refused"] and left <= 0
    reached += (
        ""
        if is_closed
        else f"; {seen['left']} never closed, {seen['refused']} refused, {left} still open in the service"
    )
    lines = [Line(where, f"each closed within {LATEST:.0f} s after its deadline", reached, is_closed, command())]
    for path in paths:
        low, high = (1000 * percentile(took[path.name], 0.99) for took in (calm, loaded))
        reached = f"{high / low:.2f} times: {high:.1f} ms, before {low:.1f} ms; memory {most[1]:.0f} MiB"
        what = f"p99 of {path.name} beside these connections ({world.name})"
        lines.append(Line(what, f"at most {MOST:.0f} times its p99 before", reached, high <= MOST * low, command()))
    return lines


async def probes(people: People, how_many: int) -> list[Path]:
    return [
        Path("/verify", 204, await verifications(people, how_many)),
        Path("/token", 200, await refreshes(people, how_many)),
    ]


async def watch(running: Running, paths: Sequence[Path], stretches: int) -> dict[str, list[float]]:
    """Return the seconds that requests of each path take, with both paths at once."""
    took: dict[str, list[float]] = {path.name: [] for path in paths}

    async def once(path: Path) -> None:
        requests = path.take(int(STRETCH * PROBES_PER_SECOND))
        took[path.name] += await at_rate(
            running.port, PROBES_AT_ONCE, PROBES_PER_SECOND, requests, expected=path.expected
        )

    for _ in range(stretches):
        await asyncio.gather(*map(once, paths))
    return took


@asynccontextmanager
async def slow_clients(port: int, how_many: int, seconds: float) -> AsyncIterator["asyncio.Task[dict[str, Any]]"]:
    """Run the slow clients in a process of their own; the task ends when all are disconnected."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.slow_clients",
        str(port),
        str(how_many),
        str(seconds),
        stdout=asyncio.subprocess.PIPE,
    )

    async def result() -> dict[str, Any]:
        said, _ = await asyncio.wait_for(child.communicate(), seconds + WAIT + 30)
        seen: dict[str, Any] = json.loads(said)
        return seen

    waiting = asyncio.create_task(result())
    try:
        yield waiting
    finally:
        waiting.cancel()
        if child.returncode is None:
            child.kill()
            await child.wait()


def main() -> int:
    parser = ArgumentParser(prog="python -m bench.sockets", description="Many slow connections.")
    parser.add_argument("--sockets", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=60)
    return run(parser, measure)


if __name__ == "__main__":
    sys.exit(main())
