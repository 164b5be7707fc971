"""`keyturn doctor` changes nothing, and reports every outcome as a finding or one sentence."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from service.components import open_components
from service.environment import read_settings
from service.errors import ConfigurationError, MissingTable, StoreUnavailable
from service.operations.doctor import Doctor, Finding
from service.settings import PREFIX, Settings
from service.storage.connecting import connect_database
from service.storage.database import SCHEMA, ReadOnly, Row, Running
from service.storage.ephemeral import EphemeralUnavailable
from service.storage.ephemeral_redis import Info, State
from service.storage.migrations import migrate
from service.storage.sealing import UnsealError
from service.tokens.keys import LEAD
from service.users.passwords import CHEAPEST
from tests.harness.clients import SECRET
from tests.harness.commands import MISUSED, REFUSED, run
from tests.harness.databases import PATIENT, PATIENT_SECONDS
from tests.harness.people import PASSWORD, MovableClock, real_clock
from tests.harness.servers import make_schema

NOW = datetime(2026, 11, 22, 12, 0, 5).astimezone()
NOWHERE = "http://127.0.0.1:9"


def answering(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> httpx2.MockTransport:
    async def stream() -> AsyncIterator[bytes]:
        yield body

    return httpx2.MockTransport(lambda _request: httpx2.Response(status, content=stream(), headers=headers))


async def examine(chosen: Settings, clock: Any, **more: Any) -> list[Finding]:
    more.setdefault("transport", answering(b'{"keys": []}'))
    database = connect_database(chosen.resolved_database_url, read_only=True, timeout=PATIENT_SECONDS)
    return [finding async for finding in Doctor(chosen, database, clock, **more).examine()]


# --- it changes nothing ---


async def rows_of(chosen: Settings) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table."""
    if chosen.database_url is None:
        with contextlib.closing(sqlite3.connect(chosen.sqlite_file)) as connection:
            names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
            return {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for (name,) in names}
    connection = await asyncpg.connect(chosen.database_url.get_secret_value())
    try:
        names = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        tables = [name["tablename"] for name in names]
        return {
            name: sorted(map(tuple, await connection.fetch(f"SELECT *, xmin FROM {name}")), key=repr)
            for name in tables
        }
    finally:
        await connection.close()


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def keys_of(url: str | None) -> dict[bytes, bytes]:
    """Return the content of Redis, except the keys of the readiness probe, which expire within seconds."""
    if url is None:
        return {}
    with redis.Redis.from_url(url) as client:
        return {key: client.dump(key) for key in client.scan_iter() if not key.startswith(b"keyturn:probe:")}


CLOCKS: dict[str, Callable[[datetime], datetime]] = {
    "in time": lambda first: first,
    "90 s behind, just after the first key": lambda first: first - timedelta(seconds=90),
    "with a key due for rotation": lambda first: first + timedelta(days=90) - LEAD,
    "long after": lambda first: first + timedelta(days=3650),
}


@pytest.mark.parametrize("moment", CLOCKS)
async def test_the_doctor_changes_no_row_and_makes_no_file(
    world: dict[str, Any], clock: MovableClock, tmp_path: Path, moment: str
) -> None:
    """Whatever the clock says, every row of every store and every file stay as they were."""
    chosen = Settings(**{**world, "webhook_url": NOWHERE, "webhook_secret": SecretStr("whsec_" + "a" * 43 + "=")})
    if chosen.database_url is None:
        make_schema(chosen)
    async with open_components(chosen, clock, hash_cost=CHEAPEST, timeouts=PATIENT) as parts:
        await parts.sign_up.sign_up("alice", PASSWORD, enable_mfa=True, caller=None)
    moved = CLOCKS[moment](clock.now)
    before = files_of(tmp_path), await rows_of(chosen), keys_of(chosen.resolved_redis_url)
    found = await examine(chosen, lambda: moved)
    assert any("opens the signing key" in finding.what for finding in found)
    after = (
        files_of(tmp_path),
        await rows_of(chosen),
        keys_of(chosen.resolved_redis_url),
    )  # reading rows checkpoints a WAL
    assert before == after
    is_behind = any("may not sign before" in finding.what for finding in found)
    assert is_behind == moment.startswith("90 s behind")


