"""Records of the service's log."""

import logging
from typing import Any


def details_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return the details that the service logged with an event."""
    details: dict[str, Any] = record.__dict__["details"]
    return details
