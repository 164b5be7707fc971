"""Steps of a second factor: find the token, consume the code, open the session.

They stand for statements of the modules `login` and `totp_authenticators`.
"""

from collections.abc import Iterator

from tests.model.flaws import Flaw
from tests.model.transitions import REFUSED, Moves, Setting, ended, went_on
from tests.model.world import (
    BEFORE,
    ENABLED,
    FACTORS,
    FIRST_SESSION,
    NEVER,
    RECOVERY_CODE,
    USER,
    Factor,
    Pending,
    RecoveryCode,
    Request,
    Session,
    User,
    World,
    factor_at,
    is_locked,
    is_restorable,
    offsets_of,
    on,
    seen,
    session_at,
    with_row,
    written,
)


def _owed(world: World) -> tuple[int, ...]:
    """Return the factors whose codes are accepted: the confirmed ones, or else the unconfirmed one."""
    there = [(key, world.rows[key]) for key in FACTORS]
    usable = [(key, row) for key, row in there if isinstance(row, Factor)]
    confirmed = tuple(key for key, row in usable if row.is_confirmed)
    return confirmed or tuple(key for key, _ in usable)


def _is_used(world: World, pending: Pending) -> bool:
    if pending.session is not None:
        session = world.rows[pending.session]
        return not isinstance(session, Session) or session.is_ended or session.raised != pending.raised
    return any(isinstance(row, Session) and row.jti == pending.jti for row in world.rows[FIRST_SESSION:])


