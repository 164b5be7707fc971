"""What there is at one moment: the committed rows, the volatile stores, the requests on their way, what was answered.

Everything is immutable and hashable: a world is a state of the model. Rows written by a transaction that has not
committed stand in its request (`writes`): others see the committed ones, and wait where they want to write the same
row (READ COMMITTED). Time is counted in time steps of thirty seconds.
"""

from typing import NamedTuple

USER, RECOVERY_CODE, FACTORS, FIRST_SESSION = 0, 1, (2, 3), 4
"""Where rows stand in `World.rows`. Sessions: those that are there at the start, then one for each act."""

BEFORE = -9
"""A time step before all others."""

WRONG = 99
"""In place of a code's time step: a guess that no step has."""


class User(NamedTuple):
    epoch: int = 1
    password: int = 1
    is_named: bool = False
    """Whether the user has a role of which the policy demands a second factor."""


class RecoveryCode(NamedTuple):
    is_used: bool = False


class Factor(NamedTuple):
    epoch: int = 1
    is_confirmed: bool = True
    last_step: int = BEFORE
    failures: int = 0
    waits_until: int = 0
    recent: int = 0
    """How many failures of the last thirty days are remembered; here no month ends."""
    offset: int = 0
    """By how many steps its clock is known to be off."""
    told_at: int = BEFORE
    texts: frozenset[tuple[int, int]] = frozenset()
    """Used codes by their text: only where a flaw keeps them so."""


class Session(NamedTuple):
    epoch: int
    """Of the account when it was opened: the database has no such column, the laws want to know."""
    jti: int | None = None
    generation: int = 0
    replaced_at: int = BEFORE
    is_ended: bool = False
    raised: int = 0
    raised_by: tuple[int, ...] = ()
    """The pending tokens that raised it: for the laws."""
    is_alone: bool = False
    """Whether the password alone opened it: neither a second factor nor a known device."""


Row = User | RecoveryCode | Factor | Session | None


class Pending(NamedTuple):
    """A pending token; with a session it is for raising that one."""

    jti: int
    epoch: int
    session: int | None = None
    raised: int = 0


class Answer(NamedTuple):
    """What a client was told, and so what holds from then on."""

    word: str
    voids: int = 0
    """Sessions of epochs before this one are over."""
    spares: int = -1
    """But this session."""
    kills: int = 0
    """Pending and device tokens of epochs before this one are dead."""
    ends: int = -1
    """The session that is over."""
    removes: tuple[int, ...] = ()
    confirms: int = -1
    pending: Pending | None = None
    refresh: tuple[int, int] | None = None
    """A refresh token: session and generation."""
    presented: int = -1
    names: bool = False
    """A second factor is demanded of the user from now on."""


class Volatile(NamedTuple):
    """A store that may forget: Redis, or what one replica keeps for itself."""

    claims: frozenset[tuple[int, ...]] = frozenset()
    paid: tuple[tuple[int, int], ...] = ()
    """By pending token, how many codes were paid for."""


class Request(NamedTuple):
    """A request on its way: what it has read, what it holds, and which step of its plan is next."""

    plan: str
    at: int
    now: int
    epoch: int = 0
    is_named: bool = False
    """The user's roles, as they were read."""
    owed: tuple[int, ...] = ()
    asked: int = 0
    """How many of the owed factors were asked to be paid for."""
    paid: tuple[int, ...] = ()
    factor: int = -1
    offsets: tuple[int, ...] = ()
    """Of the owed factors, as they were read."""
    realigns: bool = False
    payee: str = ""
    read: int = 0
    todo: tuple[int, ...] | None = None
    """What a statement over several rows found when it began, and has yet to write."""
    writes: tuple[tuple[int, Row], ...] = ()
    answer: Answer = Answer("")
    is_told: bool = False
    """Whether the answer was sent already: only where a flaw does so before it is done."""


READY, LOST = "ready", "lost"


class World(NamedTuple):
    clock: int
    rows: tuple[Row, ...]
    requests: tuple[Request | Answer | str, ...]
    """By act: not begun, on its way, answered, or lost with its answer."""
    redis: Volatile = Volatile()
    alone: tuple[Volatile, Volatile] = (Volatile(), Volatile())
    # What the laws remember, and the service does not:
    accepted: tuple[int, ...] = (BEFORE, BEFORE)
    told: tuple[int, ...] = (BEFORE, BEFORE)
    """By factor: the last step of which it was told that the clock is off."""
    debts: tuple[int, ...] = (0, 0)
    """By factor: codes looked at, less those accepted."""
    in_a_row: tuple[tuple[int, ...], ...] = ((), ())
    """By factor: when codes were looked at since the last one that was accepted."""
    looked: tuple[tuple[int, int], ...] = ()
    """By pending token: codes looked at."""
    has_forgotten: bool = False
    """Whether a volatile store ever lost a count, or was away."""
    wrong: str = ""
    """The law that the last step broke."""


def on(key: int) -> int:
    """The number of a factor by its row."""
    return key - FACTORS[0]


def seen(world: World, me: Request, key: int) -> Row:
    """The row as this transaction sees it: its own writing, or what is committed."""
    for written, row in me.writes:
        if written == key:
            return row
    return world.rows[key]


def factor_at(world: World, me: Request, key: int) -> Factor | None:
    row = seen(world, me, key)
    return row if isinstance(row, Factor) else None


def session_at(world: World, me: Request, key: int) -> Session | None:
    row = seen(world, me, key)
    return row if isinstance(row, Session) else None


def offsets_of(world: World, factors: tuple[int, ...]) -> tuple[int, ...]:
    rows = (world.rows[key] for key in factors)
    return tuple(row.offset if isinstance(row, Factor) else 0 for row in rows)


def user_at(world: World, me: Request) -> User:
    row = seen(world, me, USER)
    if not isinstance(row, User):
        raise TypeError(row)
    return row


def written(me: Request, key: int, row: Row) -> Request:
    """The row is locked from here to the commit."""
    others = [pair for pair in me.writes if pair[0] != key]
    return me._replace(writes=tuple(sorted([*others, (key, row)], key=lambda pair: pair[0])))


def is_locked(world: World, number: int, key: int) -> bool:
    """Whether another transaction has written this row and not committed."""
    for other, request in enumerate(world.requests):
        if other != number and type(request) is Request:
            for held, _ in request.writes:
                if held == key:
                    return True
    return False


def with_row(rows: tuple[Row, ...], key: int, row: Row) -> tuple[Row, ...]:
    return (*rows[:key], row, *rows[key + 1 :])


def counted(pairs: tuple[tuple[int, int], ...], key: int, by: int) -> tuple[tuple[int, int], ...]:
    """The same counters, one of them moved; those at nothing are not kept."""
    counts = dict(pairs)
    counts[key] = counts.get(key, 0) + by
    return tuple(sorted((k, n) for k, n in counts.items() if n > 0))


def count_of(pairs: tuple[tuple[int, int], ...], key: int) -> int:
    for k, n in pairs:
        if k == key:
            return n
    return 0
