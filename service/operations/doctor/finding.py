"""The types of `keyturn doctor`: what a check reads, and what it reports."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from service.clock import LEEWAY_SECONDS
from service.machine import memory_limit
from service.settings import Settings
from service.storage.database import Database
from service.storage.ephemeral_redis import Redis
from service.tokens.keys import Keys

if TYPE_CHECKING:
    from httpx2 import AsyncBaseTransport


ANSWER_TIMEOUT_SECONDS = 5.0
"""Seconds in which a URL must answer."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a check, with a verdict; `advice` says what to do."""

    verdict: Literal["ok", "warning", "wrong"]
    what: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What the checks read."""

    settings: Settings
    database: Database
    """Opened for reading only."""
    keys: Keys | None
    """`None` if the master secrets cannot be read, which the check of the master secrets reports."""
    clock: Callable[[], datetime]
    connect_redis: Callable[[str], Redis] = Redis
    transport: "AsyncBaseTransport | None" = None
    """The transport for HTTP requests; `None`: the network."""
    answer_timeout: float = ANSWER_TIMEOUT_SECONDS
    memory_limit: Callable[[], int | None] = memory_limit
    """Reads the memory limit of this machine or container, in bytes."""


def compare_clocks(whose: str, seconds: int) -> Finding:
    """Return the finding for a clock that is `seconds` behind this machine's (negative: ahead of it)."""
    if abs(seconds) <= LEEWAY_SECONDS:
        return Finding("ok", f"{whose} clock agrees with this machine's.")
    what = f"{whose} clock is {abs(seconds)} s {'behind' if seconds > 0 else 'ahead of'} this machine's."
    return Finding("wrong", what, "Synchronize both with NTP: codes, tokens and waits depend on the clock.")
