"""`docs/faults.md`: the answers of each endpoint in each fault, as recorded in a run."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from tests.faults.checker import ACTS
from tests.faults.history import Exchange
from tests.faults.run import Outcome

COLUMNS = 4

HEAD = """# What each endpoint answers in each fault

Written by `make faults`: do not edit this page. It shows the answers that were recorded with two replicas on one
PostgreSQL and one Redis. {people} users at a time sign up, log in and use their accounts, each followed by another
user, while a fault occurs. A cell has the answers during the fault, the most frequent first, and the time within
which 99 of 100 answers arrived. *cut*: the connection ended without an answer. *refused*: the replica refused the
connection. The column *nothing* is a run without a fault. The load sends codes twice, and refresh tokens of ended
sessions, on purpose: they cause the answers `invalid_code` and `invalid_grant`.

The checks for a code accepted twice, an acknowledged change that is lost, an answer to another request, and an
undocumented answer covered {exchanges} exchanges (`tests/faults/checker.py`) and found {violations} violations.
"""


def write(outcomes: Sequence[Outcome], file: Path, *, people: int) -> None:
    exchanges = sum(len(outcome.history.exchanges) for outcome in outcomes)
    violations = sum(len(outcome.violations) for outcome in outcomes)
    parts = [HEAD.format(people=people, exchanges=f"{exchanges:,}", violations=violations)]
    for some in _rows_of(outcomes):
        names = [f"{outcome.fault.name} ({outcome.ended - outcome.began:.0f} s)" for outcome in some]
        lines = [["", *names], ["---"] * (1 + len(some))]
        answers = [_by_act(outcome.during) for outcome in some]
        lines += [[f"`{act}`", *(_cell(answer[act]) for answer in answers)] for act in ACTS]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")
    file.write_text("\n".join(parts), "utf-8")


def _rows_of(outcomes: Sequence[Outcome]) -> list[list[Outcome]]:
    return [list(outcomes[n : n + COLUMNS]) for n in range(0, len(outcomes), COLUMNS)]


def _by_act(exchanges: Sequence[Exchange]) -> dict[str, list[Exchange]]:
    by_act: dict[str, list[Exchange]] = defaultdict(list)
    for exchange in exchanges:
        by_act[exchange.act].append(exchange)
    return by_act


def _cell(exchanges: Sequence[Exchange]) -> str:
    if not exchanges:
        return ""
    answers = Counter(_answer(exchange) for exchange in exchanges)
    seconds = sorted(exchange.seconds for exchange in exchanges)
    return f"{', '.join(answer for answer, _ in answers.most_common())}; {_time(seconds[len(seconds) * 99 // 100])}"


def _answer(exchange: Exchange) -> str:
    if exchange.is_refused:
        return "*refused*"
    if exchange.status is None:
        return "*cut*"
    return f"{exchange.status} {exchange.code}".rstrip()


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
