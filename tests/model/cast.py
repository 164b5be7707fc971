"""The acts of a scene, and the plan that the service follows for each kind: one name for each atomic step.

An atomic step is one that no other replica can interrupt: one statement, one commit, one Redis command, one response.
The functions of the step modules, such as `second_step`, explain the names. A flaw changes a plan or a step.
"""

from dataclasses import dataclass
from typing import NamedTuple

from tests.model.flaws import Flaw
from tests.model.laws import CODES_PER_PENDING_TOKEN, FREE_FAILURES, MAX_FAILURES
from tests.model.world import FIRST_SESSION, Factor, Pending, Session


class Act(NamedTuple):
    """One request that a client may send once, at any moment. A repetition is another act."""

    kind: str
    """One of `PLANS`."""
    replica: int = 0
    pending: int = 0
    """The number of a pending token: first those that exist at the start, then one for each act that issues one."""
    factor: int = 0
    step: int = 0
    """The time step of the code; `WRONG` for a guess."""
    spelling: int = 0
    session: int = 0
    """The number of a session: first those that exist at the start, then one for each act that opens one."""
    generation: int = 0
    """The generation of the refresh token."""
    password: int = 1
    device: int = 0
    """The credential version in a device token; 0 for no token."""
    link: int = 1
    """The credential version in a link for a new password, which `password` is."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A small initial world, the acts in it, and the faults that may happen."""

    name: str
    acts: tuple[Act, ...]
    factors: tuple[Factor | None, Factor | None] = (Factor(), None)
    pendings: tuple[Pending, ...] = ()
    sessions: tuple[Session, ...] = ()
    ticks: int = 1
    """The maximum number of time steps that may pass."""
    faults: frozenset[str] = frozenset({"loses", "away", "crash"})
    free: int = FREE_FAILURES
    budget: int = MAX_FAILURES
    codes_per_token: int = CODES_PER_PENDING_TOKEN

    def session_of(self, number: int) -> int:
        """Return the row of a session that an act refers to."""
        return FIRST_SESSION + number

    def opened_by(self, number: int) -> int:
        """Return the row of the session that an act opens."""
        return FIRST_SESSION + len(self.sessions) + number


def _before(plan: tuple[str, ...], step: str, new: str) -> tuple[str, ...]:
    if step not in plan:
        return plan
    at = plan.index(step)
    return (*plan[:at], new, *plan[at:])


def _without(plan: tuple[str, ...], *steps: str) -> tuple[str, ...]:
    return tuple(step for step in plan if step not in steps)


_CODE = ("find_pending", "charge", "reserve", "recall", "report_out_of_step", "claim")
_ENDING = ("find_live", "find_user", "begin_epoch", "factors_epoch", "end_all", "commit", "answer")
_ENDS_FIRST = ("find_live", "find_user", "end_all", "commit", "begin_epoch", "factors_epoch", "commit", "answer")

PLANS: dict[str, tuple[str, ...]] = {
    "login": ("find_user", "hold", "open_session", "commit", "answer"),
    "code": (*_CODE, "consume", "open_session", "commit", "answer"),
    "code of two": (*_CODE, "hold", "consume", "restore", "open_session", "commit", "answer"),
    "first code": (
        *_CODE, "begin_epoch", "factors_epoch", "end_all", "new_codes", "consume", "open_session", "commit", "answer",
    ),
    "recovery code": ("find_pending", "charge", "hold", "consume_recovery_code", "open_session", "commit", "answer"),
    "code after a reset": (*_CODE, "hold", "consume", "open_session", "forget_reset", "commit", "answer"),
    "recovery code after a reset": (
        "find_pending", "charge", "hold", "consume_recovery_code", "open_session", "forget_reset", "commit", "answer",
    ),
    "restoring code": (
        *_CODE, "restore_account", "factors_epoch", "consume", "open_session", "forget_reset", "commit", "answer",
    ),
    "reset": ("find_link", "reset_password", "factors_epoch", "end_all", "commit", "answer"),
    "recover": ("find_user", "start_recovery", "commit", "answer"),
    "recovering": (
        "find_user", "complete_recovery", "factors_epoch", "remove_factors", "end_all", "restart_enrolment", "commit",
        "answer",
    ),
    "delete": ("find_live", "find_user", "schedule", "factors_epoch", "end_all", "commit", "answer"),
    "restore": ("find_user", "restore_account", "factors_epoch", "open_session", "commit", "answer"),
    "removal": ("remove_account", "remove_factors", "end_all", "commit", "answer"),
    "switch off": ("switch_off", "factors_epoch", "end_all", "commit", "answer"),
    "step up": ("find_live", "find_user"),
    "disable": (
        "find_user", "list_usable", "reserve", "recall", "report_out_of_step", "claim", "begin_epoch",
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
    "refresh by the cookie": ("begin", "keep", "renew", "repeat", "end_reused", "commit", "answer"),
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
    "refresh by the cookie": "POST /token, cookie",
    "reset": "POST /password-reset/confirm",
    "recover": "POST /recovery",
    "delete": "DELETE /me",
    "restore": "POST /me/restore",
    "removal": "housekeeping",
    "switch off": "keyturn users disable",
}


INSERTED = {
    Flaw.CONSUMES_IN_TWO: ("consume", "read_last_step"),
    Flaw.CHARGES_AFTER: ("reserve", "compare_uncharged"),
    Flaw.CHARGES_IN_TWO: ("reserve", "read_failures"),
    Flaw.FIVE_IN_TWO: ("charge", "read_count"),
    Flaw.REFUNDS_OUTSIDE: ("consume", "refund_early"),
}
"""By flaw: a step, and the step that is inserted before it in every plan."""

REPLACED: dict[Flaw, dict[str, tuple[str, ...]]] = {
    Flaw.RECOVERY_CODE_IN_TWO: {"recovery code": _before(PLANS["recovery code"], "hold", "read_recovery_code")},
    Flaw.ENDS_FIRST: dict.fromkeys(("password", "everywhere"), _ENDS_FIRST),
    Flaw.PASSWORD_UNHELD: {"login": _without(PLANS["login"], "hold")},
    Flaw.ROLE_ENDS_NOTHING: {"role": _without(PLANS["role"], "end_refused")},
    Flaw.RESET_KEEPS_SESSIONS: {"reset": _without(PLANS["reset"], "end_all")},
    Flaw.DELETION_KEEPS_SESSIONS: {"delete": _without(PLANS["delete"], "end_all")},
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
    """Return the plans, changed by the flaw."""
    if flaw is None:
        return PLANS
    if flaw in INSERTED:
        return {name: _before(plan, *INSERTED[flaw]) for name, plan in PLANS.items()}
    return PLANS | REPLACED.get(flaw, {})
