"""The steps of resets, recoveries and deletions: of `users/users`, `users/deletions` and `accounts/deletions`.

A recovery and a deletion are due one time step after their request. A link is derived from the credential version
that the account had when its message was sent, so that an act names it by that version.
"""

from tests.model.flaws import Flaw
from tests.model.transitions import REFUSED, Moves, Setting, ended, went_on
from tests.model.world import (
    ENABLED,
    FACTORS,
    GONE,
    LEAVING,
    NEVER,
    SWITCHED_OFF,
    USER,
    Factor,
    Pending,
    Request,
    World,
    is_locked,
    is_restorable,
    user_at,
    written,
)

DELAY = 1


def find_link(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """One SELECT: compare the link with the account. Then the password is hashed, which takes time."""
    user, link = user_at(world, me), setting.act(number).link
    if user.state != ENABLED or user.epoch != link:
        yield "its link is not valid", ended(world, number, REFUSED)
        return
    yield "its link is valid", went_on(world, number, me._replace(epoch=link))


def reset_password(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """`UPDATE users SET epoch = epoch + 1, password_hash, password_reset_at, recovery_due_at WHERE epoch = $e`."""
    if is_locked(world, number, USER):
        return
    user = user_at(world, me)
    is_current = user.epoch == me.epoch and user.state == ENABLED
    if not is_current and setting.flaw is not Flaw.RESET_UNGUARDED:
        yield "the account was changed", ended(world, number, REFUSED)
        return
    due = user.recovery_due if setting.flaw is Flaw.RESET_KEEPS_RECOVERY else NEVER
    password = setting.act(number).password
    new = user._replace(epoch=user.epoch + 1, password=password, is_reset=True, recovery_due=due)
    answer = me.answer._replace(word="done", voids=new.epoch, kills=new.epoch)
    yield "sets the password", went_on(world, number, written(me, USER, new)._replace(epoch=new.epoch, answer=answer))


def forget_reset(_setting: Setting, world: World, number: int, me: Request) -> Moves:
    """`UPDATE users SET password_reset_at = NULL`, and cancel a recovery: a second factor was proved."""
    user = user_at(world, me)._replace(is_reset=False, recovery_due=NEVER)
    yield "lets the password count again", went_on(world, number, written(me, USER, user))


def start_recovery(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """`UPDATE users SET recovery_due_at = $t WHERE epoch = $e AND recovery_due_at IS NULL`."""
    if is_locked(world, number, USER):
        return
    user = user_at(world, me)
    is_current = user.epoch == me.epoch and user.state == ENABLED
    if setting.flaw is Flaw.RECOVERY_UNGUARDED:
        is_current = True
    answer = me.answer._replace(word="done")
    if not is_current or user.recovery_due != NEVER:
        yield "starts no recovery", ended(world, number, answer)
        return
    doing = written(me, USER, user._replace(recovery_due=me.now + DELAY))
    yield "starts a recovery", went_on(world, number, doing._replace(answer=answer))


def complete_recovery(_setting: Setting, world: World, number: int, me: Request) -> Moves:
    """`UPDATE users SET epoch = epoch + 1, recovery_due_at = NULL WHERE epoch = $e AND recovery_due_at = $t`."""
    if is_locked(world, number, USER):
        return
    user = user_at(world, me)
    if user.epoch != me.epoch or user.state != ENABLED or user.recovery_due == NEVER:
        yield "its recovery was cancelled", ended(world, number, REFUSED)
        return
    new = user._replace(epoch=user.epoch + 1, recovery_due=NEVER)
    answer = me.answer._replace(word="second factor required", voids=new.epoch, kills=new.epoch)
    doing = written(me, USER, new)
    yield "completes the recovery", went_on(world, number, doing._replace(epoch=new.epoch, answer=answer))


def restart_enrolment(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """Insert an unconfirmed factor with a key of its own, and issue a pending token for its first code."""
    key = FACTORS[1]
    if is_locked(world, number, key):
        return
    token = Pending(len(setting.scene.pendings) + number, me.epoch)
    doing = written(me, key, Factor(epoch=me.epoch, is_confirmed=False))
    yield "begins an enrolment", went_on(world, number, doing._replace(answer=me.answer._replace(pending=token)))


def schedule(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """`UPDATE users SET epoch = epoch + 1, disabled_at, deletion_requested_at, deletion_due_at WHERE epoch = $e`."""
    if is_locked(world, number, USER):
        return
    user = user_at(world, me)
    if user.epoch != me.epoch or user.state != ENABLED:
        yield "the account was changed", ended(world, number, REFUSED)
        return
    by = 0 if setting.flaw is Flaw.DELETION_REVOKES_NOTHING else 1
    new = user._replace(epoch=user.epoch + by, state=LEAVING, deletion_due=me.now + DELAY, recovery_due=NEVER)
    answer = me.answer._replace(word="done", voids=new.epoch, kills=new.epoch)
    doing = written(me, USER, new)
    yield "schedules the deletion", went_on(world, number, doing._replace(epoch=new.epoch, answer=answer))


def restore_account(setting: Setting, world: World, number: int, me: Request) -> Moves:
    """`UPDATE users SET epoch = epoch + 1, disabled_at = NULL WHERE epoch = $e AND <it can be taken back>`."""
    if is_locked(world, number, USER):
        return
    user = user_at(world, me)
    is_current = user.epoch == me.epoch and is_restorable(user, me.now)
    if not is_current and setting.flaw is not Flaw.RESTORE_UNGUARDED:
        yield "the deletion cannot be taken back any more", ended(world, number, REFUSED)
        return
    new = user._replace(epoch=user.epoch + 1, state=ENABLED, deletion_due=NEVER)
    answer = me.answer._replace(kills=new.epoch)
    doing = written(me, USER, new)
    yield "takes the deletion back", went_on(world, number, doing._replace(epoch=new.epoch, answer=answer))


def remove_account(_setting: Setting, world: World, number: int, me: Request) -> Moves:
    """`UPDATE users SET epoch = epoch WHERE <the deletion is due>`, then clear the row."""
    if is_locked(world, number, USER):
        return
    user = user_at(world, me)
    if user.state not in {LEAVING, SWITCHED_OFF} or user.deletion_due > me.now:
        yield "finds no deletion that is due", ended(world, number, REFUSED)
        return
    new = user._replace(epoch=user.epoch + 1, state=GONE)
    answer = me.answer._replace(word="done", voids=new.epoch, kills=new.epoch)
    yield (
        "removes the account",
        went_on(world, number, written(me, USER, new)._replace(epoch=new.epoch, answer=answer)),
    )


def switch_off(_setting: Setting, world: World, number: int, me: Request) -> Moves:
    """`UPDATE users SET epoch = epoch + 1`, then `disabled_at` of the operator: a scheduled deletion stays."""
    if is_locked(world, number, USER):
        return
    user = user_at(world, me)
    if user.state == GONE:
        yield "finds no account", ended(world, number, REFUSED)
        return
    new = user._replace(epoch=user.epoch + 1, state=SWITCHED_OFF, recovery_due=NEVER)
    answer = me.answer._replace(word="done", voids=new.epoch, kills=new.epoch)
    doing = written(me, USER, new)
    yield "disables the account", went_on(world, number, doing._replace(epoch=new.epoch, answer=answer))
