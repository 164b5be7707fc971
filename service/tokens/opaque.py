"""Opaque tokens: a prefix, which lets scanners of repositories and logs recognise one, and bytes in base64url.

`OpaqueCodec` writes and verifies those whose bytes end with a MAC (HMAC-SHA256, RFC 2104), such as refresh tokens. A
forged one is refused before any store is read, so that guessing costs the database nothing. A device token has the
same spelling, but its bytes are sealed. A client secret has no MAC: it is random, and the database has its digest.
"""

import base64
import binascii
import hmac
from collections.abc import Sequence

from service.errors import InvalidToken

_MAC_BYTES = 32


class OpaqueCodec:
    """Writes and verifies the tokens of one kind: a body of bytes and its MAC."""

    def __init__(self, prefix: str, keys: Sequence[bytes], *, body_bytes: range) -> None:
        """`write` uses the first of the `keys`, `read` accepts any. `body_bytes`: the lengths of a body."""
        self._prefix = prefix
        self._keys = tuple(keys)
        self._body_bytes = body_bytes
        self._max_characters = len(encode(prefix, bytes(body_bytes[-1] + _MAC_BYTES)))

    def write(self, body: bytes) -> str:
        """Write the token of a body: equal bodies get equal tokens."""
        if len(body) not in self._body_bytes:
            raise RuntimeError(f"the body of a {self._prefix} token has {len(body)} bytes: it could not be read")
        return encode(self._prefix, body + hmac.digest(self._keys[0], body, "sha256"))

    def read(self, token: str) -> bytes:
        """Verify a token by its MAC and return its body, or raise `InvalidToken`. No store is read."""
        if len(token) > self._max_characters:
            raise InvalidToken
        data = decode(self._prefix, token)
        body, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
        if len(body) not in self._body_bytes:
            raise InvalidToken
        if not any(hmac.compare_digest(mac, hmac.digest(key, body, "sha256")) for key in self._keys):
            raise InvalidToken
        return body


def encode(prefix: str, data: bytes) -> str:
    """Return the prefix and the bytes in base64url without padding (RFC 4648 section 5)."""
    return prefix + base64url(data)


def decode(prefix: str, token: str) -> bytes:
    """Return the bytes of a token that `encode` wrote. Raises `InvalidToken` for any other text.

    base64 can spell some bytes in several ways, and `encode` uses one.
    """
    text = token.removeprefix(prefix)
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidToken from None
    if token != encode(prefix, data):
        raise InvalidToken
    return data


def base64url(data: bytes) -> str:
    """Return the bytes in base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
