"""Users: one row each.

`sub` in tokens is the row's `id`, opaque and never reused; the user chooses the username. The credential version (the
column `epoch`) counts changes of password and factors, and all else that revokes pending and device tokens: a pending
token of an older version is invalid (law 1: a password alone yields no more than a pending token). The rows of the
authenticators have a copy of it, so that consuming a verification code is one guarded UPDATE of one row. A
transaction that increments it also changes the copies, or deletes the rows that have them.

The row of a deleted account remains: it reserves the username and the `sub`, and of the rest has only times and the
credential version. It counts as disabled (the schema's CHECK), so that statements for enabled users need no further
condition. All other statements that find, list or lock accounts use `NOT_DELETED`.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from service.clock import unix_seconds
from service.static_claims import Value, decode
from service.storage.database import Database, Row, Transaction
from service.typed_text import trim
from service.users import addresses, mfa
from service.users.mfa import MfaState

RECOVERY_WINDOW = timedelta(days=7)
"""The time after the delay in which recovery may be completed; after that, it must be requested again."""
MAX_USERNAME_LENGTH = 128
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
USERNAME_PATTERN = rf"(?:[A-Za-z0-9._@+-]{{3,64}}|[A-Za-z0-9.!#$%&'*+=?^_`|~-]{{1,64}}@{_LABEL}(?:\.{_LABEL})+)"
"""A short name, or an e-mail address. Its local part has the characters of RFC 5322's atext except three: the slash
would end a path segment of /qrcode/{username}, and braces mark the part of a key by which a Redis Cluster chooses the
node (its hash tag)."""

_USERNAME = re.compile(USERNAME_PATTERN)
NOT_DELETED = "users.deleted_at IS NULL"
"""WHERE an account was not deleted. Statements for enabled users, for rows that are locked
already, and for reserved names and ids omit it."""
EMPTIED = (
    "claims = '{}', email = NULL, new_email = NULL, new_email_at = NULL, locale = NULL, password_reset_at = NULL,"
    " deletion_due_at = NULL, deletion_requested_at = NULL"
)
"""SET: empty the columns of a deleted account that Keyturn 0.1 does not know.

