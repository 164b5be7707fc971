"""Recovery codes: single-use codes that replace a verification code when the authenticator is lost.

A user has ten codes of 80 bits, shown once: when the first verification code confirms an enrolment, and when the user
replaces them. Only keyed hashes are kept: with 80 random bits an HMAC is as safe as a slow hash. Each user has an
HMAC key of their own, which is sealed, so that the codes survive a change of the master secret. One UPDATE consumes a
code, in the transaction that grants what the code is given for (law 2: a code is consumed, not checked). Guesses are
charged to a separate budget (law 6: codes are budgeted per factor in SQL).
"""

import base64
import hmac
import re
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import product
from typing import Any, ClassVar

from service.clock import unix_seconds
from service.errors import InvalidCode, InvalidRecoveryCode, ServiceError
from service.factors import attempts
from service.factors.totp_authenticators import TotpAuthenticator
from service.messages.events import Events
from service.origin import Act
from service.sessions.sessions import PASSWORD_AND_RECOVERY_CODE
from service.storage.database import Database, Transaction
from service.storage.sealing import SealedColumn, Sealer
from service.telemetry.event_names import EventName, LogName
from service.telemetry.log import emit
from service.typed_text import without_separators
from service.users.users import User

CODE_COUNT = 10
SEALED_COLUMN = SealedColumn(purpose="recovery_codes", table="recovery_budgets", row="id", column="sealed_key")
_BYTES = 10  # 80 bits, 16 characters of base32
_TYPED = re.compile(r"[A-Z1-7]{16}")  # 1 stands for I or L: see `readings`
_CONFUSABLE = "1IL"
MAX_CONFUSABLE = 8
"""Characters of a typed code that are read in two ways: 256 readings at most, in about a millisecond."""


@dataclass(frozen=True, slots=True)
class RecoveryCode:
    """A recovery code that a user typed, normalised."""

    code: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class FoundRecoveryCode:
    """A recovery code of the user, used or not. It grants nothing before it is consumed."""

    digest: bytes
    failures: int
    """The failures in a row, counting this attempt as one: for the refusal if the code was used before."""
    locks_user: bool = True


class RecoveryCodes:
    """The recovery codes of all users: the kind of second factor that a `RecoveryCode` proves."""

    proof_type: ClassVar[type[Any]] = RecoveryCode
    method: ClassVar[str] = "recovery_code"
    rate_limit: ClassVar[str] = "recovery"
    sealed_column: ClassVar[SealedColumn | None] = SEALED_COLUMN
    amr: ClassVar[tuple[str, ...]] = PASSWORD_AND_RECOVERY_CODE
    enrolment_error: ClassVar[type[ServiceError] | None] = InvalidRecoveryCode

    def __init__(self, database: Database, sealer: Sealer, events: Events) -> None:
        self._database = database
        self._sealer = sealer
        self._events = events

    async def replace_all(self, transaction: Transaction, user_id: str, now: datetime) -> tuple[str, ...]:
        """Replace the user's codes by ten new ones and return them as displayed: `ABCD-EFGH-IJKL-MNOP`."""
        await remove_all(transaction, user_id)
        key = secrets.token_bytes(32)
        sealed = SEALED_COLUMN.seal(self._sealer, key, row=user_id)
        await transaction.execute("INSERT INTO recovery_budgets (id, sealed_key) VALUES ($1, $2)", user_id, sealed)
        codes = [base64.b32encode(secrets.token_bytes(_BYTES)).decode() for _ in range(CODE_COUNT)]
        for code in codes:
            await transaction.execute(
                "INSERT INTO recovery_codes (user_id, digest, created_at) VALUES ($1, $2, $3)",
                user_id, _digest(key, user_id, code), unix_seconds(now),
            )  # fmt: skip
        return tuple("-".join(code[n : n + 4] for n in range(0, 16, 4)) for code in codes)

    async def check(
        self,
        user: User,
        candidates: Sequence[TotpAuthenticator],
        proof: RecoveryCode,
        act: Act,
    ) -> FoundRecoveryCode:
        """Charge one attempt at a recovery code and find it among the user's.

        Raises `InvalidRecoveryCode`; `TooManyAttempts`; `InvalidCode` if the user has no recovery codes.
        """
        failures = await attempts.charge(self._database, "recovery_budgets", user.id, act.at)
        if failures is None:
            raise InvalidCode
        digest = await self.find(user.id, proof.code)
        if digest is None:
            raise await self._refusal(user, failures, act)
        return FoundRecoveryCode(digest, failures)

    @asynccontextmanager
    async def released_if_unavailable(self, checked: FoundRecoveryCode) -> AsyncIterator[None]:
        """Nothing is claimed in the ephemeral store for a recovery code."""
        yield

    async def find(self, user_id: str, code: str) -> bytes | None:
        """Return the digest of the user's recovery code, used or not, that a normalised code may mean, or `None`.

        All readings of the code are one attempt, which has been charged. This runs outside of the transaction so
        that the user's row is not locked meanwhile; the caller must `consume` the digest before granting anything.
        """
        rows = await self._database.fetch_all(
            "SELECT b.sealed_key, c.digest FROM recovery_budgets b JOIN recovery_codes c ON c.user_id = b.id"
            " WHERE b.id = $1",
            user_id,
        )
        if not rows:
            return None
        known = {bytes(row["digest"]) for row in rows}
        digests = (
            _digest(key, user_id, reading)
            for key in self._keys(user_id, rows[0]["sealed_key"])
            for reading in readings(code)
        )
        return next((digest for digest in digests if digest in known), None)

    async def consume(self, transaction: Transaction, user: User, checked: FoundRecoveryCode, now: datetime) -> bool:
        """Use up the recovery code; return `True` for exactly one caller, ever."""
        used = await transaction.execute(
            "UPDATE recovery_codes SET used_at = $1 WHERE user_id = $2 AND digest = $3 AND used_at IS NULL",
            unix_seconds(now), user.id, checked.digest,
        )  # fmt: skip
        if used != 1:
            return False
        await transaction.execute(f"UPDATE recovery_budgets SET {attempts.REFUND} WHERE id = $1", user.id)
        return True

    async def record_use(self, transaction: Transaction, user: User, checked: FoundRecoveryCode, act: Act) -> int:
        """Record that a code was used. Return how many are left."""
        left = await count_left(transaction, user.id)
        await self._events.record(transaction, EventName.RECOVERY_CODE_USED, user.id, act, left=left)
        return left

    async def refusal(self, user: User, checked: FoundRecoveryCode, act: Act) -> InvalidRecoveryCode:
        """Return the error for a code that had been used."""
        return await self._refusal(user, checked.failures, act)

    async def _refusal(self, user: User, failures: int, act: Act) -> InvalidRecoveryCode:
        emit(LogName.RECOVERY_CODE_REFUSED, sub=user.id)
        await self._events.record_refusal(user.id, failures, act)
        return InvalidRecoveryCode()

    async def remove_all(self, transaction: Transaction, user_id: str) -> int:
        """Remove the user's codes. They are no authenticators, so the number of removed ones is 0."""
        await remove_all(transaction, user_id)
        return 0

    def _keys(self, user_id: str, sealed: bytes | None) -> Sequence[bytes]:
        """Return the user's key. Codes from before users had keys use those derived from the master secrets."""
        if sealed is None:
            return self._sealer.derive("recovery_codes")
        return (SEALED_COLUMN.open(self._sealer, bytes(sealed), row=user_id),)


