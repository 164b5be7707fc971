"""Connect to PostgreSQL by `KEYTURN_DATABASE_URL` alone.

The driver reads missing arguments from `PG...` variables, `~/.pgpass` and `~/.postgresql`, and fails if the home
folder is unreadable. This module therefore passes every argument.
"""

import random
from typing import Any, ClassVar

import asyncpg

from service.errors import ConfigurationError
from service.storage.postgresql_errors import Outage, explain, find_server_error, read_outage
from service.storage.postgresql_url import Target, read_postgresql_url

MIGRATION_TIMEOUT = 10.0
"""Seconds that connecting for a migration may take, unless the URL has a `connect_timeout`."""


class CannotConnect(Exception):
    """No connection was made; `outage` says why."""

    def __init__(self, outage: Outage) -> None:
        super().__init__(outage.reason)
        self.outage = outage


class Connection(asyncpg.Connection):  # type: ignore[misc]
    """A connection that keeps its statements prepared."""

    keeps_statements: ClassVar[bool] = True


class WholeStatementsConnection(Connection):
    """A connection without prepared statements.

    A pooler in transaction mode, such as PgBouncer, may give the next statement another connection of the server.
    """

    keeps_statements: ClassVar[bool] = False


async def connect(target: Target, *, seconds: float, keeps_statements: bool) -> Connection:
    """Open a connection. Raises `CannotConnect`, or the error itself if it is a defect."""
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
    except ConfigurationError as error:  # a certificate file was there at the start and cannot be read now
        raise CannotConnect(Outage(str(error), is_lasting=True)) from None
    best_error: Exception | None = None
    for context in contexts:
        try:
            connection: Connection = await asyncpg.connect(ssl=context or False, **arguments)
        except UnicodeError:
            raise CannotConnect(Outage(f"{target.place} is not the name of a host.", is_lasting=True)) from None
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            if best_error is None or isinstance(error, asyncpg.PostgresError):
                best_error = error  # the server's own error explains more than a failed connection
            if not _may_help_to_switch_tls(error):
                break
        else:
            return connection
    assert best_error is not None
    raise cannot_connect(target, best_error) from best_error


def cannot_connect(target: Target, error: Exception) -> Exception:
    """Return what to raise for an error while connecting: the error itself if it is a defect of this program."""
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
    """Return the server's message about a failed migration, and what to do; `None` for an error of another origin."""
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


def _may_help_to_switch_tls(error: Exception) -> bool:
    """Return whether, with `sslmode=allow` or `prefer`, the other attempt (with TLS, or without) may succeed.

    It cannot after a wrong password, a refused connection or a timeout.
    """
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return not isinstance(error, asyncpg.InvalidPasswordError)  # pg_hba.conf may allow only the other one
    return isinstance(error, OSError) and not isinstance(error, ConnectionRefusedError | TimeoutError)
