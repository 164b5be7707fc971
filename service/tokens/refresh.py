"""Refresh tokens: session id, generation and MAC (law 11: a session is its refresh family).

A refresh token is a function of its session's generation and is not stored. Only the database shows whether it is
the valid one. A forged one is refused before any store is read.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from service.tokens.opaque import OpaqueCodec, base64url

_PREFIX = "ktr_"
_SID_BYTES, _GENERATION_BYTES = 16, 4
_BODY_BYTES = _SID_BYTES + _GENERATION_BYTES


@dataclass(frozen=True, slots=True)
class RefreshClaims:
    """The content of a genuine refresh token. Only the database shows whether it is the valid one."""

    sid: str
    generation: int


class RefreshCodec:
    """Writes and reads refresh tokens."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._codec = OpaqueCodec(_PREFIX, keys, body_bytes=range(_BODY_BYTES, _BODY_BYTES + 1))

    def write(self, sid: str, generation: int) -> str:
        """Write the refresh token of a session's generation. It is the same at every call."""
        return self._codec.write(base64.urlsafe_b64decode(sid + "==") + generation.to_bytes(_GENERATION_BYTES, "big"))

    def read(self, token: str) -> RefreshClaims:
        """Verify a refresh token by its MAC, or raise `InvalidToken`. No store is read."""
        body = self._codec.read(token)
        return RefreshClaims(base64url(body[:_SID_BYTES]), int.from_bytes(body[_SID_BYTES:], "big"))
