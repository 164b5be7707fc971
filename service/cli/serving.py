"""`keyturn serve` and `keyturn migrate`."""

import argparse
import asyncio
import functools
import gc
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from service.cli.parts import DONE, REFUSED, read_command_settings, report
from service.components import make_components, opened
from service.environment import read_settings
from service.errors import ConfigurationError
from service.machine import MIB, count_cores, memory_limit
from service.settings import Settings
from service.storage.database import SCHEMA, schema_revision
from service.telemetry import log, metrics
from service.telemetry.event_names import LogName

if TYPE_CHECKING:
    from fastapi import FastAPI


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    serve = commands.add_parser(
        "serve",
        help="serve HTTP",
        description="Serve HTTP. With SQLite the schema is created or updated first; with PostgreSQL run "
        "'keyturn migrate' before.",
    )
    serve.add_argument("--host", help="address to listen on (KEYTURN_HOST)")
    serve.add_argument("--port", type=int, help="port to listen on (KEYTURN_PORT)")
    serve.add_argument("--workers", type=int, help="processes; more than one needs PostgreSQL and Redis")
    serve.set_defaults(run=run_server)

    migrate = commands.add_parser(
        "migrate",
        help="create or update the schema of the database",
        description="Create or update the schema of the database. Several of these commands may run at once; "
        "one of them changes the schema.",
    )
    migrate.set_defaults(run=_migrate)


def run_server(options: argparse.Namespace) -> int:
    from service.web.cors import Cors
    from service.web.listening import bind, urls
    from service.web.server import serve as serve_http

    given = {name: getattr(options, name) for name in ("host", "port", "workers")}
    settings = read_settings(**{name: value for name, value in given.items() if value is not None})
    log.configure(settings.log_format)
    with ExitStack() as stack:
        sockets = [stack.enter_context(listener) for listener in bind(settings.host, settings.port)]
        asyncio.run(_prepare(settings))
        memory = memory_limit()
        log.emit(
            LogName.SERVICE_STARTING,
            urls=" ".join(urls(sockets)),
            workers=settings.workers,
            hashing_threads=settings.hashing_threads,
            cores=count_cores(),
            memory_mib=None if memory is None else memory // MIB,
        )
        if settings.workers > 1:
            stack.enter_context(metrics.shared_between_workers())
        serve = options.serve or serve_http
        has_served = serve(
            functools.partial(_worker_app, settings),
            sockets,
            workers=settings.workers,
            keep_alive=settings.keep_alive,
            drain_delay=settings.drain_delay,
            cors=Cors(settings.cors_origins, settings.cors_headers),
        )
    if has_served:
        return DONE
    report("keyturn: the server did not start; the lines above say why.")
    return REFUSED


def _worker_app(settings: Settings) -> "FastAPI":
    from service.app import create_app  # imported here, so that other commands do not load FastAPI

    log.configure(settings.log_format)
    app = create_app(settings)
    _tune_garbage_collector()
    return app


def _tune_garbage_collector() -> None:
    """Make collections rarer and shorter: a full one would delay requests by 50 ms and find hardly any garbage.

    The objects that exist now stay until the process ends, so freeze them. Reference counts free the objects of
    requests, because hardly any request leaves a cycle. So the youngest generation may have ten thousand objects
    (about 2 MB) before a collection.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


async def _prepare(settings: Settings) -> None:
    """Open the components once, so that a mistake gives a sentence at the start and not a traceback at a request."""
    parts = make_components(settings)
    if settings.database_url is None:
        await parts.database.open()
        if await schema_revision(parts.database) != SCHEMA:
            await _migrate_in_subprocess()
        await parts.database.close()
        parts = make_components(settings)
    async with opened(parts):
        pass


async def _migrate_in_subprocess() -> None:
    """Migrate in a process of its own, because a serving process would keep the 30 MB of Alembic and SQLAlchemy."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "service", "migrate")
    if await child.wait() != DONE:
        raise ConfigurationError("The schema could not be made; see the lines above.")


def _names(error: Exception) -> str:
    """Return the class of the error, or the class and the text if it has a driver's error as its origin."""
    origin = getattr(error, "orig", None)
    return f"{type(error).__name__}." if origin is None else f"{type(error).__name__}: {origin}."


def _migrate(_options: argparse.Namespace) -> int:
    from sqlalchemy.exc import SQLAlchemyError

    from service.storage.migrations import migrate

    settings = read_command_settings()
    if settings.database_url is None:
        settings.make_data_dir()
    try:
        migrate(settings.resolved_database_url)
    except (OSError, SQLAlchemyError) as error:
        why = None
        if settings.database_url is not None:
            from service.storage.postgresql_connect import explain_failed_migration

            why = explain_failed_migration(error)
        raise ConfigurationError(f"The schema could not be made. {why or _names(error)}") from error
    report(f"The schema is at {SCHEMA}.")
    return DONE
