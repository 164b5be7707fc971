"""The named rate limits. Every attempt is charged before the secret is checked, and refunded on success.

There are two exceptions. A successful code uses up its pending token, so its charge stays. Requests that check no
secret (`signup`, `qrcode`, `reset` and `message`) are never refunded.
An address stands for its client network: for IPv6 the /64.

Law 4: reserve, then verify. Law 5: password failures slow down, they never lock out.

| limit    | what it counts                                        | beyond it                                  |
|----------|-------------------------------------------------------|--------------------------------------------|
| signup   | accounts requested, per address                       | refused until the window ends              |
| password | failures per (username, address)                      | a wait, growing to a minute; never a lock  |
|          | failures per username, from all addresses             | one free failure per address, not five     |
|          | failures per address                                  | refused until the window ends              |
| device   | failures on a known device, instead of those three    | a wait, growing to a minute                |
| pending  | codes of one kind with one pending token              | refused: `invalid_token`                   |
| qrcode   | QR codes of a user's unconfirmed secret               | refused until the window ends              |
| reset    | requests to reset a password, per address             | refused until the window ends              |
| message  | messages to an e-mail address that is not confirmed   | refused until the window ends              |

The budgets of codes are kept in SQL, by `service/factors/attempts.py`, where they cannot be lost.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from service.errors import InvalidToken, TooManyAttempts
from service.origin import Caller
from service.storage.ephemeral import Bucket, Ephemeral, RateLimit
from service.telemetry.event_names import LogName
from service.telemetry.log import emit
from service.values import Rate

CODES_PER_PENDING_TOKEN = 5
QRCODE_LIMIT = RateLimit(free=20, window=300)
"""Drawing a QR code takes milliseconds of pure Python, and every new user may request one."""

RESET_LIMIT = RateLimit(free=10, window=3600)
MESSAGE_LIMIT = RateLimit(free=5, window=3600)

NO_LIMIT = RateLimit(free=None, window=60)


class Throttle:
    """Charges attempts to the named rate limits; a rate of `None` switches its limit off."""

    def __init__(
        self,
        ephemeral: Ephemeral,
        *,
        signup: Rate | None,
        login: Rate | None,
        login_address: Rate | None,
        login_username: Rate | None,
        pending_ttl: timedelta,
    ) -> None:
        self._ephemeral = ephemeral
        self._signup = _rate_limit(signup)
        self._login = _rate_limit(login, backoff=True)
        self._login_address = _rate_limit(login_address)
        self._login_username = _rate_limit(login_username)
        window = max(1, int(pending_ttl.total_seconds()))
        # Not smaller while Redis is down: a typing error must not use up the token, and SQL bounds guesses.
        self._pending = RateLimit(free=CODES_PER_PENDING_TOKEN, window=window)

    async def charge_signup(self, caller: Caller, now: datetime) -> None:
        """Charge one sign-up, or raise `TooManyAttempts` if this address requested too many accounts.

        Call `Passwords.ensure_capacity` before this, so that a request that finds the hashing queue full is normally
        not charged. One that loses its place later stays charged: its answer has told that the username is free.
        """
        await self._charge("signup", (Bucket(f"signup:{{{caller.network}}}", self._signup),), now)

    async def charge_password(self, username: str, caller: Caller, now: datetime) -> "Receipt":
        """Charge one attempt at a password, or raise `TooManyAttempts`."""
        origin = caller.network
        buckets = (
            Bucket(
                f"password:{{{username}}}:{origin}", self._login,
                aggregate_key=f"password:{{{username}}}", aggregate_limit=self._login_username,
            ),
            Bucket(f"address:{{{origin}}}", self._login_address),
        )  # fmt: skip
        return await self._charge("password", buckets, now)

    async def charge_password_on_device(self, device_id: str, now: datetime) -> "Receipt":
        """Like `charge_password`, but per known device: failures elsewhere do not slow it down."""
        return await self._charge("device", (Bucket(f"device:{{{device_id}}}", self._login),), now)

    async def charge_code(self, jti: str, kind: str, now: datetime) -> "Receipt":
        """Charge one code of a kind with a pending token, or raise `InvalidToken` from the sixth of its kind on."""
        try:
            return await self._charge("pending", (Bucket(f"pending:{{{jti}}}:{kind}", self._pending),), now)
        except TooManyAttempts:
            raise InvalidToken from None

    async def charge_qrcode(self, user_id: str, now: datetime) -> None:
        """Raise `TooManyAttempts` if this user's QR code was requested too often. Never refunded."""
        await self._charge("qrcode", (Bucket(f"qrcode:{{{user_id}}}", QRCODE_LIMIT),), now)

    async def charge_password_reset(self, caller: Caller, now: datetime) -> None:
        """Raise `TooManyAttempts` if this address requested too many links, whatever the users. Never refunded."""
        await self._charge("reset", (Bucket(f"reset:{{{caller.network}}}", RESET_LIMIT),), now)

    async def charge_message(self, digest: str, now: datetime) -> None:
        """Charge a message to the e-mail address with this digest, or raise `TooManyAttempts`.

        Nobody has confirmed the address, so it may be that of a person who does not use the service.
        """
        await self._charge("message", (Bucket(f"message:{{{digest}}}", MESSAGE_LIMIT),), now)

    async def _charge(self, limit: str, buckets: tuple[Bucket, ...], now: datetime) -> "Receipt":
        wait, charged_store = await self._ephemeral.charge_tracked(*buckets, now=now)
        if wait > 0:
            emit(LogName.LIMIT_HIT, limit=limit, retry_after=round(wait, 1))
            raise TooManyAttempts(wait)
        return Receipt(charged_store, buckets)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The charge for an attempt. Refund it if the password was right, or if no secret was checked."""

    _store: Ephemeral
    _buckets: tuple[Bucket, ...]

    async def refund(self, now: datetime) -> None:
        await self._store.refund(*self._buckets, now=now)


def _rate_limit(rate: Rate | None, *, backoff: bool = False) -> RateLimit:
    if rate is None:
        return NO_LIMIT
    return RateLimit(rate.count, rate.window, backoff=backoff, fallback_free=max(1, rate.count // 4))
