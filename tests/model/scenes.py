"""The small scenes that are explored, each for one question, in two sizes."""

from tests.model.cast import Act, Scene
from tests.model.world import FACTORS, WRONG, Factor, Pending, Session

ONE, OTHER = FACTORS
T0, T1 = Pending(0, epoch=1), Pending(1, epoch=1)
SESSION = Session(epoch=1)
ALONE = Session(epoch=1, is_alone=True)
"""A session of a user without a second factor."""
RAISING = (Pending(0, 1, session=4), Pending(1, 1, session=4))
"""Step-up tokens for the first session."""

ALL = frozenset({"loses", "away", "crash"})
LOSES, CRASH, AWAY = frozenset({"loses", "crash"}), frozenset({"crash"}), frozenset({"away"})


def code(pending: int, step: int, replica: int = 0, factor: int = ONE, spelling: int = 0) -> Act:
    return Act("code", replica, pending=pending, step=step, factor=factor, spelling=spelling)


REFRESH, TOO = Act("refresh", 0), Act("refresh", 1)
"""The refresh token of the first session, presented at the first and at the second replica."""
NEXT, AFTER = Act("refresh", 0, generation=1), Act("refresh", 1, generation=2)
TAB, LATE = Act("refresh by the cookie", 0, generation=1), Act("refresh by the cookie", 1, generation=1)
"""Two tabs that have the cookie that the refresh of a third one set."""
EVERYWHERE = Act("everywhere", 1, session=1)
PASSWORD = Act("password", 1, session=0)
DISABLE = Act("disable", 1, factor=ONE, step=0)
RESET, AGAIN = Act("reset", 0, password=2), Act("reset", 1, password=3)
"""One link, used for two passwords."""
RECOVER, LEAVE, RESTORE = Act("recover"), Act("delete"), Act("restore", 1)
TOO_EARLY = Act("recover", 1, password=2)
"""A recovery by the password of a reset, before a second factor was proved."""


