"""Authenticators: the shared secrets of users' authenticator apps (TOTP, RFC 6238). A code is accepted once.

Every path that takes a code keeps this order:

1. `check` *reserves*: one UPDATE for each authenticator charges the attempt before the code is checked; an
   authenticator that waits is neither charged nor checked (law 4: reserve, then verify; law 6: codes are budgeted per
   factor in SQL). The charge commits on its own, so that no rollback removes it.
2. Then it *matches*, without side effects: it finds the time step of the code, or none.
3. Then it *claims* that step in the ephemeral store. This refuses a replay fast (law 3: Redis records used time steps
   too, to refuse fast), and proves nothing.
4. `consume`, in the transaction that grants something, *decides*: `SET last_step = $s WHERE last_step < $s`.
   Its row count is the answer (law 2: a code is consumed, not checked). The accepted steps of an
   authenticator strictly increase, for ever.

A correct code outside the window, but at most `totp.MAX_DRIFT_STEPS` steps outside the ordinary window, is refused
and reported as out of step. The report consumes the step, so each code is reported once at most, and a guesser learns
nothing that can be used later. `told_at` is the time of the last report (0: none since the last accepted code or
restore). A code that would be accepted without the stored offset, but is outside the shifted window, is reported too:
the clock was corrected. The very next code of the same clock re-aligns the authenticator (RFC 6238 section 6): from
then on `offset_steps` shifts its window. Its middle is at most `MAX_DRIFT_STEPS` steps outside the ordinary window.

The shared secret of an authenticator is stored sealed (law 10: secrets at rest are sealed and bound to their row).
"""

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar, NamedTuple

from service.clock import unix_seconds
from service.errors import (
    CodeOutOfStep,
    CodeOutOfStoredStep,
    InvalidCode,
    InvalidToken,
    ServiceError,
    StoreUnavailable,
    TooManyAttempts,
)
from service.factors import attempts, totp
from service.messages.events import Events
from service.origin import Act
from service.sessions.sessions import PASSWORD_AND_CODE
from service.storage.database import Database, Row, Transaction
from service.storage.ephemeral import Ephemeral
from service.storage.sealing import SealedColumn, Sealer
from service.telemetry import metrics
from service.telemetry.event_names import EventName, LogName
from service.telemetry.log import emit
from service.users.users import User

SEALED_COLUMN = SealedColumn(
    purpose="totp", table="totp_authenticators", row="id", column="secret", sealed_as="factors"
)
DEFAULT_NAME = "Authenticator"
MAX_AUTHENTICATORS = 5
"""Authenticators that a user may have: each one makes a guess more likely to be right."""

REALIGNED_WITHIN = timedelta(seconds=90)
"""The time after a code out of step in which the very next code re-aligns: the next code appears up to 30 s later, is
shown for 30 s, and takes time to type."""

_COLUMNS = "id, user_id, name, secret, confirmed_at, offset_steps"


@dataclass(frozen=True, slots=True)
class TotpAuthenticator:
    id: str
    user_id: str
    name: str
    secret: str
    is_confirmed: bool
    offset_steps: int = 0

    def __repr__(self) -> str:
        return f"TotpAuthenticator(id={self.id!r})"  # the secret stays out of logs and tracebacks


@dataclass(frozen=True, slots=True)
class TotpCode:
    """A verification code that a user typed."""

    code: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class MatchedCode:
    """A code that matched and was claimed. It grants nothing before it is consumed."""

    factor: TotpAuthenticator
    step: int
    offset_steps: int
    """The offset of the authenticator's window once the code is consumed. If it changes, the code re-aligns."""
    charged_ids: tuple[str, ...]
    """The authenticators whose budgets were charged for this attempt."""
    locks_user: bool = False
    """Whether the code was given for several authenticators, so that consuming it may change several rows."""

    @property
    def claim(self) -> str:
        """The key that is claimed in the ephemeral store: one for each authenticator and time step."""
        return f"otp:{{{self.factor.id}}}:{self.step}"

    @property
    def realigns(self) -> bool:
        return self.offset_steps != self.factor.offset_steps


