"""Builds, from the forms in which lists of leaked passwords are published, the file that `list_file` searches.

The memory is bounded: the digests are sorted in chunks, written to a temporary file beside the output, and merged.
An input that is in order already, as downloads of Pwned Passwords are, needs no merging, whatever its size. The
output gets its name only when it is complete.
"""

import hashlib
import heapq
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from service.errors import ConfigurationError
from service.users.breached.list_file import DIGEST_BYTES, HEADER, write_header

CHUNK = 1 << 20
"""Digests that are sorted in memory at once. Together with the chunk before them they take about 150 MB."""

READ_ENTRIES = 8192
"""Digests of a sorted run that are read at once."""

MAX_LINE_BYTES = 8192
_BOM = b"\xef\xbb\xbf"
_HASH = re.compile(rb"([0-9A-Fa-f]{16})[0-9A-Fa-f]{24}:([0-9]{1,30})")
_SUFFIX = re.compile(rb"([0-9A-Fa-f]{11})[0-9A-Fa-f]{24}:([0-9]{1,30})")
_RANGE_NAME = re.compile(r"([0-9A-Fa-f]{5})(?:\.txt)?")

_ReadLine = Callable[[bytes], bytes | None]
"""Takes a line without its line break; returns the digest, or `None` to leave the line out. Raises `ValueError`."""


def build_list(
    inputs: Sequence[Path],
    output: Path,
    *,
    is_plain: bool,
    min_count: int,
    made_at: int,
    chunk: int = CHUNK,
    read_entries: int = READ_ENTRIES,
) -> int:
    """Write the file and return its number of entries; an existing file is replaced when the new one is complete.

    An input is a file with lines `SHA-1:COUNT`, a folder of range files (named by five hexadecimal digits, with lines
    `SUFFIX:COUNT`), or, with `is_plain`, a file with one password per line. Entries whose count is less than
    `min_count` are left out. `chunk` digests are sorted at once, and `read_entries` of a run are read at once.

    Raises `ConfigurationError` for an input that cannot be read, with the number of a line that is wrong; for an
    input that is the output; if no entry is left; and if the output cannot be written.
    """
    if any(_are_same_file(file, output) for file in inputs):
        raise ConfigurationError(f"{output} is an input: name another file for --output.")
    draft = output.with_name(f".{output.name}-{secrets.token_hex(8)}")
    try:
        with tempfile.TemporaryFile(dir=output.parent) as scratch, draft.open("xb") as out:
            runs = write_runs(_read_all(inputs, is_plain=is_plain, min_count=min_count), scratch, chunk=chunk)
            scratch.flush()
            out.write(write_header(0, made_at))
            entries = _write_entries(heapq.merge(*(_read_run(scratch, *run, read_entries) for run in runs)), out)
            out.seek(0)
            out.write(write_header(entries, made_at))
            out.flush()
            os.fsync(out.fileno())
        if entries == 0:
            raise ConfigurationError("The inputs have no password that belongs in the list. Nothing was written.")
        draft.replace(output)
        _sync_folder(output.parent)
    except OSError as error:
        raise ConfigurationError(f"{output} cannot be written: {error.strerror}.") from None
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
    return entries


def _are_same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one does not exist yet, or cannot be used: reading or writing it reports that
        return False


# ---- Reading the inputs


def _read_all(inputs: Sequence[Path], *, is_plain: bool, min_count: int) -> Iterator[bytes]:
    for path in inputs:
        if is_plain:
            yield from _read_file(path, _digest_of_password)
        elif os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises an error if the name is too long
            yield from _read_folder(path, min_count)
        else:
            yield from _read_file(path, partial(_digest_in_line, _HASH, "", min_count))


def _read_folder(folder: Path, min_count: int) -> Iterator[bytes]:
    """Yield the digests of the range files, in the order of their names; names that begin with a dot are left out."""
    try:
        files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be read: {error.strerror}.") from None
    for file in files:
        name = _RANGE_NAME.fullmatch(file.name)
        if name is None:
            raise ConfigurationError(f"{file} is not a range file: its name must have five hexadecimal digits.")
        yield from _read_file(file, partial(_digest_in_line, _SUFFIX, name[1], min_count))


def _read_file(path: Path, read: _ReadLine) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(partial(file.readline, MAX_LINE_BYTES), b""), 1):
                try:
                    content = _content_of(line, is_first=number == 1)
                    digest = read(content) if content else None
                except ValueError as error:  # the sentence does not quote the line, which may be a password
                    raise ConfigurationError(f"{path}: line {number} cannot be read: {error}.") from None
                if digest is not None:
                    yield digest
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from None


def _content_of(line: bytes, *, is_first: bool) -> bytes:
    """Return the line without its line break and its byte order mark. Raises `ValueError` if it is too long."""
    text = line.removesuffix(b"\n").removesuffix(b"\r")
    if len(text) >= MAX_LINE_BYTES - 1:  # the rest of it would be read as another line
        raise ValueError(f"it has {MAX_LINE_BYTES - 1} bytes or more")
    return text.removeprefix(_BOM) if is_first else text


def _digest_in_line(form: re.Pattern[bytes], prefix: str, min_count: int, line: bytes) -> bytes | None:
    match = form.fullmatch(line)
    if match is None:
        digits = 40 - len(prefix)
        raise ValueError(f"it must have {digits} hexadecimal digits of a SHA-1, a colon and a count")
    return bytes.fromhex(prefix + match[1].decode()) if int(match[2]) >= min_count else None


def _digest_of_password(line: bytes) -> bytes:
    if b"\0" in line:
        raise ValueError("it has a byte that is 0. Is the file in UTF-16? Convert it to UTF-8")
    return hashlib.sha1(line, usedforsecurity=False).digest()[:DIGEST_BYTES]


# ---- Sorting


def write_runs(digests: Iterator[bytes], scratch: BinaryIO, *, chunk: int = CHUNK) -> list[tuple[int, int]]:
    """Write the digests in ascending runs, and return where each run begins and how many digests it has.

    A chunk continues the run before it if its first digest is not less than the last digest of that run.
    """
    runs: list[tuple[int, int]] = []
    last = b""
    while ordered := sorted(islice(digests, chunk)):
        if runs and ordered[0] >= last:
            begin, count = runs.pop()
        else:
            begin, count = scratch.tell(), 0
        scratch.write(b"".join(ordered))
        runs.append((begin, count + len(ordered)))
        last = ordered[-1]
    return runs


def _read_run(scratch: BinaryIO, begin: int, count: int, read_entries: int) -> Iterator[bytes]:
    end = begin + count * DIGEST_BYTES
    for position in range(begin, end, read_entries * DIGEST_BYTES):
        block = os.pread(scratch.fileno(), min(read_entries * DIGEST_BYTES, end - position), position)
        for start in range(0, len(block), DIGEST_BYTES):
            yield block[start : start + DIGEST_BYTES]


def _write_entries(digests: Iterable[bytes], out: BinaryIO) -> int:
    """Write each digest once, and return how many there are."""
    written, last = 0, b""
    for digest in digests:
        if digest != last:
            out.write(digest)
            written += 1
            last = digest
    assert out.tell() == HEADER.size + written * DIGEST_BYTES
    return written


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
