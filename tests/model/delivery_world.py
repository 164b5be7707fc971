"""The laws, rows and worlds of the model of deliveries (`deliveries.py`)."""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

AT_LEAST_ONCE = "A row leaves the outbox when its receiver has accepted it, or when it is of no use any more"
COMMITTED = "What a transaction that did not commit recorded is never sent"
IN_TIME = "No message is sent after its lifetime"
DELETED = "No message goes to a deleted user"
LAST = "No event of a user is first accepted after their deletion was"
ORDER = "A row is first accepted after the earlier rows of its user and address, except those that hold up none"
ADDRESS = "A message goes to the address that the user had at the event"
EMPTY = "The outbox becomes empty while the receiver accepts"
OTHERS = "Rows that are refused for ever hold up others only as documented"

BATCH, MAX_HOLDING, WAIT, LEASE = 2, 2, 1, 1
LIFETIMES = {"reset": 1, "notice": 3, "change": 3}
"""By kind of event: the lifetime of its message. From other events no message follows."""
ENOUGH_STEPS = 16
"""The time steps after which the outbox is empty if the receiver accepts."""


class Flaw(Enum):
    REMOVES_FIRST = "a row is removed before it is sent"
    DROPS_REFUSED = "a row that was refused is removed"
    UNLOCKED = "an event is recorded without a lock that its user's deletion takes too"
    OUTSIDE = "rows are inserted outside the transaction of their event"
    EXPIRY_UNCHECKED = "the lifetime of a message is not compared"
    USER_UNCHECKED = "whether the user is deleted is not compared when a message is sent"
    UNSETTLED = "events are delivered before they are settled"
    UNHELD = "a row does not wait for the earlier ones of its user"
    ADDRESS_READ_LATE = "the address of a message is read when it is sent"
    LEASE_KEPT = "a lease has no end"
    WAITS_FOR_GAPS = "events after an unused number never settle"
    KEEPS_ACCEPTED = "the row of an accepted message is not removed"
    HELD_FOR_EVER = "a refused message holds up others without limit"


class Act(NamedTuple):
    """What records an event about a user: a kind of `LIFETIMES`, `delete` or `logout`."""

    kind: str
    user: int = 0


class Row(NamedTuple):
    """A row of the outbox. Its id is the pair of its event's number and its place among the rows of the event."""

    event: int
    user: int
    kind: str
    at: int
    address: int = 0
    """0: the row reports the event."""
    attempts: int = 0
    due_at: int = 0

    @property
    def id(self) -> tuple[int, int]:
        return self.event, int(self.address != 0)


class User(NamedTuple):
    address: int
    is_deleted: bool = False


class Taken(NamedTuple):
    row: Row
    outcome: str = ""
    """What the receiver or the content said; empty: not sent yet."""


class Replica(NamedTuple):
    """What a process remembers."""

    settled: int = 0
    seen: int = 0
    """The number of an event that was seen and is not settled; 0: none."""
    outlasts: frozenset[int] = frozenset()
    """The acts that ran when it was seen and still run."""
    now: int = 0
    round: tuple[Taken, ...] = ()


class Running(NamedTuple):
    event: int
    rows: tuple[Row, ...]


class World(NamedTuple):
    clock: int
    users: tuple[User, ...]
    acts: tuple[Running | str, ...]
    newest: int = 0
    """The number that was given last."""
    visible: frozenset[int] = frozenset()
    outbox: tuple[Row, ...] = ()
    holder: int = -1
    holds_until: int = 0
    replicas: tuple[Replica, ...] = (Replica(), Replica())
    kills: int = 0
    accepted: frozenset[Row] = frozenset()
    last: frozenset[int] = frozenset()
    """The users whose deletion was accepted."""
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Scene:
    name: str
    acts: tuple[Act, ...]
    ticks: int = 1
    kills: int = 1
    refusals: int = 1
    """How often each row may be refused."""
    has_events: bool = True
    has_messages: bool = True
    replicas: int = 2


def is_same(first: Row, row: Row) -> bool:
    """Return whether the order of these two rows is promised: `coalesce(p.address = o.address, TRUE)`."""
    return first.user == row.user and (not first.address or not row.address or first.address == row.address)


def is_free(row: Row) -> bool:
    """Return whether the row holds up no other any more."""
    return bool(row.address) and row.attempts >= MAX_HOLDING


def with_act(world: World, number: int, new: Running | str) -> World:
    return world._replace(acts=(*world.acts[:number], new, *world.acts[number + 1 :]))


def ended(world: World, number: int) -> World:
    """The replicas need not remember that this act ran."""
    replicas = tuple(replica._replace(outlasts=replica.outlasts - {number}) for replica in world.replicas)
    return world._replace(replicas=replicas)


def with_replica(world: World, at: int, new: Replica) -> World:
    return world._replace(replicas=(*world.replicas[:at], new, *world.replicas[at + 1 :]))


def with_outcome(world: World, at: int, place: int, outcome: str) -> World:
    me = world.replicas[at]
    taken = me.round[place]._replace(outcome=outcome)
    return with_replica(world, at, me._replace(round=(*me.round[:place], taken, *me.round[place + 1 :])))


def done(world: World, at: int, place: int) -> World:
    me = world.replicas[at]
    rest = (*me.round[:place], *me.round[place + 1 :])
    return with_replica(world, at, me._replace(round=rest, now=me.now if rest else 0))


def without(world: World, row: Row, *, is_dropped: bool = False) -> World:
    """`DELETE FROM outbox WHERE id = $1`."""
    is_accepted = row._replace(attempts=0, due_at=0) in world.accepted
    is_there = any(other.id == row.id for other in world.outbox)
    wrong = world.wrong if is_accepted or is_dropped or not is_there else AT_LEAST_ONCE
    return world._replace(outbox=tuple(other for other in world.outbox if other.id != row.id), wrong=wrong)
