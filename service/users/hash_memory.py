"""The memory that concurrent hashes take: an imported hash may need as much as seven of ours.

The number of hashing threads follows from the memory limit, at one of our hashes per thread. A hash that needs more
takes the place of several, so that the threads together need no more memory than planned, or than one such hash.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class HashMemory:
    """Memory for concurrent hashes, in units of one of our hashes; first come, first served."""

    def __init__(self, units: int, *, unit_kib: int) -> None:
        self._units = self._free = units
        self._unit_kib = unit_kib
        self._order = threading.Lock()  # held while waiting: otherwise small hashes could delay a large one for ever
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, kib: int) -> Iterator[None]:
        """Wait for the memory of a hash that needs `kib` KiB, and reserve it for the block.

        It is at least one unit, and at most all units: a hash that needs more than that takes it nevertheless.
        """
        units = min(max(1, -(-kib // self._unit_kib)), self._units)
        with self._order, self._changed:
            self._changed.wait_for(lambda: self._free >= units)
            self._free -= units
        try:
            yield
        finally:
            with self._changed:
                self._free += units
                self._changed.notify()
