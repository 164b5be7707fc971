"""A third model: the outbox, its deliveries by two replicas, and what a deleted user still gets.

Its worlds are explored as those of the first model, with the same meaning of a step and of a lost request. Two users
record events. From an event follow rows of the outbox: one for the webhook, and a message to the address of the user.
One transport has both, as if `KEYTURN_MESSAGE_TRANSPORT` were `webhook`; a scene with messages alone is one of mail.

The steps stand for `messages/outbox`, `lease`, `settling`, `delivery`, `contents` and `events`. To read a message and
to send it is one step, and so is to take the lease and to read what is due. Between any two steps, a replica may be
killed, the receiver may accept or refuse, and time may pass. A round keeps the time at which it began, and its
messages are compared with that.

In the model a round has two messages, not sixteen; a message holds up others for two attempts, not six; each wait
and a lease last one time step; a link is valid for one and a notice for three. It leaves out superseded links,
invitations, the pause after a refused round, clocks that differ, and transactions of other programs. No law is about
the share of refused messages in a round.

The laws and the rows are in `delivery_world.py`. Each `Flaw` breaks a law in one place.
"""

from collections.abc import Iterator

from tests.model.delivery_world import (
    ADDRESS,
    BATCH,
    COMMITTED,
    DELETED,
    EMPTY,
    ENOUGH_STEPS,
    IN_TIME,
    LAST,
    LEASE,
    LIFETIMES,
    ORDER,
    OTHERS,
    WAIT,
    Act,
    Flaw,
    Replica,
    Row,
    Running,
    Scene,
    Taken,
    User,
    World,
    done,
    ended,
    is_free,
    is_same,
    with_act,
    with_outcome,
    with_replica,
    without,
)  # fmt: skip


