"""Visit every reachable world, breadth first, so that the steps to a broken law are as few as possible."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.model.cast import WORDS, Act
from tests.model.laws import broken
from tests.model.liveness import Liveness
from tests.model.protocol import Protocol
from tests.model.world import WRONG, World, on

NO_ACT = -1


@dataclass
class Explored:
    states: int = 0
    transitions: int = 0
    depth: int = 0
    law: str = ""
    """The law that was broken, if any."""
    story: list[str] = field(default_factory=list)
    is_complete: bool = True


def explore(protocol: Protocol, *, most: int | None = None) -> Explored:
    """Visit all reachable worlds (or the first `most`) until one breaks a law."""
    start = protocol.start()
    came_from: dict[World, tuple[World, int, str] | None] = {start: None}
    liveness = Liveness(protocol)
    found = Explored(states=1)
    level = [start]
    while level:
        following: list[World] = []
        for world in level:
            for number, text, then in protocol.moves(world):
                found.transitions += 1
                if then in came_from:
                    continue
                came_from[then] = (world, number, text)
                law = broken(then) or liveness.broken(then)
                if law:
                    found.law, found.story = law, list(_story(protocol, came_from, then))
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


def _story(protocol: Protocol, came_from: dict[World, tuple[World, int, str] | None], end: World) -> Iterator[str]:
    steps: list[tuple[int, str]] = []
    step = came_from[end]
    while step is not None:
        world, number, text = step
        steps.append((number, text))
        step = came_from[world]
    acts = protocol.scene.acts
    seen: set[int] = set()
    for number, text in reversed(steps):
        if number == NO_ACT:
            yield text
        elif number in seen:
            yield f"{name(number)} {text}"
        else:
            seen.add(number)
            yield f"{name(number)} = {describe(acts[number])}: {text}"


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
