"""Ids that name a user or a client: the `sub` of tokens.

Tokens name both users and clients by `sub` (RFC 9068 section 5), so no id may belong to a user and to a client.
"""

import re

from service.storage.database import Transaction

_SUBJECT = re.compile(r"[\x21\x23-\x2b\x2d-\x5b\x5d-\x7e]{1,255}")


def check_subject(subject: str) -> str:
    """Raise `ValueError` unless `subject` can be a `sub`, which appears in tokens, headers and logs.

    OpenID Connect Core section 2 allows 255 ASCII characters. The accepted characters need no escaping in JSON, nor
    in a comma-separated list in a header.
    """
    if _SUBJECT.fullmatch(subject) is None:
        raise ValueError(
            'A sub needs 1 to 255 printable ASCII characters without spaces, commas, " and \\:'
            " leave it out for a new one"
        )
    return subject


async def claim_subject(transaction: Transaction, subject: str) -> bool:
    """Claim an id; `False` if it is claimed already.

    Clients claim their ids here, and imported users a `sub` that a client could have. The ids of other users are not
    claimed: see `could_be_client_id`.

    Tokens name both users and clients by `sub` (RFC 9068 section 5): with one unique index for both, two inserts at
    the same time cannot both succeed.
    """
    return await transaction.execute("INSERT INTO subjects (id) VALUES ($1) ON CONFLICT DO NOTHING", subject) == 1


async def release_subject(transaction: Transaction, subject: str) -> None:
    """Release a claimed id, because its insert failed or its client was removed."""
    await transaction.execute("DELETE FROM subjects WHERE id = $1", subject)


def could_be_client_id(subject: str) -> bool:
    """Return whether a client can have this id: ids of clients have no upper-case letters.

    Only the `sub` of an import needs this check. An id that Keyturn makes for a user is random and not claimed: the
    registration of a client compares the client's id with the ids of all users.
    """
    return subject == subject.lower()