class Deliveries:
    """A scene under the rules of the service, or with one flaw."""

    def __init__(self, scene: Scene, flaw: Flaw | None = None) -> None:
        self.scene, self.flaw = scene, flaw
        self.happened: set[str] = set()
        self._alive: set[World] = set()
        self._is_endless = False

    def start(self) -> World:
        replicas = (Replica(),) * self.scene.replicas
        return World(0, (User(1), User(3)), ("ready",) * len(self.scene.acts), replicas=replicas)

    def describe(self, number: int) -> str:
        act = self.scene.acts[number]
        return f"{act.kind} of user {act.user + 1}"

    def moves(self, world: World) -> Iterator[tuple[int, str, World]]:
        if world.wrong:
            return
        for number, state in enumerate(world.acts):
            for text, then in self._transact(world, number, state):
                self.happened.add(text)
                yield number, text, then
        for at, replica in enumerate(world.replicas):
            for text, then in self._turn(world, at, replica):
                self.happened.add(text)
                yield -1, f"replica {at + 1} {text}", then
            if (replica.round or replica.seen) and world.kills < self.scene.kills:
                then = with_replica(world, at, Replica())._replace(kills=world.kills + 1)
                yield -1, f"replica {at + 1} is killed", then
        if world.clock < self.scene.ticks:
            yield -1, f"it is step {world.clock + 1} now", world._replace(clock=world.clock + 1)

    # --- the transactions that record events ---

    def _transact(self, world: World, number: int, state: Running | str) -> Iterator[tuple[str, World]]:
        act = self.scene.acts[number]
        if state == "ready":
            is_unlocked = self.flaw is Flaw.UNLOCKED and act.kind == "logout"
            if self._is_locked(world, act) and not is_unlocked:
                return  # it waits for the row of the user, or of the session
            if world.users[act.user].is_deleted and not is_unlocked:
                yield "finds no user", with_act(world, number, "refused")
                return
            event = world.newest + 1
            rows = tuple(self._rows(world, act, event))
            outbox = world.outbox + rows if self.flaw is Flaw.OUTSIDE else world.outbox
            then = world._replace(newest=event, outbox=outbox)
            yield "records its event", with_act(then, number, Running(event, rows))
        elif isinstance(state, Running):
            yield "is rolled back", ended(with_act(world, number, "lost"), number)
            yield "commits", self._commit(world, number, state)

    def _is_locked(self, world: World, act: Act) -> bool:
        """Each act locks the row of its user. A logout locks its session instead, which a deletion locks too."""
        running = [a for a, other in zip(self.scene.acts, world.acts, strict=True) if isinstance(other, Running)]
        logouts = {"logout"} if act.kind == "delete" else set() if act.kind != "logout" else {"delete"}
        is_own = act.kind != "logout"
        return any(a.user == act.user and (a.kind in logouts or (is_own and a.kind != "logout")) for a in running)

    def _rows(self, world: World, act: Act, event: int) -> Iterator[Row]:
        """`put_event` and `put_message`: the address is the one that is stored now."""
        if self.scene.has_events:
            yield Row(event, act.user, act.kind, world.clock)
        if self.scene.has_messages and act.kind in LIFETIMES:
            yield Row(event, act.user, act.kind, world.clock, world.users[act.user].address)

    def _commit(self, world: World, number: int, state: Running) -> World:
        act = self.scene.acts[number]
        user, outbox = world.users[act.user], world.outbox
        if act.kind == "change":
            user = user._replace(address=user.address + 1)
        if act.kind == "delete":
            user = user._replace(is_deleted=True)
            outbox = tuple(row for row in outbox if row.user != act.user or not row.address)
        if self.flaw is not Flaw.OUTSIDE:
            outbox += state.rows
        users = tuple(user if at == act.user else other for at, other in enumerate(world.users))
        outbox = tuple(sorted(outbox))
        then = world._replace(users=users, outbox=outbox, visible=world.visible | {state.event})
        return ended(with_act(then, number, "done"), number)

    # --- the rounds of the replicas ---

    def _turn(self, world: World, at: int, replica: Replica) -> Iterator[tuple[str, World]]:
        if replica.round:
            for place, taken in enumerate(replica.round):
                yield from self._deliver(world, at, place, taken)
            return
        newest = max((row.event for row in world.outbox), default=0)
        if newest > replica.settled and not replica.seen:
            running = frozenset(n for n, state in enumerate(world.acts) if isinstance(state, Running))
            replica = replica._replace(seen=newest, outlasts=running)
            if running:
                yield "sees an event", with_replica(world, at, replica)
                return
        settled = self._settle(world, replica)
        is_settled = settled >= replica.seen
        me = replica._replace(settled=settled, seen=0 if is_settled else replica.seen)
        is_held = world.holder not in {-1, at} and (world.clock < world.holds_until or self.flaw is Flaw.LEASE_KEPT)
        due = [] if is_held else self._read_due(world, settled)
        if due:
            me = me._replace(now=world.clock, round=tuple(map(Taken, due)))
            then = world._replace(holder=at, holds_until=world.clock + LEASE)
            yield "takes what is due", with_replica(then, at, me)
        elif me != world.replicas[at]:
            yield "settles an event", with_replica(world, at, me)

    def _settle(self, world: World, replica: Replica) -> int:
        """`Settling`: no transaction runs that ran when the number was seen, or no number is missing before."""
        if self.flaw is Flaw.UNSETTLED:
            return max(replica.settled, replica.seen)
        gap = next(n for n in range(replica.settled + 1, world.newest + 2) if n not in world.visible)
        without_gap = min(replica.seen, gap - 1)
        if replica.outlasts or self.flaw is Flaw.WAITS_FOR_GAPS:
            return max(replica.settled, without_gap)
        return max(replica.settled, replica.seen)

    def _read_due(self, world: World, settled: int) -> list[Row]:
        """`read_due`: for each recipient and address the first; half of the places for those that were refused."""
        due = [
            row
            for row in world.outbox
            if row.event <= settled
            and (row.due_at <= world.clock or row.attempts == 0)
            and (self.flaw is Flaw.UNHELD or not any(self._holds(other, row) for other in world.outbox))
        ]
        fresh, refused = [row for row in due if not row.attempts], [row for row in due if row.attempts]
        places = max(BATCH // 2, BATCH - len(fresh))
        return [*fresh[: BATCH - min(places, len(refused))], *refused[:places]]

    def _holds(self, first: Row, row: Row) -> bool:
        is_limited = is_free(first) and self.flaw is not Flaw.HELD_FOR_EVER
        return is_same(first, row) and not is_limited and first.id < row.id

    def _deliver(self, world: World, at: int, place: int, taken: Taken) -> Iterator[tuple[str, World]]:
        row = taken.row
        if taken.outcome:
            yield self._finish(world, at, place, taken)
            return
        if self._refuses(world, world.replicas[at].now, row):
            yield "drops a message", with_outcome(world, at, place, "dropped")
            return
        if self.flaw is Flaw.REMOVES_FIRST:
            world = without(world, row)
        if row.attempts < self.scene.refusals:
            yield "is refused", with_outcome(world, at, place, "refused")
        yield "is accepted", with_outcome(self._accept(world, at, row), at, place, "accepted")

    def _refuses(self, world: World, now: int, row: Row) -> bool:
        """`Contents.read`: whether the message is of no use."""
        if not row.address:
            return False
        is_over = now >= row.at + LIFETIMES[row.kind] and not self._is_endless
        is_deleted = world.users[row.user].is_deleted
        return (is_over and self.flaw is not Flaw.EXPIRY_UNCHECKED) or (
            is_deleted and self.flaw is not Flaw.USER_UNCHECKED
        )

    def _accept(self, world: World, at: int, row: Row) -> World:
        """Compare what the receiver gets with the laws."""
        wrong, now, user = "", world.replicas[at].now, world.users[row.user]
        first = row._replace(attempts=0, due_at=0)
        if first not in world.accepted:
            is_late = any(is_same(row, later) and row.id < later.id for later in world.accepted)
            waiting = (other for other in world.outbox if other._replace(attempts=0, due_at=0) not in world.accepted)
            is_early = any(is_same(other, row) and other.id < row.id and not is_free(other) for other in waiting)
            wrong = ORDER if is_early or (is_late and not is_free(row)) else wrong
            wrong = LAST if row.user in world.last and not row.address else wrong
        if row.address:
            wrong = IN_TIME if now >= row.at + LIFETIMES[row.kind] and not self._is_endless else wrong
            wrong = DELETED if user.is_deleted else wrong
            wrong = ADDRESS if self.flaw is Flaw.ADDRESS_READ_LATE and user.address != row.address else wrong
        wrong = wrong if row.event in world.visible else COMMITTED
        last = world.last | {row.user} if row.kind == "delete" else world.last
        return world._replace(accepted=world.accepted | {first}, last=last, wrong=wrong)

    def _finish(self, world: World, at: int, place: int, taken: Taken) -> tuple[str, World]:
        row = taken.row
        if taken.outcome == "refused" and self.flaw is not Flaw.DROPS_REFUSED:
            due_at = world.replicas[at].now + WAIT
            outbox = tuple(
                r._replace(attempts=r.attempts + 1, due_at=due_at) if r.id == row.id else r for r in world.outbox
            )
            return "postpones a message", done(world._replace(outbox=outbox), at, place)
        if taken.outcome == "accepted" and self.flaw is Flaw.KEEPS_ACCEPTED:
            return "keeps a row", done(world, at, place)
        return "removes a row", done(without(world, row, is_dropped=taken.outcome == "dropped"), at, place)

    # --- liveness ---

    def broken(self, world: World) -> str:
        """Return the law that this world breaks, or an empty string."""
        if world.wrong or not world.outbox:
            return world.wrong
        for at, replica in enumerate(world.replicas):
            alone = self._alone(world, at, replica)
            if alone not in self._alive:
                self._alive.add(alone)
                law = self._stuck(alone)
                if law:
                    return law
        return ""

    def _alone(self, world: World, at: int, replica: Replica) -> World:
        """Return the world as this replica goes on alone; no transaction runs, and times count from now."""
        now = world.clock
        outbox = tuple(row._replace(at=0, due_at=max(row.due_at - now, 0)) for row in world.outbox)
        return world._replace(
            clock=0,
            acts=tuple("lost" for _ in world.acts),
            outbox=outbox,
            holder=0 if world.holder == at else world.holder if world.holder == -1 else 1,
            holds_until=max(world.holds_until - now, 0),
            replicas=(replica._replace(outlasts=frozenset(), now=0),),
            kills=0,
            accepted=frozenset(),
            last=frozenset(),
        )

    def _stuck(self, alone: World) -> str:
        """Compare what stays if the receiver refuses nothing, one row, or every message to one user for ever."""
        if self._left(alone, frozenset()):
            return EMPTY
        for refused in {frozenset({row.id}) for row in alone.outbox} | {
            frozenset(row.id for row in alone.outbox if row.user == user and row.address) for user in (0, 1)
        }:
            events = [row for row in alone.outbox if row.id in refused and not row.address]
            held = {row.id for row in alone.outbox for event in events if self._holds(event, row)}
            if refused and self._left(alone, refused | held):
                return OTHERS
        return ""

    def _left(self, world: World, refused: frozenset[tuple[int, int]]) -> set[tuple[int, int]]:
        """Return which others are in the outbox after some time in which the receiver refuses these.

        The other replica is silent; lifetimes do not end, so that a message does not leave for that reason.
        """
        self._is_endless = True
        for _ in range(ENOUGH_STEPS * 4 * BATCH):
            before, world = world, self._advance(world, 0, refused)
            if not {row.id for row in world.outbox} - refused:
                break
            if world == before:
                if world.clock == ENOUGH_STEPS:
                    break
                world = world._replace(clock=world.clock + 1)
        self._is_endless = False
        return {row.id for row in world.outbox} - refused

    def _advance(self, world: World, at: int, refused: frozenset[tuple[int, int]]) -> World:
        me = world.replicas[at]
        if me.round and not me.round[0].outcome and me.round[0].row.id in refused:
            return with_outcome(world, at, 0, "refused")
        moves = [then._replace(wrong="") for _, then in self._turn(world, at, me)]
        if not moves:
            return world
        # The last move of the first message: it is accepted, or what follows from its outcome.
        many = len(list(self._deliver(world, at, 0, me.round[0]))) if me.round else 1
        return moves[many - 1]
