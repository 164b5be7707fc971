"""A second, smaller model: invitations and changes of an e-mail address, whose links several users use at once.

Its worlds are explored as those of the first model, with the same meaning of a step, of READ COMMITTED and of a lost
request. It has one invitation, two users and three addresses; the first two are those that the users have at the
start. A link names what it changes: an invitation, or a request of an address by its user, address and time.

The steps stand for statements of `accounts/signup`, `users/invitations`, `users/emails` and `users/addresses`. The
laws are the sentences at the beginning, and `FLAWS` breaks each of them in one place.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from tests.model.laws import NO_DEADLOCK

ONE_ACCOUNT = "An invitation makes one account"
USED_OR_REVOKED = "An invitation that was revoked makes no account"
IN_TIME = "An invitation that has expired makes no account"
NAMES_ONE = "An address names at most one account, the one that has confirmed it"
NEWEST = "Only the newest request of an address is confirmed, and once"
CANCELLED = "A change that its user cancelled is never confirmed"
ONE_CANCELLED = "A cancellation ends the request of its link and no other"

INVITATION, USERS, FIRST_ADDRESS, ADDRESSES = 0, (1, 2), 3, 3
"""The positions in `World.rows`: the invitation, the users, and the owner of each address."""

NOBODY, EXPIRES_AT, NEVER_MADE = 0, 1, -1


class Flaw(Enum):
    INVITATION_READ_BEFORE = "an invitation is compared when it is read, and not when the account is made"
    REVOKES_USED = "revoking an invitation does not compare whether it was used"
    EXPIRY_UNCHECKED = "the lifetime of an invitation is not compared"
    ADDRESS_READ_BEFORE = "whether an address is free is read first, and claimed in a second statement"
    RELEASES_FIRST = "a confirmation releases the former address before it claims the new one"
    KEEPS_FORMER = "a confirmed address does not release the former one"
    CONFIRMS_ANY = "a confirmation compares the request when it is read, and not when it is consumed"
    CONFIRMS_KEPT = "a confirmation does not end the request"
    CANCELS_ANY = "a cancellation compares the request when it is read, and not when it is ended"


class User(NamedTuple):
    email: int
    """The confirmed address, as its position; 0: none."""
    requested: tuple[int, int] | None = None
    """`new_email` and `new_email_at`."""


class Invitation(NamedTuple):
    expires_at: int = EXPIRES_AT
    """`NEVER_MADE`: there is no row yet."""
    is_used: bool = False
    is_revoked: bool = False


Row = User | Invitation | int


class Act(NamedTuple):
    """What a client may send. `link` is the request of a change: its address and its time."""

    kind: str
    user: int = USERS[0]
    address: int = 0
    link: tuple[int, int] | None = None


class Request(NamedTuple):
    """A running request."""

    at: int
    now: int
    link: tuple[int, int] | None = None
    former: int = 0
    is_free: bool = False
    writes: tuple[tuple[int, Row], ...] = ()


class World(NamedTuple):
    clock: int
    rows: tuple[Row, ...]
    requests: tuple[Request | str, ...]
    """By act: `ready`, running, or the answer."""
    accounts: int = 0
    """Accounts that the invitation made."""
    newest: tuple[tuple[int, int] | None, ...] = (None, None)
    """By user: the newest request of an address that is neither confirmed nor cancelled."""
    cancelled: frozenset[tuple[int, tuple[int, int]]] = frozenset()
    wrong: str = ""


PLANS = {
    "invite": ("insert_invitation", "commit"),
    "sign up": ("read_invitation", "consume_invitation", "commit"),
    "revoke": ("revoke_invitation", "commit"),
    "request": ("request_address", "commit"),
    "confirm": ("consume_request", "claim_address", "set_address", "release_former", "commit"),
    "cancel": ("find_request", "cancel_request", "commit"),
    "remove": ("lock_and_remove", "release_former", "commit"),
}
BEFORE = {
    (Flaw.ADDRESS_READ_BEFORE, "confirm"): (
        "consume_request", "read_address", "claim_address", "set_address", "release_former", "commit",
    ),
    (Flaw.RELEASES_FIRST, "confirm"): (
        "consume_request", "release_former", "claim_address", "set_address", "commit",
    ),
    (Flaw.CONFIRMS_ANY, "confirm"): (
        "find_request", "consume_request", "claim_address", "set_address", "release_former", "commit",
    ),
}  # fmt: skip
"""The plans that a flaw changes."""


@dataclass(frozen=True, slots=True)
class Scene:
    name: str
    acts: tuple[Act, ...]
    ticks: int = 0
    has_crashes: bool = True


Move = tuple[str, Request | str]
"""A text, and the request as it goes on or its answer. Without a move, the request waits for another transaction."""


class Links:
    """A scene under the rules of the service, or with one flaw."""

    def __init__(self, scene: Scene, flaw: Flaw | None = None) -> None:
        self.scene, self.flaw = scene, flaw
        self.happened: set[tuple[str, str, str]] = set()

    def start(self) -> World:
        first, second, _ = range(FIRST_ADDRESS, FIRST_ADDRESS + ADDRESSES)
        is_made = all(act.kind != "invite" for act in self.scene.acts)
        rows = (Invitation(EXPIRES_AT if is_made else NEVER_MADE), User(first), User(second), *USERS, NOBODY)
        return World(0, rows, ("ready",) * len(self.scene.acts))

    def describe(self, number: int) -> str:
        act = self.scene.acts[number]
        whose = "" if act.kind in {"invite", "sign up", "revoke"} else f" of user {act.user}"
        link = "" if act.link is None else f", link to address {act.link[0] - 2} of step {act.link[1]}"
        return f"{act.kind}{whose}{f', address {act.address - 2}' if act.address else ''}{link}"

    def broken(self, world: World) -> str:
        """Return the law that this world breaks, or an empty string."""
        if world.wrong:
            return world.wrong
        owners = world.rows[FIRST_ADDRESS:]
        users = [row for row in world.rows if isinstance(row, User)]
        confirmed = {user.email: number for number, user in zip(USERS, users, strict=True) if user.email}
        named = {FIRST_ADDRESS + n: owner for n, owner in enumerate(owners) if owner != NOBODY}
        return "" if confirmed == named and len(confirmed) == sum(bool(u.email) for u in users) else NAMES_ONE

    def moves(self, world: World) -> Iterator[tuple[int, str, World]]:
        is_anybody_waiting = is_anybody_moving = False
        for number, request in enumerate(world.requests):
            is_begun = isinstance(request, Request)
            if not is_begun and (request != "ready" or not self._may_begin(world, self.scene.acts[number])):
                continue
            me = request if isinstance(request, Request) else Request(0, world.clock)
            moved = list(self._step(world, number, me))
            is_anybody_waiting |= is_begun and not moved
            is_anybody_moving |= bool(moved)
            for text, then in moved:
                yield number, text, then
            if is_begun and self.scene.has_crashes:
                yield number, "is lost", _put(world, number, "lost")
        if is_anybody_waiting and not is_anybody_moving:
            yield -1, "", world._replace(wrong=NO_DEADLOCK)
        if world.clock < self.scene.ticks:
            yield -1, f"it is step {world.clock + 1} now", world._replace(clock=world.clock + 1)

    def plan(self, kind: str) -> tuple[str, ...]:
        return BEFORE.get((self.flaw, kind), PLANS[kind]) if self.flaw is not None else PLANS[kind]

    def _may_begin(self, world: World, act: Act) -> bool:
        """Return whether a client may have what the act needs: the id of the invitation, or the link of a message."""
        if act.kind in {"sign up", "revoke"}:
            row = world.rows[INVITATION]
            return isinstance(row, Invitation) and row.expires_at != NEVER_MADE
        if act.link is None:
            return True
        requests = zip(self.scene.acts, world.requests, strict=True)
        wanted = ("request", act.user, act.link[0])
        return any((a.kind, a.user, a.address) == wanted and r == f"done at {act.link[1]}" for a, r in requests)

    def _step(self, world: World, number: int, me: Request) -> Iterator[tuple[str, World]]:
        kind = self.scene.acts[number].kind
        name = self.plan(kind)[me.at]
        if name == "commit":
            yield "commits", self._commit(world, number, me)
            return
        for text, then in STEPS[name](self, world, number, me):
            self.happened.add((kind, name, text))
            yield text, _put(world, number, then if isinstance(then, str) else then._replace(at=me.at + 1))

    def _commit(self, world: World, number: int, me: Request) -> World:
        """Write the rows, and compare what is granted with what the laws need to know."""
        act, rows, wrong = self.scene.acts[number], list(world.rows), ""
        for key, row in me.writes:
            rows[key] = row
        newest, cancelled, accounts = list(world.newest), world.cancelled, world.accounts
        at = USERS.index(act.user)
        was = world.rows[INVITATION]
        assert isinstance(was, Invitation)
        if act.kind == "sign up":
            accounts += 1
            wrong = ONE_ACCOUNT if accounts > 1 else ""
            wrong = IN_TIME if me.now >= was.expires_at else wrong
        if act.kind in {"sign up", "revoke"}:
            wrong = USED_OR_REVOKED if accounts and (was.is_revoked or act.kind == "revoke") else wrong
        if act.kind == "request":
            newest[at] = (act.address, me.now)
            # A link has its time in seconds: another request of the address in the same one has the same link.
            cancelled -= {(act.user, (act.address, me.now))}
        if act.kind == "confirm":
            wrong = NEWEST if newest[at] != act.link else ""
            wrong = CANCELLED if act.link is not None and (act.user, act.link) in cancelled else wrong
            newest[at] = None
        if act.kind == "cancel" and act.link is not None:
            wrong = ONE_CANCELLED if newest[at] != act.link else ""
            newest[at], cancelled = None, cancelled | {(act.user, act.link)}
        if act.kind == "remove":
            newest[at] = None
        answer = f"done at {me.now}" if act.kind == "request" else "done"
        then = world._replace(rows=tuple(rows), accounts=accounts, newest=tuple(newest), cancelled=cancelled)
        return _put(then._replace(wrong=wrong), number, answer)


# --- steps ---


def insert_invitation(model: Links, world: World, number: int, me: Request) -> Iterator[Move]:
    """`INSERT INTO invitations (..., expires_at)`: the lifetime begins with the request."""
    yield "makes an invitation", _written(me, INVITATION, Invitation(me.now + EXPIRES_AT))


def read_invitation(model: Links, world: World, number: int, me: Request) -> Iterator[Move]:
    """The token has not expired, and the row is there and unused. Then the password is hashed, which takes time."""
    row = _seen(world, me, INVITATION)
    assert isinstance(row, Invitation)
    is_in_time = me.now < row.expires_at or model.flaw is Flaw.EXPIRY_UNCHECKED
    if row.is_used or row.is_revoked or not is_in_time:
        yield "its invitation is not valid", "refused"
    else:
        yield "its invitation is valid", me


def consume_invitation(model: Links, world: World, number: int, me: Request) -> Iterator[Move]:
    """`UPDATE invitations SET used_at, used_by WHERE id = $1 AND used_at IS NULL AND expires_at > $2`."""
    if _is_locked(world, number, INVITATION):
        return
    row = _seen(world, me, INVITATION)
    assert isinstance(row, Invitation)
    is_in_time = me.now < row.expires_at or model.flaw is Flaw.EXPIRY_UNCHECKED
    is_unused = not (row.is_used or row.is_revoked) or model.flaw is Flaw.INVITATION_READ_BEFORE
    if is_in_time and is_unused:
        yield "makes the account", _written(me, INVITATION, row._replace(is_used=True))
    else:
        yield "its invitation was used or revoked", "refused"


def revoke_invitation(model: Links, world: World, number: int, me: Request) -> Iterator[Move]:
    """`DELETE FROM invitations WHERE id = $1 AND used_at IS NULL`."""
    if _is_locked(world, number, INVITATION):
        return
    row = _seen(world, me, INVITATION)
    assert isinstance(row, Invitation)
    if row.is_used and model.flaw is not Flaw.REVOKES_USED:
        yield "the invitation was used", "not found"
    else:
        yield "revokes it", _written(me, INVITATION, row._replace(is_revoked=True))


def request_address(model: Links, world: World, number: int, me: Request) -> Iterator[Move]:
    """`UPDATE users SET new_email = $1, new_email_at = $2 WHERE id = $3`."""
    act = model.scene.acts[number]
    if not _is_locked(world, number, act.user):
        row = _user(world, me, act.user)
        yield "requests it", _written(me, act.user, row._replace(requested=(act.address, me.now)))


def find_request(model: Links, world: World, number: int, me: Request) -> Iterator[Move]:
    """One SELECT: compare the request of the account with the link."""
    act = model.scene.acts[number]
    if _user(world, me, act.user).requested == act.link:
        yield "its link is valid", me
    else:
        yield "its link is not valid", "refused"


def consume_request(model: Links, world: World, number: int, me: Request) -> Iterator[Move]:
    """`UPDATE users SET new_email = NULL, new_email_at = NULL WHERE new_email = $2 AND new_email_at = $3`."""
    act = model.scene.acts[number]
    if _is_locked(world, number, act.user):
        return
    row = _user(world, me, act.user)
    if row.requested != act.link and model.flaw is not Flaw.CONFIRMS_ANY:
        yield "its request was replaced or has ended", "refused"
        return
    left = row.requested if model.flaw is Flaw.CONFIRMS_KEPT else None
    yield "consumes the request", _written(me, act.user, row._replace(requested=left))._replace(former=row.email)


def read_address(model: Links, world: World, number: int, me: Request) -> Iterator[Move]:
    """Only in a flaw: a SELECT of the account that the address names."""
    link = model.scene.acts[number].link
    assert link is not None
    is_free = _seen(world, me, link[0]) in {NOBODY, model.scene.acts[number].user}
    yield "reads whether it is free", me._replace(is_free=is_free)


def claim_address(model: Links, world: World, number: int, me: Request) -> Iterator[Move]:
    """`INSERT INTO addresses ... ON CONFLICT (address) DO UPDATE ... WHERE addresses.user_id = excluded.user_id`."""
    act = model.scene.acts[number]
    assert act.link is not None
    key = act.link[0]
    if _is_locked(world, number, key):
        return
    is_free = _seen(world, me, key) in {NOBODY, act.user}
    if me.is_free if model.flaw is Flaw.ADDRESS_READ_BEFORE else is_free:
        yield "claims the address", _written(me, key, act.user)
    else:
        yield "the address names another account", "refused"


def set_address(model: Links, world: World, number: int, me: Request) -> Iterator[Move]:
    """`UPDATE users SET email = $1 WHERE id = $2`: the row is locked."""
    act = model.scene.acts[number]
    assert act.link is not None
    row = _user(world, me, act.user)
    yield "sets it", _written(me, act.user, row._replace(email=act.link[0]))


def lock_and_remove(model: Links, world: World, number: int, me: Request) -> Iterator[Move]:
    """`UPDATE users SET email = NULL, new_email = NULL, new_email_at = NULL WHERE id = $1`."""
    act = model.scene.acts[number]
    if not _is_locked(world, number, act.user):
        row = _user(world, me, act.user)
        yield "removes it", _written(me, act.user, User(0))._replace(former=row.email)


def release_former(model: Links, world: World, number: int, me: Request) -> Iterator[Move]:
    """`DELETE FROM addresses WHERE address = $1 AND user_id = $2`."""
    act = model.scene.acts[number]
    is_kept = me.former == _user(world, me, act.user).email and model.flaw is not Flaw.RELEASES_FIRST
    if me.former == 0 or is_kept or model.flaw is Flaw.KEEPS_FORMER:
        yield "releases nothing", me
    elif not _is_locked(world, number, me.former):
        is_own = _seen(world, me, me.former) == act.user
        yield "releases the former one", _written(me, me.former, NOBODY) if is_own else me


def cancel_request(model: Links, world: World, number: int, me: Request) -> Iterator[Move]:
    """`UPDATE users SET new_email = NULL, new_email_at = NULL WHERE new_email = $2 AND new_email_at = $3`."""
    act = model.scene.acts[number]
    if _is_locked(world, number, act.user):
        return
    row = _user(world, me, act.user)
    if row.requested != act.link and model.flaw is not Flaw.CANCELS_ANY:
        yield "its request was replaced or has ended", "refused"
    else:
        yield "cancels the request", _written(me, act.user, row._replace(requested=None))


STEPS = {
    step.__name__: step
    for step in (
        insert_invitation, read_invitation, consume_invitation, revoke_invitation, request_address, find_request,
        consume_request, read_address, claim_address, set_address, lock_and_remove, release_former, cancel_request,
    )
}  # fmt: skip


def _put(world: World, number: int, new: Request | str) -> World:
    return world._replace(requests=(*world.requests[:number], new, *world.requests[number + 1 :]))


def _written(me: Request, key: int, row: Row) -> Request:
    return me._replace(writes=(*(kept for kept in me.writes if kept[0] != key), (key, row)))


def _seen(world: World, me: Request, key: int) -> Row:
    """Return a row as the transaction sees it: as it wrote it, or as it is committed."""
    return next((row for written, row in me.writes if written == key), world.rows[key])


def _user(world: World, me: Request, key: int) -> User:
    row = _seen(world, me, key)
    assert isinstance(row, User)
    return row


def _is_locked(world: World, number: int, key: int) -> bool:
    """Return whether another transaction has written the row and has not committed."""
    others = (request for other, request in enumerate(world.requests) if other != number)
    return any(key == written for other in others if isinstance(other, Request) for written, _ in other.writes)
