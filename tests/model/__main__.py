"""`python -m tests.model`: explore everything, find every variant. Minutes; `--quick` takes seconds.

`--stories` also prints how each variant is found. Ends with 1 if a law was broken or a variant was not found.
"""

import argparse
import sys
import time

from tests.model.explore import Explored, explore
from tests.model.protocol import Protocol
from tests.model.scenes import FULL, QUICK
from tests.model.variants import VARIANTS, find


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model", description="Every order of events, explored.")
    parser.add_argument("--quick", action="store_true", help="the small scenes only, as in the suite")
    parser.add_argument("--stories", action="store_true", help="tell how each broken variant is found")
    options = parser.parse_args()
    began = time.monotonic()
    explored = []
    for scene in QUICK if options.quick else QUICK + FULL:
        found = explore(Protocol(scene))
        explored.append(found)
        what = f"{', '.join(sorted(scene.faults))}; {len(scene.acts)} requests, {scene.ticks} time steps"
        say(f"{scene.name:36} {found.states:>9,} states {found.transitions:>10,} transitions  {what}")
        tell(found)
    violations = sum(bool(found.law) for found in explored)
    is_each_found = []
    for variant in VARIANTS:
        found = find(variant)
        is_each_found.append(found.law == variant.law)
        verdict = f"found in {len(found.story):2} steps" if is_each_found[-1] else "NOT FOUND"
        say(f"{verdict:18} {variant.flaw.value}")
        if options.stories or not is_each_found[-1]:
            tell(found)
    say(
        f"states {sum(found.states for found in explored):,}, "
        f"transitions {sum(found.transitions for found in explored):,}, "
        f"depth {max(found.depth for found in explored)}, violations {violations}, "
        f"variants found {sum(is_each_found)} of {len(VARIANTS)}; {time.monotonic() - began:.0f} s"
    )
    return 1 if violations or not all(is_each_found) else 0


def tell(found: Explored) -> None:
    """The story of a broken law."""
    for number, line in enumerate(found.story, 1):
        say(f"    {number:2}. {line}")
    if found.law:
        say(f"    Broken: {found.law}.")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
