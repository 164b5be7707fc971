"""The components of the service and how they are joined, without HTTP.

`make_components` makes them from settings and a clock; the server, the command line and the tests all use it.
`open_components` also opens them. Commands load neither FastAPI nor the endpoints: that would take most of the time
of a short command.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from service.accounts.accounts import Accounts
from service.accounts.administration import Administration
from service.accounts.own_factors import OwnFactors
from service.accounts.signup import SignUp
from service.clock import Clock, system_clock
from service.errors import ConfigurationError, StoreUnavailable
from service.factors.recovery_codes import RecoveryCodes
from service.factors.second_factor import SecondFactors
from service.factors.totp_authenticators import TotpAuthenticators
from service.login.admission import Admission
from service.login.enrolment import Enrolment
from service.login.login import Login
from service.login.pending import PendingTokens
from service.login.recovery import Recovery
from service.login.step_up import StepUp
from service.messages.delivery import Delivery
from service.messages.events import Events
from service.messages.outgoing import check_authorities
from service.messages.webhook import Webhook
from service.operations.database_metrics import DatabaseMetrics
from service.operations.housekeeping import Housekeeping
from service.secret_texts import read_webhook_secret
from service.sessions.bearers import BearerAuth, EndedSessions
from service.sessions.grants import Grants
from service.sessions.sessions import Lifetimes
from service.settings import Settings
from service.storage import ephemeral_redis
from service.storage.database import SCHEMA, Database, ReadOnly, schema_revision
from service.storage.database_sqlite import SQLite
from service.storage.ephemeral import Ephemeral, InProcess
from service.storage.page import Cursors
from service.storage.postgresql_checks import explain_missing_schema
from service.storage.sealing import Sealer, UnsealError
from service.storage.throttle import Throttle
from service.tokens.access import AccessCodec
from service.tokens.keys import LEAD, Keys
from service.tokens.pending import PendingCodec
from service.tokens.refresh import RefreshCodec
from service.tokens.tokens import Tokens
from service.users.credentials import Credentials
from service.users.devices import Devices
from service.users.passwords import Cost, Passwords
from service.users.policy import MfaPolicy

if TYPE_CHECKING:
    from service.operations.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Components:
    """All components of the service."""

    settings: Settings
    clock: Clock
    sealer: Sealer
    database: Database
    ephemeral: Ephemeral
    passwords: Passwords
    keys: Keys
    tokens: Tokens
    second_factors: SecondFactors
    events: Events
    login: Login
    step_up: StepUp
    enrolment: Enrolment
    recovery: Recovery
    sign_up: SignUp
    accounts: Accounts
    own_factors: OwnFactors
    administration: Administration
    bearer_auth: BearerAuth
    grants: Grants
    database_metrics: DatabaseMetrics
    housekeeping: Housekeeping


def connect_database(
    url: str, *, prepared_statements: Literal["auto", "on", "off"] = "auto", read_only: bool = False
) -> Database:
    """The database that `url` names: `sqlite:///path` or `postgresql://...`. Nothing is opened yet.

    Raises `ConfigurationError` for a URL that is not valid, or that names a file which cannot be read.
    """
    if read_only:
        if url.startswith("sqlite:///"):
            return ReadOnly(SQLite(Path(url.removeprefix("sqlite:///")), read_only=True))
        return ReadOnly(connect_database(url, prepared_statements=prepared_statements))
    if url.startswith("sqlite:///"):
        return SQLite(Path(url.removeprefix("sqlite:///")))
    from service.storage.database_postgresql import PostgreSQL  # its driver has 3 MB that SQLite does not need

    return PostgreSQL(url, prepared_statements=prepared_statements)


def make_components(
    settings: Settings,
    clock: Clock = system_clock,
    *,
    hash_cost: Cost | None = None,
    tracing: "Tracing | None" = None,
) -> Components:
    """Make the components and join them. Nothing is opened yet, but the master secret is read (or made)."""
    if settings.database_url is None:
        settings.make_data_dir()
    sealer = Sealer(settings.read_master_secrets())
    access_ttl = timedelta(seconds=settings.access_ttl)
    pending_ttl = timedelta(seconds=settings.mfa_pending_ttl)
    database = connect_database(
        settings.resolved_database_url, prepared_statements=settings.database_prepared_statements
    )
    redis_url = settings.resolved_redis_url
    ephemeral: Ephemeral = InProcess() if redis_url is None else ephemeral_redis.connect(redis_url)
    make_passwords: Callable[..., Passwords] = Passwords
    if tracing is not None:
        from service.operations.tracing import TracedDatabase, TracedEphemeral, TracedPasswords

        database, ephemeral = TracedDatabase(database, tracing), TracedEphemeral(ephemeral, tracing)
        make_passwords = partial(TracedPasswords, tracing)
    passwords = make_passwords(concurrency=settings.hashing_threads, queue=settings.hash_queue, cost=hash_cost)
    tokens = Tokens(
        access=AccessCodec(issuer=settings.issuer, audience=settings.token_audience, ttl=access_ttl),
        pending=PendingCodec(issuer=settings.issuer, ttl=pending_ttl, keys=sealer.derive("mfa_pending")),
        refresh=RefreshCodec(sealer.derive("refresh")),
    )
    throttle = Throttle(
        ephemeral,
        signup=settings.limit_signup,
        login=settings.limit_login,
        login_address=settings.limit_login_address,
        login_username=settings.limit_login_username,
        pending_ttl=pending_ttl,
    )
    lifetimes = Lifetimes(timedelta(seconds=settings.refresh_ttl), timedelta(seconds=settings.refresh_idle_ttl))
    keys = Keys(
        database,
        sealer,
        algorithm=settings.signing_algorithm,
        access_ttl=access_ttl,
        lead=settings.key_lead or LEAD,
        rotate_after=timedelta(days=settings.key_rotation_days) if settings.key_rotation_days else None,
    )
    events = Events(database, is_delivered=settings.webhook_url is not None)
    second_factors = SecondFactors(
        TotpAuthenticators(database, ephemeral, sealer, events, skew_steps=settings.totp_skew_steps),
        RecoveryCodes(database, sealer, events),
    )
    policy = MfaPolicy(settings.require_mfa, accepts_known_devices=settings.remember_device_days > 0)
    devices = Devices(sealer, accepted_for=timedelta(days=settings.remember_device_days))
    credentials = Credentials(clock=clock, database=database, throttle=throttle, passwords=passwords, devices=devices)
    recovery = Recovery(
        clock=clock,
        database=database,
        credentials=credentials,
        second_factors=second_factors,
        events=events,
        delay=settings.recovery,
    )
    pending_tokens = PendingTokens(
        database=database, codec=tokens.pending, throttle=throttle, second_factors=second_factors
    )
    enrolment = Enrolment(
        clock=clock,
        database=database,
        credentials=credentials,
        second_factors=second_factors,
        pending_tokens=pending_tokens,
        events=events,
        policy=policy,
        totp_issuer=settings.totp_issuer,
    )
    login = Login(
        clock=clock,
        database=database,
        credentials=credentials,
        second_factors=second_factors,
        recovery=recovery,
        enrolment=enrolment,
        pending_tokens=pending_tokens,
        admission=Admission(
            events=events, keys=keys, tokens=tokens, lifetimes=lifetimes, devices=devices, recovery=recovery
        ),
    )
    ended = EndedSessions(database, access_ttl=access_ttl)
    bearer_auth = BearerAuth(
        clock=clock, database=database, keys=keys, tokens=tokens.access, ended=ended, policy=policy
    )
    sign_up = SignUp(
        clock=clock,
        database=database,
        throttle=throttle,
        passwords=passwords,
        password_min_length=settings.password_min_length,
        second_factors=second_factors,
        enrolment=enrolment,
        events=events,
    )
    accounts = Accounts(
        clock=clock,
        database=database,
        passwords=passwords,
        password_min_length=settings.password_min_length,
        events=events,
        credentials=credentials,
        policy=policy,
    )
    own_factors = OwnFactors(
        clock=clock, database=database, credentials=credentials, second_factors=second_factors, events=events
    )
    administration = Administration(
        clock=clock,
        database=database,
        passwords=passwords,
        password_min_length=settings.password_min_length,
        second_factors=second_factors,
        events=events,
        policy=policy,
        cursors=Cursors(sealer, "accounts"),
    )
    grants = Grants(
        clock=clock,
        database=database,
        events=events,
        keys=keys,
        tokens=tokens,
        session_idle=lifetimes.idle,
        policy=policy,
    )
    database_metrics = DatabaseMetrics(database)
    delivery = None
    if settings.webhook_url is not None and settings.webhook_secret is not None:
        check_authorities()
        webhook_key = read_webhook_secret(settings.webhook_secret.get_secret_value())
        delivery = Delivery(database, Webhook(url=settings.webhook_url, key=webhook_key))
    housekeeping = Housekeeping(
        clock=clock,
        database=database,
        keys=keys,
        ended=ended,
        events=events,
        delivery=delivery,
        database_metrics=database_metrics,
        policy=policy,
    )
    return Components(
        settings=settings,
        clock=clock,
        sealer=sealer,
        database=database,
        ephemeral=ephemeral,
        passwords=passwords,
        keys=keys,
        tokens=tokens,
        second_factors=second_factors,
        events=events,
        login=login,
        step_up=StepUp(clock=clock, database=database, pending_tokens=pending_tokens, policy=policy),
        enrolment=enrolment,
        recovery=recovery,
        sign_up=sign_up,
        accounts=accounts,
        own_factors=own_factors,
        administration=administration,
        bearer_auth=bearer_auth,
        grants=grants,
        database_metrics=database_metrics,
        housekeeping=housekeeping,
    )


@asynccontextmanager
async def opened(parts: Components) -> AsyncIterator[None]:
    """Open the database, check that the service can start, and close all components afterwards.

    Raises `ConfigurationError` if the service must not start, as with an old schema or another master secret.
    """
    try:
        await parts.database.open()
        await _check_startup(parts)
        yield
    finally:
        parts.passwords.close()
        await parts.ephemeral.close()
        await parts.database.close()


@asynccontextmanager
async def open_components(
    settings: Settings, clock: Clock = system_clock, *, hash_cost: Cost | None = None
) -> AsyncIterator[Components]:
    """Make the components and open them; close them afterwards."""
    parts = make_components(settings, clock, hash_cost=hash_cost)
    async with opened(parts):
        yield parts


async def _check_startup(parts: Components) -> None:
    """Raise `ConfigurationError` for a mistake that would make the first login fail.

    That is an old schema, another master secret, a wrong password of the database, or a permission that its role does
    not have. A database that does not answer is no reason not to start: /readyz reports it, and it may come back.
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
