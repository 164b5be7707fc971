"""The results of a program in this folder: lines of a table, as text and as JSON.

Every program with figures for the scoreboard has an option `--json FILE` and writes its lines to that file. Its exit
status is 1 if a goal was missed; that of `python -m bench` is 0. `python -m bench.scoreboard` reads all these files.
"""

import json
import os
import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest
import uvloop

from bench.processes import Cores
from bench.worlds import LOAD_CORES, WORLDS, World

TOO_NOISY = 0.05
"""The fraction of the cores that other processes may take before a figure of time means little."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the scoreboard. `is_good` is `None` without a goal, or if this machine could not measure it."""

    what: str
    goal: str
    reached: str
    is_good: bool | None
    command: str


Measure = Callable[[World, Namespace], Awaitable[list[Line]]]


def run(
    parser: ArgumentParser, measure: Measure, *, worlds: Sequence[str] = tuple(WORLDS), quiet: bool = True
) -> int:
    """Measure in one world after the other, and report. `quiet`: the figures need an otherwise idle machine."""
    parser.add_argument("--world", choices=WORLDS, action="append", help="only this world; may be repeated")
    parser.add_argument("--json", type=Path, help="also write the lines of the table to this file")
    options = parser.parse_args()
    os.sched_setaffinity(0, LOAD_CORES)
    before = Cores.now()
    lines: list[Line] = []
    for name in options.world or worlds:
        try:
            with WORLDS[name]() as world:
                lines += uvloop.run(measured(measure, world, options))
        except pytest.skip.Exception as missing:
            lines.append(Line(f"{parser.prog.split()[-1]} ({name})", "", f"not measured: {missing.msg}", None, ""))
    others = Cores.now().taken_by_others_since(before)
    if quiet and others > TOO_NOISY:
        lines = [replace(line, reached=f"{line.reached}; others took {others:.0%} of the cores") for line in lines]
    return tell(lines, options.json)


async def measured(measure: Measure, world: World, options: Namespace) -> list[Line]:
    return await measure(world, options)


def tell(lines: Sequence[Line], file: Path | None) -> int:
    """Print the lines, write them to the file if there is one, and return the exit status."""
    for line in lines:
        verdict = {True: "reached", False: "MISSED", None: ""}[line.is_good]
        say(f"{line.what:58} {line.goal:28} {line.reached:40} {verdict}")
    if file is not None:
        write(file, lines)
    return 1 if any(line.is_good is False for line in lines) else 0


def write(file: Path, lines: Sequence[Line]) -> None:
    file.write_text(json.dumps([asdict(line) for line in lines], indent=1) + "\n", "utf-8")


def read(file: Path) -> list[Line]:
    """Read the lines of a program. Raises `ValueError` or `TypeError` if the file has another form."""
    return [Line(**members) for members in json.loads(file.read_text("utf-8"))]


def command() -> str:
    """Return the command line of this program."""
    module = sys.modules["__main__"].__spec__
    name = module.name.removesuffix(".__main__") if module is not None else Path(sys.argv[0]).name
    arguments = sys.argv[1:]
    for place, argument in reversed(list(enumerate(arguments))):
        if argument == "--json":
            del arguments[place : place + 2]
    return shlex.join(["python", "-m", name, *arguments])


def say(line: str) -> None:
    sys.stdout.write(line.rstrip() + "\n")
    sys.stdout.flush()
