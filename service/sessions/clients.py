"""Registered clients: other services that authenticate to this one (RFC 6749 section 2.3).

The table has the digests of their secrets (`tokens/client_secret`). When a secret is replaced, the previous one may
stay valid for a time that the actor gives. `registration` has the operations; this module has the statements of
the table.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from service.clock import LEEWAY_SECONDS, unix_seconds
from service.storage.database import Database, Row, Transaction
from service.tokens import client_secret
from service.tokens.access import FIRST_PARTY
from service.users import subjects

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{2,63}")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,64}")  # scope-token: RFC 6749 section 3.3
MAX_SCOPES = 32
RESERVED_SCOPES = "keyturn:"
"""The beginning of the scopes that are for Keyturn itself: the admin API."""
_SELECT = "SELECT id, scopes, created_at, previous_until FROM clients"


@dataclass(frozen=True, slots=True)
class Client:
    id: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClientSummary:
    """A client in a list; times in epoch seconds."""

    id: str
    scopes: tuple[str, ...]
    created_at: int
    previous_until: int | None
    """When the previous secret stops being valid, or stopped; `None` if the secret was never replaced."""


def is_id(text: str) -> bool:
    """Whether the text has the form of a client's id. Any other text must not be logged."""
    return _ID.fullmatch(text) is not None


def check_id(client_id: str) -> str:
    """Return the id.

    Raises `ValueError` unless it is 3 to 64 of `a-z 0-9 . _ -`, begins with a letter or a digit, and is not
    `FIRST_PARTY`.
    """
    if _ID.fullmatch(client_id) is None:
        raise ValueError(
            "A client's id needs 3 to 64 characters of a-z, 0-9 and . _ -, the first a letter or a digit"
        )
    if client_id == FIRST_PARTY:
        raise ValueError(f"{FIRST_PARTY} is the client_id of the tokens that users get")
    return client_id


def check_scopes(scopes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the scopes, each once, sorted.

    Raises `ValueError` for more than `MAX_SCOPES`, and for one that is longer than 64 characters or that RFC 6749
    section 3.3 does not allow.
    """
    if len(scopes) > MAX_SCOPES or any(_SCOPE.fullmatch(scope) is None for scope in scopes):
        raise ValueError(
            f'The scope needs at most {MAX_SCOPES} words of 1 to 64 printable ASCII characters, without " and \\'
        )
    return tuple(sorted(set(scopes)))


async def add(transaction: Transaction, client_id: str, scopes: tuple[str, ...], now: datetime) -> str | None:
    """Register a client and return its secret, shown only now; `None` if the id is taken, also as a user's `sub`."""
    secret = client_secret.make()
    if not await subjects.claim_subject(transaction, client_id):
        return None
    # The ids of users who signed up are in `users` only, not in `subjects`.
    taken = await transaction.fetch_one("SELECT 1 AS one FROM users WHERE id = $1", client_id)
    if taken is not None:
        await subjects.release_subject(transaction, client_id)
        return None
    await transaction.execute(
        "INSERT INTO clients (id, scopes, secret_digest, created_at) VALUES ($1, $2, $3, $4)",
        client_id, " ".join(scopes), client_secret.digest(secret), unix_seconds(now),
    )  # fmt: skip
    return secret


async def rotate_secret(transaction: Transaction, client_id: str, *, overlap: timedelta, now: datetime) -> str | None:
    """Return a new secret, shown only now; the old one stays valid for `overlap`. `None` if the client is unknown."""
    secret = client_secret.make()
    # Without overlap the old digest is removed: an end time would be compared with the clock of another replica.
    previous = "secret_digest" if overlap > timedelta(0) else "NULL"
    changed = await transaction.fetch_one(
        f"UPDATE clients SET previous_digest = {previous}, previous_until = $1, secret_digest = $2"
        " WHERE id = $3 RETURNING id",
        unix_seconds(now + overlap), client_secret.digest(secret), client_id,
    )  # fmt: skip
    return None if changed is None else secret


async def remove(transaction: Transaction, client_id: str) -> bool:
    """Remove a client. Return whether there was one.

    /introspect reports its access tokens as inactive at once. A service that verifies tokens by itself accepts them
    until they expire.
    """
    removed = await transaction.execute("DELETE FROM clients WHERE id = $1", client_id)
    if removed:
        await subjects.release_subject(transaction, client_id)
    return removed == 1


async def list_all(database: Database) -> list[ClientSummary]:
    """Return every client, in the order of the ids."""
    return [_summary(row) for row in await database.fetch_all(f"{_SELECT} ORDER BY id")]


async def list_after(database: Database, client_id: str, *, limit: int) -> list[ClientSummary]:
    """Return the clients after an id, in the order of their ids."""
    rows = await database.fetch_all(f"{_SELECT} WHERE id > $1 ORDER BY id LIMIT $2", client_id, limit)
    return [_summary(row) for row in rows]


async def find(database: Database, client_id: str) -> ClientSummary | None:
    row = await database.fetch_one(f"{_SELECT} WHERE id = $1", client_id)
    return None if row is None else _summary(row)


async def lock(transaction: Transaction, client_id: str) -> Client | None:
    """Lock the client's row for this transaction; `None` if there is none."""
    row = await transaction.fetch_one(
        "UPDATE clients SET scopes = scopes WHERE id = $1 RETURNING id, scopes", client_id
    )
    return None if row is None else Client(row["id"], tuple(row["scopes"].split()))


async def exists(database: Database, client_id: str) -> bool:
    return await database.fetch_one("SELECT 1 AS one FROM clients WHERE id = $1", client_id) is not None


async def could_own_token(database: Database, client_id: str, scopes: Sequence[str], *, issued_at: int) -> bool:
    """Whether a token with these scopes may belong to this client, and not to an earlier one with the same id."""
    row = await database.fetch_one(
        "SELECT scopes FROM clients WHERE id = $1 AND created_at <= $2", client_id, issued_at + LEEWAY_SECONDS
    )
    return row is not None and set(scopes) <= set(row["scopes"].split())


async def authenticate(database: Database, client_id: str, secret: str, now: datetime) -> Client | None:
    """Return the client with this id and secret, or `None`."""
    if not is_id(client_id):
        return None
    row = await database.fetch_one(
        "SELECT id, scopes, secret_digest, CASE WHEN previous_until > $2 THEN previous_digest END AS previous_digest"
        " FROM clients WHERE id = $1",
        client_id, unix_seconds(now),
    )  # fmt: skip
    stored = () if row is None else (row["secret_digest"], row["previous_digest"])
    is_right = client_secret.is_one_of(secret, (bytes(digest) for digest in stored if digest is not None))
    return Client(row["id"], tuple(row["scopes"].split())) if row is not None and is_right else None


def _summary(row: Row) -> ClientSummary:
    return ClientSummary(row["id"], tuple(row["scopes"].split()), row["created_at"], row["previous_until"])
