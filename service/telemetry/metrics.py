"""Prometheus metrics: what `GET /metrics` returns, and how each event of the log is counted.

Code reports a decision once, with `log.emit`, which calls `count` for the event. An event that is too frequent for a
log line (a refresh, an accepted code) is only counted. This file names the labels; `operations/database_metrics.py`
names the labels of the metrics that are read from the database. The values of labels are words of the code and small
numbers. None is a user, an address or another value that a caller chooses, so that no caller can create many series,
and none is a secret (law 15: logs, metrics, traces, errors and outbox rows hold no secret).

The metrics are those of this process. With several workers they are those of all workers together: the workers write
them to files in one folder, and the worker that answers the request adds them up. Each replica reports its own.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)
from prometheus_client.registry import Collector

from service.errors import ConfigurationError
from service.telemetry.event_names import EventName, LogName, Name

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Detail = str | int | float | bool | None
"""The value of one detail of an event: see `log`."""

_SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable from which the library reads, at import, the folder that workers share. It has no other interface."""

_PID = re.compile(r"_([0-9]+)\.db$")
"""The process in the name of a file of that folder."""

_DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds, from the signature of a token to a hash that waited so long that most clients have given up."""

disable_created_metrics()  # type: ignore[no-untyped-call]
_registry = CollectorRegistry()

EVENTS = Counter(
    "keyturn_events",
    "Log lines, by their event; also accepted codes and refreshes, which write no line.",
    ["event"],
    registry=_registry,
)
LOGINS = Counter("keyturn_logins", "Attempts with a password, by outcome.", ["outcome"], registry=_registry)
CODES = Counter(
    "keyturn_codes", "Verification codes, by outcome and, where known, by the time steps of 30 s that the "
    "authenticator was ahead.", ["outcome", "offset"], registry=_registry,
)  # fmt: skip
RECOVERY_CODES = Counter("keyturn_recovery_codes", "Recovery codes, by outcome.", ["outcome"], registry=_registry)
REFRESHES = Counter("keyturn_refreshes", "Refresh tokens, by outcome.", ["outcome"], registry=_registry)
LIMITS_HIT = Counter("keyturn_limits_hit", "Attempts that a rate limit refused.", ["limit"], registry=_registry)
STORE_ERRORS = Counter(
    "keyturn_store_errors", "Calls that failed because a store could not be used.", ["store"], registry=_registry
)
BREAKER_OPEN = Gauge(
    "keyturn_redis_breaker_open",
    "Workers whose circuit breaker is open: they do without Redis now, with smaller rate limits of sign-up and "
    "login.",
    registry=_registry, multiprocess_mode="livesum",
)  # fmt: skip
HASH_SECONDS = Histogram(
    "keyturn_hash_seconds",
    "The duration of a password hash in seconds.",
    buckets=_DURATION_BUCKETS,
    registry=_registry,
)
HASH_WAIT_SECONDS = Histogram(
    "keyturn_hash_wait_seconds",
    "The wait for a hashing thread in seconds.",
    buckets=_DURATION_BUCKETS,
    registry=_registry,
)
HASH_QUEUE = Gauge(
    "keyturn_hash_queue",
    "Password hashes that wait for a thread now.",
    registry=_registry,
    multiprocess_mode="livesum",
)
HASH_REFUSED = Counter(
    "keyturn_hash_refused", "Password hashes that were refused because the queue was full.", registry=_registry
)
BREACHED_CHECKS = Counter(
    "keyturn_breached_checks",
    "New passwords that were compared with a list of leaked ones, by outcome.",
    ["outcome"],
    registry=_registry,
)
REQUESTS = Counter(
    "keyturn_requests", "Answers, by route, method and status.", ["route", "method", "status"], registry=_registry
)
REQUEST_SECONDS = Histogram(
    "keyturn_request_seconds",
    "The time from the head of a request to its answer in seconds.",
    ["route"],
    buckets=_DURATION_BUCKETS,
    registry=_registry,
)
BUILD = Gauge(
    "keyturn_build_info", "Always 1; the label is the version.", ["version"],
    registry=_registry, multiprocess_mode="max",
)  # fmt: skip

# Create the rare and alarming series at the start: a series that appears with its first event shows no increase.
for _counter, _labels in (
    (LOGINS, ("second_factor_required", "admitted", "invalid_credentials", "waiting", "busy")),
    (RECOVERY_CODES, ("accepted", "refused")),
    (REFRESHES, ("rotated", "repeated", "reused", "refused")),
    (STORE_ERRORS, ("sql", "redis")),
    (BREACHED_CHECKS, ("found", "not_found", "failed")),
    (EVENTS, (EventName.CODE_REFUSED_REPEATEDLY, EventName.RECOVERY_STARTED)),
    (EVENTS, (LogName.MESSAGE_SENT, LogName.MESSAGE_REFUSED, LogName.MESSAGE_DROPPED)),
):
    for _label in _labels:
        _counter.labels(_label)
for _label in ("no_match", "claimed", "consumed", "waiting"):
    CODES.labels(_label, "")

_METHODS = frozenset({"GET", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})


def count(event: Name, details: Mapping[str, Detail]) -> None:
    """Count an event of the log, by its name and by its meaning.

    A test lists the names that have a meaning here, so that no name is left out by mistake.
    """
    EVENTS.labels(event).inc()
    match event:
        case LogName.LOGIN_SECOND_FACTOR_REQUIRED:
            LOGINS.labels("second_factor_required").inc()
        case EventName.LOGIN_ADMITTED if details.get("amr") == "pwd":
            LOGINS.labels("admitted").inc()
        case LogName.LOGIN_REFUSED:
            LOGINS.labels("busy" if details.get("reason") == "busy" else "invalid_credentials").inc()
        case LogName.CODE_ACCEPTED | LogName.CODE_REFUSED:
            CODES.labels(details.get("reason", "accepted"), details.get("offset_steps", "")).inc()
        case EventName.RECOVERY_CODE_USED:
            RECOVERY_CODES.labels("accepted").inc()
        case LogName.RECOVERY_CODE_REFUSED:
            RECOVERY_CODES.labels("refused").inc()
        case LogName.SESSION_REFRESHED:
            REFRESHES.labels("repeated" if details.get("is_repeated") else "rotated").inc()
        case EventName.SESSION_REFRESH_REUSED:
            REFRESHES.labels("reused").inc()
        case LogName.SESSION_REFRESH_REFUSED:
            REFRESHES.labels("refused").inc()
        case LogName.LIMIT_HIT:
            LIMITS_HIT.labels(details["limit"]).inc()
            if details["limit"] in {"password", "device"}:
                LOGINS.labels("waiting").inc()


def count_request(route: str, method: str, status: int, seconds: float | None = None) -> None:
    """Count an answer. `route` is the declared path, never the requested one. Status 0: there was no answer."""
    REQUESTS.labels(route, method if method in _METHODS else "other", status or "none").inc()
    if seconds is not None:
        REQUEST_SECONDS.labels(route).observe(seconds)


def render(*others: Collector) -> bytes:
    """Return all metrics, and those of other collectors, in Prometheus' text format."""
    registry = CollectorRegistry()
    folder = os.environ.get(_SHARED_FOLDER)
    if folder is None:
        registry.register(_registry)
    else:
        _remove_dead_workers(Path(folder))
        multiprocess.MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
    for collector in others:
        registry.register(collector)
    return generate_latest(registry)


