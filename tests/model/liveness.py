"""Liveness: from every world without a running request, the user can log in with the next code.

Claims and counters that Redis lost or kept, or an unavailable Redis, may cost the user one code; the next one must be
accepted. The check waits for a factor that waits because codes were refused. It skips a factor whose budget is spent
by codes that were compared.
"""

from tests.model.cast import Act, Scene
from tests.model.laws import MAX_FAILURES, NEXT_CODE
from tests.model.protocol import Protocol
from tests.model.world import (
    ENABLED,
    FACTORS,
    USER,
    Answer,
    Factor,
    Pending,
    Request,
    Row,
    User,
    Volatile,
    World,
    on,
)

Case = tuple[int, tuple[Row, ...], Volatile, tuple[Volatile, Volatile], tuple[int, ...]]


class Liveness:
    """The liveness check. It skips worlds that differ from a checked one only in what does not matter to it."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        codes = [act.step for act in protocol.scene.acts if act.kind in {"code", "disable"} and act.step < 90]
        self._after = max(codes, default=0) + 1
        self._checked: set[Case] = set()

    def broken(self, world: World) -> str:
        """Return the law that this world breaks, or an empty string."""
        if any(isinstance(request, Request) for request in world.requests):
            return ""
        case = (world.clock, world.rows, world.redis, world.alone, world.debts)
        if case in self._checked:
            return ""
        self._checked.add(case)
        user = world.rows[USER]
        if isinstance(user, User) and user.state != ENABLED:
            return ""
        for key in FACTORS:
            row = world.rows[key]
            is_spent = world.debts[on(key)] >= MAX_FAILURES
            if isinstance(row, Factor) and row.is_confirmed and not is_spent:
                for is_away in (False, True):
                    if not self._is_in(world, key, row, is_away=is_away):
                        return NEXT_CODE
        return ""

    def _is_in(self, world: World, key: int, row: Factor, *, is_away: bool) -> bool:
        user = world.rows[USER]
        if not isinstance(user, User):
            raise TypeError(user)
        now = max(world.clock + 1, row.waits_until, self._after - row.offset)
        there = self._protocol.scene
        many = len(there.pendings) + len(there.acts)  # a token number that no act has
        scene = Scene(
            "the user",
            acts=(*there.acts, Act("code", pending=many, factor=key, step=now + row.offset)),
            pendings=(Pending(many, user.epoch),) * (many + 1),
            sessions=there.sessions,
            ticks=now,
            faults=frozenset({"away"}) if is_away else frozenset(),
        )
        number = len(world.requests)
        last = Protocol(scene, self._protocol.setting.flaw)
        alone = world._replace(
            clock=now,
            rows=(*world.rows, None),
            requests=(*(Answer("") for _ in world.requests), "ready"),
            wrong="",
        )
        while not isinstance(alone.requests[number], Answer):
            moves = [then for actor, _, then in last.moves(alone) if actor == number]
            if not moves:
                return False
            alone = moves[-1]  # with Redis unavailable its failure is the last move
        answer = alone.requests[number]
        return isinstance(answer, Answer) and answer.word == "admitted"