async def test_the_doctor_of_a_running_service_reads_the_wal(embedded: dict[str, Any], clock: MovableClock) -> None:
    """SQLite's newest rows are in the WAL."""
    chosen = Settings(**embedded)
    make_schema(chosen)
    async with open_components(chosen, clock, hash_cost=CHEAPEST, timeouts=PATIENT):
        found = await examine(chosen, clock)
    assert any("opens the signing key" in finding.what for finding in found)


async def test_what_is_missing_is_reported_and_not_made(embedded: dict[str, Any], tmp_path: Path) -> None:
    """The database is migrated, but has no master secret and no signing key."""
    chosen = Settings(**embedded)
    make_schema(chosen)
    before = files_of(tmp_path)
    found = await examine(chosen, real_clock)
    assert [f"There is no master secret at {chosen.data_dir / 'master-secret'}."] == [
        finding.what for finding in found if "master secret" in finding.what
    ]
    named = Settings(**embedded, master_secrets=SecretStr("5e" * 32))
    assert any(finding.what == "There is no signing key yet." for finding in await examine(named, real_clock))
    assert before == files_of(tmp_path)


def test_no_folder_is_made(tmp_path: Path) -> None:
    """In the wrong folder it reports the missing database and exits with 2."""
    output = run("doctor", environment={"KEYTURN_DATA_DIR": str(tmp_path / "elsewhere")})
    assert (MISUSED, "") == (output.status, output.out)
    assert f"There is no database at {tmp_path}/elsewhere/keyturn.sqlite3" in output.err
    assert [] == list(tmp_path.iterdir())


async def test_a_read_only_database_refuses_writes(tmp_path: Path) -> None:
    """A check that tried to write would fail."""
    migrate(f"sqlite:///{tmp_path}/keys.sqlite3")
    database = connect_database(f"sqlite:///{tmp_path}/keys.sqlite3", read_only=True, timeout=PATIENT_SECONDS)
    await database.open()
    with pytest.raises(RuntimeError):
        database.begin()
    with pytest.raises(RuntimeError):
        await database.write_one("DELETE FROM users RETURNING id")
    with pytest.raises(StoreUnavailable):
        await database.fetch_one("DELETE FROM users RETURNING id")
    await database.close()


# --- every outcome is a finding ---


class Broken:
    """A `Database` that answers `good_for` calls as a new one would, and then raises."""

    def __init__(self, error: BaseException, *, good_for: int = 0) -> None:
        self.error, self.left = error, good_for

    async def open(self) -> None:
        self.call()

    async def close(self) -> None:
        raise self.error

    async def fetch_one(self, sql: str, *_parameters: object) -> Row | None:
        self.call()
        if "alembic_version" in sql:
            return {"version_num": SCHEMA}
        return {
            "now": int(NOW.timestamp()),
            "level": "read committed",
            "occurred_at": None,
            "weak": 0,
            "number": 140000,
        }

    async def fetch_all(self, _sql: str, *_parameters: object) -> list[Row]:
        self.call()
        return []

    async def read_running(self) -> Running:
        raise AssertionError("the doctor reads no events")

    async def probe(self) -> None:
        self.call()

    def begin(self) -> Any:
        raise AssertionError("the doctor only reads")

    async def write_one(self, _sql: str, *_parameters: object) -> Row | None:
        raise AssertionError("the doctor only reads")

    def call(self) -> None:
        if self.left == 0:
            raise self.error
        self.left -= 1


class BrokenRedis:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error

    async def ping(self) -> None:
        if self.error is not None:
            raise self.error

    async def inspect(self) -> State:
        return State(int(NOW.timestamp()), Info("Redis", "7.0.15", "7.0.15", "noeviction", has_append_only_file=True))

    async def close(self) -> None:
        if self.error is not None:
            raise self.error


ERRORS: tuple[Callable[[], Exception], ...] = (
    StoreUnavailable,
    EphemeralUnavailable,
    lambda: ConfigurationError("KEYTURN_DATABASE_URL cannot be read: is its port a number?"),
    lambda: MissingTable("no such table: signing_keys"),
    lambda: UnsealError("a sealed value does not open"),
    lambda: sqlite3.IntegrityError("a constraint"),
    lambda: asyncpg.InsufficientPrivilegeError("permission denied for table users"),
    lambda: asyncpg.UndefinedColumnError("column does not exist"),
    lambda: redis.ResponseError("NOPERM this user has no permissions"),
    lambda: redis.AuthenticationError("WRONGPASS hunter2"),
    lambda: OSError(13, "Permission denied"),
    lambda: UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    TimeoutError,
    RecursionError,
    MemoryError,
    AssertionError,
    KeyError,
    IndexError,
    lambda: TypeError("hunter2"),
    lambda: ExceptionGroup("several", [OSError(), ValueError()]),
)
PRODUCTION = {
    "database_url": SecretStr("postgresql://keyturn:hunter2@db/keyturn"),
    "redis_url": SecretStr("redis://:hunter2@redis"),
    "master_secrets": SecretStr(SECRET),
    "issuer": "https://id.example.com",
    "webhook_url": NOWHERE,
    "webhook_secret": SecretStr("whsec_" + "a" * 43 + "="),
}


