"""Known devices: whose a device is, and for how long it may replace a code.

A device token (`tokens/device`) proves nothing by itself: it gives the password a rate limit of its own, so that
failures of others do not delay the user (law 5: password failures slow down, they never lock out), and replaces a
code only if the operator allows it (`KEYTURN_REMEMBER_DEVICE_DAYS`). A change of password or factors revokes it.
"""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from service.clock import unix_seconds
from service.errors import InvalidToken
from service.storage.sealing import Sealer
from service.tokens.device import DeviceClaims, DeviceCodec
from service.users.users import User


@dataclass(frozen=True, slots=True)
class Device(DeviceClaims):
    """A device with a valid device token."""

    def is_of(self, user: User) -> bool:
        """Whether the token belongs to this user at the current credential version."""
        return (self.user_id, self.credential_version) == (user.id, user.credential_version)

    def has_proved_within(self, period: timedelta, now: datetime) -> bool:
        return 0 < self.proved_at <= unix_seconds(now) < self.proved_at + period.total_seconds()


class Devices:
    """Writes and reads device tokens. For `accepted_for` after its proof, a device replaces the second factor."""

    def __init__(self, sealer: Sealer, *, accepted_for: timedelta = timedelta(0)) -> None:
        self._codec = DeviceCodec(sealer)
        self._accepted_for = accepted_for

    def replaces_second_factor(self, device: Device, now: datetime) -> bool:
        """Whether the device stands in for the second factor: one was proved on it within `accepted_for`."""
        return device.has_proved_within(self._accepted_for, now)

    def write(self, user: User, now: datetime, *, proved_at: int) -> str:
        """Return a device token for a user who has just logged in."""
        return self._codec.write(
            user_id=user.id,
            username=user.username,
            credential_version=user.credential_version,
            proved_at=proved_at,
            now=now,
        )

    def find(self, token: str, now: datetime) -> Device | None:
        """Return the device of a token; `None` if the token is forged or expired, which counts as no token."""
        try:
            return Device(**asdict(self._codec.read(token, now=now)))
        except InvalidToken:
            return None
