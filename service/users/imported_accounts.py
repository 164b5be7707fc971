"""The row of an account that is imported from another system, or from an export of this one."""

from dataclasses import dataclass
from datetime import datetime

from service.clock import unix_seconds
from service.storage.database import Transaction
from service.users import addresses, subjects
from service.users.users import COLUMNS, User, from_row, make_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedAccount:
    username: str
    password_hash: str
    sub: str | None = None
    """`None`: the account gets a new one."""
    email: str | None = None
    """The confirmed address."""
    locale: str | None = None
    password_reset_at: int | None = None
    """When the password was reset with a link, if since then no login with a second factor has succeeded, and no
    administrator or operator has set a password.

    Law 17: a mailbox never replaces both factors.
    """
    roles: tuple[str, ...] = ()
    is_disabled: bool = False
    deletion_due_at: int | None = None
    """Epoch seconds. Disabled until then; its user can take the deletion back, unless `is_disabled`."""


async def add(transaction: Transaction, account: ImportedAccount, now: datetime) -> User | None:
    """Insert the account; `None`, and nothing has changed, if its username, address or `sub` is taken.

    A client may have the `sub`, and the address may be the username of another account.
    """
    user_id = account.sub or make_id()
    is_claimed = account.sub is not None and subjects.could_be_client_id(user_id)
    if is_claimed and not await subjects.claim_subject(transaction, user_id):
        return None
    names = {addresses.fold(name) for name in (account.username, account.email) if name is not None and "@" in name}
    claimed = [name for name in sorted(names) if await addresses.claim_new(transaction, name, user_id)]
    user = await _insert(transaction, account, user_id, now) if len(claimed) == len(names) else None
    if user is None:
        for name in claimed:
            await addresses.release(transaction, name, user_id)
        if is_claimed:
            await subjects.release_subject(transaction, user_id)
    return user


async def _insert(transaction: Transaction, account: ImportedAccount, user_id: str, now: datetime) -> User | None:
    disabled_at = unix_seconds(now) if account.is_disabled or account.deletion_due_at is not None else None
    return from_row(
        await transaction.fetch_one(
            "INSERT INTO users (id, username, password_hash, roles, created_at, disabled_at, deletion_due_at,"
            " deletion_requested_at, email, locale, password_reset_at)"
            f" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING RETURNING {COLUMNS}",
            user_id, account.username, account.password_hash, " ".join(account.roles), unix_seconds(now), disabled_at,
            account.deletion_due_at, None if account.is_disabled else disabled_at, account.email, account.locale,
            account.password_reset_at,
        )
    )  # fmt: skip
