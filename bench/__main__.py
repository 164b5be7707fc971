"""`python -m bench`: measure both worlds and print one table. `--quick` takes half a minute, the whole some four.

`--profile sqlite` (or `production`) prints instead where the time of /login-2fa goes; with `--of /token`, of that.
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
    measure,
    refreshes,
    second_turns,
    sent,
    verifications,
)
from bench.processes import Cores
from bench.worlds import LOAD_CORES, WORLDS, World, people_of, served

PROFILED: dict[str, Probes] = {"/login-2fa": second_turns, "/token": refreshes, "/verify": verifications}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="How fast Keyturn is, as ratios.")
    parser.add_argument("--quick", action="store_true", help="a smoke run: fewer and shorter rounds")
    parser.add_argument("--world", choices=WORLDS, action="append", help="only this one")
    parser.add_argument("--profile", choices=WORLDS, help="print where the time of a path goes")
    parser.add_argument("--json", type=Path, help="write the lines of the table there, for the scoreboard")
    parser.add_argument("--of", choices=PROFILED, default="/login-2fa", help="which path")
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
    say(f"Others took {others:.0%} of the cores meanwhile. With more than 5 % the figures mean little.")
    if options.json is not None:
        write(options.json, lines)
    return 0


async def show(world: World, size: Size) -> list[Line]:
    """Print the rows of a world; as the scoreboard wants them."""
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
    """Under cProfile, which doubles the cost of small functions: read it for shares, not for times."""
    with tempfile.TemporaryDirectory(prefix="keyturn-bench-") as folder:
        found = Path(folder) / "profile"
        async with served(world, wrapper=("-m", "cProfile", "-o", str(found))) as running, people_of(world) as people:
            expected = 204 if path == "/verify" else 200
            await in_turn(running.port, CODES_AT_ONCE, sent(await PROFILED[path](people, 3000), expected))
        pstats.Stats(str(found), stream=sys.stdout).sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    sys.exit(main())
