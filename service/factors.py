"""Second factors: the shared secret of an authenticator app, and the law that its codes open the door once.

The order is fixed, on every path that takes a code:

1. `prove` *reserves*: one UPDATE pays for the attempt before the code is looked at, and refuses while the
   factor waits (laws 4 and 6). It commits on its own; no rollback un-counts it.
2. then it *matches*, purely: the code's time step, or nothing.
3. then it *claims* that step in the shared store: the fast refusal of a replay (law 3), which proves nothing.
4. `consume`, in the transaction that grants something, *decides*: `SET last_step = $s WHERE last_step < $s`.
   Its row count is the answer (law 2). Accepted steps of a factor strictly increase, for ever.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from service import attempts, sessions, totp, users
from service.clock import epoch
from service.database import Database, Row, Transaction
from service.ephemeral import Ephemeral
from service.errors import InvalidCode, InvalidToken
from service.log import emit
from service.sealing import Sealed, Sealer
from service.tokens import Pending
from service.users import User

SEALED = Sealed(purpose="totp", table="factors", row="id", column="secret")


@dataclass(frozen=True, slots=True)
class Factor:
    id: str
    user_id: str
    secret: str
    is_confirmed: bool

    def __repr__(self) -> str:
        return f"Factor(id={self.id!r})"  # the secret stays out of logs and tracebacks


@dataclass(frozen=True, slots=True)
class Proof:
    """A code that matched and was claimed, and is worth nothing before it is consumed."""

    factor: Factor
    step: int


class Factors:
    """The factors of all users; one each."""

    def __init__(self, database: Database, ephemeral: Ephemeral, sealer: Sealer, *, skew_steps: int) -> None:
        self._database = database
        self._ephemeral = ephemeral
        self._sealer = sealer
        self._skew_steps = skew_steps

    async def find(self, user: User) -> Factor | None:
        """The user's factor; whoever has one, confirmed or not, asked for MFA."""
        row = await self._database.fetch_one(
            "SELECT id AS factor_id, user_id, secret, confirmed_at FROM factors WHERE user_id = $1", user.id
        )
        return None if row is None else self._factor(row)

    async def find_pending(self, pending: Pending, now: datetime) -> tuple[User, Factor] | None:
        """Who holds a pending token, and the factor he owes a code of.

        `None` if the token is dead: of an older epoch of the account, used already, or for a session that ended.
        """
        is_alive, *facts = (
            ("NOT EXISTS (SELECT 1 FROM sessions WHERE pending_jti = $3)", pending.jti)
            if pending.sid is None
            else (
                f"EXISTS (SELECT 1 FROM sessions WHERE {sessions.RAISABLE})",
                pending.sid,
                pending.raised,
                epoch(now),
            )
        )
        row = await self._database.fetch_one(
            "SELECT u.id, u.username, u.password_hash, u.epoch, u.roles, u.created_at, u.disabled_at,"
            " CASE WHEN f.confirmed_at IS NULL THEN 0 ELSE 1 END AS mfa,"
            " f.id AS factor_id, f.user_id, f.secret, f.confirmed_at"
            " FROM users u JOIN factors f ON f.user_id = u.id"
            f" WHERE u.id = $1 AND u.epoch = $2 AND u.disabled_at IS NULL AND {is_alive}",
            pending.sub, pending.epoch, *facts,
        )  # fmt: skip
        user = users.from_row(row)
        return None if row is None or user is None else (user, self._factor(row))

    async def add(self, transaction: Transaction, user_id: str, *, user_epoch: int, now: datetime) -> Factor | None:
        """A new, unconfirmed factor in place of an unconfirmed one; `None` if a confirmed one is there."""
        factor = Factor(secrets.token_urlsafe(16), user_id, totp.new_secret(), is_confirmed=False)
        await transaction.execute("DELETE FROM factors WHERE user_id = $1 AND confirmed_at IS NULL", user_id)
        sealed = SEALED.seal(self._sealer, factor.secret.encode(), row=factor.id)
        added = await transaction.execute(
            "INSERT INTO factors (id, user_id, epoch, secret, created_at) VALUES ($1, $2, $3, $4, $5)"
            " ON CONFLICT (user_id) DO NOTHING",
            factor.id, user_id, user_epoch, sealed, epoch(now),
        )  # fmt: skip
        return factor if added == 1 else None

    async def ensure(self, transaction: Transaction, user: User, now: datetime) -> None:
        """An unconfirmed factor for who has none; whatever is there stays."""
        factor_id = secrets.token_urlsafe(16)
        sealed = SEALED.seal(self._sealer, totp.new_secret().encode(), row=factor_id)
        await transaction.execute(
            "INSERT INTO factors (id, user_id, epoch, secret, created_at) VALUES ($1, $2, $3, $4, $5)"
            " ON CONFLICT (user_id) DO NOTHING",
            factor_id, user.id, user.epoch, sealed, epoch(now),
        )  # fmt: skip

    async def bring_in(
        self, transaction: Transaction, user: User, secret: str, *, is_confirmed: bool, now: datetime
    ) -> None:
        """The factor of somebody who comes from elsewhere. Codes shown before `now` are not accepted here."""
        factor_id = secrets.token_urlsafe(16)
        sealed = SEALED.seal(self._sealer, secret.encode(), row=factor_id)
        await transaction.execute(
            "INSERT INTO factors (id, user_id, epoch, secret, created_at, confirmed_at, last_step)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7)",
            factor_id, user.id, user.epoch, sealed, epoch(now), epoch(now) if is_confirmed else None,
            totp.step_at(now) - 1,
        )  # fmt: skip

    async def secrets_of(self, first: str, last: str) -> dict[str, str]:
        """The open secrets of the users whose names lie between two, both included, by user id. For export only."""
        rows = await self._database.fetch_all(
            "SELECT f.id AS factor_id, f.user_id, f.secret, f.confirmed_at FROM factors f"
            " JOIN users u ON u.id = f.user_id WHERE u.username >= $1 AND u.username <= $2",
            first, last,
        )  # fmt: skip
        return {row["user_id"]: self._factor(row).secret for row in rows}

    async def prove(self, user: User, factor: Factor, otp: str, now: datetime) -> Proof:
        """Pay for one look at `otp` and match it.

        Raises `TooManyAttempts` while the factor waits, `InvalidToken` if it was removed meanwhile, and
        `InvalidCode` for a wrong or already claimed code.
        """
        if not await attempts.reserve(self._database, "factors", factor.id, now):
            raise InvalidToken
        step = totp.matching_step(factor.secret, otp, at=now, skew_steps=self._skew_steps)
        if step is None:
            emit("code.refused", reason="no_match", sub=user.id, factor=factor.id)
            raise InvalidCode(totp.seconds_to_next(now))
        lifetime = timedelta(seconds=totp.PERIOD * (2 * self._skew_steps + 2))
        if not await self._ephemeral.claim(f"otp:{{{factor.id}}}:{step}", ttl=lifetime, now=now):
            emit("code.refused", reason="claimed", sub=user.id, factor=factor.id)
            raise InvalidCode(totp.seconds_to_next(now))
        return Proof(factor, step)

    async def consume(self, transaction: Transaction, user: User, proof: Proof, now: datetime) -> bool:
        """Use the code up, and confirm the factor; true for exactly one caller, ever."""
        touched = await transaction.execute(
            f"UPDATE factors SET last_step = $1, confirmed_at = COALESCE(confirmed_at, $2), {attempts.RESTORED}"
            " WHERE id = $3 AND epoch = $4 AND last_step < $1",
            proof.step, epoch(now), proof.factor.id, user.epoch,
        )  # fmt: skip
        return touched == 1

    def _factor(self, row: Row) -> Factor:
        secret = SEALED.open(self._sealer, bytes(row["secret"]), row=row["factor_id"]).decode()
        return Factor(row["factor_id"], row["user_id"], secret, is_confirmed=row["confirmed_at"] is not None)


async def remove_all(transaction: Transaction, user_id: str) -> int:
    """Remove the user's factors; how many there were."""
    return await transaction.execute("DELETE FROM factors WHERE user_id = $1", user_id)
