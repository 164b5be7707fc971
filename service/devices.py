"""Known devices: what a browser shows at the next login, so that it is not taken for a stranger.

A device token is sealed and stored nowhere. It names its user and the credential version of the account, so that a
change of password or factors ends it, and when a second factor was last proved there. It proves nothing by itself: it
gives the password a budget of its own, and stands in for a code only where the operator wants it
(`KEYTURN_REMEMBER_DEVICE_DAYS`).
"""

import base64
import binascii
import json
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from service.clock import unix_seconds
from service.sealing import Sealer, UnsealError
from service.users import User

LIFETIME = timedelta(days=90)
_PREFIX = "ktd_"
_PURPOSE = "device_token"


@dataclass(frozen=True, slots=True)
class Device:
    """What a genuine device token says; times in epoch seconds."""

    id: str
    user_id: str
    username: str
    credential_version: int
    """`epoch` in the token."""
    issued_at: int
    proved_at: int
    """When a second factor was proved on it; 0: never."""

    def is_of(self, user: User) -> bool:
        """Whether it is this person's, and of his present password and factors."""
        return (self.user_id, self.credential_version) == (user.id, user.credential_version)

    def has_proved_within(self, period: timedelta, now: datetime) -> bool:
        return 0 < self.proved_at <= unix_seconds(now) < self.proved_at + period.total_seconds()


class Devices:
    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def write(self, user: User, now: datetime, *, proved_at: int) -> str:
        """A token for the device of somebody who has just logged in."""
        claims = {
            "id": secrets.token_urlsafe(16),
            "user_id": user.id,
            "username": user.username,
            "epoch": user.credential_version,
            "issued_at": unix_seconds(now),
            "proved_at": proved_at,
        }
        sealed = self._sealer.seal(json.dumps(claims).encode(), purpose=_PURPOSE, table="", row="")
        return _PREFIX + base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def read(self, token: str, now: datetime) -> Device | None:
        """What a token of ours says; `None` for a forged or an old one: it counts as none."""
        text = token.removeprefix(_PREFIX)
        try:
            sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            claims = json.loads(self._sealer.open(sealed, purpose=_PURPOSE, table="", row=""))
        except (UnsealError, binascii.Error, ValueError):
            return None
        device = Device(credential_version=claims.pop("epoch"), **claims)
        is_current = unix_seconds(now) < device.issued_at + LIFETIME.total_seconds()
        return device if is_current and token.startswith(_PREFIX) else None
