"""Temporary files in memory, where the machine has room for them."""

import os
import re
from pathlib import Path

from service.machine import MIB, memory_limit

_IN_MEMORY = Path("/dev/shm")  # noqa: S108 -- pytest makes a private folder in it
_ROOM_BYTES = 4096 * MIB
"""Twice of what the temporary files of a whole run need."""


def keep_temporary_files_in_memory() -> None:
    """Let pytest make its temporary folders in memory: on a disk, each commit of SQLite waits until it is written.

    The commits, their order and their locks stay the same. `PYTEST_DEBUG_TEMPROOT` chooses another place.
    """
    if "PYTEST_DEBUG_TEMPROOT" not in os.environ and _has_room():
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(_IN_MEMORY)


def _has_room() -> bool:
    if not os.access(_IN_MEMORY, os.W_OK | os.X_OK):
        return False
    place = os.statvfs(_IN_MEMORY)
    if place.f_flag & os.ST_NOEXEC:  # tests install programs and libraries
        return False
    (available,) = re.findall(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text("ascii"), re.MULTILINE)
    room = min(place.f_bavail * place.f_frsize, int(available) * 1024 // 2)
    return min(room, memory_limit() or room) >= _ROOM_BYTES
