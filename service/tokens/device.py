"""Device tokens, which a browser presents at the next login. They are sealed and stored nowhere.

The seal also hides the username from readers of the token. The token names the credential version of the account, so
that a change of password or factors revokes it, and the time at which a second factor was last proved on the device.
"""

import json
import secrets
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from service.clock import unix_seconds
from service.errors import InvalidToken
from service.storage.sealing import Sealer, UnsealError
from service.tokens.opaque import decode, encode

LIFETIME = timedelta(days=90)
_PREFIX = "ktd_"
_PURPOSE = "device_token"


@dataclass(frozen=True, slots=True)
class DeviceClaims:
    """The content of a valid device token; times in epoch seconds."""

    id: str
    user_id: str
    username: str
    """Read by no code. It is written because replicas of the previous version need it to read the token."""
    credential_version: int
    """`epoch` in the token."""
    issued_at: int
    proved_at: int
    """When a second factor was proved on the device; 0 if never."""


class DeviceCodec:
    """Writes and reads device tokens."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def write(self, *, user_id: str, username: str, credential_version: int, proved_at: int, now: datetime) -> str:
        """Write the token of a device on which the user has just logged in."""
        claims = DeviceClaims(
            id=secrets.token_urlsafe(16),
            user_id=user_id,
            username=username,
            credential_version=credential_version,
            issued_at=unix_seconds(now),
            proved_at=proved_at,
        )
        members: dict[str, Any] = asdict(claims)
        members["epoch"] = members.pop("credential_version")
        sealed = self._sealer.seal(json.dumps(members).encode(), purpose=_PURPOSE, table="", row="")
        return encode(_PREFIX, sealed)

    def read(self, token: str, *, now: datetime) -> DeviceClaims:
        """Open a device token. Raises `InvalidToken` if it is forged or expired. No store is read."""
        sealed = decode(_PREFIX, token)
        try:
            members = json.loads(self._sealer.open(sealed, purpose=_PURPOSE, table="", row=""))
        except UnsealError:
            raise InvalidToken from None
        claims = DeviceClaims(credential_version=members.pop("epoch"), **members)
        if unix_seconds(now) >= claims.issued_at + LIFETIME.total_seconds():
            raise InvalidToken
        return claims
