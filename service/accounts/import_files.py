"""Files of accounts, line by line: one JSON object per line, or CSV with a header line as spreadsheets write it.

Only the first line that is not blank decides which of the two it is. A file in UTF-16, with JSON in another form or
with an invalid header line is refused as a whole, with one sentence that says what to change. Any other invalid line
is refused by itself.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TextIO

from service.accounts.import_records import MAX_LINE_LENGTH, Record, check_record, read_record, unknown_field
from service.errors import ConfigurationError

COLUMNS = tuple(name for name in Record.model_fields if name not in {"authenticators", "claims"})
"""The columns of a CSV file. Several authenticators and static claims do not fit into a table."""

_NAME = re.compile(r"[A-Za-z]+(?:_[A-Za-z]+)*")
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, slots=True)
class RejectedLine:
    """A line that was not imported, and why, without its content."""

    line: int
    reason: str


def read_lines(lines: Iterable[str], *, allow_weak: bool = False) -> Iterator[tuple[int, Record] | RejectedLine]:
    """Yield records and refused lines, numbered from 1. Raises `ConfigurationError` for a refused file."""
    numbered = enumerate(lines, 1)
    for number, line in numbered:
        text = line.removeprefix("\ufeff") if number == 1 else line  # a byte order mark
        if not text.strip():
            continue
        _check_form(text)
        header = _header(text)
        if header is not None:
            yield from _read_csv(numbered, *header, allow_weak=allow_weak)
        else:
            yield from _read_json(chain([(number, text)], numbered), allow_weak=allow_weak)
        return


def lines_of(file: TextIO) -> Iterator[str]:
    """Yield the lines. Of one that is too long, yield the beginning, which is refused for its length.

    A file without line ends must not fill the memory.
    """
    while line := file.readline(MAX_LINE_LENGTH + 1):
        yield line
        while not line.endswith("\n") and (line := file.readline(MAX_LINE_LENGTH + 1)):
            pass  # skip the rest of a line that is too long


def _check_form(first: str) -> None:
    text = first.strip()
    if text.startswith(("\udcff\udcfe", "\udcfe\udcff")) or "\0" in text:
        raise ConfigurationError("The file is UTF-16: save it as UTF-8, in a spreadsheet as 'CSV UTF-8'.")
    if text.startswith("["):
        raise ConfigurationError(
            "The file is a JSON array: write one object per line, with: jq -c '.[]' FILE | keyturn users import -"
        )
    if text == "{" or (text.startswith("{") and text.endswith("[")):
        raise ConfigurationError(
            "The file is a JSON document over several lines: write one object per line, with username and "
            "password_hash, for example by jq -c."
        )


def _header(first: str) -> tuple[str, list[str]] | None:
    """Return the delimiter and the columns if the line is the header of a CSV file. Raises `ConfigurationError`."""
    delimiter = max(",;\t", key=first.count)
    try:
        columns = [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter, strict=True))]
    except csv.Error:
        return None
    while columns and not columns[-1]:
        columns.pop()  # a spreadsheet may write a column without a name
    if len(columns) < 2 or any(_NAME.fullmatch(column) is None for column in columns):
        return None
    unknown = [column for column in columns if column not in COLUMNS]
    if unknown:
        raise ConfigurationError(f"The header line of the CSV file: {unknown_field(unknown[:1])}.")
    if not {"username", "password_hash"} <= set(columns) or len(set(columns)) < len(columns):
        raise ConfigurationError("The CSV file needs the columns username and password_hash, and each column once.")
    return delimiter, columns


def _read_json(lines: Iterable[tuple[int, str]], *, allow_weak: bool) -> Iterator[tuple[int, Record] | RejectedLine]:
    for number, line in lines:
        if not line.strip():
            continue
        try:
            yield number, read_record(line, allow_weak=allow_weak)
        except ValueError as error:
            yield RejectedLine(number, str(error))


def _read_csv(
    lines: Iterable[tuple[int, str]], delimiter: str, columns: list[str], *, allow_weak: bool
) -> Iterator[tuple[int, Record] | RejectedLine]:
    for number, line in lines:
        if not line.strip(delimiter + " \r\n"):
            continue
        try:
            yield number, check_record(_row(line, delimiter, columns), allow_weak=allow_weak)
        except ValueError as error:
            yield RejectedLine(number, str(error))


def _row(line: str, delimiter: str, columns: list[str]) -> dict[str, object]:
    """Return the fields of a CSV line; an empty cell is a missing field. Raises `ValueError`."""
    if len(line) > MAX_LINE_LENGTH:
        raise ValueError(f"it is longer than {MAX_LINE_LENGTH} characters")
    try:
        cells = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, strict=True))]
    except csv.Error:
        raise ValueError("it is not a CSV line: a double quote is not closed, or not doubled within a cell") from None
    if len(cells) < len(columns) or any(cells[len(columns) :]):
        raise ValueError(
            f"it has {len(cells)} cells and the header {len(columns)}: put a cell that contains the delimiter, "
            "such as a hash of argon2 or scrypt, into double quotes"
        )
    row: dict[str, object] = {name: cell for name, cell in zip(columns, cells, strict=False) if cell}
    if "roles" in row:
        row["roles"] = [role for role in re.split(r"[;\s]+", str(row["roles"])) if role]
    if "disabled" in row:
        disabled = _TRUTH.get(str(row["disabled"]).lower())
        if disabled is None:
            raise ValueError("disabled must be true or false")
        row["disabled"] = disabled
    return row
