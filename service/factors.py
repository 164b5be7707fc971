"""Second factors: the shared secret of an authenticator app, and the law that its codes open the door once.

The order is fixed, on every path that takes a code:

1. `prove` *reserves*: one UPDATE pays for the attempt before the code is looked at, and refuses while the
   factor waits (laws 4 and 6). It commits on its own; no rollback un-counts it.
2. then it *matches*, purely: the code's time step, or nothing.
3. then it *claims* that step in the shared store: the fast refusal of a replay (law 3), which proves nothing.
4. `consume`, in the transaction that grants something, *decides*: `SET last_step = $s WHERE last_step < $s`.
   Its row count is the answer (law 2). Accepted steps of a factor strictly increase, for ever.

The failures of the last 30 days stand in the row itself, newest first, ten digits each: so that "the fiftieth
newest is older than 30 days" is a condition of that one UPDATE, and no two replicas can both be the fiftieth.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from service import totp
from service.clock import epoch
from service.database import Database, Row, Transaction
from service.ephemeral import Ephemeral
from service.errors import InvalidCode, InvalidToken, TooManyAttempts
from service.events import emit
from service.sealing import Sealer
from service.users import User

FREE_FAILURES = 5
"""Consecutive failures before the wait begins: 30 s, doubling with each further one."""
FIRST_WAIT, LONGEST_WAIT = 30, 3600

BUDGET = 50
"""Failures of one factor in `BUDGET_WINDOW`: with three acceptable codes of a million, a chance of 1 in 6,667."""
BUDGET_WINDOW = timedelta(days=30)

_DIGITS = 10  # of an epoch second, until the year 2286
_PURPOSE, _TABLE = "totp", "factors"

# $1 factor, $2 user's epoch, $3 now, $4 now in ten digits, $5 the same 30 days ago.
# The wait of failure n is FIRST_WAIT << (n - FREE_FAILURES); from the seventh doubling on it is LONGEST_WAIT.
_RESERVE = f"""
UPDATE factors SET
  failures = failures + 1,
  waits_until = CASE
    WHEN failures + 1 < {FREE_FAILURES} THEN 0
    WHEN failures + 1 < {FREE_FAILURES + 7} THEN $3 + ({FIRST_WAIT} << CAST(failures + 1 - {FREE_FAILURES} AS INTEGER))
    ELSE $3 + {LONGEST_WAIT} END,
  recent_failures = $4 || substr(recent_failures, 1, {_DIGITS * (BUDGET - 1)})
WHERE id = $1 AND epoch = $2 AND waits_until <= $3
  AND substr(recent_failures, {_DIGITS * (BUDGET - 1) + 1}, {_DIGITS}) <= $5
RETURNING id
"""  # noqa: E501 -- constants of this file, no input

# The newest failure is dropped for ours: both were reserved within the same moment.
_CONSUME = f"""
UPDATE factors SET
  last_step = $1, failures = 0, waits_until = 0, confirmed_at = COALESCE(confirmed_at, $2),
  recent_failures = substr(recent_failures, {_DIGITS + 1})
WHERE id = $3 AND epoch = $4 AND last_step < $1
"""


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
            "SELECT id, user_id, secret, confirmed_at FROM factors WHERE user_id = $1", user.id
        )
        return None if row is None else self._factor(row)

    async def add(self, transaction: Transaction, user_id: str, *, user_epoch: int, now: datetime) -> Factor | None:
        """A new, unconfirmed factor in place of an unconfirmed one; `None` if a confirmed one is there."""
        factor = Factor(secrets.token_urlsafe(16), user_id, totp.new_secret(), is_confirmed=False)
        await transaction.execute("DELETE FROM factors WHERE user_id = $1 AND confirmed_at IS NULL", user_id)
        sealed = self._sealer.seal(factor.secret.encode(), purpose=_PURPOSE, table=_TABLE, row=factor.id)
        added = await transaction.execute(
            "INSERT INTO factors (id, user_id, epoch, secret, created_at) VALUES ($1, $2, $3, $4, $5)"
            " ON CONFLICT (user_id) DO NOTHING",
            factor.id, user_id, user_epoch, sealed, epoch(now),
        )  # fmt: skip
        return factor if added == 1 else None

    async def prove(self, user: User, factor: Factor, otp: str, now: datetime) -> Proof:
        """Pay for one look at `otp` and match it.

        Raises `TooManyAttempts` while the factor waits, `InvalidToken` if the account changed meanwhile, and
        `InvalidCode` for a wrong or already claimed code.
        """
        await self._reserve(user, factor, now)
        step = totp.matching_step(factor.secret, otp, at=now, skew_steps=self._skew_steps)
        if step is None:
            emit("code.refused", reason="no_match", sub=user.id, factor=factor.id)
            raise InvalidCode
        lifetime = timedelta(seconds=totp.PERIOD * (2 * self._skew_steps + 2))
        if not await self._ephemeral.claim(f"otp:{{{factor.id}}}:{step}", ttl=lifetime, now=now):
            emit("code.refused", reason="claimed", sub=user.id, factor=factor.id)
            raise InvalidCode
        return Proof(factor, step)

    async def consume(self, transaction: Transaction, user: User, proof: Proof, now: datetime) -> bool:
        """Use the code up, and confirm the factor; true for exactly one caller, ever."""
        touched = await transaction.execute(_CONSUME, proof.step, epoch(now), proof.factor.id, user.epoch)
        return touched == 1

    async def _reserve(self, user: User, factor: Factor, now: datetime) -> None:
        moment, cutoff = epoch(now), epoch(now - BUDGET_WINDOW)
        reserved = await self._database.write_one(
            _RESERVE, factor.id, user.epoch, moment, f"{moment:0{_DIGITS}d}", f"{cutoff:0{_DIGITS}d}"
        )
        if reserved is not None:
            return
        row = await self._database.fetch_one(
            f"SELECT waits_until, substr(recent_failures, {_DIGITS * (BUDGET - 1) + 1}, {_DIGITS}) AS oldest"
            " FROM factors WHERE id = $1 AND epoch = $2",
            factor.id, user.epoch,
        )  # fmt: skip
        if row is None:
            raise InvalidToken
        wait = row["waits_until"] - moment
        if row["oldest"]:
            wait = max(wait, int(row["oldest"]) - cutoff)
        emit("code.refused", reason="waiting", sub=user.id, factor=factor.id, retry_after=wait)
        raise TooManyAttempts(max(1, wait))

    def _factor(self, row: Row) -> Factor:
        sealed = bytes(row["secret"])
        secret = self._sealer.open(sealed, purpose=_PURPOSE, table=_TABLE, row=row["id"]).decode()
        return Factor(row["id"], row["user_id"], secret, is_confirmed=row["confirmed_at"] is not None)


async def remove_all(transaction: Transaction, user_id: str) -> int:
    """Remove the user's factors; how many there were."""
    return await transaction.execute("DELETE FROM factors WHERE user_id = $1", user_id)