def _digest(key: bytes, user_id: str, code: str) -> bytes:
    return hmac.digest(key, f"{user_id}:{code}".encode(), "sha256")


async def count_left(database: Database | Transaction, user_id: str) -> int:
    row = await database.fetch_one(
        "SELECT COUNT(*) AS left_over FROM recovery_codes WHERE user_id = $1 AND used_at IS NULL", user_id
    )
    return 0 if row is None else int(row["left_over"])


async def count_users_without_key(database: Database) -> int:
    """Count the users with unused codes from before users had keys of their own, which no reseal can reach."""
    row = await database.fetch_one(
        "SELECT COUNT(*) AS users_without_key FROM recovery_budgets b WHERE sealed_key IS NULL AND EXISTS"
        " (SELECT 1 FROM recovery_codes c WHERE c.user_id = b.id AND c.used_at IS NULL)"
    )
    return 0 if row is None else int(row["users_without_key"])


async def remove_all(transaction: Transaction, user_id: str) -> None:
    await transaction.execute("DELETE FROM recovery_codes WHERE user_id = $1", user_id)
    await transaction.execute("DELETE FROM recovery_budgets WHERE id = $1", user_id)


def normalise(code: str) -> str | None:
    """Return the sixteen characters of a code however it was typed, or `None` if it cannot be one.

    Case, white space, invisible characters, dashes, full stops and underscores do not matter. `0` is read as `O`: no
    code has a zero, and no other letter looks like one. `1` stays, because it may be `I` or `L`.
    """
    normalised = without_separators(code)
    if not normalised.isascii():  # upper() would make letters of look-alikes
        return None
    normalised = normalised.upper().replace("0", "O")
    return normalised if _TYPED.fullmatch(normalised) else None


def readings(code: str) -> Iterator[str]:
    """Yield the codes that look like this one: first the code itself, then variants with `I` and `L` exchanged.

    `1`, `I` and `L` look alike in many fonts, and both letters occur in codes, so that one cannot be folded to the
    other. 256 readings make a guess at 80 random bits 256 times as likely to succeed, which costs 8 of the 80 bits
    and leaves 72. A code that has more than `MAX_CONFUSABLE` such characters (one of nine million) is read in one way
    where the characters are letters, and is refused where more than that many were typed as `1`.
    """
    positions = [index for index, character in enumerate(code) if character in _CONFUSABLE]
    if len(positions) > MAX_CONFUSABLE:
        positions = [index for index in positions if code[index] == "1"]
    if len(positions) > MAX_CONFUSABLE:
        return
    for letters in product(*("LI" if code[index] == "L" else "IL" for index in positions)):  # first as it was typed
        reading = list(code)
        for index, letter in zip(positions, letters, strict=True):
            reading[index] = letter
        yield "".join(reading)
