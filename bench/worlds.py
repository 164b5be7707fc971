"""The servers to measure: the service in two configurations, as processes of their own on cores of their own."""

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from time import perf_counter

import pyotp

from bench.load import connections, get, post
from bench.processes import mebibytes, pid_of
from service.accounts.administration import AccountFilter
from service.clock import system_clock, unix_seconds
from service.components import Components, open_components
from service.environment import read_settings
from service.origin import OPERATOR, Caller
from service.sessions.sessions import Lifetimes, open_session
from service.storage.migrations import migrate
from service.users.users import add as add_user
from tests.harness.ports import free_port
from tests.harness.servers import PostgreSQLServer, Process, RedisServer, clean_environment

PASSWORD = "correct horse battery staple"  # noqa: S105 -- of all users in the benchmarks
_FILLED_AT_ONCE = 5000
_USERS_AT_ONCE = 1000  # with more indexes than sessions, well within the time limit of a statement
_BATCH = 100  # users made in one transaction, well within its time limit
ALL_CORES = os.sched_getaffinity(0)
SERVICE_CORE = {min(ALL_CORES)}
LOAD_CORES = ALL_CORES - SERVICE_CORE or SERVICE_CORE  # with a single core, both sides of a ratio share it


@contextlib.contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """Run the processes that are started in the block on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True, slots=True)
class World:
    """One configuration of the service."""

    name: str
    environment: Mapping[str, str]
    stores: Mapping[str, Process] = field(default_factory=dict)
    """The stores behind it, by their names."""


@contextlib.contextmanager
def sqlite() -> Iterator[World]:
    """The service with SQLite and the in-process store."""
    with tempfile.TemporaryDirectory(prefix="keyturn-bench-") as folder:
        yield _world("sqlite", KEYTURN_DATA_DIR=folder)


@contextlib.contextmanager
def production(*options: str) -> Iterator[World]:
    """The service with PostgreSQL (with these additional options) and Redis, both on the cores of the load."""
    with contextlib.ExitStack() as stack, on_cores(LOAD_CORES):
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keyturn-bench-")))
        for name in ("redis", "postgresql"):
            (folder / name).mkdir()
        folder.chmod(0o711)  # PostgreSQL runs as another user
        redis, postgresql = RedisServer(folder / "redis"), PostgreSQLServer(folder / "postgresql")
        postgresql.arguments += [part for option in options for part in ("-c", option)]
        for server in (redis, postgresql):
            stack.callback(server.stop)
            server.start()
        url = postgresql.url(postgresql.new_database())
        migrate(url)
        data = {"KEYTURN_DATA_DIR": str(folder / "data")}  # where the service writes messages
        made = _world("production", KEYTURN_DATABASE_URL=url, KEYTURN_REDIS_URL=redis.url, **data)
        yield replace(made, stores={"PostgreSQL": postgresql, "Redis": redis})


WORLDS: dict[str, Callable[[], AbstractContextManager[World]]] = {"sqlite": sqlite, "production": production}


def _world(name: str, **environment: str) -> World:
    limits = {f"KEYTURN_LIMIT_{limit}": "off" for limit in ("SIGNUP", "LOGIN", "LOGIN_ADDRESS", "LOGIN_USERNAME")}
    limits["KEYTURN_RECOVERY_DELAY"] = "72h"  # without a webhook the route is off by default
    return World(name, {**limits, "KEYTURN_MASTER_SECRETS": secrets.token_hex(32), **environment})


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers at /readyz."""

    port: int
    process: Process
    ready_after: float
    """Seconds from the start of the process to its first 200."""

    @property
    def pid(self) -> int:
        return pid_of(self.process)

    def mebibytes(self, field: str) -> float:
        """A figure of the process's memory, for example `VmRSS`, from /proc."""
        return mebibytes(self.pid, field)


