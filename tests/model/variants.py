"""The deliberately broken variants: each flaw, in a scene that shows it, and the law that it breaks.

A variant that is not detected fails the run: then either the model differs from the code, or a law is missing. The
scenes are the smallest that show the flaw, so that the printed steps are few.
"""

from dataclasses import dataclass, replace

from tests.model import laws
from tests.model.cast import Act, Scene
from tests.model.explore import Explored, explore
from tests.model.flaws import Flaw
from tests.model.laws import MAX_FAILURES
from tests.model.protocol import Protocol
from tests.model.scenes import (
    AGAIN,
    ALONE,
    DISABLE,
    LEAVE,
    NEXT,
    ONE,
    OTHER,
    RAISING,
    RECOVER,
    REFRESH,
    RESET,
    RESTORE,
    SESSION,
    T0,
    T1,
    TAB,
    TOO,
    code,
)
from tests.model.world import WRONG, Factor

CRASH, LOSES, AWAY = (frozenset({fault}) for fault in ("crash", "loses", "away"))
NOTHING: frozenset[str] = frozenset()
TOKENS = (T0, T1)


@dataclass(frozen=True, slots=True)
class Variant:
    flaw: Flaw
    law: str
    scene: Scene


def _guesses(*acts: Act, faults: frozenset[str] = NOTHING, ticks: int = 0) -> Scene:
    tokens = tuple(T0._replace(jti=number) for number in range(4))
    return Scene("guesses", acts, pendings=tokens, faults=faults, ticks=ticks)


def _codes(*acts: Act, faults: frozenset[str] = NOTHING, ticks: int = 0) -> Scene:
    return Scene("codes", acts, pendings=TOKENS, faults=faults, ticks=ticks)


def _family(*acts: Act, ticks: int = 0, faults: frozenset[str] = NOTHING) -> Scene:
    return Scene("a session", acts, sessions=(SESSION,), faults=faults, ticks=ticks)


def _enrolment(*acts: Act) -> Scene:
    new = Factor(is_confirmed=False)
    return Scene(
        "an enrolment", acts, factors=(new, None), pendings=TOKENS, sessions=(SESSION,), faults=NOTHING, ticks=0
    )


def _two(*acts: Act, second: Factor = Factor()) -> Scene:  # noqa: B008 (immutable)
    tokens = tuple(T0._replace(jti=number) for number in range(3))
    return Scene("two authenticators", acts, factors=(Factor(), second), pendings=tokens, faults=NOTHING, ticks=0)


def _without_mfa(*acts: Act) -> Scene:
    return Scene("no factor", acts, factors=(None, None), sessions=(SESSION,), faults=NOTHING, ticks=0)


def _mailbox(recovery: Act) -> Scene:
    """A recovery, and a login with the password of a reset after its delay."""
    return Scene("a mailbox", (recovery, RESET, Act("login", password=2)), faults=NOTHING, ticks=1)


def _role(*acts: Act) -> Scene:
    return Scene("a role", acts, factors=(None, None), sessions=(ALONE,), faults=NOTHING, ticks=0)


def _change(*acts: Act, faults: frozenset[str] = NOTHING) -> Scene:
    return Scene("a change", acts, pendings=TOKENS, sessions=(SESSION,), faults=faults, ticks=0)


GUESSES = (code(0, WRONG), code(1, WRONG, 1), code(2, WRONG))
EVERYWHERE = Act("everywhere", 1)

