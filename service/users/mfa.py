"""The state of a user's second factor, computed from the rows of the factors: in Python and in SQL.

Every statement that asks whether a user has a second factor uses this module, so that all of them have one answer.
"""

from typing import Literal

from service.storage.database import Row, Transaction

MfaState = Literal["off", "asked", "confirmed"]
"""`asked`: an enrolment has begun and no code has confirmed it yet. The password alone no longer suffices."""


TABLES = ("totp_authenticators",)
"""The tables whose rows turn a user's second factor on. They have `user_id` and `confirmed_at`, which is null until a
proof confirms the row. Recovery codes are in none: they do not turn it on."""


def _select_factors(user_id: str) -> str:
    """SQL: the `confirmed_at` of each row that turns the user's second factor on.

    The condition is within each SELECT: SQLite moves none into a UNION ALL, and would read the tables as a whole.
    """
    return " UNION ALL ".join(f"SELECT f.confirmed_at FROM {table} f WHERE f.user_id = {user_id}" for table in TABLES)


COLUMN = (
    "(SELECT MAX(CASE WHEN factors.confirmed_at IS NULL THEN 0 ELSE 1 END)"
    f" FROM ({_select_factors('users.id')}) factors) AS mfa"
)
"""The column of a SELECT from `users` that `from_row` reads."""


def from_row(row: Row) -> MfaState:
    return "off" if row["mfa"] is None else "confirmed" if row["mfa"] else "asked"


def is_confirmed_sql(user_id: str) -> str:
    """SQL: whether the user has a confirmed second factor. `user_id` is a column of the statement around it."""
    return f"EXISTS (SELECT 1 FROM ({_select_factors(user_id)}) factors WHERE factors.confirmed_at IS NOT NULL)"


async def is_confirmed(transaction: Transaction, user_id: str) -> bool:
    """Return whether the user has a confirmed second factor, as the transaction sees it."""
    row = await transaction.fetch_one(
        f"SELECT 1 AS one FROM ({_select_factors('$1')}) factors WHERE factors.confirmed_at IS NOT NULL LIMIT 1",
        user_id,
    )
    return row is not None
