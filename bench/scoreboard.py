"""All figures with a goal, in one table: `python -m bench.scoreboard [--quick] [--write docs/scoreboard.md]`.

The programs run one after the other, with their public command lines, and write their lines as JSON (`board.py`).
With `--folder` the files are kept, and a program whose file exists is not run again. So an interrupted run can
continue, and the results of a program that ran earlier or on another machine count if its file is copied to the
folder.
"""

import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.board import TOO_NOISY, Line, read, say
from bench.cancelled import ROOM
from tests.harness.servers import REPOSITORY, clean_environment


@dataclass(frozen=True, slots=True)
class Program:
    """A program. `quick` has the arguments of a run of a minute or two, which only shows that the program works."""

    module: str
    quick: tuple[str, ...]
    full: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.module.rpartition(".")[2]

    def arguments(self, *, quick: bool) -> tuple[str, ...]:
        return ("-m", self.module, *(self.quick if quick else self.full))


PROGRAMS = (
    Program("bench", ("--quick",)),
    Program("bench.login_burst", ("--probes", "100")),
    Program("bench.account_page", ("--rounds", "3", "--requests", "2000")),
    Program("bench.timing", ("--logins", "300")),
    Program("bench.searching", ("--users", "20000", "--searches", "200")),
    Program("bench.sockets", ("--seconds", "20", "--world", "sqlite")),
    Program("bench.cancelled", ("--requests", "1000")),
    Program("bench.hostile", ("--inputs", "5000")),
    Program("bench.replicas", ("--requests", "300"), ("--write", "docs/scale.md")),
    Program("tests.faults", ("--quick",)),
    Program("tests.model", ("--quick",)),
    Program("bench.soak", ("--minutes", "1.5"), ("--minutes", "60")),
)
LONGEST = 2 * 3600.0
"""Seconds that a program may take."""


def main() -> int:
    names = [program.name for program in PROGRAMS]
    parser = ArgumentParser(prog="python -m bench.scoreboard", description="All figures with a goal, in one table.")
    parser.add_argument("--quick", action="store_true", help="small runs, which only show that the programs work")
    parser.add_argument("--only", choices=names, action="append", help="only this program")
    parser.add_argument(
        "--folder", type=Path, help="keep the results here, and do not run a program whose result is here"
    )
    parser.add_argument("--write", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    lines: list[Line] = []
    with folder_for(options.folder) as folder:
        for program in PROGRAMS:
            if program.name in (options.only or names):
                lines += lines_of(program, folder, quick=options.quick)
    text = page(lines, quick=options.quick)
    say(text)
    if options.write is not None:
        options.write.write_text(text, "utf-8")
    return 1 if any(line.is_good is False for line in lines) else 0


@contextmanager
def folder_for(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="keyturn-bench-") as folder:
        yield Path(folder)


def lines_of(program: Program, folder: Path, *, quick: bool) -> list[Line]:
    """Return the lines that the program wrote, or one line that says why it wrote none."""
    file = folder / f"{program.name}.json"
    arguments = program.arguments(quick=quick)
    command = " ".join(("python", *arguments))
    if not file.exists():
        if importlib.util.find_spec(program.module) is None:
            return [Line(program.name, "", "is not in this tree", None, command)]
        say(f"$ {command}")
        try:
            ended = subprocess.run(  # noqa: S603 -- our own programs
                [sys.executable, *arguments, "--json", str(file)],
                cwd=REPOSITORY, env=clean_environment(), timeout=LONGEST, check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            return [Line(program.name, "", f"did not end within {LONGEST / 3600:.0f} hours", False, command)]
        if not file.exists():
            return [Line(program.name, "", f"ended with status {ended} and without figures", False, command)]
    try:
        return read(file)
    except (ValueError, TypeError) as error:
        return [Line(program.name, "", f"wrote something that is not a table: {error}", False, command)]


def page(lines: Sequence[Line], *, quick: bool) -> str:
    """Return the text of docs/scoreboard.md."""
    missed = [line for line in lines if line.is_good is False]
    open_ones = [line for line in lines if line.is_good is None]
    size = (
        "small runs, which only show that the programs work"
        if quick
        else "runs with the options that the last column shows"
    )
    verdicts = {True: "yes", False: "**no**", None: ""}
    rows = "\n".join(
        f"| {_cell(line.what)} | {_cell(line.goal)} | {_cell(line.reached)} | {verdicts[line.is_good]} |"
        f" {_cell(line.command, code=True)} |"
        for line in lines
    )
    return f"""# The scoreboard

Each figure with its goal, the value reached, and the command that measures it. Written by
`python -m bench.scoreboard --write docs/scoreboard.md` on {datetime.now(UTC):%Y-%m-%d}: {size}, on {machine()}.

{len(lines)} figures: {len(lines) - len(missed) - len(open_ones)} reached, {len(missed)} missed;
{len(open_ones)} have no goal or cannot be judged on this machine.

- `(sqlite)`: the service with SQLite, without Redis. `(production)`: with Redis and PostgreSQL, which runs without
  fsync. The service has one core and one hashing thread; the load and the stores have the other cores.
- p99: the duration that 99% of the requests do not exceed.
- A hashing permit: the place of a login in the hashing thread or in its queue. There are {ROOM}.
- Vectors: the test cases for signed tokens of Project Wycheproof.
- Violation: a code accepted twice, an acknowledged change that is lost, an answer to another request, or an
  undocumented answer. See [faults](faults.md).
- "others took": the share of all cores that other programs used during the run. It is shown above {TOO_NOISY:.0%};
  a figure of time then means little.
- "times", of p99 during the login burst and of the rate with the account page: the median of the ratios of several
  rounds. The two values after it are medians by themselves, so that their ratio may differ.

| figure | goal | measured | reached | command |
|---|---|---|---|---|
{rows}
"""


def _cell(text: str, *, code: bool = False) -> str:
    text = text.replace("|", "\\|").replace("\n", " ")
    return f"`{text}`" if code and text else text


def machine() -> str:
    """Describe the machine."""
    model = "an unknown processor"
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{os.cpu_count()} cores of {model}, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
