"""What the commands share: the opened components, files, reports, times, the password prompt, the confirmation."""

import getpass
import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from service.accounts.import_files import lines_of
from service.components import Components, open_components
from service.environment import read_settings
from service.errors import ConfigurationError, InvalidRequest, MissingTable
from service.language_tags import check_language_tag
from service.settings import Settings
from service.telemetry import log
from service.telemetry.event_names import LogName
from service.users.addresses import check_address

DONE, REFUSED, MISUSED = 0, 1, 2
"""Exit statuses."""

NAME_HELP = "the username or the `sub` of the account"
"""The help of an argument that names an account: see `Administration.get`."""
LOCALE_HELP = "the language of messages to the user, such as de"

_NOT_UTF8 = "surrogateescape"
"""The decoder's error handler: it turns bytes that are not UTF-8 into lone surrogates, which every field refuses. The
handler `replace` would change names instead."""


def read_command_settings() -> Settings:
    """Read the settings of a command, and send its warnings to standard error in the format that the settings name.

    Standard output has the result only, which another program may read. The other lines of the log are left out,
    because a command prints sentences about what it has done. The line `database.unreachable` is left out too,
    because the command ends with a sentence that says why the database cannot be reached.
    """
    settings = read_settings()
    log.configure(settings.log_format, level=logging.WARNING, left_out=[LogName.DATABASE_UNREACHABLE])
    return settings


@asynccontextmanager
async def opened_parts() -> AsyncIterator[Components]:
    """Open the components as the environment configures them.

    Raises `ConfigurationError` for a mistake in the settings or the deployment, such as a database without a schema.
    """
    settings = read_command_settings()
    file = settings.sqlite_file
    if settings.master_secrets is not None or settings.master_secrets_file is not None:
        settings.read_master_secrets()  # reports a mistake in them first
    if settings.database_url is None and not has_sqlite_file(settings):  # creating a database would hide the mistake
        raise ConfigurationError(
            f"There is no database at {file}. Run the command where the service runs, or name its folder in "
            "KEYTURN_DATA_DIR. For a new one: keyturn migrate"
        )
    try:
        async with open_components(settings) as parts:
            yield parts
    except MissingTable:
        raise ConfigurationError("The database has no schema yet. Run: keyturn migrate") from None


def has_sqlite_file(settings: Settings) -> bool:
    """Return whether the SQLite database exists. Raises `ConfigurationError` if its folder cannot be read."""
    file = settings.sqlite_file
    try:
        file.stat()  # from Python 3.14 on, `exists` hides the other errors
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ConfigurationError(
            f"KEYTURN_DATA_DIR: {file} cannot be read: {error.strerror}. Name a folder with the database."
        ) from None
    return True


@contextmanager
def opened_lines(name: str) -> Iterator[Iterator[str]]:
    """Open a text file, or standard input for `-`, and give its lines (`lines_of`).

    Raises `ConfigurationError`, also for a read that fails later. No other error in the block becomes one.
    """
    try:
        opened = _open_text(name)
    except OSError as error:
        raise _unreadable(name, error) from None
    with opened as file:
        yield _read_lines(name, file)


def _open_text(name: str) -> AbstractContextManager[TextIO]:
    if name != "-":
        return Path(name).open(encoding="utf-8", errors=_NOT_UTF8)
    if sys.stdin is None:
        raise ConfigurationError("Standard input is closed.")
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors=_NOT_UTF8)
    return nullcontext(sys.stdin)


def _read_lines(name: str, file: TextIO) -> Iterator[str]:
    try:
        yield from lines_of(file)
    except OSError as error:
        raise _unreadable(name, error) from None


def _unreadable(name: str, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"{name} cannot be read: {error.strerror}.")


def report(text: str, *, end: str = "\n") -> None:
    """Write text to standard error. If that fails, the command goes on: its work does not depend on a reader."""
    try:
        print(text, end=end, file=sys.stderr, flush=True)
    except OSError:  # for example, `2>&1 | head`
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Discard what waits in the buffer of a standard stream, and what is written to it from now on."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def misuse(error: InvalidRequest, arguments: Mapping[str, str]) -> ConfigurationError:
    """Return the error of a command for fields that an operation refuses.

    `arguments` maps the name of a field to the argument of the command that sets it.
    """
    return ConfigurationError(
        "; ".join(f"{arguments.get(field, field)}: {text}" for field, text in error.fields) + "."
    )


def read_address(text: str) -> str:
    """Return an e-mail address that is an argument. Raises `ConfigurationError`."""
    try:
        return check_address(text)
    except ValueError as error:
        raise ConfigurationError(f"{error}.") from None


def read_locale(text: str | None, *, argument: str = "--locale") -> str | None:
    """Return the language of an argument. Raises `ConfigurationError`."""
    try:
        return None if text is None else check_language_tag(text)
    except ValueError as error:
        raise ConfigurationError(f"{argument}: {error}.") from None


def when(seconds: int) -> str:
    """Return a time in UTC in the form of RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_password() -> str:
    """Ask for a password twice, or read it from the first line of standard input. Raises `ConfigurationError`."""
    if sys.stdin is None:  # the shell closed it (`<&-`)
        raise ConfigurationError("Standard input is closed. Give the password at a terminal or on its first line.")
    try:
        return _ask_for_password() if sys.stdin.isatty() else _read_first_line()
    except EOFError:  # Ctrl-D
        raise ConfigurationError("No password was given.") from None
    except UnicodeDecodeError:  # its text would quote a part of the password
        raise ConfigurationError(f"Standard input is not text in the encoding {sys.stdin.encoding}.") from None


def _ask_for_password() -> str:
    password = getpass.getpass("Password: ")
    if password != getpass.getpass("Password again: "):
        raise ConfigurationError("The two passwords are not the same.")
    return password


def _read_first_line() -> str:
    # Windows pipes begin with a byte order mark and end lines with CR LF; neither is part of the password.
    password = sys.stdin.readline().removeprefix("\ufeff").removesuffix("\n").removesuffix("\r")
    if not password:
        raise ConfigurationError("Standard input has no password on its first line.")
    return password


def report_unchecked(parts: Components) -> None:
    """Report that a password was accepted without a comparison, if the list of leaked passwords did not answer."""
    breached = parts.password_policy.breached
    if breached is not None and breached.unanswered > 0:
        report(
            "keyturn: KEYTURN_BREACHED_PASSWORDS did not answer: the password was accepted without a comparison with "
            "leaked passwords."
        )


def confirm(question: str, *, expected: str, is_confirmed: bool) -> bool:
    """Ask at the terminal before something that cannot be undone. Returns whether the operator typed `expected`.

    `is_confirmed` is `--yes`, for scripts without a terminal. Raises `ConfigurationError` without `--yes` if standard
    input is not a terminal.
    """
    if is_confirmed:
        return True
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigurationError(
            "This command asks for confirmation, and standard input is not a terminal. Add --yes."
        )
    report(f"{question} Type {expected} to continue: ", end="")
    return sys.stdin.readline().strip() == expected
