"""The steps of a guess: paid for, looked at, claimed. `service/throttle.py`, `attempts.py`, `factors.py`."""

from tests.model import volatile
from tests.model.flaws import Flaw
from tests.model.joints import FAILURES_OF, REFUSED, Moves, Setting, ended, stayed, went_on
from tests.model.world import (
    Answer,
    Factor,
    Request,
    World,
    count_of,
    counted,
    factor_at,
    is_locked,
    on,
    with_row,
    written,
)

SKEW, OUT_OF_STEP = 1, 3
"""How many steps a code may be off, and how many more until it is no code of a clock that is off: 1 and 10."""
REALIGNED_WITHIN = 3
"""Steps of thirty seconds: 90 seconds."""


def read_count(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """Of a flaw: GET, and the payment then writes what was read and one."""
    read = count_of(world.redis.paid, setting.act(number).pending)
    yield f"reads that {read} were paid under its token", went_on(world, number, me, read=read)


def pay(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """A code under this pending token, in Redis."""
    act = setting.act(number)
    key = 2 * act.pending + (act.kind == "recovery code")  # counted apart
    read = me.read if setting.flaw is Flaw.FIVE_IN_TWO else None
    limit = setting.scene.codes_per_token
    for text, payee, then in volatile.pay(world, act.replica, key, limit, setting.scene.faults, read=read):
        if payee:
            yield text, went_on(then, number, me, payee=payee)
        else:
            yield text, ended(then, number, REFUSED)


def look(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """Of a flaw: whether there is budget is only read, and the code is compared."""
    act = setting.act(number)
    waiting = [key for key in me.owed if not _has_budget(world.rows[key], me.now, setting.scene.budget)]
    if waiting:
        yield "must wait", ended(world, number, REFUSED)
    else:
        verdict = "right" if _off(act.step, me.now) <= SKEW else "wrong"
        yield f"its code is {verdict}", went_on(_paid_for(world, me, me.owed[0]), number, me)


def read_failures(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """Of a flaw: SELECT failures, and the payment then writes what was read and one."""
    row = world.rows[me.owed[0]]
    if not isinstance(row, Factor) or not _has_budget(row, me.now, setting.scene.budget):
        yield "must wait", ended(world, number, REFUSED)
        return
    read = 10 * row.failures + row.recent
    yield f"reads {row.failures} failures in a row", went_on(world, number, me, read=read)


def reserve(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """One UPDATE for each factor that is owed, each committed on its own; after the last the code is compared."""
    key = me.owed[me.asked]
    if is_locked(world, number, key):
        return
    row = factor_at(world, me, key)
    asked = me._replace(asked=me.asked + 1)
    if row is None:
        yield from _reserved(setting, world, number, asked, "finds its factor gone")
        return
    looked = world if setting.flaw is Flaw.PAYS_AFTER else _paid_for(world, me, key)
    if setting.flaw is Flaw.PAYS_IN_TWO:
        row = row._replace(failures=me.read // 10, recent=me.read % 10, waits_until=0)
    is_free = setting.flaw is Flaw.PAYS_ONCE_FOR_ALL and me.asked > 0
    if not is_free and not _has_budget(row, me.now, setting.scene.budget):
        yield from _reserved(setting, world, number, asked, f"factor {on(key)} waits")
        return
    failures = row.failures + 1
    free = setting.scene.free
    wait = 0 if failures < free else me.now + (1 << (failures - free))
    paid = row._replace(failures=failures, waits_until=wait, recent=row.recent + 1)
    asked = asked._replace(paid=(*me.paid, key))
    if setting.flaw is Flaw.BUDGET_IN_REDIS:
        uncounted = looked._replace(rows=with_row(world.rows, key, paid._replace(recent=0)))
        faults = setting.scene.faults - {"away"}
        for more, payee, then in volatile.pay(
            uncounted, setting.act(number).replica, FAILURES_OF + key, setting.scene.budget, faults
        ):
            if payee:
                yield from _reserved(setting, then, number, asked, more)
            else:
                yield more, ended(world, number, REFUSED)
        return
    text = f"pays at factor {on(key)}: {failures} in a row"
    if is_free:
        yield from _reserved(setting, looked, number, asked, "pays nothing")
    elif setting.flaw is Flaw.PAYS_IN_THE_TRANSACTION:
        yield from _reserved(setting, looked, number, written(asked, key, paid), text)
    else:
        committed = looked._replace(rows=with_row(world.rows, key, paid))
        yield from _reserved(setting, committed, number, asked, text)


def _reserved(setting: Setting, world: World, number: int, me: Request, text: str) -> Moves:
    if me.asked < len(me.owed):
        yield text, stayed(world, number, me)
        return
    act = setting.act(number)
    if not me.paid:
        if me.payee and world.rows[me.owed[0]] is not None:
            for more, then in volatile.refund(world, act.replica, 2 * act.pending, me.payee, setting.scene.faults):
                yield f"{text}, {more}", ended(then, number, REFUSED)
        else:
            yield text, ended(world, number, REFUSED)
        return
    then = world
    if act.kind == "code":
        then = world._replace(looked=counted(world.looked, act.pending, 1))
    offset = me.offsets[me.owed.index(act.factor)] if act.factor in me.paid else 0
    if act.factor in me.paid and _off(act.step, me.now + offset) <= SKEW:
        yield f"{text}; its code is right", went_on(then, number, me._replace(at=me.at + 2), factor=act.factor)
    elif act.factor in me.paid and _off(act.step, me.now) <= SKEW + OUT_OF_STEP:
        yield f"{text}; its code is out of step", went_on(then, number, me, factor=act.factor)
    else:
        yield f"{text}; its code is wrong", ended(then, number, REFUSED)


def _has_budget(row: object, now: int, budget: int) -> bool:
    return isinstance(row, Factor) and row.waits_until <= now and row.recent < budget


def _off(step: int, now: int) -> int:
    return abs(step - now)


def _paid_for(world: World, me: Request, key: int) -> World:
    """For the laws: that a code may be looked at with this factor, and by which clock."""
    debts, in_a_row = list(world.debts), list(world.in_a_row)
    debts[on(key)] += 1
    in_a_row[on(key)] = tuple(sorted((*in_a_row[on(key)], me.now)))
    return world._replace(debts=(debts[0], debts[1]), in_a_row=tuple(in_a_row))


def recall(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """`SELECT ... WHERE last_step = $s - 1 AND told_at >= $t`: the very next code of a clock that was told of?"""
    act, row = setting.act(number), factor_at(world, me, me.factor)
    is_next = row is not None and row.last_step == act.step - 1
    if setting.flaw is Flaw.REALIGNS_LOOSELY:
        is_next = row is not None and row.last_step < act.step
    if row is not None and is_next and row.told_at >= me.now - REALIGNED_WITHIN:
        yield "is the next code", went_on(world, number, me._replace(at=me.at + 1), realigns=True)
    else:
        yield "is the first such code", went_on(world, number, me)


def tell(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """`SET last_step = $s, told_at = $t WHERE last_step < $s`, by itself: told of, and used up."""
    act, row = setting.act(number), factor_at(world, me, me.factor)
    if is_locked(world, number, me.factor):
        return
    if row is None or row.last_step >= act.step:
        yield "its step was used", ended(world, number, REFUSED)
        return
    last = row.last_step if setting.flaw is Flaw.TELLS_FOR_NOTHING else act.step
    told = list(world.told)
    told[on(me.factor)] = act.step
    rows = with_row(world.rows, me.factor, row._replace(last_step=last, told_at=me.now))
    then = world._replace(rows=rows, told=(told[0], told[1]))
    yield "is told that its clock is off", ended(then, number, Answer("out of step"))


def claim(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """The step of this factor, in Redis: the fast refusal, which proves nothing."""
    act = setting.act(number)
    key: tuple[int, ...] = (me.factor, act.step)
    if setting.flaw is Flaw.KEYED_BY_TEXT:
        key = (me.factor, act.step, act.spelling)
    if setting.flaw is Flaw.CLAIMS_THE_FACTOR:
        key = (me.factor,)
    for text, is_first, then in volatile.claim(world, act.replica, key, setting.scene.faults, setting.flaw):
        if is_first:
            yield text, went_on(then, number, me)
        else:
            yield text, ended(then, number, REFUSED)
