"""The steps of requests that refresh or end a session: `service/sessions/sessions.py` and `grants.py`.

The grace period is one time step.
"""

from tests.model.flaws import Flaw
from tests.model.laws import at_keeping, at_refresh, at_refusal
from tests.model.transitions import REFUSED, Moves, Setting, ended, went_on
from tests.model.world import (
    USER,
    Answer,
    Request,
    Session,
    User,
    World,
    is_locked,
    session_at,
    with_row,
    written,
)


def begin(_setting: Setting, world: World, number: int, me: Request) -> Moves:
    """Read the clock, and verify the token without any store."""
    yield "begins", went_on(world, number, me)


def keep(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """One SELECT: a generation stays if the one before it was replaced within the grace period.

    Only a refresh by the cookie does this. It gives an access token, and no refresh token.
    """
    act = setting.act(number)
    row = session_at(world, me, setting.scene.session_of(act.session))
    is_recent = (
        row is not None
        and (not row.is_ended or setting.flaw is Flaw.ENDED_KEPT)
        and not _is_refused(setting, world, row)
        and row.generation == act.generation
        and (row.replaced_at >= me.now or (row.generation > 0 and setting.flaw is Flaw.KEPT_FOR_EVER))
    )
    if row is None or not is_recent:
        yield "finds no generation to keep", went_on(world, number, me)
        return
    yield "keeps the generation", _given(setting, world, number, me, row, after=row)


def renew(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """`UPDATE sessions SET generation = generation + 1 WHERE generation = $g AND ended_at IS NULL`, committed alone.

    It applies only if the session satisfies the policy, by the roles that are committed when the statement runs.
    """
    act = setting.act(number)
    key = setting.scene.session_of(act.session)
    if is_locked(world, number, key):
        return
    row = session_at(world, me, key)
    is_now = row is not None and row.generation == act.generation
    if setting.flaw is Flaw.REFRESH_UNGUARDED:
        is_now = row is not None
    if row is not None and _is_refused(setting, world, row):
        yield "presents a token of a session that the policy refuses", went_on(world, number, me)
        return
    if row is None or not is_now or (row.is_ended and setting.flaw is not Flaw.ENDED_IGNORED):
        yield "presents a generation that is not the current one", went_on(world, number, me)
        return
    after = row._replace(generation=row.generation + 1, replaced_at=me.now)
    yield "rotates the session", _given(setting, world, number, me, row, after=after)


def repeat(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """One SELECT: a generation that was replaced within the grace period gets the same successor."""
    act = setting.act(number)
    row = session_at(world, me, setting.scene.session_of(act.session))
    is_just_replaced = (
        row is not None
        and not row.is_ended
        and not _is_refused(setting, world, row)
        and row.generation == act.generation + 1
        and (row.replaced_at >= me.now or setting.flaw is Flaw.GRACE_FOR_EVER)
    )
    if row is None or not is_just_replaced:
        yield "finds that it was not replaced within the grace period", went_on(world, number, me)
        return
    after = row
    if setting.flaw is Flaw.GRACE_GIVES_ANOTHER:
        after = row._replace(generation=row.generation + 1, replaced_at=me.now)
    yield "gets the successor again", _given(setting, world, number, me, row, after=after)


def end_reused(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """End the session of an old genuine token by one UPDATE, and commit."""
    act = setting.act(number)
    key = setting.scene.session_of(act.session)
    if is_locked(world, number, key):
        return
    row = session_at(world, me, key)
    is_reused = (
        row is not None
        and not row.is_ended
        and (
            row.generation > act.generation + 1 or (row.generation == act.generation + 1 and row.replaced_at < me.now)
        )
    )
    if row is None or not is_reused or setting.flaw is Flaw.REUSE_FORGIVEN:
        wrong = at_refusal(row, act.generation, me.now)
        yield "finds nothing to end", ended(world, number, REFUSED)._replace(wrong=wrong)
        return
    doing = written(me, key, row._replace(is_ended=True))
    yield "ends the session", went_on(world, number, doing._replace(answer=Answer("refused", ends=key)))


def end(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """`UPDATE sessions SET ended_at WHERE id = $s AND ended_at IS NULL`."""
    key = setting.scene.session_of(setting.act(number).session)
    if is_locked(world, number, key):
        return
    row = session_at(world, me, key)
    doing = me if row is None or row.is_ended else written(me, key, row._replace(is_ended=True))
    yield "ends the session", went_on(world, number, doing._replace(answer=Answer("done", ends=key)))


def _is_refused(setting: Setting, world: World, row: Session) -> bool:
    """Return whether the user needs a second factor and the session has none."""
    user = world.rows[USER]
    is_named = isinstance(user, User) and user.is_named
    return is_named and row.is_alone and setting.flaw is not Flaw.POLICY_UNASKED


def _given(setting: Setting, world: World, number: int, me: Request, before: Session, *, after: Session) -> World:
    act = setting.act(number)
    key = setting.scene.session_of(act.session)
    wrong = at_refresh(world, key, before, act.generation, me.now)
    if after.generation == act.generation:
        wrong, answer = wrong or at_keeping(before, me.now), Answer("refreshed")
    else:
        answer = Answer("refreshed", refresh=(key, after.generation), presented=act.generation)
    plan = setting.plans[me.plan]
    doing = me._replace(at=plan.index("answer"), answer=answer)
    then = world._replace(rows=with_row(world.rows, key, after), wrong=wrong)
    return went_on(then, number, doing._replace(at=doing.at - 1))
