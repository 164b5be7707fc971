"""Secrets in files: a file with one value, a file with several lines, and a file that is created once.

Every mistake is a `ConfigurationError` that names the file and never its content. A byte order mark, which Windows
editors write, is not part of a secret.
"""

import os
import secrets
from pathlib import Path

from service.errors import ConfigurationError


def read_only_line(setting: str, file: Path) -> str:
    """Return the only word of a file, which the setting names."""
    try:
        lines = file.read_text("utf-8-sig").split()
    except OSError as error:
        raise ConfigurationError(f"{setting}: {file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{setting}: {file} cannot be read: it is not UTF-8 text.") from None
    if len(lines) != 1:
        raise ConfigurationError(f"{setting}: {file} must have one line, without spaces.")
    return lines[0]


def read_lines(source: str, file: Path) -> list[str]:
    """Return the lines of a file of secrets; `source` is the setting or the file's role, for the error."""
    try:
        return file.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigurationError(f"{source} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{source} cannot be read: it is not UTF-8 text.") from None


def write_once(file: Path, text: str) -> None:
    """Create a file that several processes may create at once: one succeeds, the others find its complete file."""
    draft = file.with_name(f".{file.name}-{secrets.token_hex(8)}")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as out:
            out.write(text)
            out.flush()
            os.fsync(handle)
        try:
            os.link(draft, file)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written: {error.strerror}.") from None
