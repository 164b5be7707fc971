"""Who does what in a scene, and the plan that the service follows for it: one name for each atomic step.

A step is what no other replica can get into the middle of: one statement, one commit, one Redis command, one answer.
The names are explained where they are done: `second_turn`, `account`, `sessions`. A flaw changes a plan or a step.
"""

from dataclasses import dataclass
from typing import NamedTuple

from tests.model.flaws import Flaw
from tests.model.laws import CODES_PER_PENDING_TOKEN, FREE_FAILURES, MAX_FAILURES
from tests.model.world import FIRST_SESSION, Factor, Pending, Session


class Act(NamedTuple):
    """One request that somebody may send, once, at any moment; what is given again is another act."""

    kind: str
    """One of `PLANS`."""
    replica: int = 0
    pending: int = 0
    """By number: first those that exist at the start, then that of the act that is answered with one."""
    factor: int = 0
    step: int = 0
    """Of the code; `WRONG` for a guess."""
    spelling: int = 0
    session: int = 0
    """By number: first those that exist at the start, then that which an act opens."""
    generation: int = 0
    """Of the refresh token."""
    password: int = 1
    device: int = 0
    """The epoch that a device token names; 0 for none."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A small world, the acts in it, and what may go wrong."""

    name: str
    acts: tuple[Act, ...]
    factors: tuple[Factor | None, Factor | None] = (Factor(), None)
    pendings: tuple[Pending, ...] = ()
    sessions: tuple[Session, ...] = ()
    ticks: int = 1
    """How many time steps may pass."""
    faults: frozenset[str] = frozenset({"loses", "away", "crash"})
    free: int = FREE_FAILURES
    budget: int = MAX_FAILURES
    codes_per_token: int = CODES_PER_PENDING_TOKEN

    def session_of(self, number: int) -> int:
        """The row of a session that an act names."""
        return FIRST_SESSION + number

    def opened_by(self, number: int) -> int:
        """The row of the session that an act opens."""
        return FIRST_SESSION + len(self.sessions) + number


def _before(plan: tuple[str, ...], step: str, new: str) -> tuple[str, ...]:
    if step not in plan:
        return plan
    at = plan.index(step)
    return (*plan[:at], new, *plan[at:])


def _without(plan: tuple[str, ...], *steps: str) -> tuple[str, ...]:
    return tuple(step for step in plan if step not in steps)


_CODE = ("find_pending", "pay", "reserve", "recall", "tell", "claim")
_ENDING = ("find_live", "find_user", "begin_epoch", "factors_epoch", "end_all", "commit", "answer")
_ENDS_FIRST = ("find_live", "find_user", "end_all", "commit", "begin_epoch", "factors_epoch", "commit", "answer")

PLANS: dict[str, tuple[str, ...]] = {
    "login": ("find_user", "hold", "open_session", "commit", "answer"),
    "code": (*_CODE, "consume", "open_session", "commit", "answer"),
    "code of two": (*_CODE, "hold", "consume", "restore", "open_session", "commit", "answer"),
    "first code": (
        *_CODE, "begin_epoch", "factors_epoch", "end_all", "new_codes", "consume", "open_session", "commit", "answer",
    ),
    "recovery code": ("find_pending", "pay", "hold", "consume_recovery_code", "open_session", "commit", "answer"),
    "step up": ("find_live", "find_user"),
    "disable": (
        "find_user", "list_usable", "reserve", "recall", "tell", "claim", "begin_epoch",
        "factors_epoch", "consume", "restore",
        "remove_factors", "end_all", "commit", "answer",
    ),
    "enable": ("find_live", "find_user", "begin_epoch", "factors_epoch", "add_factor", "commit", "answer"),
    "password": _ENDING,
    "everywhere": _ENDING,
    "revoke": ("begin", "end", "commit", "answer"),
    "role": ("change_roles", "end_refused", "commit", "answer"),
    "role without the policy": ("change_roles", "commit", "answer"),
    "refresh": ("begin", "renew", "repeat", "end_reused", "commit", "answer"),
}  # fmt: skip

WORDS = {
    "login": "POST /login",
    "code": "POST /login-2fa",
    "recovery code": "POST /login-2fa, recovery code",
    "step up": "POST /step-up",
    "disable": "POST /disable-mfa",
    "enable": "POST /enable-mfa",
    "password": "POST /password",
    "everywhere": "POST /logout?everywhere=true",
    "revoke": "POST /revoke",
    "role": "keyturn users role add",
    "role without the policy": "keyturn users role add, without KEYTURN_REQUIRE_MFA",
    "refresh": "POST /token",
}


INSERTED = {
    Flaw.CONSUMES_IN_TWO: ("consume", "read_last_step"),
    Flaw.PAYS_AFTER: ("reserve", "look"),
    Flaw.PAYS_IN_TWO: ("reserve", "read_failures"),
    Flaw.FIVE_IN_TWO: ("pay", "read_count"),
    Flaw.REFUNDS_OUTSIDE: ("consume", "refund_early"),
}
"""Before a step, wherever it stands, another one."""

REPLACED: dict[Flaw, dict[str, tuple[str, ...]]] = {
    Flaw.RECOVERY_CODE_IN_TWO: {"recovery code": _before(PLANS["recovery code"], "hold", "read_recovery_code")},
    Flaw.ENDS_FIRST: dict.fromkeys(("password", "everywhere"), _ENDS_FIRST),
    Flaw.PASSWORD_UNHELD: {"login": _without(PLANS["login"], "hold")},
    Flaw.ROLE_ENDS_NOTHING: {"role": _without(PLANS["role"], "end_refused")},
    Flaw.DISABLES_UNCONSUMED: {"disable": _without(PLANS["disable"], "consume", "restore")},
    Flaw.CONFIRMS_IN_THE_OLD_EPOCH: {"first code": _without(PLANS["first code"], "begin_epoch", "factors_epoch")},
    Flaw.CONFIRMS_BESIDE_SESSIONS: {"first code": _without(PLANS["first code"], "end_all")},
    Flaw.ANSWERS_BEFORE_COMMIT: {
        name: (*plan[:-2], "answer", "commit") for name, plan in PLANS.items() if plan[-2:] == ("commit", "answer")
    },
    Flaw.LOCKS_IN_ANY_ORDER: {
        "code of two": (*_CODE, "consume", "hold", "restore", "open_session", "commit", "answer")
    },
}


def plans(flaw: Flaw | None) -> dict[str, tuple[str, ...]]:
    """The plans, as the flaw has them."""
    if flaw is None:
        return PLANS
    if flaw in INSERTED:
        return {name: _before(plan, *INSERTED[flaw]) for name, plan in PLANS.items()}
    return PLANS | REPLACED.get(flaw, {})
