"""One fault from calm to calm, and what the checker says of it."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

from tests.faults import checker
from tests.faults.crowd import Life, living
from tests.faults.faults import Fault
from tests.faults.history import Exchange, History, Recorder
from tests.faults.witnesses import stand_by, testify
from tests.faults.world import World
from tests.people import PASSWORD
from tests.servers import REPOSITORY

PEOPLE = 8
CALM = 2.0
"""Seconds before and after, at least."""
PATIENCE = 30.0
"""Seconds that the first whole life may take."""


@dataclass
class Outcome:
    fault: Fault
    history: History
    began: float
    ended: float
    violations: list[str] = field(default_factory=list)
    """What must never be."""
    late: list[str] = field(default_factory=list)
    """Answers that took longer than the law allows and this machine excuses."""

    @property
    def during(self) -> list[Exchange]:
        return self.history.during("fault")

    @property
    def allowance(self) -> float:
        """Seconds that the slowest answer of the calm before took: what this machine adds."""
        calm = (exchange.seconds for exchange in self.history.during("calm") if exchange.answered_at < self.began)
        return max(calm, default=0.0)


async def run(
    world: World,
    fault: Fault,
    *,
    seconds: float | None = None,
    calm: float = CALM,
    live: Callable[[Life], Awaitable[None]] = Life.live,
    tries_all: bool = True,
) -> Outcome:
    """A crowd before, during and after the fault; then everybody gives his password once more.

    `tries_all`: they live whole lives, in which everything must succeed before and after.
    """
    history = History()
    recorder = Recorder(history, *world.urls)
    prefix = fault.name.lower().replace(" ", "-")
    try:
        async with living(
            recorder, people=PEOPLE, prefix=prefix, client_secret=world.client_secret, live=live
        ) as lives:
            await asyncio.sleep(calm)
            if tries_all:
                await _everything_tried(history)
            witnesses = await stand_by(partial(_another, lives, recorder, prefix, world.client_secret))
            history.phase, began = "fault", monotonic()
            testimony = asyncio.create_task(testify(witnesses))
            await fault.breaking(world, seconds or fault.seconds)
            await testimony
            history.phase, ended = "after", monotonic()
            await asyncio.sleep(calm)
            if tries_all:
                await _everything_tried(history)
        for life in lives:
            await recorder.send(life.name, "POST", "/login", json={"username": life.name, "password": PASSWORD})
    finally:
        await recorder.close()
    outcome = Outcome(fault, history, began, ended)
    outcome.violations = judge(outcome)
    outcome.late = checker.every_answer_is_in_time(
        history.exchanges, within=fault.within, allowance=outcome.allowance
    )
    if tries_all:
        outcome.violations += checker.everything_was_tried(history.exchanges)
    return outcome


def _another(lives: list[Life], recorder: Recorder, prefix: str, client_secret: str, name: str) -> Life:
    lives.append(Life(recorder, f"{prefix}-at-{name}", time.time, client_secret))
    return lives[-1]


async def _everything_tried(history: History) -> None:
    """On a slow machine a first life may take longer than the calm: wait for it, a while."""
    for _ in range(int(PATIENCE / 0.1)):
        if not any(f"'{history.phase}'" in missing for missing in checker.everything_was_tried(history.exchanges)):
            return
        await asyncio.sleep(0.1)


def judge(outcome: Outcome) -> list[str]:
    """Everything that the history proves wrong."""
    history, fault = outcome.history.exchanges, outcome.fault
    document = json.loads((REPOSITORY / "openapi.json").read_text("utf-8"))
    found = [violation for check in checker.SAFETY for violation in check(history)]
    found += checker.every_answer_is_documented(history, document)
    if not fault.cuts:
        found += checker.no_request_is_cut(history)
    return found
