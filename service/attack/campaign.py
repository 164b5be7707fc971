"""One run: the families in their order, each attack within the rest of the budget, and the results.

The order matters: attacks that need to log in come before attacks that use up the limits of this address.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from service.attack.people import People
from service.attack.report import Broken, Finding, NotTried, Report, Verdict
from service.attack.target import Answer, Target

CLEANUP_SECONDS = 15.0
"""Seconds that the clean-up may take beyond the budget."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command."""

    families: frozenset[str] = frozenset()
    """Only these families; if empty, all."""
    timing_samples: int = 12
    """Number of logins of each kind for the comparison of durations."""
    forwarded: bool = False
    """Whether the URL is that of a proxy: also try chains of forwarded addresses."""
    patience: float = 20.0
    """Seconds after which the service should have disconnected a slow client."""
    mail: Path | None = None
    """The folder in which messages to users arrive; `None` if the operator named none."""


@dataclass
class Context:
    """What every attack gets."""

    target: Target
    people: People
    options: Options
    notes: dict[str, object] = field(default_factory=dict)
    """Results of one attack that another one reuses."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack. `run` returns figures if the service held, and raises `Broken` or `NotTried` otherwise."""

    name: str
    run: Callable[[Context], Awaitable[str]]
    needs_mail: bool = False
    """Whether it reads messages. Without a folder of messages it is tried only if the operator chose its family."""


Progress = Callable[[str], None]


def require_refusal(answer: Answer, what: str) -> None:
    """Raise `Broken` if the request was accepted, or if the service failed: a failure is not a refusal."""
    if answer.is_failure:
        raise Broken(f"{what} was answered with a failure ({answer})")
    if answer.status < 400:
        raise Broken(f"{what} was accepted ({answer})")


class Campaign:
    def __init__(
        self, context: Context, report: Report, families: dict[str, Sequence[Attack]], tell: Progress
    ) -> None:
        self._context = context
        self._report = report
        self._tell = tell
        chosen = context.options.families
        self._attacks = [
            (family, attack)
            for family, attacks in families.items()
            for attack in attacks
            if family in chosen or (not chosen and (context.options.mail is not None or not attack.needs_mail))
        ]

    async def run(self) -> None:
        """Run all attacks. After a stop (Ctrl-C, a cancelled task) the remaining ones are reported as not tried."""
        budget = self._context.target.budget
        stopped = ""
        for number, (family, attack) in enumerate(self._attacks, 1):
            if stopped:
                self._report.findings.append(Finding(family, attack.name, "not tried", stopped))
                continue
            self._tell(f"{budget.elapsed:5.1f} s  {number:2}/{len(self._attacks)}  {family}: {attack.name}")
            try:
                finding = await self._run_and_judge(family, attack)
            except asyncio.CancelledError:
                stopped = "stopped by the operator"
                finding = Finding(family, attack.name, "not tried", stopped)
            self._report.findings.append(finding)
            if finding.verdict != "held":
                self._tell(f"         {finding.verdict.upper()}: {finding.said}")
        await self._leave()
        self._report.requests, self._report.seconds = budget.spent, budget.elapsed

    async def _run_and_judge(self, family: str, attack: Attack) -> Finding:
        budget = self._context.target.budget
        requests, started = budget.spent, time.monotonic()
        limit = asyncio.timeout(budget.left)
        verdict: Verdict = "held"
        try:
            async with limit:
                said = await self._run_attack(attack)
        except Broken as evidence:
            verdict, said = "broken", str(evidence)
        except NotTried as reason:
            verdict, said = "not tried", str(reason)
        except OSError as error:  # TimeoutError is one
            verdict, said = "not tried", f"a connection failed ({type(error).__name__})"
            if limit.expired():
                said = f"the budget of {budget.seconds:.0f} s is used up (--budget-seconds)"
        except Exception as error:  # noqa: BLE001 -- answers of another form than ours must not end the run
            verdict, said = "not tried", f"an answer had an unexpected form ({type(error).__name__})"
        return Finding(family, attack.name, verdict, said, budget.spent - requests, time.monotonic() - started)

    async def _run_attack(self, attack: Attack) -> str:
        """Run one attack. If the service does not answer afterwards, the attack succeeded, whatever it returns."""
        target = self._context.target
        if not await target.is_alive():
            raise NotTried("the service does not answer")
        said = await attack.run(self._context)
        if not await target.is_alive():
            raise Broken("after the attack the service does not answer any more")
        return said

    async def _leave(self) -> None:
        self._context.target.budget.give_more(seconds=CLEANUP_SECONDS, requests=len(self._context.people.made) * 16)
        self._tell("         cleaning up")
        try:
            async with asyncio.timeout(CLEANUP_SECONDS):
                self._report.left_behind += await self._context.people.leave()
        except (TimeoutError, asyncio.CancelledError, NotTried):
            people = self._context.people
            self._report.left_behind.append(
                f"Left behind: {len(people.made)} accounts, {people.name}-1 and on, with their sessions and factors. "
                f"{people.deletion_command}"
            )
