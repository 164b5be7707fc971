"""What the account page costs a service whose users never open it: `python -m bench.account_page [--rounds 7]`.

The service runs with `KEYTURN_ACCOUNT_PAGE` `on` and `off` in turn. The first figure is the memory of an idle process
after ten requests. It is the proportional set size: a page of memory that several processes share, such as those of
libraries, counts in equal parts. So only one of the two services runs at a time. The second figure is the rate of
/verify. For it both services run on one core, and are measured one after the other in each round.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from statistics import median

from bench.board import Line, command, run
from bench.load import in_turn
from bench.measures import CODES_AT_ONCE, sent, verifications
from bench.processes import proportional_mebibytes
from bench.worlds import Running, World, people_of, served

MORE_MEBIBYTES = 1.0
SAME_RATE = 0.97
"""The rates of two equal services differ by less, as medians of some rounds on an idle machine."""
SETTINGS = ("on", "off")
FIRST_REQUESTS = 10
TOKENS = 100


async def measure(world: World, options: Namespace) -> list[Line]:
    worlds = {
        setting: replace(world, environment={**world.environment, "KEYTURN_ACCOUNT_PAGE": setting})
        for setting in SETTINGS
    }
    rates: dict[str, list[float]] = {setting: [] for setting in SETTINGS}
    async with AsyncExitStack() as stack:
        both: dict[str, Running] = {
            setting: await stack.enter_async_context(served(worlds[setting])) for setting in SETTINGS
        }
        people = await stack.enter_async_context(people_of(world))
        requests = sent(await verifications(people, TOKENS), 204)
        for running in both.values():
            await in_turn(running.port, CODES_AT_ONCE, requests)  # each token is verified once, and then cached
        for setting in in_alternating_order(options.rounds):
            work = requests * (options.requests // len(requests))
            rates[setting].append(await in_turn(both[setting].port, CODES_AT_ONCE, work))
    memory: dict[str, list[float]] = {setting: [] for setting in SETTINGS}
    for setting in in_alternating_order(options.rounds):
        async with served(worlds[setting]) as running:
            await in_turn(running.port, 1, requests[:FIRST_REQUESTS])
            memory[setting].append(proportional_mebibytes(running.pid))
    return [memory_line(memory, world), rate_line(rates, world)]


def in_alternating_order(rounds: int) -> Iterator[str]:
    """Yield both settings in each round; the first one of a round is the last one of the round before."""
    for number in range(rounds):
        yield from SETTINGS if number % 2 else reversed(SETTINGS)


def memory_line(memory: dict[str, list[float]], world: World) -> Line:
    on, off = (median(memory[setting]) for setting in SETTINGS)
    reached = f"{on / off:.3f} times: {on - off:+.2f} MiB, from {off:.1f} to {on:.1f}"
    goal = f"at most {MORE_MEBIBYTES:g} MiB more"
    return Line(f"memory with the account page / without ({world.name})", goal, reached,
                on - off <= MORE_MEBIBYTES, command())  # fmt: skip


def rate_line(rates: dict[str, list[float]], world: World) -> Line:
    ratio = median(on / off for on, off in zip(*(rates[setting] for setting in SETTINGS), strict=True))
    on, off = (median(rates[setting]) for setting in SETTINGS)
    reached = f"{ratio:.3f} times; medians: {on:.0f} per second with the page, {off:.0f} without"
    goal = f"at least {SAME_RATE:g} times"
    return Line(f"rate of /verify with the account page / without ({world.name})", goal, reached,
                ratio >= SAME_RATE, command())  # fmt: skip


def main() -> int:
    parser = ArgumentParser(prog="python -m bench.account_page", description="What the account page costs.")
    parser.add_argument("--rounds", type=int, default=7, help="number of measurements of each kind")
    parser.add_argument("--requests", type=int, default=8000, help="number of /verify requests of a measurement")
    return run(parser, measure, worlds=("sqlite",))


if __name__ == "__main__":
    sys.exit(main())
