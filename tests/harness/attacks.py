"""Runs of `keyturn attack` in this process, and what their reports say."""

from typing import Any

from service.attack import FAMILIES, attack
from service.attack.campaign import Options
from service.attack.report import Report
from service.attack.target import Budget


async def run_attack(
    url: str,
    *families: str,
    seconds: float = 60,
    requests: int = 20_000,
    proof: str | None = None,
    **options: Any,
) -> Report:
    return await attack(
        url,
        proof=proof,
        budget=Budget(seconds=seconds, requests=requests),
        options=Options(families=frozenset(families), **options),
        tell=lambda _line: None,
    )


def names(report: Report, verdict: str) -> set[str]:
    """Return the names of the attacks with this verdict."""
    return {finding.attack for finding in report.findings if finding.verdict == verdict}


def attacks_of(family: str) -> set[str]:
    return {attack.name for attack in FAMILIES[family]}
