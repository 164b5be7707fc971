"""What a check of `keyturn doctor` reads, and what it reports."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from service.database import Database
from service.ephemeral_redis import Redis
from service.keys import Keys
from service.settings import Settings
from service.tokens import LEEWAY_SECONDS

if TYPE_CHECKING:
    from httpx2 import AsyncBaseTransport


ANSWER_TIMEOUT_SECONDS = 5.0
"""Seconds that a URL has."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: in order, to be watched, or wrong; `advice` says what to do."""

    verdict: Literal["ok", "warning", "wrong"]
    what: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What the checks look at."""

    settings: Settings
    database: Database
    """For reading only."""
    keys: Keys | None
    """`None` if the master secrets cannot be read, which a check of its own reports."""
    clock: Callable[[], datetime]
    connect_redis: Callable[[str], Redis] = Redis
    transport: "AsyncBaseTransport | None" = None
    """What carries requests to URLs; unset: the network."""


def compare_clocks(whose: str, seconds: int) -> Finding:
    """The finding for a clock that is `seconds` behind this machine's (negative: ahead of it)."""
    if abs(seconds) <= LEEWAY_SECONDS:
        return Finding("ok", f"{whose} clock agrees with this machine's.")
    what = f"{whose} clock is {abs(seconds)} s {'behind' if seconds > 0 else 'ahead of'} this machine's."
    return Finding("wrong", what, "Let NTP set both: codes, tokens and waits go by the clock.")
