"""The named limits. Every attempt is charged before the secret is checked, and refunded on success.

Law 4: reserve, then verify.

| limit    | what it counts                                        | beyond it                                  |
|----------|-------------------------------------------------------|--------------------------------------------|
| signup   | accounts asked for, per address                       | nothing until the window ends              |
| password | failures per (username, address)                      | a wait, growing to a minute; never a lock  |
|          | failures per username, from everywhere                | one free failure an address, not five      |
|          | failures per address                                  | nothing until the window ends              |
| device   | failures on a known device, in place of those three   | a wait, growing to a minute                |
| pending  | codes under one pending token                         | the token is dead                          |
| qrcode   | pictures of a person's unconfirmed secret             | nothing until the window ends              |

The codes' own budget stands in SQL, in `factors.py`, where nothing can lose it.
"""

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from service.ephemeral import Bucket, Budget, Ephemeral
from service.errors import InvalidToken, TooManyAttempts
from service.log import emit

CODES_PER_PENDING_TOKEN = 5
QRCODE_BUDGET = Budget(free=20, window=300)
"""Drawing is milliseconds of pure Python, and whoever signs up may ask for it."""

NO_LIMIT = Budget(free=None, window=60)


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` in `window` seconds, as an operator writes it: `5/15m`."""

    count: int
    window: int


class Throttle:
    """`None` in place of a rate switches that limit off."""

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
        self._signup = _budget(signup)
        self._login = _budget(login, backoff=True)
        self._login_address = _budget(login_address)
        self._login_username = _budget(login_username)
        window = max(1, int(pending_ttl.total_seconds()))
        # Not smaller while Redis is away: an honest typo must not kill the token, and SQL bounds guessing.
        self._pending = Budget(free=CODES_PER_PENDING_TOKEN, window=window)

    async def charge_signup(self, address: str, now: datetime) -> None:
        """Raise `TooManyAttempts` if this address asked for too many accounts. Never refunded."""
        await self._charge("signup", (Bucket(f"signup:{{{network(address)}}}", self._signup),), now)

    async def charge_password(self, username: str, address: str, now: datetime) -> "Receipt":
        """Charge one attempt at a password, or raise `TooManyAttempts`."""
        origin = network(address)
        buckets = (
            Bucket(
                f"password:{{{username}}}:{origin}", self._login,
                aggregate_key=f"password:{{{username}}}", aggregate_budget=self._login_username,
            ),
            Bucket(f"address:{{{origin}}}", self._login_address),
        )  # fmt: skip
        return await self._charge("password", buckets, now)

    async def charge_password_on_device(self, device_id: str, now: datetime) -> "Receipt":
        """Like `charge_password`, but per known device: failures elsewhere do not slow it down."""
        return await self._charge("device", (Bucket(f"device:{{{device_id}}}", self._login),), now)

    async def charge_code(self, jti: str, kind: Literal["otp", "recovery"], now: datetime) -> "Receipt":
        """Charge one code of a kind under a pending token; the sixth is refused, the token is dead."""
        try:
            return await self._charge("pending", (Bucket(f"pending:{{{jti}}}:{kind}", self._pending),), now)
        except TooManyAttempts:
            raise InvalidToken from None

    async def charge_qrcode(self, user_id: str, now: datetime) -> None:
        """Raise `TooManyAttempts` if this person's QR code was asked for too often. Never refunded."""
        await self._charge("qrcode", (Bucket(f"qrcode:{{{user_id}}}", QRCODE_BUDGET),), now)

    async def _charge(self, limit: str, buckets: tuple[Bucket, ...], now: datetime) -> "Receipt":
        wait, charged_store = await self._ephemeral.charge_tracked(*buckets, now=now)
        if wait > 0:
            emit("limit.hit", limit=limit, retry_after=round(wait, 1))
            raise TooManyAttempts(wait)
        return Receipt(charged_store, buckets)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was charged for an attempt; refund it when the secret was right or was never checked."""

    _store: Ephemeral
    _buckets: tuple[Bucket, ...]

    async def refund(self, now: datetime) -> None:
        await self._store.refund(*self._buckets, now=now)


def network(address: str) -> str:
    """What counts as one origin: an IPv4 address, or the /64 that one IPv6 household or server owns."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((ip, 64), strict=False).network_address) + "/64"


def _budget(rate: Rate | None, *, backoff: bool = False) -> Budget:
    if rate is None:
        return NO_LIMIT
    return Budget(rate.count, rate.window, backoff=backoff, fallback_free=max(1, rate.count // 4))
