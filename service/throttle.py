"""The named limits. Every attempt is paid for before the secret is looked at, and refunded on success.

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

from service.ephemeral import Budget, Charge, Ephemeral
from service.errors import InvalidToken, TooManyAttempts
from service.log import emit

CODES_PER_PENDING_TOKEN = 5
QRCODE = Budget(free=20, window=300)
"""Drawing is milliseconds of pure Python, and whoever signs up may ask for it."""

OFF = Budget(free=None, window=60)


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
        self._login = _budget(login, growing=True)
        self._login_address = _budget(login_address)
        self._login_username = _budget(login_username)
        window = max(1, int(pending_ttl.total_seconds()))
        # Not smaller while Redis is away: an honest typo must not kill the token, and SQL bounds guessing.
        self._pending = Budget(free=CODES_PER_PENDING_TOKEN, window=window)

    async def pay_signup(self, address: str, now: datetime) -> None:
        """Raise `TooManyAttempts` if this address asked for too many accounts. Never refunded."""
        await self._pay("signup", (Charge(f"signup:{{{network(address)}}}", self._signup),), now)

    async def pay_password(self, username: str, address: str, now: datetime) -> "Payment":
        """Pay for one look at a password, or raise `TooManyAttempts`."""
        origin = network(address)
        charges = (
            Charge(
                f"password:{{{username}}}:{origin}", self._login,
                crowd=f"password:{{{username}}}", crowd_budget=self._login_username,
            ),
            Charge(f"address:{{{origin}}}", self._login_address),
        )  # fmt: skip
        return await self._pay("password", charges, now)

    async def pay_password_on_device(self, device_id: str, now: datetime) -> "Payment":
        """The same on a known device, which pays for itself: what others do in this name slows nobody there."""
        return await self._pay("device", (Charge(f"device:{{{device_id}}}", self._login),), now)

    async def pay_code(self, jti: str, kind: Literal["otp", "recovery"], now: datetime) -> "Payment":
        """Pay for one code of a kind under a pending token; the sixth is refused, the token is dead."""
        try:
            return await self._pay("pending", (Charge(f"pending:{{{jti}}}:{kind}", self._pending),), now)
        except TooManyAttempts:
            raise InvalidToken from None

    async def pay_qrcode(self, user_id: str, now: datetime) -> None:
        """Raise `TooManyAttempts` if this person's QR code was asked for too often. Never refunded."""
        await self._pay("qrcode", (Charge(f"qrcode:{{{user_id}}}", QRCODE),), now)

    async def _pay(self, limit: str, charges: tuple[Charge, ...], now: datetime) -> "Payment":
        wait, payee = await self._ephemeral.pay_noting(*charges, now=now)
        if wait > 0:
            emit("limit.hit", limit=limit, retry_after=round(wait, 1))
            raise TooManyAttempts(wait)
        return Payment(payee, charges)


@dataclass(frozen=True, slots=True)
class Payment:
    """What was paid for an attempt; give it back when the secret was right or was never looked at."""

    _payee: Ephemeral
    _charges: tuple[Charge, ...]

    async def refund(self, now: datetime) -> None:
        await self._payee.refund(*self._charges, now=now)


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


def _budget(rate: Rate | None, *, growing: bool = False) -> Budget:
    if rate is None:
        return OFF
    return Budget(rate.count, rate.window, growing=growing, alone=max(1, rate.count // 4))