@contextmanager
def shared_between_workers() -> Iterator[None]:
    """Let the worker processes that start inside this block add up their metrics."""
    try:
        folder = tempfile.mkdtemp(prefix="keyturn-metrics-")
    except OSError as error:
        raise ConfigurationError(
            f"Several workers share their metrics in a temporary folder, which cannot be created: {error.strerror}. "
            "Give the container a writable /tmp (a few megabytes; a tmpfs suffices), or use one worker."
        ) from None
    os.environ[_SHARED_FOLDER] = folder
    try:
        yield
    finally:
        del os.environ[_SHARED_FOLDER]
        shutil.rmtree(folder, ignore_errors=True)


def leave_shared_folder() -> None:
    """Remove the files of this worker, whose parent has died, and of dead workers; then the folder, if empty."""
    folder = os.environ.get(_SHARED_FOLDER)
    if folder is None:
        return
    for file in Path(folder).glob("*.db"):
        found = _PID.search(file.name)
        if found is not None and (int(found[1]) == os.getpid() or not _is_running(int(found[1]))):
            file.unlink(missing_ok=True)
    with suppress(OSError):
        Path(folder).rmdir()


def _remove_dead_workers(folder: Path) -> None:
    """Remove the current values of workers that have died, such as waiting hashes, and keep their counters."""
    for file in folder.glob("gauge_live*_*.db"):
        found = _PID.search(file.name)
        if found is not None and not _is_running(int(found[1])):
            multiprocess.mark_process_dead(int(found[1]), str(folder))  # type: ignore[no-untyped-call]


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
