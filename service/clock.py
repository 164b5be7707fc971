"""The wall clock, and the only place that reads it.

Every operation reads it once (and once more after hashing a password) and passes `now` down, so that one request uses
one time and a test can set it.
"""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns the current time as an aware `datetime` in UTC."""

LEEWAY_SECONDS = 10
"""Seconds by which two replicas' clocks may differ."""


def system_clock() -> datetime:
    """The machine's time, in UTC whatever zone the process runs in."""
    return datetime.now(UTC)


def unix_seconds(moment: datetime) -> int:
    """Whole seconds since 1970, as tokens (RFC 7519, NumericDate) and rows keep them."""
    return int(moment.timestamp())
