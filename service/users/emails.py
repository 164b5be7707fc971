"""The e-mail address of an account: requested, then confirmed, cancelled or removed.

A requested address is in `new_email`, and the time of the request in `new_email_at`. It gets the message that asks
for its confirmation, and no other; the link that refuses it has its digest. The confirmed address, `email`, stays
until then. A use of a link is one guarded UPDATE of the user's row, so that of two uses one succeeds (law 16: derive,
do not store; consume with one statement).
"""

from datetime import datetime

from service.clock import unix_seconds
from service.errors import EmailTaken
from service.storage.database import Transaction
from service.users import addresses
from service.users.users import COLUMNS, User, from_row

_ENABLED = "disabled_at IS NULL"


async def request(transaction: Transaction, user: User, address: str, now: datetime) -> bool:
    """Record the address as requested, in place of one that was requested earlier.

    `False` if the account is disabled or changed since it was read.
    """
    requested = await transaction.execute(
        f"UPDATE users SET new_email = $1, new_email_at = $2 WHERE id = $3 AND epoch = $4 AND {_ENABLED}",
        address, unix_seconds(now), user.id, user.credential_version,
    )  # fmt: skip
    return requested == 1


async def consume_request(transaction: Transaction, user_id: str, address: str, *, requested_at: int) -> User | None:
    """Lock the user's row and clear the requested address. Return the user.

    Return `None` if that request was replaced or has ended, or if the account is disabled.
    """
    return from_row(
        await transaction.fetch_one(
            "UPDATE users SET new_email = NULL, new_email_at = NULL"
            f" WHERE id = $1 AND new_email = $2 AND new_email_at = $3 AND {_ENABLED} RETURNING {COLUMNS}",
            user_id,
            address,
            requested_at,
        )
    )


async def set_confirmed(transaction: Transaction, user: User, address: str) -> None:
    """Set an address that is confirmed, and release the former one. The user's row must be locked.

    Raises `EmailTaken` if the address names another account; the caller's transaction is then rolled back.
    """
    if not await addresses.claim(transaction, address, user.id):
        raise EmailTaken
    await transaction.execute("UPDATE users SET email = $1 WHERE id = $2", address, user.id)
    if user.email is not None and addresses.fold(user.email) != addresses.fold(address):
        await addresses.release(transaction, user.email, user.id)


async def cancel(transaction: Transaction, user: User, *, requested_at: int) -> bool:
    """Remove the requested address of `user`; `False` if it was confirmed, replaced or removed since it was read."""
    cancelled = await transaction.execute(
        "UPDATE users SET new_email = NULL, new_email_at = NULL"
        " WHERE id = $1 AND new_email = $2 AND new_email_at = $3",
        user.id, user.new_email, requested_at,
    )  # fmt: skip
    return cancelled == 1


async def remove(transaction: Transaction, user: User) -> None:
    """Remove the confirmed address and cancel a requested one. The user's row must be locked."""
    await transaction.execute(
        "UPDATE users SET email = NULL, new_email = NULL, new_email_at = NULL WHERE id = $1", user.id
    )
    if user.email is not None:
        await addresses.release(transaction, user.email, user.id)