def find_pending(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """One SELECT: the state of the token, its user, and the factors whose codes are accepted."""
    act = setting.act(number)
    pending = setting.pending(world, act.pending)
    user, owed = world.rows[USER], _owed(world)
    if pending is None or not isinstance(user, User):
        raise TypeError(pending)
    is_open = is_restorable(user, me.now) if pending.restores else user.state == ENABLED
    if pending.epoch != user.epoch or not is_open or _is_used(world, pending) or not owed:
        yield "its token is not valid", ended(world, number, REFUSED)
        return
    confirmed = any(row.is_confirmed for key in owed if isinstance(row := world.rows[key], Factor))
    if not confirmed and (act.kind == "recovery code" or pending.session is not None):
        yield "no factor is confirmed", ended(world, number, REFUSED)
        return
    plan = me.plan if act.kind == "recovery code" else "code" if len(owed) == 1 else "code of two"
    plan = plan if confirmed else "first code"
    if pending.restores:
        plan = "restoring code"
    elif user.is_reset or user.recovery_due != NEVER:
        plan = {"code": "code after a reset", "recovery code": "recovery code after a reset"}.get(plan, plan)
    offsets = offsets_of(world, owed)
    yield (
        "its token is valid",
        went_on(
            world,
            number,
            me._replace(plan=plan, epoch=user.epoch, is_named=user.is_named, owed=owed, offsets=offsets),
        ),
    )


def read_last_step(_setting: Setting, world: World, number: int, me: Request) -> Moves:
    """SELECT last_step, in a flaw."""
    row = factor_at(world, me, me.factor)
    if row is None:
        yield "does not find its factor", ended(world, number, REFUSED)
        return
    yield "reads which step was used last", went_on(world, number, me._replace(read=row.last_step))


def refund_early(_setting: Setting, world: World, number: int, me: Request) -> Moves:
    """Commit the refund before the code is consumed (a flaw)."""
    row = world.rows[me.factor]
    if is_locked(world, number, me.factor) or not isinstance(row, Factor):
        return
    rows = with_row(world.rows, me.factor, _restored(row))
    yield "is refunded", went_on(world._replace(rows=rows), number, me)


def consume(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """`SET last_step = $s WHERE epoch = $e AND last_step < $s`: the row count decides."""
    if is_locked(world, number, me.factor):
        return
    act, flaw = setting.act(number), setting.flaw
    row = factor_at(world, me, me.factor)
    if row is None or (row.epoch != me.epoch and flaw is not Flaw.EPOCH_UNCHECKED):
        yield "its code is of an older credential version", ended(world, number, REFUSED)
        return
    last = me.read if flaw is Flaw.CONSUMES_IN_TWO else row.last_step
    is_new = last < act.step
    if flaw in {Flaw.USED_CODES_IN_REDIS_ONLY, Flaw.FAILS_OPEN}:
        is_new = True
    if flaw is Flaw.ANY_OTHER_STEP:
        is_new = last != act.step
    if flaw is Flaw.KEYED_BY_TEXT:
        is_new = (act.step, act.spelling) not in row.texts
    if not is_new:
        yield "its step was used", ended(world, number, REFUSED)
        return
    if me.realigns and not (row.last_step == act.step - 1 or flaw is Flaw.REALIGNS_LOOSELY):
        yield "another code was used in between", ended(world, number, REFUSED)
        return
    offset = act.step - me.now if me.realigns else me.offsets[me.owed.index(me.factor)]
    used = row._replace(last_step=act.step, is_confirmed=True, offset=offset, told_at=BEFORE)
    if flaw is Flaw.KEYED_BY_TEXT:
        used = used._replace(texts=row.texts | {(act.step, act.spelling)})
    if flaw not in {Flaw.REFUNDS_OUTSIDE, Flaw.REFUNDS_NOTHING}:
        used = _restored(used)
    answer = me.answer._replace(confirms=me.factor)
    if me.plan == "first code":
        answer = answer._replace(voids=answer.voids or me.epoch + 1, spares=setting.scene.opened_by(number))
    follows = setting.plans[me.plan][me.at + 1]
    is_alone = follows == "restore" and me.charged == (me.factor,)
    doing = written(me, me.factor, used)._replace(at=me.at + is_alone, answer=answer)
    yield f"consumes step {act.step} of factor {on(me.factor)}", went_on(world, number, doing)


def restore(_setting: Setting, world: World, number: int, me: Request) -> Moves:
    """Refund the charges of the other factors, in the same transaction."""
    others = [key for key in me.charged if key != me.factor]
    if any(is_locked(world, number, key) for key in others):
        return
    doing = me
    for key in others:
        row = factor_at(world, me, key)
        if row is not None:
            doing = written(doing, key, _restored(row))
    yield "refunds the other charges", went_on(world, number, doing)


def _restored(row: Factor) -> Factor:
    return row._replace(failures=0, waits_until=0, recent=max(0, row.recent - 1))


def read_recovery_code(_setting: Setting, world: World, number: int, me: Request) -> Moves:
    """SELECT used_at, in a flaw."""
    row = seen(world, me, RECOVERY_CODE)
    is_used = not isinstance(row, RecoveryCode) or row.is_used
    yield "reads whether its recovery code was used", went_on(world, number, me._replace(read=int(is_used)))


def consume_recovery_code(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """`SET used_at WHERE used_at IS NULL`."""
    if is_locked(world, number, RECOVERY_CODE):
        return
    row = seen(world, me, RECOVERY_CODE)
    is_used = not isinstance(row, RecoveryCode) or row.is_used
    if setting.flaw is Flaw.RECOVERY_CODE_IN_TWO:
        is_used = bool(me.read)
    if is_used:
        yield "its recovery code was used", ended(world, number, REFUSED)
        return
    yield "consumes its recovery code", went_on(world, number, written(me, RECOVERY_CODE, RecoveryCode(is_used=True)))


def new_codes(_setting: Setting, world: World, number: int, me: Request) -> Moves:
    """Store ten new recovery codes together with the first factor."""
    if not is_locked(world, number, RECOVERY_CODE):
        yield "issues recovery codes", went_on(world, number, written(me, RECOVERY_CODE, RecoveryCode()))


def open_session(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """Open the session (`pending_jti` is unique), or raise the session of a step-up token."""
    act = setting.act(number)
    pending = None if act.kind in {"login", "restore"} else setting.pending(world, act.pending)
    if pending is not None and pending.session is not None:
        yield from _raised(setting, world, number, me, pending)
        return
    jti = None if pending is None else pending.jti
    if jti is not None and setting.flaw is not Flaw.JTI_NOT_UNIQUE:
        if _is_being_used(world, number, jti):
            return
        if pending is not None and _is_used(world, pending):
            yield "its token was used", ended(world, number, REFUSED)
            return
    key = setting.scene.opened_by(number)
    answer = me.answer._replace(word="admitted", refresh=(key, 0), presented=-1)
    is_alone = act.kind == "restore" or (act.kind == "login" and not act.device)
    doing = written(me, key, Session(epoch=me.epoch, jti=jti, is_alone=is_alone))
    yield "opens a session", went_on(world, number, doing._replace(answer=answer))


def _is_being_used(world: World, number: int, jti: int) -> bool:
    """Return whether an uncommitted transaction has opened a session with this token."""
    others: Iterator[Request] = (
        other for n, other in enumerate(world.requests) if n != number and isinstance(other, Request)
    )
    return any(isinstance(row, Session) and row.jti == jti for other in others for _, row in other.writes)


def _raised(setting: Setting, world: World, number: int, me: Request, pending: Pending) -> Moves:
    key = pending.session or 0
    if is_locked(world, number, key):
        return
    row = session_at(world, me, key)
    is_good = row is not None and not row.is_ended and row.raised == pending.raised
    if setting.flaw is Flaw.RAISED_UNGUARDED:
        is_good = row is not None and not row.is_ended
    if row is None or not is_good:
        yield "its session has ended or was raised already", ended(world, number, REFUSED)
        return
    raised = row._replace(raised=row.raised + 1, raised_by=(*row.raised_by, pending.jti))
    answer = me.answer._replace(word="raised")
    yield "raises its session", went_on(world, number, written(me, key, raised)._replace(answer=answer))