class TotpAuthenticators:
    """The authenticators of all users: the kind of second factor that a `TotpCode` proves."""

    proof_type: ClassVar[type[Any]] = TotpCode
    method: ClassVar[str] = "totp"
    rate_limit: ClassVar[str] = "otp"
    sealed_column: ClassVar[SealedColumn | None] = SEALED_COLUMN
    amr: ClassVar[tuple[str, ...]] = PASSWORD_AND_CODE
    enrolment_error: ClassVar[type[ServiceError] | None] = None

    def __init__(
        self, database: Database, ephemeral: Ephemeral, sealer: Sealer, events: Events, *, skew_steps: int
    ) -> None:
        self._database = database
        self._ephemeral = ephemeral
        self._sealer = sealer
        self._events = events
        self._skew_steps = skew_steps

    async def list_usable(self, user: User) -> list[TotpAuthenticator]:
        """The user's authenticators whose codes count, as `usable` chooses them."""
        rows = await self._database.fetch_all(
            f"SELECT {_COLUMNS} FROM totp_authenticators WHERE user_id = $1", user.id
        )
        return usable(user, [self.from_row(row) for row in rows])

    async def add(
        self, transaction: Transaction, user: User, now: datetime, *, name: str = DEFAULT_NAME
    ) -> TotpAuthenticator:
        """Replace the user's unconfirmed authenticator, if there is one, by a new one.

        The user's row must be locked.
        """
        factor = TotpAuthenticator(secrets.token_urlsafe(16), user.id, name, totp.new_secret(), is_confirmed=False)
        statement = "DELETE FROM totp_authenticators WHERE user_id = $1 AND confirmed_at IS NULL"
        await transaction.execute(statement, user.id)
        await self._insert(transaction, factor, user, now)
        return factor

    async def ensure(self, transaction: Transaction, user: User, now: datetime) -> None:
        """Add an unconfirmed authenticator if the user has none at all. The user's row must be locked."""
        statement = "SELECT 1 AS one FROM totp_authenticators WHERE user_id = $1 LIMIT 1"
        if await transaction.fetch_one(statement, user.id) is None:
            await self.add(transaction, user, now)

    async def add_imported(
        self, transaction: Transaction, user: User, secret: str, *, name: str, is_confirmed: bool, now: datetime
    ) -> None:
        """Add an authenticator of an imported user. Codes shown up to `now` are not accepted."""
        factor = TotpAuthenticator(secrets.token_urlsafe(16), user.id, name, secret, is_confirmed)
        await self._insert(transaction, factor, user, now, last_step=totp.step_at(now))

    async def list_secrets(self, first: str, last: str) -> dict[str, list[Callable[[], TotpAuthenticator]]]:
        """The usable authenticators of the users from username `first` to `last`, by user id. For export only.

        Each entry unseals its authenticator when it is called, and may raise `UnsealError`.
        """
        rows = await self._database.fetch_all(
            "SELECT f.id, f.user_id, f.name, f.secret, f.confirmed_at, f.offset_steps FROM totp_authenticators f"
            " JOIN users u ON u.id = f.user_id WHERE u.username >= $1 AND u.username <= $2"
            " ORDER BY f.created_at, f.id",
            first, last,
        )  # fmt: skip
        by_user: dict[str, list[Row]] = {}
        for row in rows:
            by_user.setdefault(row["user_id"], []).append(row)
        return {
            user_id: [partial(self.from_row, row) for row in _confirmed(user_rows) or user_rows]
            for user_id, user_rows in by_user.items()
        }

    async def check(
        self, user: User, candidates: Sequence[TotpAuthenticator], proof: TotpCode, act: Act
    ) -> MatchedCode:
        """Charge one attempt at a code and match it. `candidates` are the authenticators whose codes count.

        Raises `TooManyAttempts` while every authenticator waits, `InvalidToken` if they were removed since,
        `CodeOutOfStep` for a wrong clock, and `InvalidCode` for a wrong or already claimed code.
        """
        now = act.at
        charged = await self._charge(candidates, now)
        try:
            found = await self._match([factor for factor in candidates if factor.id in charged], proof.code, now)
        except CodeOutOfStep:
            await self._events.record_refusal(user.id, max(charged.values()), act)
            raise
        lifetime = timedelta(seconds=totp.PERIOD * (2 * self._skew_steps + 2))
        if found is None:
            emit(LogName.CODE_REFUSED, reason="no_match", sub=user.id)
        elif await self._ephemeral.claim(found.claim, ttl=lifetime, now=now):
            return replace(found, locks_user=len(candidates) > 1)
        else:
            emit(LogName.CODE_REFUSED, reason="claimed", sub=user.id, factor=found.factor.id)
        await self._events.record_refusal(user.id, max(charged.values()), act)
        raise InvalidCode(totp.seconds_to_next(now))

    @asynccontextmanager
    async def released_if_unavailable(self, checked: MatchedCode) -> AsyncIterator[None]:
        """The block has the transaction that consumes the code. If the database fails in it, release the claim.

        The answer is then 503 and "try again": with the claim, the same code would be refused as used although
        nothing was granted. If it was granted and only the answer of the database was lost, `consume` refuses it.
        """
        try:
            yield
        except StoreUnavailable:
            await self._ephemeral.release(checked.claim)
            raise

    async def consume(self, transaction: Transaction, user: User, checked: MatchedCode, now: datetime) -> bool:
        """Consume the code and confirm the authenticator; true for exactly one caller, ever.

        With several authenticators the user's row must be locked: the refunds change several rows, and two
        transactions that change them in different orders would deadlock (decision 10).
        """
        guards = (
            f" AND last_step = $1 - 1 AND told_at >= {unix_seconds(now - REALIGNED_WITHIN)}"
            if checked.realigns
            else ""
        )
        touched = await transaction.execute(
            "UPDATE totp_authenticators"
            " SET last_step = $1, confirmed_at = COALESCE(confirmed_at, $2), last_used_at = $2,"
            f" drift_steps = $5, offset_steps = $6, told_at = 0, {attempts.REFUND}"
            f" WHERE id = $3 AND epoch = $4 AND last_step < $1{guards}",
            checked.step, unix_seconds(now), checked.factor.id, user.credential_version,
            checked.step - totp.step_at(now), checked.offset_steps,
        )  # fmt: skip
        if touched != 1:
            emit(LogName.CODE_REFUSED, reason="consumed", sub=user.id, factor=checked.factor.id)
            return False
        for other in checked.charged_ids:
            if other != checked.factor.id:
                await transaction.execute(f"UPDATE totp_authenticators SET {attempts.REFUND} WHERE id = $1", other)
        ahead = checked.step - totp.step_at(now)
        transaction.on_commit(partial(metrics.count, LogName.CODE_ACCEPTED, {"offset_steps": ahead}))
        return True

    async def record_use(self, transaction: Transaction, user: User, checked: MatchedCode, act: Act) -> None:
        """Record an event if the code re-aligned the authenticator."""
        if checked.realigns:
            seconds = checked.offset_steps * totp.PERIOD
            await self._events.record(
                transaction,
                EventName.FACTOR_REALIGNED,
                user.id,
                act,
                factor=checked.factor.id,
                offset_seconds=seconds,
            )

    async def refusal(self, user: User, checked: MatchedCode, act: Act) -> InvalidCode:
        """Return the error for a code that was checked and could not be consumed."""
        return InvalidCode(totp.seconds_to_next(act.at))

    async def remove_all(self, transaction: Transaction, user_id: str) -> int:
        return await remove_all(transaction, user_id)

    async def _charge(self, factors: Sequence[TotpAuthenticator], now: datetime) -> dict[str, int]:
        """Charge the authenticators. Return the failures in a row by the id of each one that was charged."""
        charged: dict[str, int] = {}
        refused: list[TooManyAttempts] = []
        for factor in factors:
            try:
                failures = await attempts.charge(self._database, "totp_authenticators", factor.id, now)
            except TooManyAttempts as error:
                refused.append(error)
            else:
                if failures is not None:
                    charged[factor.id] = failures
        if refused and not charged:
            emit(LogName.CODE_REFUSED, reason="waiting", sub=factors[0].user_id)
        if not charged:
            raise min(refused, key=lambda error: error.retry_after) if refused else InvalidToken
        return charged

    async def _match(self, factors: Sequence[TotpAuthenticator], otp: str, now: datetime) -> MatchedCode | None:
        """Find the authenticator and the time step of the code; `None` if there is none. Raises `CodeOutOfStep`."""
        charged = tuple(factor.id for factor in factors)
        for factor in factors:
            step = totp.matching_step(
                factor.secret, otp, at=now, skew_steps=self._skew_steps, offset_steps=factor.offset_steps
            )
            if step is not None:
                return MatchedCode(factor, step, factor.offset_steps, charged)
        for factor in factors:
            step = totp.drifted_step(factor.secret, otp, at=now, skew_steps=self._skew_steps)
            if step is not None:
                return await self._report_drift(factor, step, charged, now)
        return None

    async def _report_drift(
        self, factor: TotpAuthenticator, step: int, charged: tuple[str, ...], now: datetime
    ) -> MatchedCode | None:
        """Return the proof that re-aligns, if the previous step was reported within `REALIGNED_WITHIN`.

        Otherwise consume the step and raise `CodeOutOfStep`; return `None` if it or a later step was used before.
        """
        offset = step - totp.step_at(now)
        previous = await self._database.fetch_one(
            "SELECT 1 AS one FROM totp_authenticators WHERE id = $1 AND last_step = $2 AND told_at >= $3",
            factor.id, step - 1, unix_seconds(now - REALIGNED_WITHIN),
        )  # fmt: skip
        if previous is not None:
            return MatchedCode(factor, step, offset, charged)
        reported = await self._database.write_one(
            "UPDATE totp_authenticators"
            " SET last_step = $1, told_at = $2 WHERE id = $3 AND last_step < $1 RETURNING id",
            step, unix_seconds(now), factor.id,
        )  # fmt: skip
        if reported is None:
            return None
        emit(LogName.CODE_REFUSED, reason="out_of_step", sub=factor.user_id, factor=factor.id, offset_steps=offset)
        error = CodeOutOfStoredStep if abs(offset) <= self._skew_steps else CodeOutOfStep
        raise error(offset=offset * totp.PERIOD, server_time=now, retry_after=totp.seconds_to_next(now))

    async def _insert(
        self, transaction: Transaction, factor: TotpAuthenticator, user: User, now: datetime, *, last_step: int = 0
    ) -> None:
        await transaction.execute(
            "INSERT INTO totp_authenticators"
            " (id, user_id, epoch, name, secret, created_at, confirmed_at, last_step, is_weak)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            factor.id, user.id, user.credential_version, factor.name,
            SEALED_COLUMN.seal(self._sealer, factor.secret.encode(), row=factor.id),
            unix_seconds(now), unix_seconds(now) if factor.is_confirmed else None, last_step,
            int(totp.is_weak(factor.secret)),
        )  # fmt: skip

    def from_row(self, row: Row) -> TotpAuthenticator:
        """Unseal a row. Raises `UnsealError`."""
        secret = SEALED_COLUMN.open(self._sealer, bytes(row["secret"]), row=row["id"]).decode()
        is_confirmed = row["confirmed_at"] is not None
        return TotpAuthenticator(row["id"], row["user_id"], row["name"], secret, is_confirmed, row["offset_steps"])


