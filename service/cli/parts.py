"""What every command needs: the parts, opened for one act, and how to say when."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from service.app import Components, open_components
from service.database import MissingTable
from service.errors import ConfigurationError
from service.settings import read_settings

DONE, REFUSED, MISUSED = 0, 1, 2
"""Exit statuses."""


@asynccontextmanager
async def opened_parts() -> AsyncIterator[Components]:
    """The parts as the environment configures them. Raises `ConfigurationError`."""
    settings = read_settings()
    file = settings.sqlite_file
    if settings.master_secrets is not None or settings.master_secrets_file is not None:
        settings.read_master_secrets()  # a mistake there is told first
    if settings.database_url is None and not file.exists():  # making another one would hide what is wrong
        raise ConfigurationError(
            f"There is no database at {file}. Run the command where the service runs, or name its folder in "
            "KEYTURN_DATA_DIR. For a new one: keyturn migrate"
        )
    try:
        async with open_components(settings) as parts:
            yield parts
    except MissingTable:
        raise ConfigurationError("The database has no schema yet. Run: keyturn migrate") from None


def when(seconds: int) -> str:
    """A moment as people and programs read it (RFC 3339), in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
