"""Recovery codes: what opens the door when the phone is lost.

Ten of 80 bits, shown once when the first code confirms an enrolment, and kept only as keyed hashes: with 80
random bits an HMAC is as good as a slow hash. Its key is the person's own and sealed, so that the codes survive a
change of the master secret. Each is consumed by one UPDATE in the transaction that opens the session (law 2).
Guessing pays from a budget of its own (law 6).
"""

import base64
import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import datetime

from service import attempts
from service.clock import epoch
from service.database import Database, Transaction
from service.errors import InvalidCode
from service.sealing import Sealed, Sealer

HOW_MANY = 10
SEALED = Sealed(purpose="recovery_codes", table="recovery_budgets", row="id", column="sealed_key")
_BYTES = 10  # 80 bits, 16 characters of base32
_FORM = re.compile(r"[A-Z2-7]{16}")


class RecoveryCodes:
    """The recovery codes of all users."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    async def replace_all(self, transaction: Transaction, user_id: str, now: datetime) -> tuple[str, ...]:
        """Ten new codes in place of any others, in the form that is shown: `ABCD-EFGH-IJKL-MNOP`."""
        await remove_all(transaction, user_id)
        key = secrets.token_bytes(32)
        sealed = SEALED.seal(self._sealer, key, row=user_id)
        await transaction.execute("INSERT INTO recovery_budgets (id, sealed_key) VALUES ($1, $2)", user_id, sealed)
        codes = [base64.b32encode(secrets.token_bytes(_BYTES)).decode() for _ in range(HOW_MANY)]
        for code in codes:
            await transaction.execute(
                "INSERT INTO recovery_codes (user_id, digest, created_at) VALUES ($1, $2, $3)",
                user_id, _digest(key, user_id, code), epoch(now),
            )  # fmt: skip
        return tuple("-".join(code[n : n + 4] for n in range(0, 16, 4)) for code in codes)

    async def reserve(self, user_id: str, now: datetime) -> int:
        """Pay for one look at a recovery code; the failures in a row with it, were it wrong.

        Raises `TooManyAttempts`; `InvalidCode` if there are none.
        """
        failures = await attempts.reserve(self._database, "recovery_budgets", user_id, now)
        if failures is None:
            raise InvalidCode
        return failures

    async def consume(self, transaction: Transaction, user_id: str, code: str, now: datetime) -> bool:
        """Use a folded code up; true for exactly one caller, ever."""
        row = await transaction.fetch_one("SELECT sealed_key FROM recovery_budgets WHERE id = $1", user_id)
        if row is None:
            return False
        for key in self._keys(user_id, row["sealed_key"]):
            used = await transaction.execute(
                "UPDATE recovery_codes SET used_at = $1 WHERE user_id = $2 AND digest = $3 AND used_at IS NULL",
                epoch(now), user_id, _digest(key, user_id, code),
            )  # fmt: skip
            if used == 1:
                await transaction.execute(f"UPDATE recovery_budgets SET {attempts.RESTORED} WHERE id = $1", user_id)
                return True
        return False

    def _keys(self, user_id: str, sealed: bytes | None) -> Sequence[bytes]:
        """The person's key; those derived from the master secrets, for codes made before there was one."""
        if sealed is None:
            return self._sealer.derive("recovery_codes")
        return (SEALED.open(self._sealer, bytes(sealed), row=user_id),)


def _digest(key: bytes, user_id: str, code: str) -> bytes:
    return hmac.digest(key, f"{user_id}:{code}".encode(), "sha256")


async def count_left(database: Database | Transaction, user_id: str) -> int:
    row = await database.fetch_one(
        "SELECT COUNT(*) AS left_over FROM recovery_codes WHERE user_id = $1 AND used_at IS NULL", user_id
    )
    return 0 if row is None else int(row["left_over"])


async def count_people_without_key(database: Database) -> int:
    """How many people have unused codes from before there was a key of their own: no reseal reaches those."""
    row = await database.fetch_one(
        "SELECT COUNT(*) AS people FROM recovery_budgets b WHERE sealed_key IS NULL AND EXISTS"
        " (SELECT 1 FROM recovery_codes c WHERE c.user_id = b.id AND c.used_at IS NULL)"
    )
    return 0 if row is None else int(row["people"])


async def remove_all(transaction: Transaction, user_id: str) -> None:
    await transaction.execute("DELETE FROM recovery_codes WHERE user_id = $1", user_id)
    await transaction.execute("DELETE FROM recovery_budgets WHERE id = $1", user_id)


def fold(code: str) -> str | None:
    """The code as it was made, however it was typed (case, hyphens, spaces); `None` if it cannot be one."""
    folded = code.upper().replace("-", "").replace(" ", "")
    return folded if _FORM.fullmatch(folded) else None
