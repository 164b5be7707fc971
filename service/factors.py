"""Second factors: the shared secrets of a person's authenticators, and the law that a code opens the door once.

The order is fixed, on every path that takes a code:

1. `prove` *reserves*: one UPDATE for each authenticator pays for the attempt before the code is looked at; one that
   waits is not looked at (law 4: reserve, then verify; law 6: codes are budgeted per factor in SQL). It commits on
   its own; no rollback un-counts it.
2. then it *matches*, purely: the code's time step, or nothing.
3. then it *claims* that step in the shared store: the fast refusal of a replay (law 3: Redis tracks used windows too,
   as a fast refusal), which proves nothing.
4. `consume`, in the transaction that grants something, *decides*: `SET last_step = $s WHERE last_step < $s`.
   Its row count is the answer (law 2: a code is consumed, not checked). Accepted steps of a factor strictly increase,
   for ever.

A code of a clock that is off is told as such, once: telling uses its step up like accepting it would, so that what
was told to a guesser is worth nothing later. The very next code of the same clock then re-aligns the factor
(RFC 6238 section 6): `offset_steps` is where its window stands from there on, never more than `totp.MAX_DRIFT_STEPS`
steps outside the ordinary one.
"""

import re
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from service import attempts, metrics, sessions, totp, users
from service.clock import unix_seconds
from service.database import Database, Row, Transaction
from service.ephemeral import Ephemeral
from service.errors import CodeOutOfStep, InvalidCode, InvalidToken, StoreUnavailable, TooManyAttempts
from service.events import Events
from service.log import emit
from service.sealing import SealedColumn, Sealer
from service.tokens import PendingClaims
from service.users import User

SEALED_COLUMN = SealedColumn(purpose="totp", table="factors", row="id", column="secret")
DEFAULT_NAME = "Authenticator"
MAX_NAME_LENGTH = 64
MAX_AUTHENTICATORS = 5
"""Authenticators a person may have: each makes a guess more likely to be right."""

COUNT_PAGE_SIZE = 10_000
"""Factors that one statement counts: all of them would take longer than a statement has."""

REALIGNED_WITHIN = timedelta(seconds=90)
"""How long after a code out of step the very next one re-aligns the factor: its showing, and some typing."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_COLUMNS = "id, user_id, name, secret, confirmed_at, offset_steps"


@dataclass(frozen=True, slots=True)
class Factor:
    id: str
    user_id: str
    name: str
    secret: str
    is_confirmed: bool
    offset_steps: int = 0

    def __repr__(self) -> str:
        return f"Factor(id={self.id!r})"  # the secret stays out of logs and tracebacks


@dataclass(frozen=True, slots=True)
class Proof:
    """A code that matched and was claimed, and is worth nothing before it is consumed."""

    factor: Factor
    step: int
    offset_steps: int
    """Where the factor's window stands once this is consumed; another than before: it re-aligns."""
    charged_ids: tuple[str, ...]
    """The factors whose budgets were charged for this attempt."""

    @property
    def claim(self) -> str:
        """The key that is claimed in the shared store: one for each factor and time step."""
        return f"otp:{{{self.factor.id}}}:{self.step}"

    @property
    def realigns(self) -> bool:
        return self.offset_steps != self.factor.offset_steps


