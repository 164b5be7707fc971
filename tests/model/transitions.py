"""What the steps have in common: the setting, and how a request continues, writes, waits and ends."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.model.cast import Act, Scene
from tests.model.flaws import Flaw
from tests.model.world import (
    FACTORS,
    FIRST_SESSION,
    READY,
    USER,
    Answer,
    Pending,
    RecoveryCode,
    Request,
    Row,
    Session,
    User,
    Volatile,
    World,
    is_locked,
    seen,
    written,
)

Moves = Iterator[tuple[str, World]]
"""A text and the next world for each outcome. With no outcome the request waits for another transaction's commit."""

FAILURES_OF = 100
"""Added to a factor's row: the key under which a flaw counts failures in Redis."""

REFUSED = Answer("refused")


@dataclass(frozen=True, slots=True)
class Setting:
    """The scene, the flaw, and the plans that follow from it."""

    scene: Scene
    flaw: Flaw | None
    plans: dict[str, tuple[str, ...]]

    def start(self) -> World:
        scene = self.scene
        sessions = (*scene.sessions, *(None for _ in scene.acts))
        first, second = (0 if factor is None else factor.recent for factor in scene.factors)
        is_in_redis = self.flaw is Flaw.BUDGET_IN_REDIS
        return World(
            clock=0,
            rows=(User(), RecoveryCode(), *scene.factors, *sessions),
            requests=(READY,) * len(scene.acts),
            redis=Volatile(charged=((FAILURES_OF + FACTORS[0], first),) if is_in_redis else ()),
            debts=(first, second),
        )

    def act(self, number: int) -> Act:
        return self.scene.acts[number]

    def pending(self, world: World, number: int) -> Pending | None:
        """Return the pending token of this number, or `None` if it has not been issued."""
        given = self.scene.pendings
        if number < len(given):
            return given[number]
        answer = world.requests[number - len(given)]
        return answer.pending if isinstance(answer, Answer) else None

    def may_begin(self, world: World, act: Act) -> bool:
        """Return whether the client has the tokens that it needs for this act."""
        if act.kind in {"code", "recovery code"}:
            return self.pending(world, act.pending) is not None
        if act.kind in {"refresh", "refresh by the cookie"}:
            token = (self.scene.session_of(act.session), act.generation)
            is_first = act.session < len(self.scene.sessions) and act.generation == 0
            return is_first or any(isinstance(given, Answer) and given.refresh == token for given in world.requests)
        if act.kind == "reset":
            user = world.rows[USER]
            return isinstance(user, User) and user.epoch >= act.link  # its message was sent
        if act.kind in {"revoke", "password", "everywhere", "step up", "enable", "delete"}:
            return act.session < len(self.scene.sessions) or isinstance(
                world.rows[FIRST_SESSION + act.session], Session
            )
        return True


def went_on(world: World, number: int, me: Request) -> World:
    """Move the request to the next step of its plan."""
    return stayed(world, number, me._replace(at=me.at + 1))


def stayed(world: World, number: int, me: Request) -> World:
    requests = world.requests
    return world._replace(requests=(*requests[:number], me, *requests[number + 1 :]))


def ended(world: World, number: int, answer: Answer) -> World:
    """Respond to the request; its uncommitted writes are rolled back."""
    requests = world.requests
    return world._replace(requests=(*requests[:number], answer, *requests[number + 1 :]))


def write_rows(
    world: World, number: int, me: Request, keys: tuple[int, ...], change: Callable[[Row], Row], *, text: str
) -> Moves:
    """One UPDATE of several rows: it finds them when it begins, and then locks and writes them one after the other.

    It waits for a row that another transaction has locked, and then uses that row with the changes
    committed meanwhile. It does not see rows that did not exist when it began.
    """
    todo = keys if me.todo is None else me.todo
    done, doing = 0, me
    for key in todo:
        if is_locked(world, number, key):
            break
        row = seen(world, me, key)
        after = change(row)
        if after != row:
            doing = written(doing, key, after)
        done += 1
    if done == len(todo):
        yield text, went_on(world, number, doing._replace(todo=None))
    elif done or me.todo is None:
        yield f"{text}, and waits for a row", stayed(world, number, doing._replace(todo=todo[done:]))
