"""The possible next events: an act begins, a request takes its next step, a request is lost, or time passes."""

from collections.abc import Callable, Iterator

from tests.model import account, attempts, leaving, second_step, sessions
from tests.model.cast import Act, Scene, plans
from tests.model.flaws import Flaw
from tests.model.laws import NO_DEADLOCK, at_commit
from tests.model.transitions import Moves, Setting
from tests.model.world import LOST, READY, Answer, Request, World

Step = Callable[[Setting, World, int, Request], Moves]

STEPS: dict[str, Step] = {
    name: step
    for module in (second_step, attempts, account, leaving, sessions)
    for name, step in vars(module).items()
    if callable(step) and getattr(step, "__module__", "") == module.__name__ and not name.startswith("_")
}


class Protocol:
    """A scene under the rules of the service, or with one flaw."""

    def __init__(self, scene: Scene, flaw: Flaw | None = None) -> None:
        self.scene = scene
        self.setting = Setting(scene, flaw, plans(flaw))
        self.happened: set[tuple[str, str, str]] = set()
        """Plan, step and outcome of each step that was taken in any world."""

    def start(self) -> World:
        return self.setting.start()

    def moves(self, world: World) -> Iterator[tuple[int, str, World]]:
        """Yield the act (-1: none), a text and the next world. A deadlock is a move to a world with a broken law."""
        is_anybody_waiting = False
        is_anybody_moving = False
        has_crashes = "crash" in self.scene.faults
        for number, request in enumerate(world.requests):
            if request is READY:
                act = self.scene.acts[number]
                if self._is_next_of_its_like(world, number, act) and self.setting.may_begin(world, act):
                    yield from self._do(world, number, Request(act.kind, 0, world.clock))
            elif type(request) is Request:
                is_waiting = True
                for move in self._do(world, number, request):
                    is_waiting = False
                    yield move
                is_anybody_waiting |= is_waiting
                is_anybody_moving |= not is_waiting
                if has_crashes:
                    yield number, "is lost", self._lost(world, number, request)
        if is_anybody_waiting and not is_anybody_moving:
            yield -1, "", world._replace(wrong=NO_DEADLOCK)
        if world.clock < self.scene.ticks:
            yield -1, f"it is step {world.clock + 1} now", world._replace(clock=world.clock + 1)

    def _is_next_of_its_like(self, world: World, number: int, act: Act) -> bool:
        """Return whether no equal act before this one is unsent: one order of two equal requests is enough."""
        return all(
            other != act or request is not READY
            for other, request in zip(self.scene.acts[:number], world.requests, strict=False)
        )

    def _do(self, world: World, number: int, me: Request) -> Iterator[tuple[int, str, World]]:
        name = self.setting.plans[me.plan][me.at]
        if name == "commit":
            yield number, "commits", self._commit(world, number, me)
        elif name == "answer":
            yield number, f"is answered: {me.answer.word}", self._answer(world, number, me)
        else:
            for text, then in STEPS[name](self.setting, world, number, me):
                self.happened.add((me.plan, name, text))
                yield number, text, then

    def _commit(self, world: World, number: int, me: Request) -> World:
        rows = list(world.rows)
        for key, row in me.writes:
            rows[key] = row
        then = at_commit(self.setting, world, world._replace(rows=tuple(rows)), number, me)
        if me.is_answered_early:
            return then._replace(requests=_put(then.requests, number, me.answer))
        on = me._replace(at=me.at + 1, writes=(), todo=None)
        return then._replace(requests=_put(then.requests, number, on))

    def _answer(self, world: World, number: int, me: Request) -> World:
        if self.setting.plans[me.plan][-1] == "commit":
            early = me._replace(at=me.at + 1, is_answered_early=True)
            return world._replace(requests=_put(world.requests, number, early))
        return world._replace(requests=_put(world.requests, number, me.answer))

    def _lost(self, world: World, number: int, me: Request) -> World:
        """The process or the connection is lost, and with it every uncommitted write."""
        left: Answer | str = me.answer if me.is_answered_early else LOST
        return world._replace(requests=_put(world.requests, number, left))


def _put(
    requests: tuple[Request | Answer | str, ...], number: int, new: Request | Answer | str
) -> tuple[Request | Answer | str, ...]:
    return (*requests[:number], new, *requests[number + 1 :])