QUICK = (
    Scene("one code, two replicas", (code(0, 0), code(1, 0, 1)), pendings=(T0, T1), faults=ALL),
    Scene(
        "one replica without Redis",
        (code(0, 0), code(1, 0)),
        pendings=(T0, T1),
        ticks=0,
        faults=AWAY,
    ),
    Scene(
        "guesses at one replica without Redis",
        (code(0, WRONG), code(0, WRONG), code(0, WRONG)),
        pendings=(T0,),
        ticks=0,
        faults=AWAY,
    ),
    Scene(
        "one code, its neighbour, one token",
        (code(0, 0), code(0, 1, 1), code(1, 0, 1)),
        pendings=(T0, T1),
        ticks=0,
        faults=LOSES,
    ),
    Scene(
        "guesses",
        (code(0, WRONG), code(1, WRONG, 1), code(0, 0, 1)),
        pendings=(T0, T1),
        ticks=2,
        faults=LOSES,
    ),
    Scene(
        "a clock out of step",
        (code(0, 2), code(1, 3, 1), code(1, 2, 1)),
        pendings=(T0, T1),
        faults=CRASH,
    ),
    Scene("refreshing", (REFRESH, TOO, NEXT, Act("revoke", 1)), sessions=(SESSION,)),
    Scene(
        "tabs",
        (Act("refresh by the cookie"), TAB, LATE, Act("refresh by the cookie", 1), Act("revoke", 1)),
        sessions=(SESSION,),
    ),
    Scene(
        "tabs, and a role that requires a second factor",
        (REFRESH, TAB, LATE, Act("role", 1)),
        factors=(None, None),
        sessions=(ALONE,),
        ticks=0,
        faults=CRASH,
    ),
    Scene(
        "a change of the account",
        (code(0, 0), PASSWORD, Act("refresh", 0, session=1), Act("login", 0)),
        pendings=(T0,),
        sessions=(SESSION, SESSION),
        ticks=0,
        faults=CRASH,
    ),
    Scene(
        "disabling",
        (code(0, 0), DISABLE, Act("login")),
        pendings=(T0,),
        sessions=(SESSION,),
        ticks=0,
    ),
    Scene(
        "enrolling",
        (Act("enable", 0, factor=ONE), Act("login", 1), code(0, 0, 1), code(0, 2), REFRESH),
        factors=(None, None),
        sessions=(SESSION,),
        ticks=0,
        faults=LOSES,
    ),
    Scene(
        "the first code",
        (code(0, 0), code(1, 1, 1), Act("login", 1), REFRESH),
        factors=(Factor(is_confirmed=False), None),
        pendings=(T0, T1),
        sessions=(SESSION,),
        ticks=0,
        faults=CRASH,
    ),
    Scene(
        "a step-up",
        (code(0, 0), code(0, 1, 1), Act("revoke", 1)),
        pendings=RAISING,
        sessions=(SESSION,),
        ticks=0,
        faults=LOSES,
    ),
    Scene(
        "two authenticators",
        (code(0, 0), code(1, 0, 1, factor=OTHER), code(0, WRONG, 1)),
        factors=(Factor(), Factor()),
        pendings=(T0, T1),
        ticks=0,
        faults=CRASH,
    ),
    Scene(
        "a recovery code",
        (Act("recovery code"), Act("recovery code", 1, pending=1), code(0, 0, 1)),
        pendings=(T0, T1),
        ticks=0,
        faults=LOSES,
    ),
    Scene(
        "a known device",
        (Act("login", device=1), PASSWORD, Act("login", 1), Act("login", 1, password=2)),
        sessions=(SESSION,),
        ticks=0,
    ),
    Scene(
        "two authenticators, one out of step",
        (code(0, 2, factor=OTHER), Act("disable", 1, factor=ONE, step=1)),
        factors=(Factor(), Factor()),
        pendings=(T0,),
        ticks=0,
        faults=CRASH,
    ),
    Scene(
        "logging out everywhere",
        (code(0, 0), EVERYWHERE, Act("revoke"), Act("disable", 0, factor=ONE, step=2)),
        pendings=(T0,),
        sessions=(SESSION, SESSION),
        ticks=0,
        faults=CRASH,
    ),
    Scene(
        "a role that requires a second factor",
        (Act("role", 1), REFRESH, TOO, Act("login"), Act("revoke")),
        factors=(None, None),
        sessions=(ALONE,),
        ticks=0,
        faults=CRASH,
    ),
    Scene(
        "such a role from a command without the policy",
        (Act("role without the policy", 1), REFRESH, TOO, NEXT, Act("login")),
        factors=(None, None),
        sessions=(ALONE,),
        faults=CRASH,
    ),
    Scene(
        "a reset",
        (RESET, AGAIN, code(0, 0), Act("login", 1, password=2)),
        pendings=(T0,),
        sessions=(SESSION,),
        ticks=0,
        faults=CRASH,
    ),
    Scene(
        "a recovery and a reset",
        (RECOVER, RESET, TOO_EARLY, Act("login", password=2), Act("login", 1)),
        ticks=1,
        faults=frozenset(),
    ),
    Scene(
        "a second factor after a reset",
        (RESET, Act("login", 1, password=2), code(1, 0), code(1, 2, 1), Act("recovery code", 1, pending=1)),
        ticks=0,
        faults=CRASH,
    ),
    Scene(
        "a deletion and a restore",
        (LEAVE, RESTORE, code(2, 1, 1), code(0, 0), Act("switch off")),
        pendings=(T0,),
        sessions=(SESSION,),
        ticks=0,
        faults=frozenset(),
    ),
    Scene(
        "a deletion that becomes due",
        (LEAVE, RESTORE, Act("removal", 1), Act("login")),
        factors=(None, None),
        sessions=(ALONE,),
        faults=CRASH,
    ),
    Scene(
        "removing a user with a second factor",
        (LEAVE, Act("removal", 1), RESTORE, code(2, 1), code(2, 2)),
        sessions=(SESSION,),
        faults=frozenset(),
    ),
    Scene(
        "requesting a step-up",
        (Act("step up", 0), code(0, 0, 1), EVERYWHERE),
        sessions=(SESSION, SESSION),
        ticks=0,
        faults=CRASH,
    ),
)

