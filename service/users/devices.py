"""Known devices: the device token that a browser presents at the next login.

A device token is sealed and stored nowhere. It names its user and the credential version of the account, so that a
change of password or factors revokes it, and the time at which a second factor was last proved on the device. It
proves nothing by itself: it gives the password a rate limit of its own, so that failures of others do not delay the
user (law 5: password failures slow down, they never lock out), and replaces a code only if the operator allows it
(`KEYTURN_REMEMBER_DEVICE_DAYS`).
"""

import base64
import binascii
import json
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from service.clock import unix_seconds
from service.storage.sealing import Sealer, UnsealError
from service.users.users import User

LIFETIME = timedelta(days=90)
_PREFIX = "ktd_"
_PURPOSE = "device_token"


@dataclass(frozen=True, slots=True)
class Device:
    """The content of a valid device token; times in epoch seconds."""

    id: str
    user_id: str
    username: str
    """Not compared: `user_id` says whose device it is."""
    credential_version: int
    """`epoch` in the token."""
    issued_at: int
    proved_at: int
    """When a second factor was proved on the device; 0 if never."""

    def is_of(self, user: User) -> bool:
        """Whether the token belongs to this user at the current credential version."""
        return (self.user_id, self.credential_version) == (user.id, user.credential_version)

    def has_proved_within(self, period: timedelta, now: datetime) -> bool:
        return 0 < self.proved_at <= unix_seconds(now) < self.proved_at + period.total_seconds()


class Devices:
    """Writes and reads device tokens. For `accepted_for` after its proof, a device replaces the second factor."""

    def __init__(self, sealer: Sealer, *, accepted_for: timedelta = timedelta(0)) -> None:
        self._sealer = sealer
        self._accepted_for = accepted_for

    def replaces_second_factor(self, device: Device, now: datetime) -> bool:
        """Whether a second factor was proved on the device so lately that the operator accepts it instead."""
        return device.has_proved_within(self._accepted_for, now)

    def write(self, user: User, now: datetime, *, proved_at: int) -> str:
        """Return a device token for a user who has just logged in."""
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
        """Return the content of a device token; `None` if it is forged or expired, which counts as no token."""
        text = token.removeprefix(_PREFIX)
        try:
            sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            claims = json.loads(self._sealer.open(sealed, purpose=_PURPOSE, table="", row=""))
        except (UnsealError, binascii.Error, ValueError):
            return None
        device = Device(credential_version=claims.pop("epoch"), **claims)
        is_current = unix_seconds(now) < device.issued_at + LIFETIME.total_seconds()
        return device if is_current and token.startswith(_PREFIX) else None