A deletion by a replica of 0.1 leaves them filled, and `deletions.empty` empties them afterwards.
"""
COLUMNS = (
    "users.id, users.username, users.password_hash, users.epoch, users.roles, users.created_at, users.disabled_at,"
    " users.recovery_due_at, users.email, users.new_email, users.new_email_at, users.locale,"
    " users.password_reset_at, users.deletion_due_at, users.deletion_requested_at, users.claims,"
    f" {mfa.COLUMN}"
)

_MADE_UP_ROW: Row = {
    "id": "", "username": "", "password_hash": "", "epoch": 0, "roles": "", "created_at": 0, "disabled_at": None,
    "recovery_due_at": None, "email": None, "new_email": None, "new_email_at": None, "locale": None,
    "password_reset_at": None, "deletion_due_at": None, "deletion_requested_at": None, "claims": "{}", "mfa": None,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class User:
    id: str
    username: str
    password_hash: str
    credential_version: int
    roles: tuple[str, ...]
    created_at: int
    is_disabled: bool
    mfa: MfaState
    recovery_due_at: int | None = None
    """When a delayed recovery is due, as stored: see `pending_recovery`."""
    email: str | None = None
    """The confirmed address."""
    new_email: str | None = None
    """The address that is to replace it once it is confirmed."""
    new_email_at: int | None = None
    """When `new_email` was requested."""
    locale: str | None = None
    """The language of messages to the user, as a tag of RFC 5646; `None`: the default."""
    password_reset_at: int | None = None
    """When the password was reset with a link, if since then no login with a second factor has succeeded, and no
    administrator or operator has set a password.

    Law 17: a mailbox never replaces both factors.
    """
    deletion_due_at: int | None = None
    """When the account is to be deleted, as its user requested; `None`: not requested."""
    deletion_requested_at: int | None = None
    is_disabled_by_user: bool = False
    """Whether the account is disabled because its user requested the deletion, and for no other reason."""
    claims: Mapping[str, Value] = field(default_factory=dict)
    """The static claims, all of them: `KEYTURN_CLAIMS` says which ones tokens contain."""

    def pending_recovery(self, now: datetime) -> int | None:
        """Unix time from which a password login removes the second factor; `None`: no recovery is under way."""
        due_at = self.recovery_due_at
        return None if due_at is None or due_at <= unix_seconds(now - RECOVERY_WINDOW) else due_at

    @property
    def has_email(self) -> bool:
        """Whether the account has an address, confirmed or requested."""
        return self.email is not None or self.new_email is not None


def normalise(username: str) -> str:
    """Return the normal form of a username: lower case, without white space and invisible characters around it.

    Raises `ValueError` unless that is 3 to 64 of `a-z 0-9 . _ - @ +`, or an e-mail address of at most 128 characters.
    """
    username = trim(username)
    if len(username) > MAX_USERNAME_LENGTH or _USERNAME.fullmatch(username) is None:
        raise ValueError(
            "A username needs 3 to 64 characters of a-z, 0-9 and . _ - @ +,"
            f" or is an e-mail address of at most {MAX_USERNAME_LENGTH}"
        )
    return username.lower()


async def find(database: Database, name: str) -> User | None:
    """Find a user by username or by confirmed address. Both are given in lower case.

    For an unknown name a made-up row is converted, so that it takes as long as a known one (law 8: no answer reveals
    who exists).
    """
    named = "username = $1" if "@" not in name else "id = (SELECT user_id FROM addresses WHERE address = $1)"
    row = await database.fetch_one(f"SELECT {COLUMNS} FROM users WHERE {named} AND {NOT_DELETED}", name)
    user = from_row(_MADE_UP_ROW if row is None else row)
    return None if row is None else user


async def find_by_id(database: Database, user_id: str) -> User | None:
    return from_row(await database.fetch_one(f"SELECT {COLUMNS} FROM users WHERE id = $1 AND {NOT_DELETED}", user_id))


async def find_either(database: Database, name: str) -> list[User]:
    """Return the accounts with this username (in upper or lower case) or `sub`.

    There are two if it is the username of one account and the `sub` of another.
    """
    rows = await database.fetch_all(
        f"SELECT {COLUMNS} FROM users WHERE (username = $1 OR id = $2) AND {NOT_DELETED} ORDER BY username",
        name.lower(), name,
    )  # fmt: skip
    return [user for user in map(from_row, rows) if user is not None]


async def is_taken(database: Database, username: str) -> bool:
    """Return whether an account has this username or confirmed address, or had the username when it was deleted."""
    if "@" in username:
        return await addresses.is_claimed(database, username)
    return await database.fetch_one("SELECT 1 AS one FROM users WHERE username = $1", username) is not None


async def deleted_at(database: Database, name: str) -> int | None:
    """Return when the account with this username or `sub` was deleted (Unix seconds); `None` if it was not."""
    row = await database.fetch_one(
        "SELECT deleted_at FROM users WHERE (username = $1 OR id = $2) AND deleted_at IS NOT NULL LIMIT 1",
        name.lower(), name,
    )  # fmt: skip
    return None if row is None else int(row["deleted_at"])


def make_id() -> str:
    """Return a random `sub`. It does not begin with a dash, which a command would read as an option."""
    while (made := secrets.token_urlsafe(16)).startswith("-"):
        pass
    return made


async def add(transaction: Transaction, username: str, password_hash: str, now: datetime) -> User | None:
    """Insert a new user; `None` if the username is taken. The caller then ends the transaction with an error."""
    user_id = make_id()
    if "@" in username and not await addresses.claim(transaction, username, user_id):
        return None
    row = await transaction.fetch_one(
        "INSERT INTO users (id, username, password_hash, created_at) VALUES ($1, $2, $3, $4)"
        f" ON CONFLICT (username) DO NOTHING RETURNING {COLUMNS}",
        user_id, username, password_hash, unix_seconds(now),
    )  # fmt: skip
    return from_row(row)


async def set_signup_details(
    transaction: Transaction, user: User, *, roles: tuple[str, ...], locale: str | None
) -> User:
    """Set what a new account gets besides its username and password."""
    await transaction.execute(
        "UPDATE users SET roles = $1, locale = $2 WHERE id = $3", " ".join(roles), locale, user.id
    )
    return replace(user, roles=roles, locale=locale)


async def set_locale(transaction: Transaction, user: User, locale: str | None) -> User:
    """Set the language of messages to the user. The user's row must be locked."""
    await transaction.execute("UPDATE users SET locale = $1 WHERE id = $2", locale, user.id)
    return replace(user, locale=locale)


