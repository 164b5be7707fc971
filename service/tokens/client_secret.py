"""Client secrets, with which registered clients authenticate (RFC 6749 section 2.3.1).

A secret is 256 random bits, shown once. The database has its SHA-256 digest: a secret cannot be guessed, so it needs
no slow hash.
"""

import hmac
import secrets
from collections.abc import Iterable
from hashlib import sha256

from service.tokens.opaque import encode

_PREFIX = "kts_"
_SECRET_BYTES = 32


def make() -> str:
    """Return a new secret."""
    return encode(_PREFIX, secrets.token_bytes(_SECRET_BYTES))


def digest(secret: str) -> bytes:
    """Return what is stored of a secret."""
    return sha256(secret.encode()).digest()


def is_one_of(secret: str, digests: Iterable[bytes]) -> bool:
    """Return whether one of the stored digests is that of `secret`, by comparisons that take constant time.

    Without digests, compare with a dummy so that an unknown client takes as long as a known one; return `False`.
    """
    given = digest(secret)
    stored = list(digests)
    matches = [hmac.compare_digest(given, each) for each in stored or [bytes(len(given))]]
    return any(matches) and bool(stored)