VARIANTS = (
    Variant(Flaw.CONSUMES_IN_TWO, laws.ONCE, _codes(code(0, 0), code(1, 0, 1), faults=LOSES)),
    Variant(Flaw.USED_CODES_IN_REDIS_ONLY, laws.ONCE, _codes(code(0, 0), code(1, 0, 1), faults=LOSES)),
    Variant(Flaw.FAILS_OPEN, laws.ONCE, _codes(code(0, 0), code(1, 0, 1), faults=AWAY)),
    Variant(Flaw.ANY_OTHER_STEP, laws.INCREASING, _codes(code(0, 1), code(1, 0, 1))),
    Variant(Flaw.KEYED_BY_TEXT, laws.ONCE, _codes(code(0, 0), code(1, 0, 1, spelling=1))),
    Variant(Flaw.EPOCH_UNCHECKED, laws.OLD_SESSION, _change(code(0, 0), EVERYWHERE)),
    Variant(Flaw.JTI_NOT_UNIQUE, laws.TOKEN_ONCE, _codes(code(0, 0), code(0, 1, 1))),
    Variant(
        Flaw.RAISED_UNGUARDED,
        laws.TOKEN_ONCE,
        Scene(
            "a step-up",
            (code(0, 0), code(0, 1, 1)),
            pendings=RAISING,
            sessions=(SESSION,),
            faults=NOTHING,
            ticks=0,
        ),
    ),
    Variant(Flaw.REPORTS_WITHOUT_CONSUMING, laws.REPORTED, _codes(code(0, 2), code(1, 2, 1), ticks=1)),
    Variant(Flaw.REALIGNS_LOOSELY, laws.VERY_NEXT, _codes(code(0, 2), code(1, 4, 1))),
    Variant(Flaw.CHARGES_AFTER, laws.WAITS, _guesses(*GUESSES)),
    Variant(Flaw.CHARGES_IN_TWO, laws.WAITS, _guesses(*GUESSES)),
    Variant(Flaw.CHARGES_IN_THE_TRANSACTION, laws.WAITS, _guesses(*GUESSES)),
    Variant(
        Flaw.CHARGES_ONCE_FOR_ALL,
        laws.CHARGED,
        _two(*GUESSES, second=Factor(failures=1, recent=1)),
    ),
    Variant(Flaw.REFUNDS_OUTSIDE, laws.WAITS, _guesses(code(0, 1), code(1, WRONG, 1), code(2, WRONG), faults=CRASH)),
    Variant(
        Flaw.REFUNDS_NOTHING,
        laws.NEXT_CODE,
        replace(_codes(code(0, 0), code(1, 1)), factors=(Factor(recent=MAX_FAILURES - 2), None)),
    ),
    Variant(
        Flaw.BUDGET_IN_REDIS,
        laws.CHARGED,
        replace(_guesses(*GUESSES[:2], faults=LOSES), factors=(Factor(recent=MAX_FAILURES - 1), None)),
    ),
    Variant(Flaw.FIVE_IN_TWO, laws.FIVE_CODES, _guesses(code(0, 0), code(0, 1, 1), code(0, 0, 1))),
    Variant(Flaw.REFRESH_UNGUARDED, laws.ONE_SUCCESSOR, _family(REFRESH, TOO)),
    Variant(Flaw.GRACE_GIVES_ANOTHER, laws.ONE_SUCCESSOR, _family(REFRESH, TOO)),
    Variant(Flaw.GRACE_FOR_EVER, laws.OLD_GENERATION, _family(REFRESH, TOO, ticks=1)),
    Variant(Flaw.KEPT_FOR_EVER, laws.KEPT, _family(REFRESH, TAB, ticks=1)),
    Variant(Flaw.ENDED_KEPT, laws.ENDED, _family(REFRESH, TAB, Act("revoke", 1))),
    Variant(Flaw.REUSE_FORGIVEN, laws.OLD_GENERATION, _family(REFRESH, NEXT, TOO)),
    Variant(Flaw.ENDED_IGNORED, laws.ENDED, _family(REFRESH, Act("revoke", 1))),
    Variant(Flaw.ENDS_FIRST, laws.OLD_SESSION, _change(code(0, 0), EVERYWHERE)),
    Variant(Flaw.PASSWORD_UNHELD, laws.PASSWORD_ALONE, _without_mfa(Act("login"), Act("enable", 1, factor=ONE))),
    Variant(Flaw.ROLES_UNHELD, laws.POLICY, _role(Act("role", 1), Act("login"))),
    Variant(Flaw.ROLE_ENDS_NOTHING, laws.POLICY, _role(Act("role", 1))),
    Variant(Flaw.POLICY_UNASKED, laws.POLICY, _role(Act("role without the policy", 1), REFRESH)),
    Variant(Flaw.DISABLES_UNCONSUMED, laws.ONCE, _change(code(0, 0), DISABLE, faults=LOSES)),
    Variant(Flaw.CONFIRMS_IN_THE_OLD_EPOCH, laws.OLD_SESSION, _enrolment(code(0, 0), code(1, 1, 1))),
    Variant(Flaw.CONFIRMS_BESIDE_SESSIONS, laws.OLD_SESSION, _enrolment(code(0, 0))),
    Variant(Flaw.ANSWERS_BEFORE_COMMIT, laws.REMOVED, _codes(DISABLE, faults=CRASH)),
    Variant(Flaw.ANSWERS_BEFORE_COMMIT, laws.CONFIRMED, replace(_enrolment(code(0, 0)), sessions=())),
    Variant(
        Flaw.LOCKS_IN_ANY_ORDER,
        laws.NO_DEADLOCK,
        _two(code(0, 0), code(1, 0, 1, factor=OTHER)),
    ),
    Variant(
        Flaw.RECOVERY_CODE_IN_TWO,
        laws.CODE_ONCE,
        _codes(Act("recovery code"), Act("recovery code", 1, pending=1)),
    ),
    Variant(Flaw.DEVICE_UNBOUND, laws.OLD_TOKEN, _family(Act("login", device=1), EVERYWHERE)),
    Variant(Flaw.RESET_UNGUARDED, laws.LINK_ONCE, _change(RESET, AGAIN)),
    Variant(Flaw.RESET_KEEPS_SESSIONS, laws.OLD_SESSION, _change(RESET)),
    Variant(Flaw.RESET_KEEPS_RECOVERY, laws.MAILBOX_ALONE, _mailbox(RECOVER)),
    Variant(Flaw.RECOVERY_BY_RESET, laws.MAILBOX_ALONE, _mailbox(RECOVER._replace(password=2))),
    Variant(Flaw.RECOVERY_UNGUARDED, laws.MAILBOX_ALONE, _mailbox(RECOVER)),
    Variant(Flaw.DELETION_REVOKES_NOTHING, laws.DISABLED, _change(LEAVE, code(0, 0))),
    Variant(Flaw.DELETION_KEEPS_SESSIONS, laws.OLD_SESSION, _change(LEAVE)),
    Variant(Flaw.RESTORE_UNGUARDED, laws.FOR_GOOD, _without_mfa(LEAVE, RESTORE, Act("switch off"))),
    Variant(Flaw.RESTORES_ALONE, laws.PASSWORD_ALONE, _change(LEAVE, RESTORE)),
    Variant(Flaw.CLAIMS_THE_FACTOR, laws.NEXT_CODE, _codes(code(0, 0), faults=CRASH)),
)  # fmt: skip


def find(variant: Variant) -> Explored:
    return explore(Protocol(variant.scene, variant.flaw))