async def increment_credential_version(
    transaction: Transaction,
    user: User,
    *,
    password_hash: str | None = None,
    recovery_due_at: int | None = None,
) -> User | None:
    """Revoke every pending and device token of the user, cancel a recovery, and set the password if one is given.

    A new password also cancels an address that is not confirmed: a person with the former password may have requested
    it. `None` if the account is disabled or changed since it was read, or if its recovery is not due at the given
    `recovery_due_at` any more.
    """
    changed = await transaction.execute(
        "UPDATE users SET epoch = epoch + 1, password_hash = COALESCE($3, password_hash), recovery_due_at = NULL,"
        " new_email = CASE WHEN $3 IS NULL THEN new_email END,"
        " new_email_at = CASE WHEN $3 IS NULL THEN new_email_at END"
        " WHERE id = $1 AND epoch = $2 AND disabled_at IS NULL AND COALESCE($4, recovery_due_at, 0) ="
        " COALESCE(recovery_due_at, 0)",
        user.id, user.credential_version, password_hash, recovery_due_at,
    )  # fmt: skip
    if changed == 0:
        return None
    await transaction.execute(
        "UPDATE totp_authenticators SET epoch = $1 WHERE user_id = $2", user.credential_version + 1, user.id
    )
    return replace(
        user,
        credential_version=user.credential_version + 1,
        password_hash=password_hash or user.password_hash,
        recovery_due_at=None,
        new_email=user.new_email if password_hash is None else None,
        new_email_at=user.new_email_at if password_hash is None else None,
    )


async def reset_password(
    transaction: Transaction, user_id: str, credential_version: int, password_hash: str, now: datetime
) -> User | None:
    """Set the password by a link of this credential version; `None` if the account changed since, or is disabled.

    The update makes every link of this version useless (law 16: derive, do not store; consume with one statement).
    """
    row = await transaction.fetch_one(
        "UPDATE users SET epoch = epoch + 1, password_hash = $3, password_reset_at = $4, recovery_due_at = NULL,"
        " new_email = NULL, new_email_at = NULL"
        f" WHERE id = $1 AND epoch = $2 AND disabled_at IS NULL RETURNING {COLUMNS}",
        user_id, credential_version, password_hash, unix_seconds(now),
    )  # fmt: skip
    return await propagate_to_factors(transaction, from_row(row))


async def forget_reset(transaction: Transaction, user_id: str) -> None:
    """Let the password count as the user's own again: a second factor was proved after it was reset."""
    await transaction.execute("UPDATE users SET password_reset_at = NULL WHERE id = $1", user_id)


async def start_recovery(transaction: Transaction, user: User, *, due_at: int, void_by: int) -> bool:
    """Start a delayed recovery due at `due_at`, unless one is under way. Return whether it started.

    One that was due at `void_by` or earlier is not under way any more. No recovery starts if the account is disabled
    or has changed since it was read.
    """
    started = await transaction.execute(
        "UPDATE users SET recovery_due_at = $1 WHERE id = $2 AND epoch = $3 AND disabled_at IS NULL"
        " AND (recovery_due_at IS NULL OR recovery_due_at <= $4)",
        due_at, user.id, user.credential_version, void_by,
    )  # fmt: skip
    return started == 1


async def cancel_recovery(transaction: Transaction, user_id: str, *, void_by: int) -> bool:
    """Cancel a delayed recovery; `False` if none was under way (`void_by`: as in `start_recovery`)."""
    cancelled = await transaction.execute(
        "UPDATE users SET recovery_due_at = NULL WHERE id = $1 AND recovery_due_at > $2", user_id, void_by
    )
    return cancelled == 1


async def lock_if_current(transaction: Transaction, user: User) -> bool:
    """Lock the user's row for this transaction.

    `False` if the account is disabled, or if its credential version or its roles changed since it was read.
    """
    held = await transaction.execute(
        "UPDATE users SET epoch = epoch WHERE id = $1 AND epoch = $2 AND disabled_at IS NULL AND roles = $3",
        user.id, user.credential_version, " ".join(user.roles),
    )  # fmt: skip
    return held == 1


async def rehash(database: Database, user: User, password_hash: str) -> None:
    """Replace the hash by one with the current parameters, unless the password changed meanwhile."""
    await database.write_one(
        "UPDATE users SET password_hash = $1 WHERE id = $2 AND password_hash = $3 RETURNING id",
        password_hash, user.id, user.password_hash,
    )  # fmt: skip


