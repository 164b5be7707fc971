"""The components of the service and how they are joined, without HTTP.

`make_components` makes them from settings and a clock; the server, the command line and the tests all use it.
`open_components` also opens them. Commands load neither FastAPI nor the endpoints: that would take most of the time
of a short command.

Each package builds its own part from the context and from the parts below it, in its module `part`. This module says
in which order.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from service.accounts.part import AccountsPart, make_accounts
from service.clock import Clock, system_clock
from service.context import Context
from service.errors import ConfigurationError, StoreUnavailable
from service.factors.part import FactorsPart, make_factors
from service.login.part import LoginPart, make_login
from service.messages.part import MessagesPart, make_messages
from service.operations.part import OperationsPart, make_operations
from service.sessions.part import SessionsPart, make_sessions
from service.settings import Settings
from service.storage.connecting import connect_database, connect_ephemeral, make_throttle
from service.storage.database import SCHEMA, schema_revision
from service.storage.postgresql_checks import explain_missing_schema
from service.storage.sealing import Sealer, UnsealError
from service.storage.timeouts import STORE_TIMEOUTS, StoreTimeouts
from service.tokens.part import TokensPart, make_tokens
from service.users.part import UsersPart, make_users
from service.users.passwords import Cost, Passwords
from service.waits import WAITS, Waits

if TYPE_CHECKING:
    from service.operations.tracing import Tracing


@dataclass(frozen=True)
class Components(
    Context,
    TokensPart,
    MessagesPart,
    UsersPart,
    SessionsPart,
    FactorsPart,
    OperationsPart,
    LoginPart,
    AccountsPart,
):
    """All components of the service: the context and the fields of every part."""


def make_components(
    settings: Settings,
    clock: Clock = system_clock,
    *,
    hash_cost: Cost | None = None,
    timeouts: StoreTimeouts = STORE_TIMEOUTS,
    waits: Waits = WAITS,
    tracing: "Tracing | None" = None,
) -> Components:
    """Make the components and join them. Nothing is opened yet, but the master secret is read (or made)."""
    context, make_passwords = _make_context(settings, clock, tracing, timeouts, waits)
    tokens = make_tokens(context)
    messages = make_messages(context, tokens)
    users = make_users(context, make_passwords, hash_cost)
    sessions = make_sessions(context, tokens, messages, users)
    factors = make_factors(context, messages)
    login = make_login(context, tokens, messages, users, sessions, factors)
    accounts = make_accounts(context, tokens, messages, users, factors, login)
    deletions = accounts.deletions
    operations = make_operations(
        context, tokens, messages, users, sessions, deletions.remove_due, deletions.remove_remains
    )
    return Components(
        **vars(context),
        **vars(tokens),
        **vars(messages),
        **vars(users),
        **vars(sessions),
        **vars(factors),
        **vars(operations),
        **vars(login),
        **vars(accounts),
    )


def _make_context(
    settings: Settings, clock: Clock, tracing: "Tracing | None", timeouts: StoreTimeouts, waits: Waits
) -> tuple[Context, Callable[..., Passwords]]:
    """Make the context, and return it with what makes `Passwords`. Tracing surrounds the stores and the hashes."""
    if settings.database_url is None:
        settings.make_data_dir()
    sealer = Sealer(settings.read_master_secrets())
    database = connect_database(
        settings.resolved_database_url,
        prepared_statements=settings.database_prepared_statements,
        timeout=timeouts.database,
    )
    ephemeral = connect_ephemeral(settings, timeout=timeouts.redis)
    make_passwords: Callable[..., Passwords] = Passwords
    if tracing is not None:
        from service.operations.tracing import TracedDatabase, TracedEphemeral, TracedPasswords

        database, ephemeral = TracedDatabase(database, tracing), TracedEphemeral(ephemeral, tracing)
        make_passwords = partial(TracedPasswords, tracing)
    throttle = make_throttle(settings, ephemeral)
    return Context(settings, clock, sealer, database, ephemeral, throttle, waits), make_passwords


@asynccontextmanager
async def opened(parts: Components) -> AsyncIterator[None]:
    """Open the database, check that the service can start, and close all components afterwards.

    Raises `ConfigurationError` if the service must not start, as with the schema of another version or with another
    master secret.
    """
    try:
        await parts.database.open()
        await _check_startup(parts)
        yield
    finally:
        parts.passwords.close()
        await parts.password_policy.close()
        await parts.ephemeral.close()
        await parts.database.close()


@asynccontextmanager
async def open_components(
    settings: Settings,
    clock: Clock = system_clock,
    *,
    hash_cost: Cost | None = None,
    timeouts: StoreTimeouts = STORE_TIMEOUTS,
) -> AsyncIterator[Components]:
    """Make the components and open them; close them afterwards."""
    parts = make_components(settings, clock, hash_cost=hash_cost, timeouts=timeouts)
    async with opened(parts):
        yield parts


async def _check_startup(parts: Components) -> None:
    """Raise `ConfigurationError` for a mistake that would make the first login fail.

    That is the schema of another version, another master secret, a wrong password of the database, or a permission
    that its role does not have. A database that does not answer is no reason not to start: /readyz reports it, and it
    may come back.
    """
    try:
        revision = await schema_revision(parts.database)
        if revision != SCHEMA:
            elsewhere = None
            if revision is None and parts.settings.database_url is not None:
                elsewhere = await explain_missing_schema(parts.database)
            raise ConfigurationError(
                f"The database's schema is {revision or 'missing'}, this version needs {SCHEMA}. "
                f"{elsewhere or 'Run: keyturn migrate'}"
            )
        await parts.database.probe()
        await parts.keys.get_signing_key(parts.clock())
    except UnsealError:
        raise ConfigurationError(
            "No master secret opens this database's signing key: it was sealed with another one. "
            "List that one too, in KEYTURN_MASTER_SECRETS or in the data folder's master-secret."
        ) from None
    except StoreUnavailable as error:
        if error.is_lasting:
            raise ConfigurationError(f"The database cannot be used. {error.why}") from None
