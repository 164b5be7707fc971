"""Import accounts from other systems, and export accounts, line by line, so that a file may have any size.

| field         | what it is                                                                                 |
|---------------|--------------------------------------------------------------------------------------------|
| username      | as at sign-up                                                                              |
| password_hash | any that `foreign_hashes` reads; replaced by a hash of Keyturn's own at the next login     |
| totp_secret   | base32 of 112 bits or more (SHA-1, six digits, 30 s), or the `otpauth://` URI of one       |
| authenticators | in place of `totp_secret`, for several or named ones: `[{"name": ..., "totp_secret": ...}]` |
| mfa           | `off`, `asked` or `confirmed`; by default `confirmed` with a secret and `off` without      |
| roles         | a list; by default none                                                                    |
| email         | the confirmed address; by default none                                                     |
| locale        | the language of messages to the user, such as `de`; by default none                        |
| claims        | an object with the static claims; by default none                                          |
| disabled      | by default false                                                                           |
| deletion_due_at | epoch seconds at which the account is deleted, as its user requested; disabled until then |
| password_reset_at | epoch seconds of a reset of the password with a link: see `users.User`                      |
| sub           | the opaque id in tokens; by default a new one                                              |

A second factor is never dropped silently: a record with a confirmed second factor and without its secret is refused.
A user whose record says `asked` enrols at the next login.
"""

import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from time import monotonic
from typing import Any

from service.accounts.import_files import RejectedLine, read_lines
from service.accounts.import_records import Record
from service.clock import Clock
from service.factors.totp_authenticators import DEFAULT_NAME, TotpAuthenticator, TotpAuthenticators
from service.storage.database import Database, Transaction
from service.storage.sealing import UnsealError
from service.storage.timeouts import DATABASE_TIMEOUT_SECONDS
from service.users import imported_accounts, user_claims, users
from service.users.foreign_hashes import IMPORTED
from service.users.imported_accounts import ImportedAccount
from service.users.users import User

_TAKEN = "the username, the email or the sub is taken: the account that has it is unchanged"
_BATCH_SIZE = 100
_MAX_TRANSACTION_SECONDS = DATABASE_TIMEOUT_SECONDS / 3
"""Seconds after which a transaction takes no further line, even if a distant database makes each line slow."""


@dataclass(frozen=True, slots=True)
class UnexportableUser:
    """A user with a secret that no listed master secret opens."""

    username: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import has come, and which lines it refused since the previous report."""

    lines: int
    imported: int
    refused: tuple[RejectedLine, ...]


async def import_users(
    database: Database, factors: TotpAuthenticators, lines: Iterable[str], clock: Clock, *, allow_weak: bool = False
) -> AsyncIterator[Progress]:
    """Import line by line, at most a hundred lines in a transaction. Everything that is reported is committed.

    `allow_weak` also imports secrets of 80 to 111 bits, and marks them. An interrupted import may be run again:
    existing users are reported as taken and left unchanged. Raises `ConfigurationError` if the file has a form that
    is not accepted.
    """
    numbered = read_lines(lines, allow_weak=allow_weak)
    imported = line = 0
    waiting: deque[tuple[int, Record] | RejectedLine] = deque()
    while waiting or (waiting := deque(islice(numbered, _BATCH_SIZE))):
        refused: list[RejectedLine] = []
        added = 0
        async with database.begin() as transaction:
            now, started = clock(), monotonic()
            while waiting and monotonic() - started < _MAX_TRANSACTION_SECONDS:
                entry = waiting.popleft()
                line = entry.line if isinstance(entry, RejectedLine) else entry[0]
                if isinstance(entry, RejectedLine):
                    refused.append(entry)
                elif await _import_record(transaction, factors, entry[1], now):
                    added += 1
                else:
                    refused.append(RejectedLine(line, _TAKEN))
        imported += added
        yield Progress(line, imported, tuple(refused))


async def _import_record(
    transaction: Transaction, factors: TotpAuthenticators, record: Record, now: datetime
) -> bool:
    """Import one record; `False` if the username, the address or the `sub` is taken."""
    account = ImportedAccount(
        username=record.username,
        password_hash=IMPORTED + record.password_hash,
        sub=record.sub,
        email=record.email,
        locale=record.locale,
        roles=tuple(record.roles),
        is_disabled=record.disabled,
        deletion_due_at=record.deletion_due_at,
        password_reset_at=record.password_reset_at,
    )
    user = await imported_accounts.add(transaction, account, now)
    if user is None:
        return False
    if record.claims:
        await user_claims.set_claims(transaction, user, record.claims)
    if record.requires_enrolment:
        await factors.add(transaction, user, now)
    for name, secret in record.factors:
        await factors.add_imported(transaction, user, secret, name=name, is_confirmed=record.mfa != "asked", now=now)
    return True


async def export_users(
    database: Database, factors: TotpAuthenticators, *, with_secrets: bool
) -> AsyncIterator[str | UnexportableUser]:
    """Yield each account as a line for `import_users`, or an `UnexportableUser` whose secrets cannot be opened.

    `import_users` takes a confirmed second factor only with its secret.
    """
    after = ""
    while page := await users.export_page(database, after=after):
        after = page[-1].username
        secrets = await factors.list_secrets(page[0].username, after) if with_secrets else {}
        for user in page:
            try:
                yield json.dumps(_record(user, secrets.get(user.id, [])))
            except UnsealError:
                yield UnexportableUser(user.username)


def _record(user: User, sealed: Sequence[Callable[[], TotpAuthenticator]]) -> dict[str, Any]:
    """Return the fields of an account's line. Raises `UnsealError`."""
    record: dict[str, Any] = {
        "username": user.username,
        "password_hash": user.password_hash.removeprefix(IMPORTED),
        "mfa": user.mfa,
        "roles": list(user.roles),
        "disabled": user.is_disabled and not user.is_disabled_by_user,
        "sub": user.id,
    }
    if user.email is not None:
        record["email"] = user.email
    if user.locale is not None:
        record["locale"] = user.locale
    if user.claims:
        record["claims"] = dict(user.claims)
    if user.deletion_due_at is not None:
        record["deletion_due_at"] = user.deletion_due_at
    if user.password_reset_at is not None:
        record["password_reset_at"] = user.password_reset_at  # law 17: a mailbox never replaces both factors
    match [open_it() for open_it in sealed]:
        case []:
            pass
        case [factor] if factor.name == DEFAULT_NAME:
            record["totp_secret"] = factor.secret
        case several:
            record["authenticators"] = [{"name": f.name, "totp_secret": f.secret} for f in several]
    return record
