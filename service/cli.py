"""The `keyturn` command: serve, migrate, users, keys.

Exit status: 0 done, 1 refused (there is no such user, the name is taken), 2 wrong usage or settings. Passwords
are asked for, or read from standard input; they are never arguments, which the shell's history would keep.
"""

import argparse
import asyncio
import functools
import getpass
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from service import VERSION, events, users
from service.app import Components, create_app, make_components, open_components, opened
from service.database import SCHEMA, MissingTable, schema_revision
from service.errors import ConfigurationError, NotFound, ServiceError
from service.keys import signing_at
from service.passwords import normalise
from service.settings import Settings, read_settings

if TYPE_CHECKING:
    from fastapi import FastAPI

DONE, REFUSED, MISUSED = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status."""
    options = _parser().parse_args(arguments)
    # Process 1 of a container has no default action for SIGTERM, and uvicorn, once it has finished what runs, raises
    # again the one that stopped it: either way it was asked to stop, and stopping is no failure.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(DONE))
    try:
        status: int = options.run(options)
    except ConfigurationError as error:
        print(f"keyturn: {error}", file=sys.stderr)
        return MISUSED
    except NotFound:
        print("keyturn: there is no such user.", file=sys.stderr)
        return REFUSED
    except ServiceError as error:
        print(f"keyturn: {error} {getattr(error, 'reason', '')}".rstrip(), file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `keyturn users list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="keyturn",
        description="A password and a second factor go in, short-lived JSON Web Tokens come out.",
        epilog="Settings are environment variables that begin with KEYTURN_; the README lists them.",
    )
    parser.add_argument("--version", action="version", version=f"keyturn {VERSION}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    serve = commands.add_parser(
        "serve",
        help="serve HTTP",
        description="Serve HTTP. On SQLite the schema is made or brought up to date first; on PostgreSQL run "
        "'keyturn migrate' before.",
    )
    serve.add_argument("--host", help="address to listen on (KEYTURN_HOST)")
    serve.add_argument("--port", type=int, help="port to listen on (KEYTURN_PORT)")
    serve.add_argument("--workers", type=int, help="processes; more than one needs PostgreSQL and Redis")
    serve.set_defaults(run=_serve)

    migrate = commands.add_parser(
        "migrate",
        help="make the database's schema, or bring it up to date",
        description="Make the database's schema, or bring it up to date. Many may run at once: one does the work.",
    )
    migrate.set_defaults(run=_migrate)

    people = commands.add_parser("users", help="accounts", description="See and change accounts.")
    acts = people.add_subparsers(metavar="ACT", required=True)
    add = acts.add_parser(
        "add",
        help="create an account",
        description="Create an account. The password is asked for, or read as the first line of standard input.",
    )
    add.add_argument("username")
    add.add_argument("--mfa", action="store_true", help="ask for a second factor at the first login")
    add.set_defaults(run=_users_add)
    listing = acts.add_parser("list", help="list accounts", description="List accounts by name.")
    listing.set_defaults(run=_users_list)
    for name, run, text in (
        ("disable", _users_disable, "refuse the account's logins and end its sessions"),
        ("enable", _users_enable, "allow a disabled account's logins again"),
        (
            "reset-mfa",
            _users_reset_mfa,
            "remove the second factor of somebody who lost it; ends all sessions",
        ),
    ):
        act = acts.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        act.add_argument("username")
        act.set_defaults(run=run)

    signing = commands.add_parser("keys", help="signing keys", description="See and rotate signing keys.")
    acts = signing.add_subparsers(metavar="ACT", required=True)
    listing = acts.add_parser("list", help="list signing keys", description="List signing keys, newest last.")
    listing.set_defaults(run=_keys_list)
    rotate = acts.add_parser(
        "rotate",
        help="publish a new signing key",
        description="Publish a new signing key now and let it sign in 15 minutes, when every verifier knows it.",
    )
    rotate.set_defaults(run=_keys_rotate)
    return parser


def _serve(options: argparse.Namespace) -> int:
    from service.web.server import serve

    given = {name: getattr(options, name) for name in ("host", "port", "workers")}
    settings = read_settings(**{name: value for name, value in given.items() if value is not None})
    events.configure(settings.log_format)
    asyncio.run(_prepare(settings))
    make_app = functools.partial(_worker_app, settings)
    has_served = serve(make_app, host=settings.host, port=settings.port, workers=settings.workers)
    return DONE if has_served else REFUSED


def _worker_app(settings: Settings) -> "FastAPI":
    events.configure(settings.log_format)
    return create_app(settings)


async def _prepare(settings: Settings) -> None:
    """Find out what is wrong before the first request does, with a sentence instead of a traceback."""
    parts = make_components(settings)
    if settings.database_url is None:
        await parts.database.open()
        if await schema_revision(parts.database) != SCHEMA:
            await _migrate_in_a_child()
        await parts.database.close()
        parts = make_components(settings)
    async with opened(parts):
        pass


async def _migrate_in_a_child() -> None:
    """Alembic and SQLAlchemy are 30 MB that a serving process would keep."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "service", "migrate")
    if await child.wait() != DONE:
        raise ConfigurationError("The schema could not be made; see the lines above.")


