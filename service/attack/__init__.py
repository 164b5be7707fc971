"""`keyturn attack`: the attacks with which this service is tested, as a command against an operator's own deployment.

The package uses the service only over the network, as any client could. Of the code that it attacks it imports only
the version, the errors, the clock and the computation of codes.

Read it in this order: `target` (proof of control, count of requests), `people` (the accounts that it makes),
`campaign` (one run), `report` (the results), `lines` (raw connections), `forged` (forged tokens); then the families.
Each family is a module whose attacks have one of three results: held, broken, not tried. The tests prove that each
attack can succeed: they run it against a target that is broken on purpose (`tests/attack/test_attack.py`).
"""

from collections.abc import Sequence

from service.attack import (
    administration,
    confusion,
    deletion,
    enumeration,
    forgery,
    guessing,
    headers,
    links,
    mailbox,
    malformed,
    refresh,
    replay,
    slow,
)
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
    "mailbox": mailbox.ATTACKS,
    "links": links.ATTACKS,
    "deletion": deletion.ATTACKS,
    "administration": administration.ATTACKS,
    "guessing": guessing.ATTACKS,
    "enumeration": enumeration.ATTACKS,
    "malformed": malformed.ATTACKS,
    "slow": slow.ATTACKS,
}
"""The families of attacks, in the order of the run."""


async def attack(url: str, *, proof: str | None, budget: Budget, options: Options, tell: Progress) -> Report:
    """Attack the service at `url`. Raises what `open_target` does."""
    async with await open_target(url, proof=proof, budget=budget) as target:
        report = Report(target.url, target.control, system_clock())
        await Campaign(Context(target, People(target), options), report, FAMILIES, tell).run()
        return report
