"""The scoreboard's figures of faults. Each figure needs a run of its own."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

from bench.board import Line
from tests.faults.faults import FAULTS, WITHOUT_REDIS, WITHOUT_SQL, Fault, kill_one
from tests.faults.guesses import guess, most_codes, most_passwords
from tests.faults.history import Exchange
from tests.faults.load import Life
from tests.faults.run import Outcome, run
from tests.faults.world import World, opened_world

BACK_WITHIN = 3.0
"""Seconds after PostgreSQL's return."""


def of_redis_stopped(outcome: Outcome) -> Line:
    """The share of correct login steps that were answered 200 within half a second while Redis was stopped.

    Not counted are those of owners (`owners.Owner`), whose accounts are disabled, deleted and reset at the same time.
    """
    allowed = WITHOUT_REDIS + outcome.allowance
    owners = {exchange.person for exchange in outcome.history.exchanges if exchange.act == "/email"}
    steps: dict[object, bool] = {}
    for exchange in outcome.during:
        if exchange.act in {"/login", "/login-2fa"} and exchange.person not in owners:
            code = exchange.sent.get("secret"), exchange.sent.get("step")
            step = code if "step" in exchange.sent else exchange.request_id
            is_right = exchange.is_good and exchange.seconds <= allowed
            steps[step] = steps.get(step, False) or is_right  # of two requests with one code, one must be accepted
    share = sum(steps.values()) / max(1, len(steps))
    slowest = max((e.seconds for e in outcome.during if e.act in {"/login", "/login-2fa"}), default=0.0)
    return _line(
        f"Redis stopped for {outcome.ended - outcome.began:.0f} s: right logins within {WITHOUT_REDIS} s",
        ">= 99 %",
        f"{share:.2%} of {len(steps)}; the slowest answer took {slowest:.2f} s",
        bool(steps) and share >= 0.99,
    )


async def of_guesses(folder: Path, seconds: float) -> list[Line]:
    """Measure guesses under the default limits."""
    async with opened_world(folder, settings={}) as world:
        guesses = await guess(world, seconds)
    most = most_passwords(seconds, replicas=2)
    return [
        _line(
            f"Redis stopped for {seconds:.0f} s: wrong passwords that two replicas checked",
            f"<= {most}",
            f"{guesses.passwords_checked} of {guesses.passwords}",
            0 < guesses.passwords_checked <= most,
        ),
        _line(
            f"Redis stopped for {seconds:.0f} s: wrong codes that two replicas checked",
            f"<= {most_codes(seconds)}",
            f"{guesses.codes_checked} of {guesses.codes}",
            0 < guesses.codes_checked <= most_codes(seconds),
        ),
    ]


async def of_postgresql_killed(world: World, times: int) -> tuple[Outcome, list[Line]]:
    """kill -9, repeatedly, under signup load. After each return a login must succeed soon."""
    returns: list[float] = []

    async def kill_again_and_again(world: World, _seconds: float) -> None:
        for _ in range(times):
            await asyncio.sleep(random.uniform(0.2, 1.0))  # noqa: S311 -- no secret
            await asyncio.to_thread(world.postgresql.kill)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(world.postgresql.start)
            returns.append(monotonic())
            await asyncio.sleep(1.0)

    fault = Fault(f"PostgreSQL killed {times} times", kill_again_and_again, 0, WITHOUT_SQL)
    outcome = await run(world, fault, live=Life.sign_up, tries_all=False)
    lost = [sentence for sentence in outcome.violations if "lost" in sentence]
    refused = [exchange.seconds for exchange in outcome.during if exchange.status == 503]
    waits = [_first_good_after(outcome, moment) for moment in returns]
    signups = sum(exchange.act == "/signup" and exchange.is_good for exchange in outcome.history.exchanges)
    title = f"PostgreSQL killed {times} times under signup load"
    return outcome, [
        _line(f"{title}: acknowledged accounts lost", "0", f"{len(lost)} of {signups}", signups > 0 and not lost),
        _line(
            f"{title}: the slowest 503",
            f"<= {WITHOUT_SQL:g} s beyond the slowest answer before",
            f"{max(refused, default=0):.2f} s of {len(refused)}; slowest answer before: {outcome.allowance:.2f} s",
            bool(refused) and max(refused) <= WITHOUT_SQL + outcome.allowance,
        ),
        _line(
            f"{title}: time from its return to the first success",
            f"<= {BACK_WITHIN:g} s",
            f"{max(waits):.2f} s at most",
            max(waits) <= BACK_WITHIN,
        ),
    ]


def _first_good_after(outcome: Outcome, moment: float) -> float:
    answered = [e.answered_at for e in outcome.history.exchanges if e.is_good and e.sent_at >= moment]
    return min(answered, default=float("inf")) - moment


async def of_service_killed(world: World, times: int) -> tuple[Outcome, Line]:
    """kill -9 of a replica at random moments under the whole load."""

    async def kill_again_and_again(world: World, _seconds: float) -> None:
        for number in range(times):
            await kill_one(world, number)

    fault = Fault(f"service killed {times} times", kill_again_and_again, 0, 1.0, cuts=True)
    outcome = await run(world, fault)
    cut = sum(exchange.status is None and not exchange.is_refused for exchange in outcome.history.exchanges)
    return outcome, _line(
        f"service killed with -9 at random moments, {times} times: violations",
        "0",
        f"{len(outcome.violations)} in {len(outcome.history.exchanges)} exchanges, {cut} of them cut off",
        not outcome.violations,
    )


def of_all(outcomes: list[Outcome]) -> Line:
    """The figure of all faults together."""
    exchanges = sum(len(outcome.history.exchanges) for outcome in outcomes)
    violations = sum(len(outcome.violations) for outcome in outcomes)
    late = sum(len(outcome.late) for outcome in outcomes)
    faults = sum(outcome.fault.name != "nothing" for outcome in outcomes)
    return _line(
        f"{faults} faults: violations, and answers that came too late",
        "0 and 0",
        f"{violations} and {late} in {exchanges} exchanges",
        violations == 0 and late == 0 and len(outcomes) > 0,
    )


def slowest(exchanges: list[Exchange]) -> float:
    return max((exchange.seconds for exchange in exchanges), default=0.0)


async def fault_by_fault(folder: Path, chosen: list[str], seconds: float | None) -> AsyncIterator[Outcome]:
    """Run the chosen faults, each in a world of its kind."""
    for kind in ("ordinary", "sentinel", "small disk"):
        faults = [fault for fault in FAULTS if fault.kind == kind and fault.name in chosen]
        if not faults:
            continue
        place = folder / kind.replace(" ", "-")
        place.mkdir(mode=0o755)
        async with opened_world(place, kind) as world:
            for fault in faults:
                yield await run(world, fault, seconds=seconds)


def _line(what: str, goal: str, reached: str, is_good: bool) -> Line:
    return Line(what, goal, reached, is_good, "make faults")
