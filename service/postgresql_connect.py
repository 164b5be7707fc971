"""Connect to PostgreSQL as `KEYTURN_DATABASE_URL` says, and as nothing else says.

The driver looks up what it is not given: in `PG...` variables, in `~/.pgpass`, in `~/.postgresql`, whose folder may
not even be readable. Hence every argument is given to it here.
"""

import random
from typing import Any, ClassVar

import asyncpg

from service.errors import ConfigurationError
from service.postgresql_errors import Outage, explain, find_server_error, read_outage
from service.postgresql_url import Target, read_postgresql_url

MIGRATION_TIMEOUT = 10.0
"""Seconds that the handshake of a migration may take, unless the URL says another `connect_timeout`."""


class CannotConnect(Exception):
    """No connection was made; `outage` says why."""

    def __init__(self, outage: Outage) -> None:
        super().__init__(outage.reason)
        self.outage = outage


class Connection(asyncpg.Connection):  # type: ignore[misc]
    """Keeps the statements prepared that it has sent."""

    keeps_statements: ClassVar[bool] = True


class WholeStatementsConnection(Connection):
    """Sends each statement whole: for poolers in transaction mode."""

    keeps_statements: ClassVar[bool] = False


async def connect(target: Target, *, seconds: float, keeps_statements: bool) -> Connection:
    """Raises `CannotConnect`, or the error itself if it is a defect."""
    hosts = list(target.hosts)
    if target.shuffles_hosts:
        random.shuffle(hosts)
    arguments: dict[str, Any] = {
        "host": [host for host, _ in hosts],
        "port": [port for _, port in hosts],
        "user": target.user,
        "database": target.database,
        "password": None if target.passfile is not None else target.password,
        "passfile": target.passfile,
        "server_settings": dict(target.server_settings),
        "target_session_attrs": target.target_session_attrs,
        "krbsrvname": "postgres",
        "gsslib": "gssapi",
        "direct_tls": target.tls.is_direct,
        "timeout": seconds,
        "connection_class": Connection if keeps_statements else WholeStatementsConnection,
    }
    if not keeps_statements:
        arguments["statement_cache_size"] = 0
    try:
        contexts = target.tls.contexts()
    except ConfigurationError as error:  # a file that was there at the start
        raise CannotConnect(Outage(str(error), is_lasting=True)) from None
    told: Exception | None = None
    for context in contexts:
        try:
            connection: Connection = await asyncpg.connect(ssl=context or False, **arguments)
        except UnicodeError:
            raise CannotConnect(Outage(f"{target.place} is not the name of a host.", is_lasting=True)) from None
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            if told is None or isinstance(error, asyncpg.PostgresError):
                told = error  # what the server says tells more than that the other way is not offered
            if not _may_go_the_other_way(error):
                break
        else:
            return connection
    assert told is not None
    raise cannot_connect(target, told) from told


def cannot_connect(target: Target, error: Exception) -> Exception:
    """What to raise for an error while connecting; a defect, neither the server's nor the network's, stays itself."""
    outage = read_outage(error, place=target.place, connects=True)
    return error if outage is None else CannotConnect(outage)


async def connect_for_migration(url: str) -> Connection:
    """One connection outside any pool. Raises `ConfigurationError`."""
    target = read_postgresql_url(url)
    try:
        return await connect(target, seconds=target.connect_timeout or MIGRATION_TIMEOUT, keeps_statements=False)
    except CannotConnect as error:
        raise ConfigurationError(f"The database cannot be opened. {error.outage.reason}") from None


def explain_failed_migration(error: BaseException) -> str | None:
    """The server's own words about a migration that failed, and what to do; `None` if it was not the server."""
    cause = find_server_error(error)
    if cause is None:
        return None
    if cause.sqlstate in {"42501", "3F000"}:
        return explain(
            cause,
            "Give the role CREATE on the schema of the tables, and let it own them: docs/guides/postgresql.md, "
            "section Rights.",
        )
    if isinstance(cause, asyncpg.UniqueViolationError):
        advice = "Rename or remove all but one of these rows, then run keyturn migrate again."
        return f"{explain(cause, '')} {cause.detail} {advice}"
    return explain(cause)


def _may_go_the_other_way(error: Exception) -> bool:
    """Of `allow` and `prefer`: whether it may help to try with TLS, or without. A wrong password stays wrong."""
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return not isinstance(error, asyncpg.InvalidPasswordError)  # pg_hba.conf may allow the other way only
    return isinstance(error, OSError) and not isinstance(error, ConnectionRefusedError | TimeoutError)