def are_findings(found: list[Finding]) -> None:
    """Check that each finding is complete, has one line, and contains no password."""
    assert found
    for finding in found:
        assert isinstance(finding, Finding)
        assert finding.what
        assert "hunter2" not in finding.what + finding.advice


@pytest.mark.parametrize("make", ERRORS, ids=lambda make: type(make()).__name__)
async def test_a_store_that_fails_is_a_finding_and_the_other_checks_run(make: Callable[[], Exception]) -> None:
    """It fails at the first call to the database, at any later one, and at Redis."""
    chosen = Settings(**PRODUCTION)
    for good_for in range(8):
        database = ReadOnly(Broken(make(), good_for=good_for))
        doctor = Doctor(
            chosen, database, lambda: NOW, connect_redis=lambda _: BrokenRedis(make()), transport=answering(b"[]")
        )
        found = [finding async for finding in doctor.examine()]
        are_findings(found)
        assert any("has a pattern" in finding.what for finding in found), "the master secrets are checked"
        assert "wrong" == found[-1].verdict, "Redis is checked last"
        if good_for < 2:
            assert "wrong" == found[0].verdict


async def test_a_check_that_fails_names_itself_and_the_error(clock: MovableClock) -> None:
    """The other findings are as usual."""
    chosen = Settings(**{**PRODUCTION, "webhook_url": None, "webhook_secret": None})
    doctor = Doctor(
        chosen,
        ReadOnly(Broken(KeyError("x"), good_for=8)),
        lambda: NOW,
        connect_redis=lambda _: BrokenRedis(None),
        transport=answering(b'{"keys": []}'),
    )
    found = [finding async for finding in doctor.examine()]
    assert [
        ("wrong", "The check of the addresses of logins failed (KeyError)."),
        ("wrong", "The check of the messages that wait failed (KeyError)."),
        ("wrong", "The check of the published keys failed (KeyError)."),
    ] == [(finding.verdict, finding.what) for finding in found if "KeyError" in finding.what]
    assert "ok" == found[-1].verdict


async def test_a_store_that_never_answers_ends_its_check() -> None:
    """The check ends after its time with one sentence, and the others run."""

    class Silent(BrokenRedis):
        async def inspect(self) -> State:
            await asyncio.sleep(3600)
            raise AssertionError

    doctor = Doctor(
        Settings(**PRODUCTION),
        ReadOnly(Broken(StoreUnavailable(), good_for=99)),
        lambda: NOW,
        check_timeout=0.05,
        connect_redis=lambda _: Silent(None),
        transport=answering(b"{}"),
    )
    found = [finding async for finding in doctor.examine()]
    assert found[-1].what.startswith("The check of Redis took longer than ")