def _migrate(_options: argparse.Namespace) -> int:
    from sqlalchemy.exc import SQLAlchemyError

    from service.migrations import migrate

    settings = read_settings()
    if settings.database_url is None:
        settings.make_data_dir()
    try:
        migrate(settings.sql_url)
    except (OSError, SQLAlchemyError) as error:
        raise ConfigurationError(f"The schema could not be made: {type(error).__name__}.") from error
    print(f"The schema is at {SCHEMA}.", file=sys.stderr)
    return DONE


@asynccontextmanager
async def _parts() -> AsyncIterator[Components]:
    try:
        async with open_components(read_settings()) as parts:
            yield parts
    except MissingTable:
        raise ConfigurationError("The database has no schema yet. Run: keyturn migrate") from None


def _users_add(options: argparse.Namespace) -> int:
    try:
        username = users.fold(options.username)
        password = normalise(_read_password())
    except ValueError as error:
        raise ConfigurationError(f"The username or the password {error}.") from None

    async def add() -> None:
        async with _parts() as parts:
            await parts.accounts.sign_up(username, password, enable_mfa=options.mfa, caller=None)

    asyncio.run(add())
    print(f"{username} can log in." + (" The first login shows the QR code." if options.mfa else ""))
    return DONE


def _users_list(_options: argparse.Namespace) -> int:
    async def show() -> None:
        async with _parts() as parts:
            page = await parts.accounts.list_page()
            print(f"{'USERNAME':32} {'SINCE':20} {'STATE':9} MFA")
            while page:
                for row in page:
                    state = "active" if row["disabled_at"] is None else "disabled"
                    mfa = "confirmed" if row["confirmed_at"] else "asked for" if row["factors"] else "off"
                    print(f"{row['username']:32} {_when(row['created_at'])} {state:9} {mfa}")
                page = await parts.accounts.list_page(after=page[-1]["username"])

    asyncio.run(show())
    return DONE


def _users_disable(options: argparse.Namespace) -> int:
    return _set_disabled(options.username, disabled=True)


def _users_enable(options: argparse.Namespace) -> int:
    return _set_disabled(options.username, disabled=False)


def _set_disabled(username: str, *, disabled: bool) -> int:
    async def change() -> None:
        async with _parts() as parts:
            await parts.accounts.set_disabled(username.lower(), disabled=disabled)

    asyncio.run(change())
    print(f"{username.lower()} is {'disabled; every session has ended' if disabled else 'enabled'}.")
    return DONE


def _users_reset_mfa(options: argparse.Namespace) -> int:
    async def reset() -> bool:
        async with _parts() as parts:
            return await parts.accounts.reset_mfa(options.username.lower())

    had_one = asyncio.run(reset())
    print(
        f"{options.username.lower()} has no second factor any more; every session has ended."
        if had_one
        else f"{options.username.lower()} had no second factor; every session has ended."
    )
    return DONE


def _keys_list(_options: argparse.Namespace) -> int:
    async def show() -> None:
        async with _parts() as parts:
            now = int(parts.clock().timestamp())
            all_keys = await parts.keys.list_all()
            print(f"{'KID':43} {'ALG':6} {'SIGNS FROM':20} {'UNTIL':20} STATE")
            for key in all_keys:
                is_signing = key is signing_at(all_keys, now)
                state = "signing" if is_signing else "next" if key.activates_at > now else "retired"
                until = _when(key.retires_at) if key.retires_at else "-"
                print(f"{key.kid:43} {key.algorithm:6} {_when(key.activates_at):20} {until:20} {state}")

    asyncio.run(show())
    return DONE


def _keys_rotate(_options: argparse.Namespace) -> int:
    async def rotate() -> int:
        async with _parts() as parts:
            key = await parts.keys.rotate(parts.clock())
            if key is None:
                print("keyturn: a new key is published already and does not sign yet.", file=sys.stderr)
                return REFUSED
            print(f"{key.kid} is published and signs from {_when(key.activates_at)}.")
            return DONE

    return asyncio.run(rotate())


def _read_password() -> str:
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if password != getpass.getpass("Once more: "):
            raise ConfigurationError("The two passwords are not the same.")
        return password
    password = sys.stdin.readline().rstrip("\n")
    if not password:
        raise ConfigurationError("Standard input has no password on its first line.")
    return password


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