@contextlib.asynccontextmanager
async def served(
    world: World, *, cores: set[int] = SERVICE_CORE, hashing_threads: int = 1, wrapper: Sequence[str] = ()
) -> AsyncIterator[Running]:
    """Start Keyturn."""
    more = {"KEYTURN_HASH_CONCURRENCY": str(hashing_threads)}
    async with _started(
        cores, {**world.environment, **more}, *wrapper, "-m", "service", "serve", "--port"
    ) as running:
        yield running


@contextlib.asynccontextmanager
async def served_bare() -> AsyncIterator[Running]:
    """Start the bare FastAPI application."""
    async with _started(SERVICE_CORE, {}, "-m", "bench.bare") as running:
        yield running


@contextlib.asynccontextmanager
async def _started(cores: set[int], environment: Mapping[str, str], *arguments: str) -> AsyncIterator[Running]:
    port = free_port()
    process = Process([sys.executable, *arguments, str(port)], environment={**clean_environment(), **environment})
    begun = perf_counter()
    with on_cores(cores):
        process.start()
    try:
        while not await _is_ready(port):
            if perf_counter() - begun > 30 or process.child is None or process.child.poll() is not None:
                raise RuntimeError(f"{' '.join(arguments)} does not start")
            await asyncio.sleep(0.005)
        yield Running(port, process, perf_counter() - begun)
    finally:
        process.stop(by=signal.SIGINT)


async def _is_ready(port: int) -> bool:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        async with connections(port, 1) as (connection,):
            return (await connection.send(get("/readyz"))).status == 200
    return False


