"""The order of the tests, and how many run at the same time, where pytest-xdist divides them between processes.

Long tests begin first: a process that began one last would finish alone. With `--dist worksteal` each process gets a
part of the list, and one that has nothing left takes the later half of what another has. So a file is run by one
process for the most part, which then starts its servers once.
"""

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.machine import count_cores

SLOWEST = (
    "test_fault_suite",
    "test_previous_version",
    "test_workers",
    "test_races",
    "test_refresh_races",
    "test_attack",
    "test_draining",
    "test_webhook",
    "test_openapi",
    "test_other_clients",
    "test_resealing",
    "test_mailbox_alone",
    "test_cli",
    "test_cli_accounts",
    "test_deploy_backup",
    "test_token_kinds",
    "test_model_and_service",
    "test_guides",
    "test_examples",
    "test_state_machine",
    "test_moving",
    "test_restoring",
    "test_tracing",
    "test_deploy_monitoring",
    "test_postgresql",
    "test_doctor",
    "test_database",
    "test_model",
)
"""Files with tests that take long."""

HEAVY_AT_ONCE = 2


def processes() -> int:
    """Return one more than the cores, because many heavy tests mostly wait; four at most."""
    return min(4, count_cores() + 1)


def order(items: list[pytest.Item], workers: int) -> None:
    """Put the heavy tests first, and then the slowest files; the first two of several workers get the heavy ones.

    The files of heavy tests alternate between these two, so that neither waits for a place.
    """
    ranks = {name: rank for rank, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))
    heavy = [item for item in items if item.get_closest_marker("heavy")]
    others = [item for item in items if not item.get_closest_marker("heavy")]
    parts: list[list[pytest.Item]] = [[] for _ in range(max(1, workers))]
    files = list(dict.fromkeys(item.path for item in heavy))
    for item in heavy:
        parts[files.index(item.path) % HEAVY_AT_ONCE % len(parts)].append(item)
    for part in reversed(parts):
        room = max(0, len(items) // len(parts) - len(part))
        part.extend(others[:room])
        del others[:room]
    items[:] = [item for part in parts for item in part] + others


@contextlib.contextmanager
def place_of_a_heavy_test(item: pytest.Item) -> Iterator[None]:
    """Wait until fewer than two other processes run a heavy test."""
    folder = item.config.getoption("basetemp") if hasattr(item.config, "workerinput") else None
    if folder is None:
        yield
        return
    with contextlib.ExitStack() as stack:
        places = [
            stack.enter_context((Path(folder).parent / f"heavy{number}").open("a")) for number in range(HEAVY_AT_ONCE)
        ]
        while not any(_lock(place.fileno()) for place in places):
            time.sleep(0.1)
        yield


def _lock(file: int) -> bool:
    """Lock a file until it is closed, unless another process has locked it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