class Factors:
    """The factors of all users."""

    def __init__(
        self, database: Database, ephemeral: Ephemeral, sealer: Sealer, events: Events, *, skew_steps: int
    ) -> None:
        self._database = database
        self._ephemeral = ephemeral
        self._sealer = sealer
        self._events = events
        self._skew_steps = skew_steps

    async def list_usable(self, user: User) -> list[Factor]:
        """Whose codes count: the confirmed factors; the one that is not, while there is no other."""
        rows = await self._database.fetch_all(f"SELECT {_COLUMNS} FROM factors WHERE user_id = $1", user.id)
        return _usable([self._factor(row) for row in rows])

    async def find_pending(self, pending: PendingClaims, now: datetime) -> tuple[User, list[Factor]] | None:
        """Who holds a pending token, and the factors of which he owes a code.

        `None` if the token is dead: of an older credential version of the account, used already, for a session that
        ended, or for an authenticator that was confirmed or given up meanwhile.
        """
        is_alive, *facts = (
            ("NOT EXISTS (SELECT 1 FROM sessions WHERE pending_jti = $3)", pending.jti)
            if pending.sid is None
            else (
                f"EXISTS (SELECT 1 FROM sessions WHERE {sessions.STEP_UP_ALLOWED})",
                pending.sid,
                pending.step_ups,
                unix_seconds(now),
            )
        )
        rows = await self._database.fetch_all(
            f"SELECT {users.COLUMNS}, f.id AS factor_id, f.name, f.secret, f.confirmed_at, f.offset_steps"
            " FROM users JOIN factors f ON f.user_id = users.id"
            f" WHERE users.id = $1 AND users.epoch = $2 AND users.disabled_at IS NULL AND {is_alive}",
            pending.sub, pending.credential_version, *facts,
        )  # fmt: skip
        if not rows:
            return None
        user = users.from_row(rows[0])
        mine = [self._factor({**row, "user_id": row["id"], "id": row["factor_id"]}) for row in rows]
        if pending.factor is None:
            candidates = _usable(mine)
        else:
            candidates = [factor for factor in mine if factor.id == pending.factor and not factor.is_confirmed]
        return None if user is None or not candidates else (user, candidates)

    async def add(self, transaction: Transaction, user: User, now: datetime, *, name: str = DEFAULT_NAME) -> Factor:
        """A new, unconfirmed factor in place of an unconfirmed one. The user's row must be held."""
        factor = Factor(secrets.token_urlsafe(16), user.id, name, totp.new_secret(), is_confirmed=False)
        await transaction.execute("DELETE FROM factors WHERE user_id = $1 AND confirmed_at IS NULL", user.id)
        await self._insert(transaction, factor, user, now)
        return factor

    async def ensure(self, transaction: Transaction, user: User, now: datetime) -> None:
        """An unconfirmed factor for who has none; whatever is there stays. The user's row must be held."""
        if await transaction.fetch_one("SELECT 1 AS one FROM factors WHERE user_id = $1 LIMIT 1", user.id) is None:
            await self.add(transaction, user, now)

    async def add_imported(
        self, transaction: Transaction, user: User, secret: str, *, name: str, is_confirmed: bool, now: datetime
    ) -> None:
        """A factor of somebody who comes from elsewhere. Codes shown up to `now` are not accepted here."""
        factor = Factor(secrets.token_urlsafe(16), user.id, name, secret, is_confirmed)
        await self._insert(transaction, factor, user, now, last_step=totp.step_at(now))

    async def list_secrets(self, first: str, last: str) -> dict[str, list[Callable[[], Factor]]]:
        """The usable factors of the users whose names lie between two, both included, by user id. For export only.

        Each is opened when called; that raises `UnsealError`.
        """
        rows = await self._database.fetch_all(
            "SELECT f.id, f.user_id, f.name, f.secret, f.confirmed_at, f.offset_steps FROM factors f"
            " JOIN users u ON u.id = f.user_id WHERE u.username >= $1 AND u.username <= $2"
            " ORDER BY f.created_at, f.id",
            first, last,
        )  # fmt: skip
        by_user: dict[str, list[Row]] = {}
        for row in rows:
            by_user.setdefault(row["user_id"], []).append(row)
        return {
            user_id: [partial(self._factor, row) for row in _confirmed(mine) or mine]
            for user_id, mine in by_user.items()
        }

    async def prove(self, user: User, factors: Sequence[Factor], otp: str, now: datetime, *, address: str) -> Proof:
        """Charge one attempt at `otp` and match it.

        Raises `TooManyAttempts` while every factor waits, `InvalidToken` if they were removed meanwhile,
        `CodeOutOfStep` for a clock that is off, and `InvalidCode` for a wrong or already claimed code.
        """
        charged = await self._charge(factors, now)
        try:
            proof = await self._match([factor for factor in factors if factor.id in charged], otp, now)
        except CodeOutOfStep:
            await self._events.record_refusal(user.id, max(charged.values()), now, address=address)
            raise
        lifetime = timedelta(seconds=totp.PERIOD * (2 * self._skew_steps + 2))
        if proof is None:
            emit("code.refused", reason="no_match", sub=user.id)
        elif await self._ephemeral.claim(proof.claim, ttl=lifetime, now=now):
            return proof
        else:
            emit("code.refused", reason="claimed", sub=user.id, factor=proof.factor.id)
        await self._events.record_refusal(user.id, max(charged.values()), now, address=address)
        raise InvalidCode(totp.seconds_to_next(now))

    @asynccontextmanager
    async def released_if_unavailable(self, proof: Proof) -> AsyncIterator[None]:
        """Around the transaction that consumes the code: release the claim if the database fails in it.

        The answer is then 503 and "try again": with the claim, the same code would be refused as used although
        nothing was granted. If it was granted and only the answer of the database got lost, `consume` refuses it.
        """
        try:
            yield
        except StoreUnavailable:
            await self._ephemeral.release(proof.claim)
            raise

    async def consume(self, transaction: Transaction, user: User, proof: Proof, now: datetime) -> bool:
        """Use the code up, and confirm the factor; true for exactly one caller, ever.

        With several factors the user's row must be held: each gets its charge refunded here.
        """
        guards = (
            f" AND last_step = $1 - 1 AND told_at >= {unix_seconds(now - REALIGNED_WITHIN)}" if proof.realigns else ""
        )
        touched = await transaction.execute(
            "UPDATE factors SET last_step = $1, confirmed_at = COALESCE(confirmed_at, $2), last_used_at = $2,"
            f" drift_steps = $5, offset_steps = $6, told_at = 0, {attempts.REFUND}"
            f" WHERE id = $3 AND epoch = $4 AND last_step < $1{guards}",
            proof.step, unix_seconds(now), proof.factor.id, user.credential_version,
            proof.step - totp.step_at(now), proof.offset_steps,
        )  # fmt: skip
        if touched != 1:
            emit("code.refused", reason="consumed", sub=user.id, factor=proof.factor.id)
            return False
        for other in proof.charged_ids:
            if other != proof.factor.id:
                await transaction.execute(f"UPDATE factors SET {attempts.REFUND} WHERE id = $1", other)
        ahead = proof.step - totp.step_at(now)
        transaction.on_commit(partial(metrics.count, "code.accepted", {"offset_steps": ahead}))
        return True

    async def _charge(self, factors: Sequence[Factor], now: datetime) -> dict[str, int]:
        """The failures in a row, by the ids of the factors that were charged."""
        charged: dict[str, int] = {}
        refused: list[TooManyAttempts] = []
        for factor in factors:
            try:
                failures = await attempts.charge(self._database, "factors", factor.id, now)
            except TooManyAttempts as waits:
                refused.append(waits)
            else:
                if failures is not None:
                    charged[factor.id] = failures
        if refused and not charged:
            emit("code.refused", reason="waiting", sub=factors[0].user_id)
        if not charged:
            raise min(refused, key=lambda waits: waits.retry_after) if refused else InvalidToken
        return charged

    async def _match(self, factors: Sequence[Factor], otp: str, now: datetime) -> Proof | None:
        """Raises `CodeOutOfStep`."""
        charged = tuple(factor.id for factor in factors)
        for factor in factors:
            step = totp.matching_step(
                factor.secret, otp, at=now, skew_steps=self._skew_steps, offset_steps=factor.offset_steps
            )
            if step is not None:
                return Proof(factor, step, factor.offset_steps, charged)
        for factor in factors:
            step = totp.drifted_step(factor.secret, otp, at=now, skew_steps=self._skew_steps)
            if step is not None:
                return await self._report_drift(factor, step, charged, now)
        return None

    async def _report_drift(self, factor: Factor, step: int, charged: tuple[str, ...], now: datetime) -> Proof | None:
        """A code of another time: the proof that re-aligns, if the one before it was told a moment ago.

        Otherwise it is used up and told of (`CodeOutOfStep`); `None` if its step, or a later one, was used before.
        """
        offset = step - totp.step_at(now)
        before = await self._database.fetch_one(
            "SELECT 1 AS one FROM factors WHERE id = $1 AND last_step = $2 AND told_at >= $3",
            factor.id, step - 1, unix_seconds(now - REALIGNED_WITHIN),
        )  # fmt: skip
        if before is not None:
            return Proof(factor, step, offset, charged)
        reported = await self._database.write_one(
            "UPDATE factors SET last_step = $1, told_at = $2 WHERE id = $3 AND last_step < $1 RETURNING id",
            step, unix_seconds(now), factor.id,
        )  # fmt: skip
        if reported is None:
            return None
        emit("code.refused", reason="out_of_step", sub=factor.user_id, factor=factor.id, offset_steps=offset)
        raise CodeOutOfStep(offset=offset * totp.PERIOD, server_time=now, retry_after=totp.seconds_to_next(now))

    async def _insert(
        self, transaction: Transaction, factor: Factor, user: User, now: datetime, *, last_step: int = 0
    ) -> None:
        await transaction.execute(
            "INSERT INTO factors (id, user_id, epoch, name, secret, created_at, confirmed_at, last_step, is_weak)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            factor.id, user.id, user.credential_version, factor.name,
            SEALED_COLUMN.seal(self._sealer, factor.secret.encode(), row=factor.id),
            unix_seconds(now), unix_seconds(now) if factor.is_confirmed else None, last_step,
            int(totp.is_weak(factor.secret)),
        )  # fmt: skip

    def _factor(self, row: Row) -> Factor:
        secret = SEALED_COLUMN.open(self._sealer, bytes(row["secret"]), row=row["id"]).decode()
        is_confirmed = row["confirmed_at"] is not None
        return Factor(row["id"], row["user_id"], row["name"], secret, is_confirmed, row["offset_steps"])


