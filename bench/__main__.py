"""`python -m bench`: measure both worlds and print one table; `--quick` measures less of each.

`--profile sqlite` (or `production`) instead prints a profile of /login-2fa, or of the path of `--of`.
"""

import argparse
import os
import pstats
import sys
import tempfile
from pathlib import Path

import pytest
import uvloop

from bench.board import Line, command, say, write
from bench.load import in_turn
from bench.measures import (
    CODES_AT_ONCE,
    FULL,
    QUICK,
    Probes,
    Size,
    code_requests,
    measure,
    refreshes,
    sent,
    verifications,
)
from bench.processes import Cores
from bench.worlds import LOAD_CORES, WORLDS, World, people_of, served

PROFILED: dict[str, Probes] = {"/login-2fa": code_requests, "/token": refreshes, "/verify": verifications}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="How fast Keyturn is, as ratios.")
    parser.add_argument("--quick", action="store_true", help="a smoke run: fewer and shorter rounds")
    parser.add_argument("--world", choices=WORLDS, action="append", help="only this world; may be repeated")
    parser.add_argument("--profile", choices=WORLDS, help="print a profile of one path instead")
    parser.add_argument(
        "--json", type=Path, help="also write the lines of the table to this file, for the scoreboard"
    )
    parser.add_argument("--of", choices=PROFILED, default="/login-2fa", help="the path of --profile")
    options = parser.parse_args()
    os.sched_setaffinity(0, LOAD_CORES)
    if options.profile:
        with WORLDS[options.profile]() as world:
            uvloop.run(profile(world, options.of))
        return 0
    size = QUICK if options.quick else FULL
    before = Cores.now()
    say(f"{'':11}{'':40}{'goal':>8} {'reached':>8}         {'rounds':18}")
    lines: list[Line] = []
    for name in options.world or WORLDS:
        try:
            with WORLDS[name]() as world:
                lines += uvloop.run(show(world, size))
        except pytest.skip.Exception as missing:
            say(f"{name:11}not measured: {missing.msg}")
    others = Cores.now().taken_by_others_since(before)
    say(f"Other processes took {others:.0%} of the cores during the run. Above 5 % the figures mean little.")
    if options.json is not None:
        write(options.json, lines)
    return 0


async def show(world: World, size: Size) -> list[Line]:
    """Print the rows of a world, and return them as lines for the scoreboard."""
    lines: list[Line] = []
    async for row in measure(world, size):
        goal = f"{'>=' if row.more_is_better else '<='} {row.goal:g}"
        rounds = f"{min(row.values):.3g} to {max(row.values):.3g}"
        verdict = "" if row.is_good else "missed"
        say(f"{world.name:11}{row.what:40}{goal:>8} {row.reached:8.3g} {verdict:7} {rounds:18}{row.remark}")
        reached = " ".join(filter(None, (f"{row.reached:.3g}", f"({rounds})", row.remark)))
        lines.append(Line(f"{row.what} ({world.name})", goal, reached, row.is_good, command()))
    return lines


async def profile(world: World, path: str) -> None:
    """Print a profile of cProfile. It doubles the cost of small functions: read shares from it, not times."""
    with tempfile.TemporaryDirectory(prefix="keyturn-bench-") as folder:
        found = Path(folder) / "profile"
        async with served(world, wrapper=("-m", "cProfile", "-o", str(found))) as running, people_of(world) as people:
            expected = 204 if path == "/verify" else 200
            await in_turn(running.port, CODES_AT_ONCE, sent(await PROFILED[path](people, 3000), expected))
        pstats.Stats(str(found), stream=sys.stdout).sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    sys.exit(main())
