"""The static claims of users: set them, and find the names in `KEYTURN_CLAIMS` that no user has."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from service.static_claims import Value, encode
from service.storage.database import Database, Transaction
from service.users.users import NOT_DELETED, User


async def set_claims(transaction: Transaction, user: User, claims: Mapping[str, Value]) -> User:
    """Replace all static claims. The user's row must be locked, or new."""
    await transaction.execute("UPDATE users SET claims = $1 WHERE id = $2", encode(claims), user.id)
    return replace(user, claims=dict(claims))


async def list_absent_claims(database: Database, names: Iterable[str]) -> list[str]:
    """Return the names for which no account has a static claim, in the order of `names`."""
    absent = []
    for name in names:
        row = await database.fetch_one(
            f"SELECT 1 AS one FROM users WHERE users.claims LIKE $1 ESCAPE '!' AND {NOT_DELETED} LIMIT 1",
            _name_pattern(name),
        )
        if row is None:
            absent.append(name)
    return absent


def _name_pattern(name: str) -> str:
    """Return a LIKE pattern (ESCAPE '!') that finds the name of a claim.

    It finds nothing in a value, because `encode` writes a quotation mark within a text as `\\"`.
    """
    return f'%"{name.replace("_", "!_").replace("%", "!%")}":%'
