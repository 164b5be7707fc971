"""`keyturn attack`: the attacks that this service is tested with, for the deployment of whoever runs it.

It knows the service from outside only: what it does anybody on the network could do. It imports nothing of what it
attacks but the words of errors, the clock and the arithmetic of codes.

Read it in this order: `target` (control is proved, every request is counted), `people` (the accounts it makes),
`campaign` (one run), `report` (what came of it), `lines` (raw connections); then the families, each a module of its
own whose attacks end in one of three ways: held, broken, not tried. An attack that cannot fail is worth nothing, so
each is proved against a target that is broken on purpose (`tests/test_attack.py`).
"""

from collections.abc import Sequence

from service.attack import confusion, enumeration, forgery, guessing, headers, malformed, refresh, replay, slow
from service.attack.campaign import Attack, Campaign, Context, Options, Progress
from service.attack.people import People
from service.attack.report import Report
from service.attack.target import Budget, open_target
from service.clock import system_clock

FAMILIES: dict[str, Sequence[Attack]] = {
    "confusion": confusion.ATTACKS,
    "forgery": forgery.ATTACKS,
    "replay": replay.ATTACKS,
    "refresh": refresh.ATTACKS,
    "headers": headers.ATTACKS,
    "guessing": guessing.ATTACKS,
    "enumeration": enumeration.ATTACKS,
    "malformed": malformed.ATTACKS,
    "slow": slow.ATTACKS,
}
"""In the order of the run."""


async def attack(url: str, *, proof: str | None, budget: Budget, options: Options, tell: Progress) -> Report:
    """Attack the service at `url`. Raises `ConfigurationError` unless its operator proves to be at work."""
    async with await open_target(url, proof=proof, budget=budget) as target:
        report = Report(target.url, target.control, system_clock())
        await Campaign(Context(target, People(target), options), report, FAMILIES, tell).run()
        return report
