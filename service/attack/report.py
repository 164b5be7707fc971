"""The results of the attacks: as text, as JSON, and as an exit status.

The report has no secrets: evidence names what was sent and what was answered, never a token, a code or a password.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from textwrap import wrap
from typing import Any, Literal

from service import VERSION

Verdict = Literal["held", "broken", "not tried"]
HELD, BROKEN, MISUSED, INCOMPLETE = 0, 1, 2, 3
"""Exit statuses."""

_SIGNS: dict[Verdict, str] = {"held": "held     ", "broken": "BROKEN   ", "not tried": "not tried"}
_WIDTH = 118


class Broken(Exception):
    """Says that the attack succeeded. The sentence is the evidence."""


class NotTried(Exception):
    """Says that the attack could not be made or completed. The sentence is the reason. This is not a pass."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one attack."""

    family: str
    attack: str
    verdict: Verdict
    said: str
    """Figures if it held, evidence if it is broken, the reason if it was not tried."""
    requests: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Report:
    """All findings of one run."""

    url: str
    control: str
    started_at: datetime
    findings: list[Finding] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)
    """Sentences about the accounts that the run leaves behind, or the sentence that it made none."""
    requests: int = 0
    seconds: float = 0.0

    @property
    def status(self) -> int:
        """The exit status: 0 all held, 1 something is broken, 3 nothing is broken and something was not tried."""
        verdicts = {finding.verdict for finding in self.findings}
        if "broken" in verdicts:
            return BROKEN
        return HELD if verdicts == {"held"} else INCOMPLETE

    def count(self, verdict: Verdict) -> int:
        return sum(finding.verdict == verdict for finding in self.findings)

    def text(self) -> str:
        """Return the report as text, grouped by family. An attack has one line, or more if its result is long."""
        lines = [f"keyturn attack {self.url} ({self.control})"]
        widest = max((len(finding.attack) for finding in self.findings), default=0)
        for family, findings in groupby(self.findings, lambda finding: finding.family):
            lines += ["", family]
            lines += [_line(finding, widest) for finding in findings]
        counts = f"{self.count('held')} held, {self.count('broken')} broken, {self.count('not tried')} not tried"
        lines += ["", f"{counts}: {self.requests:,} requests in {self.seconds:.0f} s."]
        lines += self.left_behind
        return "\n".join(lines) + "\n"

    def json(self) -> str:
        """Return the report as JSON."""
        document: dict[str, Any] = {
            "tool": "keyturn attack",
            "version": VERSION,
            "url": self.url,
            "control": self.control,
            "started_at": self.started_at.isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 1),
            "requests": self.requests,
            "exit_status": self.status,
            "attacks": [_entry(finding) for finding in self.findings],
            "left_behind": self.left_behind,
        }
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _line(finding: Finding, widest: int) -> str:
    head = f"  {_SIGNS[finding.verdict]}  {finding.attack:{widest}}  "
    if len(head) + len(finding.said) <= _WIDTH or not finding.said:
        return (head + finding.said).rstrip()
    return "\n".join([head.rstrip(), *(f"             {line}" for line in wrap(finding.said, _WIDTH - 13))])


def _entry(finding: Finding) -> dict[str, Any]:
    meaning = {"held": "figures", "broken": "evidence", "not tried": "reason"}[finding.verdict]
    return {
        "family": finding.family,
        "attack": finding.attack,
        "verdict": finding.verdict,
        meaning: finding.said,
        "requests": finding.requests,
        "seconds": round(finding.seconds, 2),
    }
