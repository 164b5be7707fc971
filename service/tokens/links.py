"""Tokens of links. Law 16: derive, do not store; consume with one statement.

The token of a link is a function of its claims and of a key that its purpose alone has: it is derived when a message
is sent or a link is shown, is the same at every call, and no row holds it. Its claims have the times between which it
is valid, and what it is bound to: the user or the invitation, the credential version of the account, an address. They
are signed, not encrypted: the holder of the link can read them.

`Links.read` refuses an invalid token before any store is read. Being genuine grants nothing: the caller executes one
UPDATE that has the bound values, or the row that they name, in its WHERE clause, and changes one of them or marks the
row as used. That row count is the answer, and the change makes every token with the former values useless:

    link = links.read(PasswordReset, token, now=now)
    changed = await transaction.execute(
        "UPDATE users SET password_hash = $1, epoch = epoch + 1"
        " WHERE id = $2 AND epoch = $3 AND disabled_at IS NULL",
        password_hash, link.sub, link.credential_version,
    )
    if changed != 1:
        raise InvalidToken

A new purpose is one dataclass and its line in `_PURPOSES`. If the meaning of its claims changes, the purpose gets
another name, so that no token is read with a meaning that it did not have when it was written.
"""

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from hashlib import sha256
from types import MappingProxyType
from typing import TypeVar, get_type_hints

from service.clock import LEEWAY_SECONDS, unix_seconds
from service.errors import InvalidToken
from service.storage.sealing import Sealer
from service.tokens.opaque import OpaqueCodec, base64url

MAX_CLAIMS_BYTES = 1024
"""More than a `sub` of 255 characters and an e-mail address (`addresses.MAX_LENGTH`) take together."""

_PREFIX = "ktl_"


@dataclass(frozen=True, slots=True)
class Link:
    """What the claims of every link have: when it was issued and when it expires, in Unix seconds.

    Both come from the row or the request that caused the message, never from the time at which the token is written:
    a message that is sent again has the same token, unless a credential version in it has changed.
    """

    issued_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class PasswordReset(Link):
    """Set a new password. Doing so increments the credential version."""

    sub: str
    credential_version: int


@dataclass(frozen=True, slots=True)
class EmailConfirmation(Link):
    """Change the address of the account to the new one. The link goes to the new one.

    It is bound to the request by its time and by the address, not to the credential version, which the enrolment of a
    second factor increments: users who sign up with an address and a second factor can confirm the two in any order.
    """

    sub: str
    address: str


@dataclass(frozen=True, slots=True)
class EmailCancellation(Link):
    """Refuse a new address. The link goes to the former address, whose reader need not learn the new one."""

    sub: str
    address_digest: str
    """`digest_address` of the new address."""


@dataclass(frozen=True, slots=True)
class Invitation(Link):
    """Sign up with an invitation, whose row is consumed once."""

    id: str
    address_digest: str | None
    """`digest_address` of the one address that may sign up with it; `None` if any may."""


_PURPOSES: Mapping[type[Link], str] = MappingProxyType(
    {
        PasswordReset: "password_reset",
        EmailConfirmation: "email_confirmation",
        EmailCancellation: "email_cancellation",
        Invitation: "invitation",
    }
)
_TYPES = {kind: tuple(get_type_hints(kind)[field.name] for field in fields(kind)) for kind in _PURPOSES}
"""The types of the claims, in the order of the token."""

_L = TypeVar("_L", bound=Link)


class Links:
    """Writes and reads the tokens of links."""

    def __init__(self, sealer: Sealer) -> None:
        self._codecs = {
            kind: OpaqueCodec(_PREFIX, sealer.derive(f"link:{purpose}"), body_bytes=range(1, MAX_CLAIMS_BYTES + 1))
            for kind, purpose in _PURPOSES.items()
        }

    def write(self, claims: Link) -> str:
        """Write the token of a link: a function of the claims, and of the first master secret."""
        text = json.dumps(astuple(claims), ensure_ascii=False, separators=(",", ":"))
        return self._codecs[type(claims)].write(text.encode())

    def read(self, kind: type[_L], token: str, *, now: datetime) -> _L:
        """Verify the token of a link for this purpose and return its claims. No store is read.

        Raises `InvalidToken` for a token of another purpose, one that has expired or is not valid yet, and any text
        that `write` did not make.
        """
        values = json.loads(self._codecs[kind].read(token))
        types = _TYPES[kind]
        if len(values) != len(types) or not all(map(isinstance, values, types)):
            raise InvalidToken  # written by a version in which the purpose had other claims
        claims = kind(*values)
        if not claims.issued_at - LEEWAY_SECONDS <= unix_seconds(now) < claims.expires_at:
            raise InvalidToken
        return claims


def digest_address(address: str) -> str:
    """Return the SHA-256 of an e-mail address, in lower case because addresses are compared so.

    It hides the address only from a reader who cannot guess it.
    """
    return base64url(sha256(address.lower().encode()).digest())
