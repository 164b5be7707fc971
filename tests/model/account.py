"""The steps of requests that change an account or log in by password.

They stand for statements of the modules `users`, `enrolment` and `accounts`.
"""

from tests.model.cast import Act
from tests.model.flaws import Flaw
from tests.model.transitions import REFUSED, Moves, Setting, ended, went_on, write_rows
from tests.model.world import (
    ENABLED,
    FACTORS,
    FIRST_SESSION,
    NEVER,
    USER,
    Answer,
    Factor,
    Pending,
    Request,
    Row,
    Session,
    User,
    World,
    is_locked,
    is_restorable,
    offsets_of,
    seen,
    user_at,
    written,
)


def find_live(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """One SELECT: check that the caller's session is live."""
    row = world.rows[setting.scene.session_of(setting.act(number).session)]
    if not isinstance(row, Session) or row.is_ended:
        yield "its session has ended", ended(world, number, REFUSED)
        return
    yield "its session is live", went_on(world, number, me._replace(read=row.raised))


_BY_PASSWORD = {"login", "disable", "password", "enable", "recover", "delete", "restore"}


def _refusal(act: Act, user: User, now: int) -> str:
    """Return why the account is refused at once, or an empty string."""
    if act.kind in _BY_PASSWORD and act.password != user.password:
        return "its password is wrong"
    if user.state != ENABLED and not (act.kind == "restore" and is_restorable(user, now)):
        return "the account is disabled"
    return ""


def find_user(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """One SELECT and the password hash, which takes time: steps of other requests may happen in between."""
    act = setting.act(number)
    user = user_at(world, me)
    if refusal := _refusal(act, user, me.now):
        yield refusal, ended(world, number, REFUSED)
        return
    there = [row for key in FACTORS if isinstance(row := world.rows[key], Factor)]
    is_confirmed = any(row.is_confirmed for row in there)
    jti = len(setting.scene.pendings) + number
    if act.kind == "restore":
        yield from _find_for_restore(setting, world, number, me, has_factors=bool(there))
        return
    if act.kind == "recover" and (not is_confirmed or (user.is_reset and setting.flaw is not Flaw.RECOVERY_BY_RESET)):
        yield "starts no recovery", ended(world, number, Answer("done"))
        return
    is_due = act.kind == "login" and is_confirmed and user.recovery_due <= me.now
    if act.kind == "login" and there and not is_due:
        is_known = act.device == user.epoch or (act.device and setting.flaw is Flaw.DEVICE_UNBOUND)
        if not (is_known and is_confirmed):
            token = Pending(jti, user.epoch)
            yield "gets a pending token", ended(world, number, Answer("second factor required", pending=token))
            return
    if act.kind == "login" and user.is_named and not there:
        yield "must enrol first", ended(world, number, Answer("second factor required"))
        return
    if act.kind == "step up":
        key = setting.scene.session_of(act.session)
        token = Pending(jti, user.epoch, key, me.read)
        answer = Answer("second factor required", pending=token) if is_confirmed else REFUSED
        yield "asks for a step-up", ended(world, number, answer)
        return
    yield (
        f"finds the account in credential version {user.epoch}",
        went_on(
            world,
            number,
            me._replace(plan="recovering" if is_due else me.plan, epoch=user.epoch, is_named=user.is_named),
        ),
    )


def _find_for_restore(setting: Setting, world: World, number: int, me: Request, *, has_factors: bool) -> Moves:
    user = user_at(world, me)
    if has_factors and setting.flaw is not Flaw.RESTORES_ALONE:
        token = Pending(len(setting.scene.pendings) + number, user.epoch, restores=True)
        yield "gets a pending token", ended(world, number, Answer("second factor required", pending=token))
        return
    yield "finds its deletion", went_on(world, number, me._replace(epoch=user.epoch, is_named=user.is_named))


def list_usable(_setting: Setting, world: World, number: int, me: Request) -> Moves:
    """One SELECT after the hash, with the clock of that moment: the factors whose codes are accepted."""
    there = tuple(key for key in FACTORS if isinstance(world.rows[key], Factor))
    confirmed = tuple(key for key in there if isinstance(row := world.rows[key], Factor) and row.is_confirmed)
    if not there:
        yield "finds no factor", ended(world, number, REFUSED)
        return
    owed = confirmed or there
    yield (
        "finds its factors",
        went_on(world, number, me._replace(owed=owed, offsets=offsets_of(world, owed), now=world.clock)),
    )


def hold(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """`UPDATE users SET epoch = epoch WHERE epoch = $e AND roles = $r`: lock the row until the commit."""
    if is_locked(world, number, USER):
        return
    user = user_at(world, me)
    has_other_roles = user.is_named != me.is_named and setting.flaw is not Flaw.ROLES_UNHELD
    if user.epoch != me.epoch or user.state != ENABLED or has_other_roles:
        yield "the account was changed", ended(world, number, REFUSED)
        return
    yield "locks the account", went_on(world, number, written(me, USER, user))


def begin_epoch(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """`UPDATE users SET epoch = epoch + 1 WHERE epoch = $e`."""
    if is_locked(world, number, USER):
        return
    act, user = setting.act(number), user_at(world, me)
    if user.epoch != me.epoch or user.state != ENABLED:
        yield "the account was changed", ended(world, number, REFUSED)
        return
    password = user.password + (act.kind == "password")
    new = user._replace(epoch=user.epoch + 1, password=password, recovery_due=NEVER)
    answer = me.answer._replace(word="done", kills=new.epoch)
    if act.kind != "enable":
        spared = setting.scene.session_of(act.session) if act.kind == "password" else -1
        answer = answer._replace(voids=new.epoch, spares=spared)
    doing = written(me, USER, new)
    yield (
        f"increments the credential version to {new.epoch}",
        went_on(world, number, doing._replace(epoch=new.epoch, answer=answer)),
    )


def change_roles(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """`UPDATE users SET epoch = epoch`, then write the roles: lock the row until the commit."""
    if is_locked(world, number, USER):
        return
    doing = written(me, USER, user_at(world, me)._replace(is_named=True))
    answer = Answer("done", names=setting.act(number).kind == "role")
    yield "adds a role that the policy names", went_on(world, number, doing._replace(answer=answer))


def end_refused(_setting: Setting, world: World, number: int, me: Request) -> Moves:
    """`UPDATE sessions SET ended_at WHERE user_id = $u AND NOT <the policy's condition>`."""

    def over(row: Row) -> Row:
        return row._replace(is_ended=True) if isinstance(row, Session) else row

    refused = tuple(
        key
        for key in range(FIRST_SESSION, len(world.rows))
        if isinstance(row := seen(world, me, key), Session) and not row.is_ended and row.is_alone
    )
    yield from write_rows(world, number, me, refused, over, text="ends the sessions opened by the password alone")


def factors_epoch(_setting: Setting, world: World, number: int, me: Request) -> Moves:
    """`UPDATE totp_authenticators SET epoch = $e WHERE user_id = $u`."""

    def moved(row: Row) -> Row:
        return row._replace(epoch=me.epoch) if isinstance(row, Factor) else row

    there = tuple(key for key in FACTORS if isinstance(seen(world, me, key), Factor))
    yield from write_rows(world, number, me, there, moved, text="sets the credential version of the factors")


def end_all(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """`UPDATE sessions SET ended_at WHERE user_id = $u AND ended_at IS NULL`: all sessions, or all but one."""
    act = setting.act(number)
    spared = setting.scene.session_of(act.session) if act.kind == "password" else -1

    def over(row: Row) -> Row:
        return row._replace(is_ended=True) if isinstance(row, Session) else row

    alive = tuple(
        key
        for key in range(FIRST_SESSION, len(world.rows))
        if key != spared and isinstance(row := seen(world, me, key), Session) and not row.is_ended
    )
    yield from write_rows(world, number, me, alive, over, text="ends the sessions")


def remove_factors(_setting: Setting, world: World, number: int, me: Request) -> Moves:
    """`DELETE FROM totp_authenticators WHERE user_id = $u`."""
    there = tuple(key for key in FACTORS if isinstance(seen(world, me, key), Factor))
    doing = me
    if me.plan != "recovering":  # which begins an enrolment
        doing = me._replace(answer=me.answer._replace(word="done", removes=there or me.answer.removes, confirms=-1))
    yield from write_rows(world, number, doing, there, lambda _: None, text="removes the factors")


def add_factor(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """Insert an unconfirmed factor in place of an unconfirmed one, and issue a pending token for its first code."""
    key = setting.act(number).factor
    row = seen(world, me, key)
    if is_locked(world, number, key):
        return
    if isinstance(row, Factor) and row.is_confirmed:
        yield "has a confirmed factor already", ended(world, number, REFUSED)
        return
    token = Pending(len(setting.scene.pendings) + number, me.epoch)
    doing = written(me, key, Factor(epoch=me.epoch, is_confirmed=False))
    yield "adds a factor", went_on(world, number, doing._replace(answer=me.answer._replace(pending=token)))