def damaged(data: Path) -> None:
    file = data / "keyturn.sqlite3"
    content = bytearray(file.read_bytes())
    content[4096 : len(content) // 2] = b"\xff" * (len(content) // 2 - 4096)
    file.write_bytes(content)


def of_another_kind(data: Path) -> None:
    (data / "keyturn.sqlite3").write_text("this is no database, and long enough to be read as one " * 99)


def empty(data: Path) -> None:
    (data / "keyturn.sqlite3").write_bytes(b"")


def a_folder(data: Path) -> None:
    (data / "keyturn.sqlite3").unlink()
    (data / "keyturn.sqlite3").mkdir()


def changed(sql: str) -> Callable[[Path], None]:
    def change(data: Path) -> None:
        with contextlib.closing(sqlite3.connect(data / "keyturn.sqlite3", isolation_level=None)) as connection:
            connection.execute(sql)

    return change


def secret(content: bytes) -> Callable[[Path], None]:
    def change(data: Path) -> None:
        (data / "master-secret").write_bytes(content)

    return change


STATES: dict[str, tuple[Callable[[Path], None], str]] = {
    "damaged": (damaged, ""),
    "no database": (of_another_kind, "file is not a database (DatabaseError)."),
    "an empty file": (empty, f"The schema is missing; this version of Keyturn needs {SCHEMA}."),
    "a folder": (a_folder, "it is a folder (IsADirectoryError)."),
    "a newer schema": (changed("UPDATE alembic_version SET version_num = '9999'"), "The schema is 9999, newer than"),
    "an unknown schema": (changed("UPDATE alembic_version SET version_num = 'x'"), "The schema is x; this version"),
    "no table of keys": (
        changed("DROP TABLE signing_keys"),
        "The database cannot be used. SQLite: no such table: signing_keys.",
    ),
    "a key of junk": (
        changed("UPDATE signing_keys SET private_key = x'00'"),
        "No master secret opens the signing key.",
    ),
    "an algorithm of junk": (
        changed("UPDATE signing_keys SET algorithm = 'x'"),
        "the signing keys failed (KeyError).",
    ),
    "events of junk": (
        changed("UPDATE events SET event = 'login.admitted', details = '{'"),
        "addresses of logins failed",
    ),
    "another secret": (secret(b"5e" * 32), "No master secret opens the signing key."),
    "a secret of junk": (secret(b"ju nk"), "/master-secret: a master secret is neither hex nor base64."),
    "a secret that is no text": (secret(b"\xff\xfe\x00"), "cannot be read"),
    "an empty secret": (secret(b"\n"), "/master-secret: there is no master secret."),
}


@pytest.mark.parametrize("state", STATES)
async def test_a_damaged_data_folder_is_a_finding(
    embedded: dict[str, Any], clock: MovableClock, state: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Each damage has its sentence; the command ends with 1 and without a traceback."""
    chosen = Settings(**embedded)
    make_schema(chosen)
    async with open_components(chosen, clock, hash_cost=CHEAPEST, timeouts=PATIENT) as parts:
        await parts.sign_up.sign_up("alice", PASSWORD, enable_mfa=False, caller=None)
    spoil, sentence = STATES[state]
    spoil(chosen.data_dir)
    found = await examine(chosen, clock)
    are_findings(found)
    wrong = [finding.what for finding in found if finding.verdict == "wrong"]
    assert any(sentence in what for what in wrong), found
    assert any("without TLS" in finding.what for finding in found), "other checks run"


async def endless() -> AsyncIterator[bytes]:
    """Yield four times the limit: without it the test fails, and does not use up the memory."""
    for _ in range(64):
        yield b" " * 65536


async def never() -> AsyncIterator[bytes]:
    await asyncio.sleep(3600)
    yield b""


def raising(error: Exception) -> httpx2.MockTransport:
    def answer(_request: httpx2.Request) -> httpx2.Response:
        raise error

    return httpx2.MockTransport(answer)


def streaming(body: Callable[[], AsyncIterator[bytes]]) -> httpx2.MockTransport:
    return httpx2.MockTransport(lambda _request: httpx2.Response(200, content=body()))


KEY_SETS: dict[str, tuple[httpx2.MockTransport, str]] = {
    "HTML": (answering(b"<!doctype html><title>Welcome</title>"), "the answer is not JSON"),
    "junk": (answering(bytes(range(256))), "the answer is not JSON"),
    "nothing": (answering(b""), "the answer is not JSON"),
    "a list": (answering(b"[]"), "the answer is JSON, but not a JWK set"),
    "null": (answering(b"null"), "the answer is JSON, but not a JWK set"),
    "a number": (answering(b'{"keys": 7}'), "the answer is JSON, but not a JWK set"),
    "keys without names": (answering(b'{"keys": [{}, 1]}'), "the answer is JSON, but not a JWK set"),
    "names of junk": (answering(b'{"keys": [{"kid": {"a": [1]}}]}'), ""),
    "deep": (answering(b"[" * 200_000), "the answer is not JSON"),
    "a long number": (answering(b"9" * 5000), "the answer is not JSON"),
    "compressed": (
        answering(b"\x1f\x8b\x08\x00junk", headers={"Content-Encoding": "gzip"}),
        "the answer is not JSON",
    ),
    "a redirect": (answering(b"", 302, {"Location": "https://login.example.com/"}), "the answer is the redirect 302"),
    "a redirect to itself": (answering(b"", 308, {"Location": "."}), "the answer is the redirect 308"),
    "404": (answering(b"", 404), "the answer is 404"),
    "500": (answering(b"", 500), "the answer is 500"),
    "204": (answering(b"", 204), "the answer is 204"),
    "endless": (streaming(endless), "the answer is longer than 1 MiB"),
    "silent": (streaming(never), "the answer takes longer than 5 s"),
    "refused": (raising(httpx2.ConnectError("refused")), "the request fails (ConnectError)"),
    "no certificate": (raising(OSError("certificate")), "the request fails (OSError)"),
    "half": (raising(httpx2.RemoteProtocolError("cut")), "the request fails (RemoteProtocolError)"),
}


@pytest.mark.parametrize("kind", KEY_SETS)
async def test_any_other_answer_than_the_key_set_is_a_finding(
    embedded: dict[str, Any], clock: MovableClock, kind: str
) -> None:
    """The finding has the reason, so that the operator can see what answers at the address."""
    chosen = Settings(**embedded)
    make_schema(chosen)
    async with open_components(chosen, clock, hash_cost=CHEAPEST, timeouts=PATIENT):
        pass
    transport, reason = KEY_SETS[kind]
    found = await examine(chosen, clock, transport=transport, answer_timeout=0.2 if kind == "silent" else 5.0)
    are_findings(found)
    reason = reason.replace("5 s", "0 s")
    (wrong,) = (finding.what for finding in found if "key set" in finding.what)
    url = f"{chosen.issuer}/.well-known/jwks.json"
    if reason:
        assert wrong.startswith(f"There is no key set at {url}: {reason}")
    else:
        assert f"The key set at {url} belongs to another service." == wrong


# --- any settings that the service accepts ---

WORDS = st.text(max_size=12) | st.sampled_from(
    [
        "",
        "0",
        "1",
        "off",
        "everyone",
        "admin",
        "::1",
        "10.0.0.0/8",
        "0.0.0.0/0",
        "http://[::1",
        "https://x y",
        "\ud800",
    ]
)
URLS = st.builds("{}://{}{}".format, st.sampled_from(["http", "https", "postgresql", "redis"]), WORDS, WORDS)
NAMES = sorted(Settings.model_fields.keys() - {"data_dir", "redis_url", "database_url"})


@st.composite
def environments(draw: st.DrawFn) -> dict[str, str]:
    """Draw plausible settings, many of which the service refuses."""
    names = draw(st.lists(st.sampled_from(NAMES), max_size=4, unique=True))
    return {PREFIX + name.upper(): draw(WORDS | URLS | st.integers(0, 9999).map(str)) for name in names}


@given(environment=environments(), issuer=URLS | st.none(), body=st.binary(max_size=20) | st.just(b'{"keys":[]}'))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_doctor_accepts_all_settings_that_serve_accepts(
    environment: dict[str, str], issuer: str | None, body: bytes
) -> None:
    """Every outcome is a finding, with a database and a Redis that answer and with others."""
    production = {
        "KEYTURN_DATABASE_URL": "postgresql://db/keyturn",
        "KEYTURN_REDIS_URL": "redis://redis",
        "KEYTURN_MASTER_SECRETS": SECRET,
    }
    if issuer is not None:
        environment = {**environment, "KEYTURN_ISSUER": issuer}
    try:
        chosen = read_settings({**production, **environment})
    except ConfigurationError:
        return

    async def all_of_it() -> None:
        for database, its_redis in (
            (Broken(StoreUnavailable(), good_for=99), BrokenRedis(None)),
            (Broken(OSError(), good_for=3), BrokenRedis(OSError())),
        ):
            doctor = Doctor(
                chosen,
                ReadOnly(database),
                lambda: NOW,
                connect_redis=lambda _, its_redis=its_redis: its_redis,
                transport=answering(body),
            )
            are_findings([finding async for finding in doctor.examine()])

    asyncio.run(all_of_it())


def test_a_setting_with_any_characters_is_printed(tmp_path: Path) -> None:
    """It is on one line, on a terminal of any encoding; the exit status is that of an error."""
    here = {"KEYTURN_DATA_DIR": str(tmp_path / "caf\u00e9")}
    assert 0 == run("migrate", environment=here).status
    secret = tmp_path / "caf\u00e9" / "master-secret"
    secret.write_text(f"{SECRET}\n")
    secret.chmod(0o644)
    output = run("doctor", environment={**here, "PYTHONIOENCODING": "ascii"})
    assert (REFUSED, "") == (output.status, output.err)
    assert "caf\\xe9/master-secret" in output.out