def _confirmed(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["confirmed_at"] is not None]


def usable(user: User, factors: list[TotpAuthenticator]) -> list[TotpAuthenticator]:
    """Return those whose codes count: the confirmed ones, or the unconfirmed one during an enrolment."""
    return [factor for factor in factors if factor.is_confirmed == (user.mfa == "confirmed")]


async def count_strong(transaction: Transaction, user_id: str) -> int:
    """Count the user's confirmed authenticators whose secrets have 112 bits or more."""
    row = await transaction.fetch_one(
        "SELECT COUNT(*) AS strong FROM totp_authenticators"
        " WHERE user_id = $1 AND confirmed_at IS NOT NULL AND is_weak = 0",
        user_id,
    )
    return 0 if row is None else int(row["strong"])


class Removed(NamedTuple):
    name: str
    was_confirmed: bool


async def remove(transaction: Transaction, user_id: str, factor_id: str) -> Removed | None:
    """Remove one of the user's authenticators and return it; `None` if there is none."""
    statement = "DELETE FROM totp_authenticators WHERE user_id = $1 AND id = $2 RETURNING name, confirmed_at"
    row = await transaction.fetch_one(statement, user_id, factor_id)
    return None if row is None else Removed(row["name"], row["confirmed_at"] is not None)


async def remove_weak(transaction: Transaction, user_id: str, *, replacement: str) -> list[tuple[str, str]]:
    """Remove the user's authenticators with weak secrets, except `replacement`. Return the id and name of each."""
    statement = "DELETE FROM totp_authenticators WHERE user_id = $1 AND is_weak = 1 AND id <> $2 RETURNING id, name"
    return [(row["id"], row["name"]) for row in await transaction.fetch_all(statement, user_id, replacement)]


async def remove_all(transaction: Transaction, user_id: str) -> int:
    """Remove the user's authenticators; return how many there were."""
    return await transaction.execute("DELETE FROM totp_authenticators WHERE user_id = $1", user_id)