@dataclass(frozen=True, slots=True)
class Person:
    """A user with a confirmed second factor whose codes were never used."""

    username: str
    secret: str
    mfa_token: str
    """A pending token like one of /login, signed with the service's own key."""

    def code(self) -> str:
        """Return the current code. It is valid for 30 s or more, because one step on either side is accepted."""
        return pyotp.TOTP(self.secret).at(system_clock())

    def password_request(self) -> bytes:
        return post("/login", username=self.username, password=PASSWORD)

    def code_request(self, mfa_token: str | None = None) -> bytes:
        return post("/login-2fa", mfa_token=mfa_token or self.mfa_token, otp=self.code())


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a new session."""

    access_token: str
    refresh_token: str


class People:
    """Makes users without the HTTP API, which would hash a password for each."""

    def __init__(self, parts: Components, password_hash: str) -> None:
        self._parts = parts
        self._password_hash = password_hash

    async def make(self, how_many: int) -> list[Person]:
        made: list[Person] = []
        while len(made) < how_many:
            made += await self._batch(min(_BATCH, how_many - len(made)))
        return made

    async def make_without_factor(self, how_many: int) -> list[str]:
        """Make users, and return their usernames."""
        names = [secrets.token_hex(8) for _ in range(how_many)]
        for first in range(0, how_many, _BATCH):
            async with self._parts.database.begin() as transaction:
                for name in names[first : first + _BATCH]:
                    await add_user(transaction, name, self._password_hash, system_clock())
        return names

    async def make_with_addresses(self, how_many: int, *, are_disabled: bool = False) -> list[str]:
        """Make users with the confirmed address `address_of`, and return their usernames."""
        names = await self.make_without_factor(how_many)
        disabled_at = unix_seconds(system_clock()) if are_disabled else None
        for first in range(0, how_many, _BATCH):
            async with self._parts.database.begin() as transaction:
                for name in names[first : first + _BATCH]:
                    await transaction.execute(
                        "UPDATE users SET email = $1, disabled_at = $2 WHERE username = $3",
                        self.address_of(name), disabled_at, name,
                    )  # fmt: skip
                    await transaction.execute(
                        "INSERT INTO addresses (address, user_id) SELECT $1, id FROM users WHERE username = $2",
                        self.address_of(name), name,
                    )  # fmt: skip
        return names

    @staticmethod
    def address_of(username: str) -> str:
        return f"{username}@example.com"

    async def fill_users(self, how_many: int) -> None:
        """Add users with random usernames, with which nobody logs in."""
        now = unix_seconds(system_clock())
        is_shared = self._parts.settings.database_url is not None
        random_id = "md5(random()::text)" if is_shared else "lower(hex(randomblob(16)))"
        for done in range(0, how_many, _USERS_AT_ONCE):
            async with self._parts.database.begin() as transaction:
                await transaction.execute(
                    "INSERT INTO users (id, username, password_hash, created_at) WITH RECURSIVE n (i) AS (SELECT 1"
                    f" UNION ALL SELECT i + 1 FROM n WHERE i < $1) SELECT {random_id}, {random_id}, $2, $3 FROM n",
                    min(_USERS_AT_ONCE, how_many - done), self._password_hash, now,
                )  # fmt: skip
        if is_shared:
            await self._parts.database.fetch_all("ANALYZE users")  # as autovacuum does within a minute

    async def log_in(self, how_many: int) -> list[Tokens]:
        """Open sessions of one user."""
        now = system_clock()
        parts = self._parts
        key = await parts.keys.get_signing_key(now)
        lifetimes = Lifetimes(timedelta(days=30), timedelta(days=7))
        made: list[Tokens] = []
        async with parts.database.begin() as transaction:
            user = await add_user(transaction, secrets.token_hex(8), self._password_hash, now)
            assert user is not None
        while len(made) < how_many:
            async with parts.database.begin() as transaction:
                for _ in range(min(_BATCH, how_many - len(made))):
                    session = await open_session(
                        transaction, user, amr=("pwd",), caller=Caller("::1"), lifetimes=lifetimes, now=now
                    )
                    assert session is not None
                    access = parts.tokens.access.write(key, session.subject(user.username, ()), now=now)
                    made.append(Tokens(access, parts.tokens.refresh.write(session.id, 0)))
        return made

    async def fill(self, how_many: int) -> None:
        """Add live sessions of one user, which are not used."""
        now = unix_seconds(system_clock())
        owner = (await self._parts.administration.list_page(AccountFilter())).items[0].sub
        random_id = "md5(random()::text)" if self._parts.settings.database_url else "lower(hex(randomblob(16)))"
        for done in range(0, how_many, _FILLED_AT_ONCE):
            async with self._parts.database.begin() as transaction:
                await transaction.execute(
                    "INSERT INTO sessions (id, user_id, amr, acr, auth_time, created_at, last_used_at, ends_at,"
                    " expires_at, address, user_agent) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1"
                    f" FROM n WHERE i < $1) SELECT {random_id}, $2, 'pwd', 'aal1', $3, $3, $3, $4, $4, '::1',"
                    " 'a program of some length' FROM n",
                    min(_FILLED_AT_ONCE, how_many - done), owner, now, now + 7 * 86400,
                )  # fmt: skip

    async def register(self, name: str = "bench", *, scopes: tuple[str, ...] = ()) -> str:
        """Register a client of that name, and return its secret."""
        secret = await self._parts.clients.add(name, scopes, by=OPERATOR)
        assert secret is not None
        return secret

    async def _batch(self, how_many: int) -> list[Person]:
        now = system_clock()
        made: list[Person] = []
        async with self._parts.database.begin() as transaction:
            for _ in range(how_many):
                user = await add_user(transaction, secrets.token_hex(8), self._password_hash, now)
                assert user is not None
                factor = await self._parts.second_factors.totp.add(transaction, user, now)
                token = self._parts.tokens.pending.write_for_login(
                    sub=user.id, credential_version=user.credential_version, now=now
                )
                made.append(Person(user.username, factor.secret, token))
            await transaction.execute(
                "UPDATE totp_authenticators SET confirmed_at = $1 WHERE confirmed_at IS NULL", unix_seconds(now)
            )
        return made


@contextlib.asynccontextmanager
async def people_of(world: World) -> AsyncIterator[People]:
    async with open_components(read_settings(world.environment)) as parts:
        yield People(parts, await parts.passwords.hash(PASSWORD))
