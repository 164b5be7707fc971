"""E-mail addresses: their syntax, and which account one names.

An address names an account only after it was confirmed. The table `addresses` has the confirmed ones, in lower case
because they are compared so, and the usernames with an `@`: each belongs to one account, so that an address and a
username cannot name two. Claiming one is a single INSERT (law 16: derive, do not store; consume with one statement).
"""

import re

from service.storage.database import Database, Transaction
from service.typed_text import trim

MAX_LENGTH = 128
"""Characters of an address: as many as a username has, because a login takes either."""

_ATOM = r"[A-Za-z0-9!#$%&'*+=?^_`|~-]+"  # the characters of usernames: RFC 5322's atext without the slash and braces
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
ADDRESS_PATTERN = rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})+"
_ADDRESS = re.compile(rf"(?=[^@]{{1,64}}@){ADDRESS_PATTERN}")


def check_address(address: str) -> str:
    """Return the address without white space and invisible characters around it.

    Raises `ValueError` unless it is `local@domain` in ASCII, of at most `MAX_LENGTH` characters.

    The local part is a dot-atom of at most 64 characters (RFC 5322 section 3.4.1) without `/`, `{` and `}`, which
    usernames cannot have either. The domain is a name in DNS with a dot. Quoted local parts and address literals are
    refused. A domain with other characters is written in its ASCII form (`xn--...`).
    """
    address = trim(address)
    if len(address) > MAX_LENGTH or _ADDRESS.fullmatch(address) is None:
        raise ValueError(f"An e-mail address is like name@example.com, of at most {MAX_LENGTH} ASCII characters")
    return address


def fold(address: str) -> str:
    """Return the form in which addresses are compared."""
    return address.lower()


async def claim(transaction: Transaction, address: str, user_id: str) -> bool:
    """Let the address name this account; `False` if it names another one. It may name this account already."""
    claimed = await transaction.execute(
        "INSERT INTO addresses (address, user_id) VALUES ($1, $2) ON CONFLICT (address)"
        " DO UPDATE SET user_id = excluded.user_id WHERE addresses.user_id = excluded.user_id",
        fold(address), user_id,
    )  # fmt: skip
    return claimed == 1


async def claim_new(transaction: Transaction, address: str, user_id: str) -> bool:
    """Let the address name a new account; `False` if it names any account, also one with this id."""
    claimed = await transaction.execute(
        "INSERT INTO addresses (address, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING", fold(address), user_id
    )
    return claimed == 1


async def release(transaction: Transaction, address: str, user_id: str) -> None:
    """Let the address name no account any more, unless it is the account's username."""
    await transaction.execute(
        "DELETE FROM addresses WHERE address = $1 AND user_id = $2"
        " AND NOT EXISTS (SELECT 1 FROM users WHERE users.id = $2 AND users.username = $1)",
        fold(address), user_id,
    )  # fmt: skip


async def release_all(transaction: Transaction, user_id: str) -> None:
    """Let no address name the account any more, except its username."""
    await transaction.execute(
        "DELETE FROM addresses WHERE user_id = $1 AND address <> (SELECT username FROM users WHERE id = $1)", user_id
    )


async def is_claimed(database: Database, address: str) -> bool:
    """Return whether the address names an account, or was the username of one that was deleted."""
    row = await database.fetch_one("SELECT 1 AS one FROM addresses WHERE address = $1", fold(address))
    return row is not None