async def revoke_tokens(transaction: Transaction, user_id: str) -> User | None:
    """Increment the credential version unconditionally, which revokes pending and device tokens (administration).

    This also cancels a recovery. `None` if there is no such user.
    """
    row = await transaction.fetch_one(
        "UPDATE users SET epoch = epoch + 1, recovery_due_at = NULL"
        f" WHERE id = $1 AND {NOT_DELETED} RETURNING {COLUMNS}",
        user_id,
    )
    return await propagate_to_factors(transaction, from_row(row))


async def set_disabled(transaction: Transaction, user_id: str, disabled_at: datetime | None) -> None:
    """Disable the account from this time on, or enable it with `None`, which also cancels its scheduled deletion.

    Disabling an account whose deletion is scheduled leaves it scheduled, and its user can no longer take it back.
    """
    moment = None if disabled_at is None else unix_seconds(disabled_at)
    await transaction.execute(
        "UPDATE users SET disabled_at = $1, deletion_requested_at = NULL,"
        " deletion_due_at = CASE WHEN CAST($1 AS BIGINT) IS NOT NULL THEN deletion_due_at END WHERE id = $2",
        moment, user_id,
    )  # fmt: skip


async def set_password(transaction: Transaction, user_id: str, password_hash: str) -> User | None:
    """Set the password and increment the credential version unconditionally (administration).

    This also cancels a recovery and an address that is not confirmed. `None` if there is no such user.
    """
    row = await transaction.fetch_one(
        "UPDATE users SET epoch = epoch + 1, recovery_due_at = NULL, password_reset_at = NULL, new_email = NULL,"
        " new_email_at = NULL, password_hash = $2"
        f" WHERE id = $1 AND {NOT_DELETED} RETURNING {COLUMNS}",
        user_id, password_hash,
    )  # fmt: skip
    return await propagate_to_factors(transaction, from_row(row))


async def delete(transaction: Transaction, user_id: str, now: datetime) -> User | None:
    """Delete the content of the row; `None` if there is no such account or it was deleted already.

    The module docstring says what remains. The caller removes its addresses, factors, recovery codes and sessions.
    """
    row = await transaction.fetch_one(
        f"UPDATE users SET epoch = epoch + 1, recovery_due_at = NULL, password_hash = '', roles = '', {EMPTIED},"
        " disabled_at = COALESCE(disabled_at, $2), deleted_at = $2"
        f" WHERE id = $1 AND {NOT_DELETED} RETURNING {COLUMNS}",
        user_id, unix_seconds(now),
    )  # fmt: skip
    return from_row(row)


async def propagate_to_factors(transaction: Transaction, user: User | None) -> User | None:
    """Copy the user's credential version to the authenticators, and return the user."""
    if user is not None:
        await transaction.execute(
            "UPDATE totp_authenticators SET epoch = $1 WHERE user_id = $2", user.credential_version, user.id
        )
    return user


async def lock(transaction: Transaction, user_id: str) -> User | None:
    """Lock the user's row for this transaction, disabled or not, and return the user; `None` if there is none."""
    return from_row(
        await transaction.fetch_one(
            f"UPDATE users SET epoch = epoch WHERE id = $1 AND {NOT_DELETED} RETURNING {COLUMNS}", user_id
        )
    )


async def export_page(database: Database, *, after: str, limit: int = 500) -> list[User]:
    """Return a page of accounts in the order of their usernames, with their password hashes."""
    rows = await database.fetch_all(
        f"SELECT {COLUMNS} FROM users WHERE username > $1 AND {NOT_DELETED} ORDER BY username LIMIT $2", after, limit
    )
    return [user for user in map(from_row, rows) if user is not None]


def from_row(row: Row | None) -> User | None:
    if row is None:
        return None
    return User(
        id=row["id"],
        username=row["username"],
        password_hash=row["password_hash"],
        credential_version=row["epoch"],
        roles=tuple(row["roles"].split()),
        created_at=row["created_at"],
        is_disabled=row["disabled_at"] is not None,
        mfa=mfa.from_row(row),
        recovery_due_at=row["recovery_due_at"],
        email=row["email"],
        new_email=row["new_email"],
        new_email_at=row["new_email_at"],
        locale=row["locale"],
        password_reset_at=row["password_reset_at"],
        deletion_due_at=row["deletion_due_at"],
        deletion_requested_at=row["deletion_requested_at"],
        is_disabled_by_user=row["disabled_at"] is not None and row["deletion_requested_at"] == row["disabled_at"],
        claims=decode(row["claims"]),
    )
