"""Administrators: the users with the role `keyturn-admin`, and what only they may do by the admin API.

A registered client acts with its scopes. It may read about an administrator, but neither gives the role nor takes it,
and changes nothing on the account of a user who has it. A user may use the admin API only as an administrator. The
operator's command may do everything.

`check_right` decides in the transaction of the act, with the rows of the actor and of the account locked in one
order: of two administrators who remove each other at the same time, the second one has lost the role and is refused.
"""

from collections.abc import Iterable, Mapping

from service.errors import Forbidden, LastAdministrator, NotFound
from service.origin import Actor
from service.storage.database import Database, Transaction
from service.users.user_roles import role_pattern
from service.users.users import NOT_DELETED

ADMINISTRATOR = "keyturn-admin"
"""The role."""


async def is_administrator(database: Database, user_id: str) -> bool:
    """Return whether the user has the role now and is not disabled."""
    row = await database.fetch_one("SELECT roles FROM users WHERE id = $1 AND disabled_at IS NULL", user_id)
    return row is not None and ADMINISTRATOR in row["roles"].split()


async def check_right(
    transaction: Transaction,
    actor: Actor,
    user_id: str | None = None,
    *,
    gives: Iterable[str] = (),
    removes: bool = False,
) -> None:
    """Check that the actor may change this account, or do something else that gives these roles.

    `removes`: the act disables or deletes the account, or takes the role from it.

    Raises `NotFound` for an unknown account; `Forbidden` for a user who is no enabled administrator any more, and for
    a client that would give the role or change a user who has it; `LastAdministrator` if no enabled administrator
    would be left, which only an administrator's act on their own account can cause.
    """
    if actor.kind == "operator":
        return
    actor_id = actor.id if actor.kind == "user" else None
    ids = {found for found in (actor_id, user_id) if found is not None}
    if removes and actor_id is not None and actor_id == user_id:
        ids |= await _find_all(transaction)  # locked too, so that no other one is removed at the same time
    roles = {found: await _lock(transaction, found) for found in sorted(ids)}
    if user_id is not None and roles[user_id] is None:
        raise NotFound
    enabled = _enabled_administrators(roles)
    if actor_id is not None:
        if actor_id not in enabled:
            raise Forbidden  # lost the role since the token was checked
        if removes and not enabled - {user_id}:
            raise LastAdministrator
        return
    state = roles.get(user_id or "")
    if ADMINISTRATOR in gives or (state is not None and ADMINISTRATOR in state[0]):
        raise Forbidden


async def check_leaving(transaction: Transaction, user_id: str) -> None:
    """Raise `LastAdministrator` if the user, by deleting their own account, would leave no enabled administrator."""
    ids = await _find_all(transaction)
    if user_id in ids:
        roles = {found: await _lock(transaction, found) for found in sorted(ids)}
        if _enabled_administrators(roles) == {user_id}:
            raise LastAdministrator


def _enabled_administrators(states: Mapping[str, tuple[list[str], bool] | None]) -> set[str]:
    return {found for found, state in states.items() if state is not None and state[1] and ADMINISTRATOR in state[0]}


async def _find_all(transaction: Transaction) -> set[str]:
    rows = await transaction.fetch_all(
        f"SELECT id FROM users WHERE ' ' || users.roles || ' ' LIKE $1 ESCAPE '!' AND {NOT_DELETED}",
        role_pattern(ADMINISTRATOR),
    )
    return {row["id"] for row in rows}


async def _lock(transaction: Transaction, user_id: str) -> tuple[list[str], bool] | None:
    """Lock the row of an account. Return its roles and whether it is enabled; `None` if there is none."""
    row = await transaction.fetch_one(
        f"UPDATE users SET epoch = epoch WHERE id = $1 AND {NOT_DELETED} RETURNING roles, disabled_at", user_id
    )
    return None if row is None else (row["roles"].split(), row["disabled_at"] is None)
