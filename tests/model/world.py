"""The state of the model at one moment: committed rows, volatile stores, running requests and answers.

Everything is immutable and hashable: a world is a state of the model. Rows that an uncommitted transaction has
written are in its request (`writes`). Other transactions see the committed rows, and wait to write the same row (READ
COMMITTED). Time is counted in time steps of 30 s.
"""

from typing import NamedTuple

USER, RECOVERY_CODE, FACTORS, FIRST_SESSION = 0, 1, (2, 3), 4
"""Positions in `World.rows`. Sessions: those that exist at the start, then one for each act."""

BEFORE = -9
"""A time step before all other time steps."""

NEVER = 98
"""A time step that does not come."""

ENABLED, LEAVING, SWITCHED_OFF, GONE = range(4)
"""The states of an account: its user may take back a deletion (`LEAVING`) only while no operator disabled it."""

WRONG = 99
"""Stands for the time step of a guess, which is the code of no time step."""


class User(NamedTuple):
    epoch: int = 1
    password: int = 1
    is_named: bool = False
    """Whether the user has a role that requires a second factor by policy."""
    state: int = ENABLED
    is_reset: bool = False
    """Whether the password was set by a link and no second factor was proved since."""
    recovery_due: int = NEVER
    deletion_due: int = NEVER


class RecoveryCode(NamedTuple):
    is_used: bool = False


class Factor(NamedTuple):
    epoch: int = 1
    is_confirmed: bool = True
    last_step: int = BEFORE
    failures: int = 0
    waits_until: int = 0
    recent: int = 0
    """Failures of the last thirty days. No month ends in the model."""
    offset: int = 0
    """The drift of its clock, in time steps."""
    told_at: int = BEFORE
    texts: frozenset[tuple[int, int]] = frozenset()
    """Used codes by their text: only in a flaw that stores them so."""


class Session(NamedTuple):
    epoch: int
    """The credential version at the login. The database has no such column; the laws need it."""
    jti: int | None = None
    generation: int = 0
    replaced_at: int = BEFORE
    is_ended: bool = False
    raised: int = 0
    raised_by: tuple[int, ...] = ()
    """The pending tokens that raised it, for the laws."""
    is_alone: bool = False
    """Whether the password alone opened it, with neither a second factor nor a known device."""


Row = User | RecoveryCode | Factor | Session | None


class Pending(NamedTuple):
    """A pending token. With a session it is a step-up token for that session."""

    jti: int
    epoch: int
    session: int | None = None
    raised: int = 0
    restores: bool = False
    """Whether its login takes back the deletion of the account."""


class Answer(NamedTuple):
    """An answer that a client received, and what it guarantees from then on."""

    word: str
    voids: int = 0
    """Sessions of earlier credential versions than this have ended."""
    spares: int = -1
    """Except this session."""
    kills: int = 0
    """Pending and device tokens of earlier credential versions than this are revoked."""
    ends: int = -1
    """The session that has ended."""
    removes: tuple[int, ...] = ()
    confirms: int = -1
    pending: Pending | None = None
    refresh: tuple[int, int] | None = None
    """A refresh token: session and generation."""
    presented: int = -1
    names: bool = False
    """From now on the user needs a second factor."""


class Volatile(NamedTuple):
    """A store that may lose its content: Redis, or the memory of one replica."""

    claims: frozenset[tuple[int, ...]] = frozenset()
    charged: tuple[tuple[int, int], ...] = ()
    """Charged codes, by pending token."""


class Request(NamedTuple):
    """A running request: what it has read, the rows that it has locked, and the next step of its plan."""

    plan: str
    at: int
    now: int
    epoch: int = 0
    is_named: bool = False
    """Whether the user had a role that requires a second factor when the row was read."""
    owed: tuple[int, ...] = ()
    next_owed: int = 0
    """How many of the factors in `owed` were charged or skipped so far."""
    charged: tuple[int, ...] = ()
    factor: int = -1
    offsets: tuple[int, ...] = ()
    """The drift of the factors in `owed` when they were read."""
    realigns: bool = False
    charged_store: str = ""
    read: int = 0
    todo: tuple[int, ...] | None = None
    """The rows that a statement over several rows found when it began and still has to write."""
    writes: tuple[tuple[int, Row], ...] = ()
    answer: Answer = Answer("")
    is_answered_early: bool = False
    """Whether the answer was sent already: only in a flaw that sends it before the commit."""


READY, LOST = "ready", "lost"


class World(NamedTuple):
    clock: int
    rows: tuple[Row, ...]
    requests: tuple[Request | Answer | str, ...]
    """By act: not begun, running, answered, or lost with its answer."""
    redis: Volatile = Volatile()
    alone: tuple[Volatile, Volatile] = (Volatile(), Volatile())
    # Facts that only the laws need. The service does not store them.
    accepted: tuple[int, ...] = (BEFORE, BEFORE)
    reported: tuple[int, ...] = (BEFORE, BEFORE)
    """By factor: the last time step that was reported as out of step."""
    debts: tuple[int, ...] = (0, 0)
    """By factor: codes that were compared, minus those accepted."""
    in_a_row: tuple[tuple[int, ...], ...] = ((), ())
    """By factor: when codes were compared since the last accepted one."""
    compared: tuple[tuple[int, int], ...] = ()
    """By pending token: codes that were compared."""
    has_forgotten: bool = False
    """Whether a volatile store ever lost a count or was unavailable."""
    wrong: str = ""
    """The law that the last step broke, or an empty string."""
    used_links: tuple[int, ...] = ()
    """The links that set a password, by their credential version."""
    is_of_mailbox: bool = False
    """Whether the password was set by a link, and no proof of a second factor was accepted since."""


def on(key: int) -> int:
    """Return the number of a factor from its row."""
    return key - FACTORS[0]


def seen(world: World, me: Request, key: int) -> Row:
    """Return the row as this transaction sees it: its own write, or the committed row."""
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


def is_restorable(user: User, now: int) -> bool:
    """Return whether the user can take the deletion back."""
    return user.state == LEAVING and now < user.deletion_due


def user_at(world: World, me: Request) -> User:
    row = seen(world, me, USER)
    if not isinstance(row, User):
        raise TypeError(row)
    return row


def written(me: Request, key: int, row: Row) -> Request:
    """Write the row, and lock it until the commit."""
    others = [pair for pair in me.writes if pair[0] != key]
    return me._replace(writes=tuple(sorted([*others, (key, row)], key=lambda pair: pair[0])))


def is_locked(world: World, number: int, key: int) -> bool:
    """Return whether another, uncommitted transaction has written this row."""
    for other, request in enumerate(world.requests):
        if other != number and type(request) is Request:
            for held, _ in request.writes:
                if held == key:
                    return True
    return False


def with_row(rows: tuple[Row, ...], key: int, row: Row) -> tuple[Row, ...]:
    return (*rows[:key], row, *rows[key + 1 :])


def counted(pairs: tuple[tuple[int, int], ...], key: int, by: int) -> tuple[tuple[int, int], ...]:
    """Return the counters with one of them changed. Counters of zero are dropped."""
    counts = dict(pairs)
    counts[key] = counts.get(key, 0) + by
    return tuple(sorted((k, n) for k, n in counts.items() if n > 0))


def count_of(pairs: tuple[tuple[int, int], ...], key: int) -> int:
    for k, n in pairs:
        if k == key:
            return n
    return 0
