"""How much memory hashes take at the same time: an imported one may need as much as seven of ours.

The number of hashing threads follows from the memory limit, at one of our hashes a thread. A hash that needs more
takes the places of several, so that the threads together never need more than was counted on.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class HashMemory:
    """Room for hashes that are computed at the same time, in units of one of ours; first come, first served."""

    def __init__(self, units: int, *, unit_kib: int) -> None:
        self._units = self._free = units
        self._unit_kib = unit_kib
        self._first = threading.Lock()  # held while waiting, so that small hashes do not delay a large one for ever
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, kib: int) -> Iterator[None]:
        """Wait for the room of a hash that needs so many KiB, and hold it for the block. One unit at least."""
        units = min(max(1, -(-kib // self._unit_kib)), self._units)
        with self._first, self._changed:
            self._changed.wait_for(lambda: self._free >= units)
            self._free -= units
        try:
            yield
        finally:
            with self._changed:
                self._free += units
                self._changed.notify()
