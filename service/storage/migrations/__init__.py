"""The migrations of the schema. Alembic applies them under a lock, so that many replicas may start at once.

SQLite: a lock file beside the database. PostgreSQL: an advisory lock held by the migrating transaction.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from service.storage.database_sqlite import make_private

ADVISORY_LOCK = 0x6B65797475726E  # "keyturn" in ASCII


def migrate(url: str, *, to: str = "head") -> None:
    """Migrate the database at `url` (as for `connect_database`) to the newest schema, or `to` a revision."""
    with _file_lock(url):
        command.upgrade(_config(url), to)


def head() -> str | None:
    """Return the newest revision."""
    return ScriptDirectory.from_config(_config("")).get_current_head()


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["url"] = url  # not as an option, which would interpolate a % in a password
    return config


@contextmanager
def _file_lock(url: str) -> Iterator[None]:
    if not url.startswith("sqlite:///"):
        yield
        return
    path = Path(url.removeprefix("sqlite:///"))
    lock_file = path.with_suffix(".migrating")
    for file in (path, lock_file):
        make_private(file)
    with lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
