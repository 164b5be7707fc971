"""The second factor of a user as a whole: authenticators and recovery codes together.

A new kind of second factor has its line here, so that no operation that removes the second factor can forget it.
"""

from service.factors import authenticators, recovery_codes
from service.storage.database import Transaction


async def remove_all(transaction: Transaction, user_id: str) -> int:
    """Remove everything that proves the user's second factor. Return how many authenticators there were."""
    removed = await authenticators.remove_all(transaction, user_id)
    await recovery_codes.remove_all(transaction, user_id)
    return removed
