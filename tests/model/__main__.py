"""`python -m tests.model`: explore every scene and detect every variant. Takes minutes; `--quick` takes seconds.

`--stories` also prints how each variant is detected, `--json FILE` writes the figures for the scoreboard. The exit
status is 1 if a law was broken or a variant was not detected.
"""

import argparse
import sys
import time
from pathlib import Path

from bench import board
from bench.board import Line, command, say
from tests.model import delivery_scenes, link_scenes
from tests.model.deliveries import Deliveries
from tests.model.explore import Explored, explore, search
from tests.model.links import Links
from tests.model.protocol import Protocol
from tests.model.scenes import FULL, QUICK
from tests.model.variants import VARIANTS, find


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model", description="Explore every order of events.")
    parser.add_argument("--quick", action="store_true", help="the small scenes only, as in the suite")
    parser.add_argument("--stories", action="store_true", help="print how each broken variant is detected")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    options = parser.parse_args()
    began = time.monotonic()
    explored = []
    for scene in QUICK if options.quick else QUICK + FULL:
        found = explore(Protocol(scene))
        explored.append(found)
        what = f"{', '.join(sorted(scene.faults))}; {len(scene.acts)} requests, {scene.ticks} time steps"
        say(f"{scene.name:36} {found.states:>9,} states {found.transitions:>10,} transitions  {what}")
        print_steps(found)
    for links in link_scenes.SCENES:
        found = search(Links(links))
        explored.append(found)
        what = f"{len(links.acts)} requests, {links.ticks} time steps"
        say(f"{links.name:36} {found.states:>9,} states {found.transitions:>10,} transitions  {what}")
        print_steps(found)
    for deliveries in delivery_scenes.SCENES:
        found = search(Deliveries(deliveries))
        explored.append(found)
        what = f"{len(deliveries.acts)} events, {deliveries.ticks} time steps"
        say(f"{deliveries.name:36} {found.states:>9,} states {found.transitions:>10,} transitions  {what}")
        print_steps(found)
    violations = sum(bool(found.law) for found in explored)
    is_each_found = []
    searched = [(variant.flaw.value, variant.law, find(variant)) for variant in VARIANTS]
    searched += [(variant.flaw.value, variant.law, link_scenes.find(variant)) for variant in link_scenes.VARIANTS]
    searched += [
        (variant.flaw.value, variant.law, delivery_scenes.find(variant)) for variant in delivery_scenes.VARIANTS
    ]
    for flaw, law, found in searched:
        is_each_found.append(found.law == law)
        verdict = f"found in {len(found.story):2} steps" if is_each_found[-1] else "NOT FOUND"
        say(f"{verdict:18} {flaw}")
        if options.stories or not is_each_found[-1]:
            print_steps(found)
    size = (
        f"{sum(found.states for found in explored):,} states, {sum(found.transitions for found in explored):,} "
        f"transitions, depth {max(found.depth for found in explored)}"
    )
    say(f"{len(explored)} scenes, {size}; {time.monotonic() - began:.0f} s")
    laws = Line(
        "model of the protocol: scenes that break a law", "0", f"{violations} in {size}", violations == 0, command()
    )
    of_all = f"{sum(is_each_found)} of {len(searched)}"
    variants = Line(
        "model of the protocol: broken variants that are detected", "all", of_all, all(is_each_found), command()
    )
    return board.tell([laws, variants], options.json)


def print_steps(found: Explored) -> None:
    """Print the steps that lead to a broken law."""
    for number, line in enumerate(found.story, 1):
        say(f"    {number:2}. {line}")
    if found.law:
        say(f"    Broken: {found.law}.")


if __name__ == "__main__":
    sys.exit(main())
