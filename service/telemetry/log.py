"""The log: one line for each decision, with its real reason; decisions that are too frequent are only counted.

Answers are the same for everyone (law 8: no answer reveals who exists); the log has the reason. No line has a secret
(law 15: logs, metrics, traces, errors and outbox rows hold no secret): lines name users by their opaque `sub`, not by
their usernames. A line as JSON has the id of the request that caused it; a line for the console has not. Each
decision is also counted in the `metrics`.
"""

import json
import logging
import sys
from collections.abc import Collection
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

from service.telemetry import metrics
from service.telemetry.event_names import Name
from service.telemetry.metrics import Detail

request_id: ContextVar[str] = ContextVar("request_id", default="-")

_log = logging.getLogger("keyturn")
_log.addHandler(logging.NullHandler())  # a process that configures no log, such as a test, writes no lines

__all__ = ["Detail", "configure", "emit", "request_id", "warn"]


def emit(event: Name, **details: Detail) -> None:
    """Report one decision, for example `emit(LogName.LOGIN_REFUSED, reason="wrong_password", sub=user.id)`."""
    metrics.count(event, details)
    _log.info(event, extra={"details": details})


def warn(event: Name, **details: Detail) -> None:
    """Report something that an operator should check."""
    metrics.count(event, details)
    _log.warning(event, extra={"details": details})


def configure(
    log_format: Literal["json", "console"], *, level: int = logging.INFO, left_out: Collection[Name] = ()
) -> None:
    """Send the lines of `level` and above to standard error in one format, also those of uvicorn.

    Lines with a name in `left_out` are not sent.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(lambda record: record.getMessage() not in left_out)
    handler.setFormatter(JsonLines() if log_format == "json" else ConsoleLines())
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name in ("uvicorn", "uvicorn.error", "alembic"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("uvicorn.access").propagate = False  # the lines about decisions replace the access log
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # The HTTP client reports the URL of each request. That of the webhook may hold a secret, and that of a range of
    # leaked passwords has a part of a password's hash.
    for name in ("httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "severity": record.levelname,  # the name and the values that Google Cloud Logging parses
            "event": record.getMessage(),
            "request_id": request_id.get(),
        }
        line |= getattr(record, "details", {})
        if record.exc_info:
            line["traceback"] = _where(record)
        return json.dumps(line, default=str)


class ConsoleLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        details = "".join(f" {name}={_quoted(value)}" for name, value in getattr(record, "details", {}).items())
        time = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        where = f"\n{_where(record)}" if record.exc_info else ""
        return f"{time} {record.levelname.lower():7} {record.getMessage()}{details}{where}"


def _quoted(value: object) -> str:
    """Return the value, between quotation marks if it could be read as several details or lines."""
    text = str(value)
    if text.isprintable() and not any(character in ' "=' for character in text):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _where(record: logging.LogRecord) -> str:
    """The exception's type and the lines that it passed, without its text, which could quote a value."""
    kind, _, trace = record.exc_info or (None, None, None)
    places = []
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return " < ".join([getattr(kind, "__name__", "?"), *reversed(places)])
