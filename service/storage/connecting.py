"""Which database, ephemeral store and rate limits the settings name. Nothing is opened yet."""

from datetime import timedelta
from pathlib import Path
from typing import Literal

from service.settings import Settings
from service.storage import ephemeral_redis
from service.storage.database import Database, ReadOnly
from service.storage.database_sqlite import SQLite
from service.storage.ephemeral import Ephemeral, InProcess
from service.storage.throttle import Throttle
from service.storage.timeouts import DATABASE_TIMEOUT_SECONDS


def connect_database(
    url: str,
    *,
    prepared_statements: Literal["auto", "on", "off"] = "auto",
    read_only: bool = False,
    timeout: float = DATABASE_TIMEOUT_SECONDS,
) -> Database:
    """The database that `url` names: `sqlite:///path` or `postgresql://...`. Nothing is opened yet.

    `timeout` is in seconds. With PostgreSQL it limits a read or a whole transaction (a distant server has longer).
    With SQLite it limits the wait of a write for other transactions, of this process and of others together.

    Raises `ConfigurationError` for a URL that is not valid, or that names a file which cannot be read.
    """
    if read_only:
        if url.startswith("sqlite:///"):
            return ReadOnly(SQLite(Path(url.removeprefix("sqlite:///")), read_only=True, timeout=timeout))
        return ReadOnly(connect_database(url, prepared_statements=prepared_statements, timeout=timeout))
    if url.startswith("sqlite:///"):
        return SQLite(Path(url.removeprefix("sqlite:///")), timeout=timeout)
    from service.storage.database_postgresql import PostgreSQL  # its driver takes 3 MB, which SQLite does not need

    return PostgreSQL(url, prepared_statements=prepared_statements, timeout=timeout)


def connect_ephemeral(settings: Settings, *, timeout: float) -> Ephemeral:
    """The store for claims and attempt counters: Redis if the settings name it, otherwise the one in the process.

    `timeout` is in seconds: for one command of Redis, or one attempt to connect.

    Raises `ConfigurationError` if the URL of Redis is not valid, or names a certificate or key that cannot be used.
    """
    url = settings.resolved_redis_url
    return InProcess() if url is None else ephemeral_redis.connect(url, timeout=timeout)


def make_throttle(settings: Settings, ephemeral: Ephemeral) -> Throttle:
    return Throttle(
        ephemeral,
        signup=settings.limit_signup,
        login=settings.limit_login,
        login_address=settings.limit_login_address,
        login_username=settings.limit_login_username,
        pending_ttl=timedelta(seconds=settings.mfa_pending_ttl),
    )