def check_name(name: str) -> str:
    """Raises `ValueError` unless it is 1 to 64 characters, none of them a control character."""
    if not 1 <= len(name) <= MAX_NAME_LENGTH or _CONTROL.search(name) is not None:
        raise ValueError(f"A name needs 1 to {MAX_NAME_LENGTH} characters and no control characters")
    return name


def _confirmed(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["confirmed_at"] is not None]


def _usable(factors: list[Factor]) -> list[Factor]:
    return [factor for factor in factors if factor.is_confirmed] or factors


async def list_all(database: Database, user_id: str) -> list[Row]:
    """What a person may know of his factors, the oldest first."""
    return await database.fetch_all(
        "SELECT id, name, created_at, confirmed_at, last_used_at, drift_steps, offset_steps, is_weak FROM factors"
        " WHERE user_id = $1 ORDER BY created_at, id",
        user_id,
    )


async def count_by_drift(
    database: Database, after: str, *, page_size: int = COUNT_PAGE_SIZE
) -> tuple[dict[int, int], str]:
    """Of the next factors after an id that were used: by how many steps ahead their last code was, how many.

    And the id that this reached; empty after the last one.
    """
    last = await database.fetch_one(
        f"SELECT id FROM factors WHERE id > $1 ORDER BY id LIMIT 1 OFFSET {page_size - 1}", after
    )
    page, ids = ("id > $1", [after]) if last is None else ("id > $1 AND id <= $2", [after, last["id"]])
    rows = await database.fetch_all(
        f"SELECT drift_steps, COUNT(*) AS factors FROM factors WHERE last_used_at IS NOT NULL AND {page}"
        " GROUP BY drift_steps",
        *ids,
    )
    return {row["drift_steps"]: row["factors"] for row in rows}, ids[1] if last is not None else ""


