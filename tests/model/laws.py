"""The rules that hold in every world, as sentences. A violation is reported by the sentence that it breaks."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.model.world import (
    ENABLED,
    FACTORS,
    FIRST_SESSION,
    GONE,
    RECOVERY_CODE,
    SWITCHED_OFF,
    USER,
    Answer,
    Factor,
    RecoveryCode,
    Request,
    Session,
    User,
    World,
    on,
)

if TYPE_CHECKING:
    from tests.model.transitions import Setting

FREE_FAILURES, MAX_FAILURES, CODES_PER_PENDING_TOKEN = 2, 3, 2
"""Free failures in a row, failures in thirty days, codes of a pending token: 5, 50 and 5 in the service."""

ONCE = "No time step of a factor is accepted twice"
INCREASING = "Accepted steps of a factor strictly increase"
REPORTED = "A code that was reported as out of step is never accepted later"
VERY_NEXT = "Only the very next code after a reported one realigns a clock"
TOKEN_ONCE = "A pending token admits at most once"
FIVE_CODES = "At most five codes are compared under a pending token, while the ephemeral store loses nothing"
OLD_TOKEN = "No token of an old credential version admits after the change was acknowledged"
OLD_SESSION = "No earlier session is live after a change that ends sessions was acknowledged"
PASSWORD_ALONE = "The password alone never yields more than a pending token"
CHARGED = "Every comparison of a code was charged: no more codes than the budget are refused"
WAITS = "After the free failures in a row the factor waits"
CODE_ONCE = "A recovery code is accepted once"
ONE_SUCCESSOR = "A generation has one successor"
KEPT = "A generation gives access tokens without being replaced only while the one before it is in the grace period"
OLD_GENERATION = "An older genuine generation ends the session"
ENDED = "An acknowledged end of a session is never lost"
POLICY = "No session opened by the password alone stays live once its user needs a second factor"
CONFIRMED = "An acknowledged code or enrolment is never lost"
REMOVED = "An acknowledged disabling is never lost"
LINK_ONCE = "A link sets one password"
MAILBOX_ALONE = "The mailbox alone never removes the second factor, and so never ends in a session"
DISABLED = "A user who is disabled or being deleted gets no session"
FOR_GOOD = "No user restores a deleted account, nor one that an operator disabled"
NO_DEADLOCK = "No two transactions wait for each other"
NEXT_CODE = "Whatever Redis lost or kept, the user can log in with the next code"


def received_answers(world: World) -> Iterator[Answer]:
    """Yield the answers that clients have received."""
    for request in world.requests:
        if isinstance(request, Answer):
            yield request
        elif isinstance(request, Request) and request.is_answered_early:
            yield request.answer


def at_commit(setting: "Setting", before: World, after: World, number: int, me: Request) -> World:
    """Check what must hold when access is granted, and record it for later checks."""
    act = setting.act(number)
    wrong = ""
    if me.factor >= 0:
        f = on(me.factor)
        if act.step <= before.accepted[f]:
            wrong = ONCE if act.step == before.accepted[f] else INCREASING
        if act.step <= before.reported[f]:
            wrong = wrong or REPORTED
        if me.realigns and act.step != before.reported[f] + 1:
            wrong = wrong or VERY_NEXT
        accepted, debts, in_a_row = list(before.accepted), list(before.debts), list(before.in_a_row)
        accepted[f] = act.step
        for key in me.charged:
            debts[on(key)] -= 1
            in_a_row[on(key)] = ()
        after = after._replace(
            accepted=(accepted[0], accepted[1]), debts=(debts[0], debts[1]), in_a_row=tuple(in_a_row)
        )
    killed = max((answer.kills for answer in received_answers(before)), default=0)
    if act.kind in {"code", "recovery code"}:
        pending = setting.pending(before, act.pending)
        if pending is not None and pending.epoch < killed:
            wrong = wrong or OLD_TOKEN
    after, of_account = _of_account(setting, before, after, number, me)
    wrong = wrong or of_account
    user = after.rows[USER]
    if act.kind == "restore" and any(isinstance(after.rows[key], Factor) for key in FACTORS):
        wrong = wrong or PASSWORD_ALONE
    if act.kind == "login" and me.plan == "login" and any(isinstance(after.rows[key], Factor) for key in FACTORS):
        if not act.device:
            wrong = wrong or PASSWORD_ALONE
        elif isinstance(user, User) and act.device != user.epoch:
            wrong = wrong or OLD_TOKEN
    code = before.rows[RECOVERY_CODE]
    if act.kind == "recovery code" and isinstance(code, RecoveryCode) and code.is_used:
        wrong = wrong or CODE_ONCE
    return after._replace(wrong=wrong)


def _of_account(setting: "Setting", before: World, after: World, number: int, me: Request) -> tuple[World, str]:
    """Check and record resets, recoveries and deletions."""
    act, wrong = setting.act(number), ""
    was, user = before.rows[USER], after.rows[USER]
    if not isinstance(was, User) or not isinstance(user, User):
        raise TypeError(user)
    if act.kind == "reset":
        wrong = LINK_ONCE if act.link in before.used_links else ""
        links = tuple(sorted({*before.used_links, act.link}))
        after = after._replace(used_links=links, is_of_mailbox=True)
    if act.kind in {"code", "recovery code"} and me.plan != "first code":
        after = after._replace(is_of_mailbox=False)
    if me.plan == "recovering" and before.is_of_mailbox:
        wrong = MAILBOX_ALONE
    if me.plan in {"restore", "restoring code"} and was.state in {SWITCHED_OFF, GONE}:
        wrong = wrong or FOR_GOOD
    if me.answer.word in {"admitted", "raised"} and user.state != ENABLED:
        wrong = wrong or DISABLED
    return after, wrong


def at_refresh(world: World, key: int, row: Session, generation: int, now: int) -> str:
    """Check what must hold when a generation gets a successor."""
    for answer in received_answers(world):
        if answer.ends == key:
            return ENDED
        if row.epoch < answer.voids and answer.spares != key:
            return OLD_TOKEN
    user = world.rows[USER]
    if row.is_alone and isinstance(user, User) and user.is_named:
        return POLICY
    is_old = row.generation > generation + 1 or (row.generation == generation + 1 and row.replaced_at < now)
    return OLD_GENERATION if is_old else ""


def at_keeping(row: Session, now: int) -> str:
    """Check what must hold when a generation gives an access token and is not replaced."""
    return "" if row.replaced_at >= now else KEPT


def at_refusal(row: Session | None, generation: int, now: int) -> str:
    """Check what must hold when a genuine refresh token is refused and no session is ended."""
    if row is None or row.is_ended or row.generation <= generation:
        return ""
    is_old = row.generation > generation + 1 or row.replaced_at < now
    return OLD_GENERATION if is_old else ""


def broken(world: World) -> str:
    """Return the law that this world breaks, or an empty string."""
    if world.wrong:
        return world.wrong
    if max(world.debts) > MAX_FAILURES:
        return CHARGED
    for looks in world.in_a_row:
        if len(looks) > FREE_FAILURES and any(looks.count(now) > FREE_FAILURES for now in set(looks)):
            return WAITS
    if not world.has_forgotten and any(many > CODES_PER_PENDING_TOKEN for _, many in world.compared):
        return FIVE_CODES
    return _of_sessions(world) or _of_answers(world)


def _of_sessions(world: World) -> str:
    used: list[int] = []
    is_alone_alive = False
    for row in world.rows[FIRST_SESSION:]:
        if isinstance(row, Session):
            used += row.raised_by
            is_alone_alive |= row.is_alone and not row.is_ended
            if row.jti is not None:
                used.append(row.jti)
    if len(used) != len(set(used)):
        return TOKEN_ONCE
    is_demanded = any(answer.names for answer in received_answers(world))
    return POLICY if is_demanded and is_alone_alive else ""


def _of_answers(world: World) -> str:
    successors: dict[tuple[int, int], int] = {}
    for answer in received_answers(world):
        if answer.voids:
            for key in range(FIRST_SESSION, len(world.rows)):
                row = world.rows[key]
                is_old = isinstance(row, Session) and not row.is_ended and row.epoch < answer.voids
                if is_old and key != answer.spares:
                    return OLD_SESSION
        if answer.ends >= 0:
            row = world.rows[answer.ends]
            if isinstance(row, Session) and not row.is_ended:
                return ENDED
        if answer.confirms >= 0:
            row = world.rows[answer.confirms]
            if isinstance(row, Factor) and not row.is_confirmed:
                return CONFIRMED
        if any(world.rows[key] is not None for key in answer.removes):
            return REMOVED
        if answer.presented >= 0 and answer.refresh is not None:
            key, given = answer.refresh
            if successors.setdefault((key, answer.presented), given) != given:
                return ONE_SUCCESSOR
    return ""
