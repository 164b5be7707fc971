"""The roles of users: changed by operators and administrators, and compared in SQL."""

from collections.abc import Iterable
from dataclasses import replace

from service.roles import check_roles
from service.storage.database import Database, Transaction
from service.users.users import NOT_DELETED, User


async def change_roles(transaction: Transaction, user: User, *, add: str | None, remove: str | None) -> User:
    """Add or remove a role (operator command). The user's row must be locked. Raises `ValueError`."""
    added, removed = ({role} if role is not None else set() for role in (add, remove))
    check_roles((*added, *removed))
    return await set_roles(transaction, user, check_roles(tuple(sorted({*user.roles, *added} - removed))))


async def set_roles(transaction: Transaction, user: User, roles: tuple[str, ...]) -> User:
    """Replace the roles. The user's row must be locked."""
    await transaction.execute("UPDATE users SET roles = $1 WHERE id = $2", " ".join(roles), user.id)
    return replace(user, roles=roles)


async def list_absent_roles(database: Database, roles: Iterable[str]) -> list[str]:
    """Return those of `roles` that no account has, in their order."""
    absent = []
    for role in roles:
        row = await database.fetch_one(
            "SELECT 1 AS one FROM users"
            f" WHERE ' ' || users.roles || ' ' LIKE $1 ESCAPE '!' AND {NOT_DELETED} LIMIT 1",
            role_pattern(role),
        )
        if row is None:
            absent.append(role)
    return absent


def role_pattern(role: str) -> str:
    """Return a LIKE pattern (ESCAPE '!') for a role in a list that is separated and surrounded by spaces."""
    return f"% {role.replace('_', '!_')} %"
