"""Visit every reachable world, breadth first, so that the steps to a broken law are as few as possible."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Protocol as Interface
from typing import TypeVar

from tests.model.cast import WORDS, Act
from tests.model.laws import broken
from tests.model.liveness import Liveness
from tests.model.protocol import Protocol
from tests.model.world import WRONG, World, on

NO_ACT = -1

_World = TypeVar("_World", bound=Hashable)


class Model(Interface[_World]):
    """What can be explored. A move has the number of its act (-1: none), a text and the next world."""

    def start(self) -> _World: ...

    def moves(self, world: _World) -> Iterator[tuple[int, str, _World]]: ...

    def broken(self, world: _World) -> str:
        """Return the law that this world breaks, or an empty string."""
        ...

    def describe(self, number: int) -> str:
        """Describe an act."""
        ...


@dataclass
class Explored:
    states: int = 0
    transitions: int = 0
    depth: int = 0
    law: str = ""
    """The law that was broken, if any."""
    story: list[str] = field(default_factory=list)
    is_complete: bool = True


class _WithLaws:
    """The protocol with its laws and the liveness check."""

    def __init__(self, protocol: Protocol) -> None:
        self._liveness = Liveness(protocol)
        self._acts = protocol.scene.acts
        self.start = protocol.start
        self.moves = protocol.moves

    def broken(self, world: World) -> str:
        return broken(world) or self._liveness.broken(world)

    def describe(self, number: int) -> str:
        return describe(self._acts[number])


def explore(protocol: Protocol, *, most: int | None = None) -> Explored:
    """Visit all reachable worlds (or the first `most`) until one breaks a law."""
    return search(_WithLaws(protocol), most=most)


def search(model: Model[_World], *, most: int | None = None) -> Explored:
    """Do the same for any model."""
    start = model.start()
    came_from: dict[_World, tuple[_World, int, str] | None] = {start: None}
    found = Explored(states=1)
    level = [start]
    while level:
        following: list[_World] = []
        for world in level:
            for number, text, then in model.moves(world):
                found.transitions += 1
                if then in came_from:
                    continue
                came_from[then] = (world, number, text)
                law = model.broken(then)
                if law:
                    found.law, found.story = law, list(_story(model, came_from, then))
                    found.states = len(came_from)
                    found.depth += 1
                    return found
                following.append(then)
        found.states = len(came_from)
        if most is not None and found.states >= most:
            found.is_complete = False
            return found
        level = following
        found.depth += bool(following)
    return found


def _story(
    model: Model[_World], came_from: dict[_World, tuple[_World, int, str] | None], end: _World
) -> Iterator[str]:
    steps: list[tuple[int, str]] = []
    step = came_from[end]
    while step is not None:
        world, number, text = step
        steps.append((number, text))
        step = came_from[world]
    seen: set[int] = set()
    for number, text in reversed(steps):
        if number == NO_ACT:
            yield text
        elif number in seen:
            yield f"{name(number)} {text}"
        else:
            seen.add(number)
            yield f"{name(number)} = {model.describe(number)}: {text}"


def name(number: int) -> str:
    return chr(ord("A") + number)


def describe(act: Act) -> str:
    """Describe the request, its replica and its secrets."""
    parts = [f"{WORDS[act.kind]} at replica {act.replica + 1}"]
    if act.kind in {"code", "recovery code"}:
        parts.append(f"pending token {act.pending}")
    if act.kind in {"code", "disable"}:
        code = "a wrong code" if act.step == WRONG else f"the code of step {act.step}"
        code += f" of authenticator {on(act.factor)}" if on(act.factor) else ""
        parts.append(code + (" in other digits" if act.spelling else ""))
    if act.kind in {"refresh", "refresh by the cookie", "revoke", "password", "everywhere", "step up", "enable"}:
        parts.append(f"session {act.session}")
    if act.kind in {"refresh", "refresh by the cookie"}:
        parts.append(f"generation {act.generation}")
    if act.password != 1:
        parts.append(f"password {act.password}")
    if act.device:
        parts.append(f"device token of credential version {act.device}")
    return ", ".join(parts)
