"""The steps of an attempt: charge, compare, claim.

They stand for statements and calls of the modules `throttle`, `attempts` and `totp_authenticators`.
"""

from tests.model import volatile
from tests.model.flaws import Flaw
from tests.model.transitions import FAILURES_OF, REFUSED, Moves, Setting, ended, stayed, went_on
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
"""Accepted offset of a code in steps, and further steps within which the clock counts as out of step: 1 and 10."""
REALIGNED_WITHIN = 3
"""Time steps of 30 s: 90 s."""


def read_count(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """GET, in a flaw: the charge then writes this count plus one."""
    read = count_of(world.redis.charged, setting.act(number).pending)
    yield f"reads {read} charges of its token", went_on(world, number, me._replace(read=read))


def charge(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """Charge one code to this pending token, in Redis."""
    act = setting.act(number)
    key = 2 * act.pending + (act.kind == "recovery code")  # recovery codes are counted separately
    read = me.read if setting.flaw is Flaw.FIVE_IN_TWO else None
    limit = setting.scene.codes_per_token
    for text, charged_store, then in volatile.charge(world, act.replica, key, limit, setting.scene.faults, read=read):
        if charged_store:
            yield text, went_on(then, number, me._replace(charged_store=charged_store))
        else:
            yield text, ended(then, number, REFUSED)


def compare_uncharged(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """Only read whether there is budget, and compare the code without a charge (a flaw)."""
    act = setting.act(number)
    waiting = [key for key in me.owed if not _has_budget(world.rows[key], me.now, setting.scene.budget)]
    if waiting:
        yield "must wait", ended(world, number, REFUSED)
    else:
        verdict = "right" if _off(act.step, me.now) <= SKEW else "wrong"
        yield f"its code is {verdict}", went_on(_with_comparison(world, me, me.owed[0]), number, me)


def read_failures(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """SELECT failures, in a flaw: the charge then writes this count plus one."""
    row = world.rows[me.owed[0]]
    if not isinstance(row, Factor) or not _has_budget(row, me.now, setting.scene.budget):
        yield "must wait", ended(world, number, REFUSED)
        return
    read = 10 * row.failures + row.recent
    yield f"reads {row.failures} failures in a row", went_on(world, number, me._replace(read=read))


def reserve(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """One UPDATE for each confirmed factor, each committed on its own. After the last one the code is compared."""
    key = me.owed[me.next_owed]
    if is_locked(world, number, key):
        return
    row = factor_at(world, me, key)
    next_owed = me._replace(next_owed=me.next_owed + 1)
    if row is None:
        yield from _reserved(setting, world, number, next_owed, "does not find its factor")
        return
    compared = world if setting.flaw is Flaw.CHARGES_AFTER else _with_comparison(world, me, key)
    if setting.flaw is Flaw.CHARGES_IN_TWO:
        row = row._replace(failures=me.read // 10, recent=me.read % 10, waits_until=0)
    is_free = setting.flaw is Flaw.CHARGES_ONCE_FOR_ALL and me.next_owed > 0
    if not is_free and not _has_budget(row, me.now, setting.scene.budget):
        yield from _reserved(setting, world, number, next_owed, f"factor {on(key)} waits")
        return
    failures = row.failures + 1
    free = setting.scene.free
    wait = 0 if failures < free else me.now + (1 << (failures - free))
    charged = row._replace(failures=failures, waits_until=wait, recent=row.recent + 1)
    next_owed = next_owed._replace(charged=(*me.charged, key))
    if setting.flaw is Flaw.BUDGET_IN_REDIS:
        uncounted = compared._replace(rows=with_row(world.rows, key, charged._replace(recent=0)))
        faults = setting.scene.faults - {"away"}
        for more, charged_store, then in volatile.charge(
            uncounted, setting.act(number).replica, FAILURES_OF + key, setting.scene.budget, faults
        ):
            if charged_store:
                yield from _reserved(setting, then, number, next_owed, more)
            else:
                yield more, ended(world, number, REFUSED)
        return
    text = f"charges factor {on(key)}: {failures} failures in a row"
    if is_free:
        yield from _reserved(setting, compared, number, next_owed, "charges nothing")
    elif setting.flaw is Flaw.CHARGES_IN_THE_TRANSACTION:
        yield from _reserved(setting, compared, number, written(next_owed, key, charged), text)
    else:
        committed = compared._replace(rows=with_row(world.rows, key, charged))
        yield from _reserved(setting, committed, number, next_owed, text)


def _reserved(setting: Setting, world: World, number: int, me: Request, text: str) -> Moves:
    if me.next_owed < len(me.owed):
        yield text, stayed(world, number, me)
        return
    act = setting.act(number)
    if not me.charged:
        if me.charged_store and world.rows[me.owed[0]] is not None:
            for more, then in volatile.refund(
                world, act.replica, 2 * act.pending, me.charged_store, setting.scene.faults
            ):
                yield f"{text}, {more}", ended(then, number, REFUSED)
        else:
            yield text, ended(world, number, REFUSED)
        return
    then = world
    if act.kind == "code":
        then = world._replace(compared=counted(world.compared, act.pending, 1))
    offset = me.offsets[me.owed.index(act.factor)] if act.factor in me.charged else 0
    if act.factor in me.charged and _off(act.step, me.now + offset) <= SKEW:
        yield f"{text}; its code is right", went_on(then, number, me._replace(at=me.at + 2, factor=act.factor))
    elif act.factor in me.charged and _off(act.step, me.now) <= SKEW + OUT_OF_STEP:
        yield f"{text}; its code is out of step", went_on(then, number, me._replace(factor=act.factor))
    else:
        yield f"{text}; its code is wrong", ended(then, number, REFUSED)


def _has_budget(row: object, now: int, budget: int) -> bool:
    return isinstance(row, Factor) and row.waits_until <= now and row.recent < budget


def _off(step: int, now: int) -> int:
    return abs(step - now)


def _with_comparison(world: World, me: Request, key: int) -> World:
    """Record for the laws that a code is compared with this factor, and by which clock."""
    debts, in_a_row = list(world.debts), list(world.in_a_row)
    debts[on(key)] += 1
    in_a_row[on(key)] = tuple(sorted((*in_a_row[on(key)], me.now)))
    return world._replace(debts=(debts[0], debts[1]), in_a_row=tuple(in_a_row))


def recall(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """`SELECT ... WHERE last_step = $s - 1 AND told_at >= $t`: is it the next code after one reported out of step?"""
    act, row = setting.act(number), factor_at(world, me, me.factor)
    is_next = row is not None and row.last_step == act.step - 1
    if setting.flaw is Flaw.REALIGNS_LOOSELY:
        is_next = row is not None and row.last_step < act.step
    if row is not None and is_next and row.told_at >= me.now - REALIGNED_WITHIN:
        yield "is the next code", went_on(world, number, me._replace(at=me.at + 1, realigns=True))
    else:
        yield "is the first such code", went_on(world, number, me)


def report_out_of_step(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """`SET last_step = $s, told_at = $t WHERE last_step < $s`, committed on its own: report and consume the step."""
    act, row = setting.act(number), factor_at(world, me, me.factor)
    if is_locked(world, number, me.factor):
        return
    if row is None or row.last_step >= act.step:
        yield "its step was used", ended(world, number, REFUSED)
        return
    last = row.last_step if setting.flaw is Flaw.REPORTS_WITHOUT_CONSUMING else act.step
    reported = list(world.reported)
    reported[on(me.factor)] = act.step
    rows = with_row(world.rows, me.factor, row._replace(last_step=last, told_at=me.now))
    then = world._replace(rows=rows, reported=(reported[0], reported[1]))
    yield "is reported as out of step", ended(then, number, Answer("out of step"))


def claim(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """Claim the step of this factor in Redis: a fast refusal, which proves nothing."""
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
