"""`docs/faults.md`: what each endpoint answers in each fault, as it was in a run."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from tests.faults.checker import ACTS
from tests.faults.history import Exchange
from tests.faults.run import Outcome

COLUMNS = 4

HEAD = """# What each endpoint answers in each fault

Written by `make faults` from what was recorded: two replicas on one PostgreSQL and one Redis, {people} people at a
time, each with one life after the other, and a fault. Do not edit it. A cell has what was answered while the fault
was there, the most frequent first, and the time within which 99 of 100 answers came. *cut*: the connection ended
without an answer. *refused*: the replica that was asked for was not there. The load repeats
codes and refresh tokens of ended sessions on purpose: those are the `invalid_code` and `invalid_grant`.

A code accepted twice, an acknowledged change lost, an answer that was somebody else's or is not documented: looked
for in {exchanges} exchanges (`tests/faults/checker.py`), found {violations} times.
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