FULL = (
    Scene(
        "a reset",
        (RESET, AGAIN, code(0, 0), Act("login", 1, password=2), PASSWORD, REFRESH),
        pendings=(T0,),
        sessions=(SESSION,),
        ticks=0,
        faults=CRASH,
    ),
    Scene(
        "a recovery and a reset",
        (RECOVER, RESET, TOO_EARLY, Act("login", password=2), Act("login", 1), code(0, 0)),
        pendings=(T0,),
        faults=CRASH,
    ),
    Scene(
        "a deletion and a restore",
        (LEAVE, RESTORE, code(2, 1, 1), code(0, 0), Act("switch off"), Act("removal", 1)),
        pendings=(T0,),
        sessions=(SESSION,),
        faults=CRASH,
    ),
    Scene(
        "one code, its neighbour, one token",
        (code(0, 0), code(1, 0, 1), code(0, 1, 1)),
        pendings=(T0, T1),
        ticks=0,
        faults=ALL,
    ),
    Scene(
        "four codes, two replicas",
        (code(0, 0), code(1, 0, 1), code(0, 1, 1), code(1, 1)),
        pendings=(T0, T1),
        faults=LOSES,
    ),
    Scene(
        "guesses, and Redis unavailable",
        (code(0, WRONG), code(1, WRONG, 1), code(0, 0, 1)),
        pendings=(T0, T1),
        faults=ALL,
    ),
    Scene(
        "guesses",
        (code(0, WRONG), code(1, WRONG, 1), code(0, WRONG, 1), code(1, 0)),
        pendings=(T0, T1),
        ticks=2,
        faults=LOSES,
    ),
    Scene(
        "a clock out of step",
        (code(0, 2), code(1, 3, 1), code(0, 2, 1), Act("disable", 1, factor=ONE, step=3)),
        pendings=(T0, T1),
        faults=CRASH,
    ),
    Scene(
        "refreshing", (REFRESH, TOO, NEXT, AFTER, Act("revoke", 1)), sessions=(SESSION,), ticks=2
    ),
    Scene(
        "a change of the account",
        (code(0, 0), PASSWORD, EVERYWHERE, Act("refresh", 0, session=1), Act("refresh", 1, session=2)),
        pendings=(T0,),
        sessions=(SESSION, SESSION),
        ticks=0,
        faults=LOSES,
    ),
    Scene(
        "disabling",
        (code(0, 0), DISABLE, Act("login"), Act("disable", 0, factor=ONE, step=1), Act("refresh", 0, session=1)),
        pendings=(T0,),
        sessions=(SESSION,),
        ticks=0,
        faults=LOSES,
    ),
    Scene(
        "enrolling",
        (Act("enable", 0, factor=ONE), Act("login", 1), code(0, 0, 1), code(0, 1), REFRESH, PASSWORD),
        factors=(None, None),
        sessions=(SESSION,),
        ticks=0,
        faults=LOSES,
    ),
    Scene(
        "the first code",
        (code(0, 0), code(1, 1, 1), Act("login", 1), REFRESH, Act("enable", 1, factor=ONE)),
        factors=(Factor(is_confirmed=False), None),
        pendings=(T0, T1),
        sessions=(SESSION,),
        ticks=0,
        faults=CRASH,
    ),
    Scene(
        "a step-up",
        (code(0, 0), code(0, 1, 1), Act("revoke", 1), code(1, 1), Act("step up")),
        pendings=RAISING,
        sessions=(SESSION,),
        ticks=0,
        faults=LOSES,
    ),
    Scene(
        "two authenticators",
        (code(0, 0), code(1, 0, 1, factor=OTHER), code(0, WRONG, 1), Act("disable", 0, factor=ONE, step=1)),
        factors=(Factor(), Factor()),
        pendings=(T0, T1),
        ticks=0,
        faults=CRASH,
    ),
    Scene(
        "a recovery code",
        (Act("recovery code"), Act("recovery code", 1, pending=1), code(0, 0, 1)),
        pendings=(T0, T1),
        ticks=0,
        faults=ALL,
    ),
    Scene(
        "a known device",
        (Act("login", device=1), PASSWORD, Act("login", 1), Act("login", 1, password=2), EVERYWHERE),
        sessions=(SESSION, SESSION),
        ticks=0,
    ),
)  # fmt: skip
