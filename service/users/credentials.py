"""Proving a password: every operation that requires a password checks it with `Credentials.prove`.

One attempt is charged before the password is checked, and refunded if it succeeds or if the password was never
checked (law 4: reserve, then verify). An unknown user, a wrong password and a disabled user get the same
`InvalidCredentials` after one password hash, and no refund (law 8: no answer reveals who exists).
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from service.clock import Clock
from service.errors import Busy, InvalidCredentials, StoreUnavailable
from service.origin import Caller
from service.storage.database import Database
from service.storage.throttle import Throttle
from service.telemetry.event_names import LogName
from service.telemetry.log import emit
from service.users import deletions, users
from service.users.devices import Device, Devices
from service.users.passwords import Passwords
from service.users.users import User


@dataclass(frozen=True, slots=True)
class Proved:
    """The user whose proof was right, and when that was certain.

    The proof is a password; in `FreshProof` it may also be a fresh second factor.

    Hashing may take seconds under load. So an operation that ends sessions records `at` as the time of their end, not
    the time at which it started: /verify learns of ended sessions from readings that go back only ten seconds, and
    would notice an earlier time up to 30 s late.
    """

    user: User
    at: datetime
    device: Device | None = None
    """The known device of the user on which the password was given."""


def account_changed(user: User, caller: Caller | None) -> InvalidCredentials:
    """Log that the account changed after its password was found right, and return the error.

    It may be disabled since, or have another password: the answer is that of a wrong password.
    """
    address = None if caller is None else caller.address
    emit(LogName.LOGIN_REFUSED, reason="changed", sub=user.id, address=address)
    return InvalidCredentials()


class Credentials:
    """Proves passwords."""

    def __init__(
        self, *, clock: Clock, database: Database, throttle: Throttle, passwords: Passwords, devices: Devices
    ) -> None:
        self._clock = clock
        self._database = database
        self._throttle = throttle
        self._passwords = passwords
        self._devices = devices

    async def prove(
        self,
        username: str,
        password: str,
        caller: Caller,
        *,
        device_token: str | None = None,
        for_restore: bool = False,
    ) -> Proved:
        """Check the password. A known device has a rate limit of its own; an invalid device token counts as none.

        `for_restore` admits only the users who can take back the deletion of their account; without it these users
        count as disabled. Raises the same `InvalidCredentials` for an unknown user, a wrong password and a user who
        is not admitted; `TooManyAttempts`, `Busy` or `StoreUnavailable`.
        """
        address, origin = caller.address, caller.network
        try:
            self._passwords.ensure_capacity(origin)
        except Busy:  # before any store is read: requests that are refused must not slow down others
            emit(LogName.LOGIN_REFUSED, reason="busy", sub=None, address=address)
            raise
        now = self._clock()
        device, user = await self._find_known_device(device_token, username, now)
        is_looked_up = device is not None
        if device is None and "@" in username:
            # A username and an address of one account share its rate limit.
            user, is_looked_up = await users.find(self._database, username), True
            username = username if user is None else user.username
        if device is None:
            receipt = await self._throttle.charge_password(username, caller, now)
        else:
            receipt = await self._throttle.charge_password_on_device(device.id, now)
        try:
            if not is_looked_up:  # for an unknown name as often as for a known one (law 8)
                user = await users.find(self._database, username)
            password_hash = None if user is None else user.password_hash
            is_right = await self._passwords.verify(password, password_hash, origin=origin)
        except (Busy, StoreUnavailable) as error:
            if isinstance(error, Busy):
                emit(LogName.LOGIN_REFUSED, reason="busy", sub=None if user is None else user.id, address=address)
            await receipt.refund(now)  # the password was not checked
            raise
        can_enter = user is not None and (deletions.is_restorable(user, now) if for_restore else not user.is_disabled)
        if user is None or not is_right or not can_enter:
            reason = "unknown_user" if user is None else "wrong_password" if not is_right else "disabled"
            emit(LogName.LOGIN_REFUSED, reason=reason, sub=None if user is None else user.id, address=address)
            raise InvalidCredentials
        await receipt.refund(now)
        if self._passwords.is_outdated(user.password_hash):
            with suppress(Busy):  # the next login tries again
                await users.rehash(self._database, user, await self._passwords.hash(password))
        return Proved(user, self._clock(), device)

    async def _find_known_device(
        self, device_token: str | None, username: str, now: datetime
    ) -> tuple[Device | None, User | None]:
        """Return the device if its token names this user at the current credential version, and the user."""
        device = None if device_token is None else self._devices.find(device_token, now)
        if device is None:
            return None, None
        user = await users.find(self._database, username)
        return (device, user) if user is not None and device.is_of(user) else (None, None)