async def count_confirmed(transaction: Transaction, user_id: str, *, include_weak: bool = True) -> int:
    row = await transaction.fetch_one(
        "SELECT COUNT(*) AS confirmed FROM factors WHERE user_id = $1 AND confirmed_at IS NOT NULL AND is_weak <= $2",
        user_id, int(include_weak),
    )  # fmt: skip
    return 0 if row is None else int(row["confirmed"])


async def remove(transaction: Transaction, user_id: str, factor_id: str) -> Row | None:
    """Remove one of the user's factors: its name and when it was confirmed; `None` if it is not his, or not there."""
    return await transaction.fetch_one(
        "DELETE FROM factors WHERE user_id = $1 AND id = $2 RETURNING name, confirmed_at", user_id, factor_id
    )


async def remove_weak(transaction: Transaction, user_id: str, *, replacement: str) -> list[Row]:
    """Remove the user's authenticators with weak secrets after another one was confirmed; their ids and names."""
    return await transaction.fetch_all(
        "DELETE FROM factors WHERE user_id = $1 AND is_weak = 1 AND id <> $2 RETURNING id, name", user_id, replacement
    )


async def count_weak(database: Database) -> int:
    """How many authenticators have a secret of less than 112 bits."""
    row = await database.fetch_one("SELECT COUNT(*) AS weak FROM factors WHERE is_weak = 1")
    return 0 if row is None else int(row["weak"])


async def remove_all(transaction: Transaction, user_id: str) -> int:
    """Remove the user's factors; how many there were."""
    return await transaction.execute("DELETE FROM factors WHERE user_id = $1", user_id)
