"""`python -m tests.faults`: run every fault, one after the other, and write docs/faults.md (a quarter of an hour).

`--only FAULT` runs one fault and writes nothing; `--quick` gives each fault two seconds, and kills less often.
`--json FILE` writes the figures for the scoreboard.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from bench import board
from bench.board import Line, say
from tests.faults import figures, table
from tests.faults.faults import FAULTS
from tests.faults.run import PEOPLE, Outcome
from tests.faults.world import opened_world
from tests.harness.servers import REPOSITORY

NAMES = [fault.name for fault in FAULTS]


async def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Run the fault suite.")
    parser.add_argument("--only", action="append", choices=NAMES, metavar="FAULT", help=f"one of: {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="two seconds for each fault")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    options = parser.parse_args()
    # PostgreSQLServer makes a folder of this name accessible to the user that PostgreSQL runs as.
    with tempfile.TemporaryDirectory(prefix="pytest-of-faults-") as name:
        folder = Path(name)
        await asyncio.to_thread(folder.chmod, 0o755)
        outcomes: list[Outcome] = []
        seconds = 2.0 if options.quick else None
        async for outcome in figures.fault_by_fault(folder, options.only or NAMES, seconds):
            outcomes.append(outcome)
            print_outcome(outcome)
        found = [figures.of_all(outcomes)]
        found += [figures.of_redis_stopped(o) for o in outcomes if o.fault.name == "Redis stopped"]
        if not options.only:
            found += await measure_repeated_faults(folder, is_quick=options.quick)
            table.write(outcomes, REPOSITORY / "docs" / "faults.md", people=PEOPLE)
    return board.tell(found, options.json)


async def measure_repeated_faults(folder: Path, *, is_quick: bool) -> list[Line]:
    """Measure what takes more than one fault: repeated kills, and guesses."""
    place = folder / "killed"
    place.mkdir(mode=0o755)
    async with opened_world(place) as world:
        sql, found = await figures.of_postgresql_killed(world, 3 if is_quick else 20)
        print_outcome(sql)
        service, figure = await figures.of_service_killed(world, 10 if is_quick else 200)
        print_outcome(service)
    place = folder / "guesses"
    place.mkdir(mode=0o755)
    return [*found, figure, *await figures.of_guesses(place, 5 if is_quick else 30)]


def print_outcome(outcome: Outcome) -> None:
    during = outcome.during
    say(
        f"{outcome.fault.name:32}{len(outcome.history.exchanges):7} exchanges, {len(during):6} in the fault; "
        f"slowest of those {figures.slowest(during):.2f} s, slowest before {outcome.allowance:.2f} s"
    )
    for sentence in (*outcome.violations, *outcome.late):
        say(f"    WRONG: {sentence}")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
