"""Run one fault, with a calm phase before and after, and check its history."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

from tests.faults import checker
from tests.faults.faults import Fault
from tests.faults.history import Exchange, History, Recorder
from tests.faults.load import Life, Shared, running_load
from tests.faults.mailbox import Mailbox
from tests.faults.owners import MAIL_WITHIN, Owner
from tests.faults.probes import prepare_probes, send_probes
from tests.faults.world import World
from tests.harness.servers import REPOSITORY

PEOPLE = 8
KINDS = (Life, Owner)
CALM = 2.0
"""Minimum duration in seconds of each calm phase."""
PATIENCE = 30.0
"""Seconds that the first complete lifecycle may take."""


@dataclass
class Outcome:
    fault: Fault
    history: History
    began: float
    ended: float
    violations: list[str] = field(default_factory=list)
    """The violations, which must be none."""
    late: list[str] = field(default_factory=list)
    """Answers that took longer than the law allows plus the allowance of this machine."""

    @property
    def during(self) -> list[Exchange]:
        return self.history.during("fault")

    @property
    def allowance(self) -> float:
        """Seconds of the slowest answer in the calm phase before: what this machine adds."""
        calm = (exchange.seconds for exchange in self.history.during("calm") if exchange.answered_at < self.began)
        return max(calm, default=0.0)


async def run(
    world: World,
    fault: Fault,
    *,
    seconds: float | None = None,
    calm: float = CALM,
    live: Callable[[Life], Awaitable[None]] | None = None,
    tries_all: bool = True,
) -> Outcome:
    """Run the load before, during and after the fault; then every user sends the password once more.

    `tries_all`: users run complete lifecycles, and every act must succeed before and after the fault.
    """
    history = History()
    recorder, shared = Recorder(history, *world.urls), world.shared
    prefix = fault.name.lower().replace(" ", "-")
    try:
        async with running_load(
            recorder, people=PEOPLE, prefix=prefix, shared=shared, kinds=KINDS if live is None else (Life,), live=live
        ) as lives:
            await asyncio.sleep(calm)
            if tries_all:
                await _everything_tried(history)
            probes = await prepare_probes(partial(_another, lives, recorder, prefix, shared))
            history.phase, began = "fault", monotonic()
            probing = asyncio.create_task(send_probes(probes))
            await fault.breaking(world, seconds or fault.seconds)
            await probing
            history.phase, ended = "after", monotonic()
            await asyncio.sleep(calm)
            if tries_all:
                await _everything_tried(history)
        for life in lives:
            await life.try_password(life.password)
    finally:
        await recorder.close()
    outcome = Outcome(fault, history, began, ended)
    outcome.violations = judge(outcome)
    outcome.violations += await _missing_messages(history, shared.mailbox)
    outcome.late = checker.every_answer_is_in_time(
        history.exchanges, within=fault.within, allowance=outcome.allowance
    )
    if tries_all:
        outcome.violations += checker.everything_was_tried(history.exchanges)
    return outcome


def _another(lives: list[Life], recorder: Recorder, prefix: str, shared: Shared, name: str) -> Owner:
    owner = Owner(recorder, f"{prefix}-at-{name}", time.time, shared)
    lives.append(owner)
    return owner


async def _everything_tried(history: History, *, patience: float = PATIENCE) -> None:
    """Wait until each act has succeeded: on a slow machine a first lifecycle may take longer than the calm phase."""
    for _ in range(int(patience / 0.1)):
        if not any(f"'{history.phase}'" in missing for missing in checker.everything_was_tried(history.exchanges)):
            return
        await asyncio.sleep(0.1)


async def _missing_messages(history: History, mailbox: Mailbox) -> list[str]:
    """Wait for all messages that acknowledged requests caused, and return which of them do not arrive."""
    end = monotonic() + MAIL_WITHIN
    while missing := checker.no_message_is_lost(history.exchanges, mailbox.links_to):
        if monotonic() > end:
            return missing
        await asyncio.sleep(0.2)
    return []


def judge(outcome: Outcome) -> list[str]:
    """Return all violations that the history proves."""
    history, fault = outcome.history.exchanges, outcome.fault
    document = json.loads((REPOSITORY / "openapi.json").read_text("utf-8"))
    found = [violation for check in checker.SAFETY for violation in check(history)]
    found += checker.every_answer_is_documented(history, document)
    if not fault.cuts:
        found += checker.no_request_is_cut(history)
    return found
