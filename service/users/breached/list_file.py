"""A file of leaked passwords: the first eight bytes of the SHA-1 of each, in ascending order, behind a header.

With a thousand million entries, the search wrongly finds a password that is not in the list with a probability of one
in eighteen thousand million (10^9 / 2^64). The search uses `pread` in a thread and no memory map, for two reasons:
the event loop does not wait for the disk, and a file that somebody truncates causes an error in place of SIGBUS,
which would end the process. An opened file stays the same when another one is moved to its path.
"""

import asyncio
import os
import struct
from bisect import bisect_left
from pathlib import Path
from typing import Self

from service.users.breached.source import Unanswered

DIGEST_BYTES = 8
MAGIC = b"ktleaked"
FORMAT = 1
HEADER = struct.Struct(">8sBB6xQQ")
"""The magic, the number of the format, the bytes of a digest, the number of entries, and when the file was made."""

_BLOCK = 512
"""Entries that are read at once at the end of a search: 4 KiB, a page of the file."""


def write_header(entries: int, made_at: int) -> bytes:
    return HEADER.pack(MAGIC, FORMAT, DIGEST_BYTES, entries, made_at)


class ListFile:
    """A `Source` that searches a file."""

    def __init__(self, handle: int, entries: int, made_at: int) -> None:
        self._handle = handle
        self.entries = entries
        self.made_at = made_at
        """When the file was made, in Unix seconds."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file.

        Raises `ValueError`, with the reason, if it cannot be read or is not a whole file of this format.
        """
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise ValueError(f"it cannot be read: {error.strerror}") from None
        try:
            return cls(handle, *_read_header(handle))
        except OSError as error:
            os.close(handle)
            raise ValueError(f"it cannot be read: {error.strerror}") from None
        except ValueError:
            os.close(handle)
            raise

    async def has(self, digest: bytes) -> bool:
        try:
            return await asyncio.to_thread(self._find, digest[:DIGEST_BYTES])
        except OSError:
            raise Unanswered("unreadable") from None

    async def close(self) -> None:
        os.close(self._handle)

    def _find(self, wanted: bytes) -> bool:
        low, high = 0, self.entries  # an entry that is `wanted` is at `low` or after it, and before `high`
        while high - low > _BLOCK:
            middle = (low + high) // 2
            if self._read(middle, 1) <= wanted:
                low = middle
            else:
                high = middle
        block = self._read(low, high - low)

        def entry(number: int) -> bytes:
            return block[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES]

        return entry(bisect_left(range(high - low), wanted, key=entry)) == wanted

    def _read(self, first: int, count: int) -> bytes:
        size = count * DIGEST_BYTES
        found = os.pread(self._handle, size, HEADER.size + first * DIGEST_BYTES)
        if len(found) != size:
            raise Unanswered("unreadable")  # the file was truncated after the start
        return found


def _read_header(handle: int) -> tuple[int, int]:
    """Return the number of entries and when the file was made. Raises `ValueError`."""
    size = os.fstat(handle).st_size
    header = os.pread(handle, HEADER.size, 0)
    if len(header) < HEADER.size or not header.startswith(MAGIC):
        raise ValueError("it is not a list that keyturn passwords build-list made")
    _, number, digest_bytes, entries, made_at = HEADER.unpack(header)
    if (number, digest_bytes) != (FORMAT, DIGEST_BYTES):
        raise ValueError("another version of Keyturn made it, in a format that this version does not read")
    if entries == 0 or size != HEADER.size + entries * DIGEST_BYTES:
        raise ValueError("it is damaged: its size does not match its number of entries")
    return entries, made_at
