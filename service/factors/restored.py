"""Second factors after a restored backup, for the restore guard: what may have been used counts as used.

A range of ids means the users after its first id, up to its second one.
"""

from datetime import datetime

from service.clock import unix_seconds
from service.factors import totp
from service.storage.database import Transaction
from service.users import mfa


def max_accepted_ahead(skew_steps: int) -> int:
    """Return how many steps ahead of now an accepted code can be, with the largest drift that can be re-aligned."""
    return totp.MAX_DRIFT_STEPS + 2 * skew_steps


async def use_up_steps(
    transaction: Transaction, id_range: tuple[str, str], now: datetime, *, skew_steps: int
) -> None:
    """Mark all time steps that can have been used by now as used.

    Also remove unconfirmed authenticators beside confirmed ones.

    `epoch` gets the account's new credential version: with another one, no code of the authenticator is accepted.
    `told_at` is cleared, so that no code re-aligns an authenticator because of a report from before the restore.
    """
    await transaction.execute(
        "DELETE FROM totp_authenticators WHERE user_id > $1 AND user_id <= $2 AND confirmed_at IS NULL"
        f" AND {mfa.is_confirmed_sql('totp_authenticators.user_id')}",
        *id_range,
    )
    await transaction.execute(
        "UPDATE totp_authenticators SET told_at = 0,"
        " epoch = (SELECT users.epoch FROM users WHERE users.id = totp_authenticators.user_id),"
        " last_step = CASE WHEN last_step < $3 THEN $3 ELSE last_step END"
        " WHERE user_id > $1 AND user_id <= $2",
        *id_range, totp.step_at(now) + max_accepted_ahead(skew_steps),
    )  # fmt: skip


async def use_up_recovery_codes(transaction: Transaction, id_range: tuple[str, str], now: datetime) -> int:
    """Mark all recovery codes as used; return how many were not."""
    return await transaction.execute(
        "UPDATE recovery_codes SET used_at = $3 WHERE user_id > $1 AND user_id <= $2 AND used_at IS NULL",
        *id_range, unix_seconds(now),
    )  # fmt: skip
