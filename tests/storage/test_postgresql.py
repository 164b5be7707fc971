"""PostgreSQL as operators find it: TLS, a role without rights, errors of the server, poolers, and slow networks."""

import asyncio
import contextlib
import datetime as dates
import ipaddress
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from httpx2 import AsyncClient

from service.errors import ConfigurationError, StoreUnavailable
from service.settings import Settings
from service.storage import migrations
from service.storage.connecting import connect_database
from service.storage.database import SCHEMA, schema_revision
from service.storage.database_postgresql import BEGIN, MAX_ROUND_TRIPS
from service.storage.postgresql_checks import PRIVILEGES
from service.storage.timeouts import STORE_TIMEOUTS
from tests.harness.clients import SECRET, Opener
from tests.harness.commands import MISUSED, REFUSED, Invocation, run_all
from tests.harness.databases import PATIENT, opened
from tests.harness.examinations import examine, findings_with
from tests.harness.log_records import details_of
from tests.harness.people import PASSWORD, MovableClock, sign_up
from tests.harness.servers import REPOSITORY, PgBouncer, PostgreSQLServer

DATABASE_PASSWORD = "hunter2hunter2"
"""A password of the database, which no output may contain."""


async def failure_of(url: str) -> StoreUnavailable:
    """Return the error of a database that cannot be used."""
    with pytest.raises(StoreUnavailable) as refused:
        async with opened(url) as database:
            await database.fetch_one("SELECT 1")
    await asyncio.sleep(0.01)  # asyncio closes a connection that was refused in its next iterations
    assert DATABASE_PASSWORD not in refused.value.why
    return refused.value


# TLS


@dataclass(frozen=True)
class Certificates:
    """The files of one authority, of another one, and of what the first has signed."""

    folder: Path

    def __getattr__(self, name: str) -> str:
        return str(self.folder / name.replace("_", "."))


def make_certificate(
    folder: Path, name: str, subject: str, issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None = None
) -> tuple[x509.Name, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    now = dates.datetime.now(dates.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(own)
        .issuer_name(issuer[0] if issuer else own)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dates.timedelta(days=1))
        .not_valid_after(now + dates.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if subject == "localhost":
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.9"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    (folder / f"{name}.key").write_bytes(key.private_bytes(*form, serialization.NoEncryption()))
    locked = serialization.BestAvailableEncryption(DATABASE_PASSWORD.encode())
    (folder / f"{name}locked.key").write_bytes(key.private_bytes(*form, locked))
    return own, key


HBA = """
local all all trust
hostssl tlsonly all all trust
hostnossl tlsonly all all reject
hostnossl plainonly all all trust
hostssl plainonly all all reject
hostssl certified all all cert
hostnossl certified all all reject
host secretive keyturn all scram-sha-256
host nobody all all reject
host all all all trust
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    authority = make_certificate(folder, "root", "Authority")
    make_certificate(folder, "other", "Other authority")
    make_certificate(folder, "server", "localhost", authority)
    make_certificate(folder, "client", "keyturn", authority)
    return Certificates(folder)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[PostgreSQLServer]:
    """A PostgreSQL with TLS, with databases that have different authentication, and a role without rights."""
    made = PostgreSQLServer(tmp_path_factory.mktemp("tls"))
    (made.data / "pg_hba.conf").write_text(HBA)
    for name in ("server.crt", "server.key", "root.crt"):
        shutil.copy(certificates.folder / name, made.data / name)
        (made.data / name).chmod(0o600)
        if made.user is not None:
            shutil.chown(made.data / name, made.user)
    made.arguments += ["-c", "ssl=on", "-c", "ssl_ca_file=root.crt", "-c", "log_min_messages=fatal"]
    made.start()
    for name in ("tlsonly", "plainonly", "certified", "secretive", "nobody"):
        made.run(f"CREATE DATABASE {name}")
    made.run(
        f"ALTER ROLE keyturn PASSWORD '{DATABASE_PASSWORD}'; CREATE ROLE app LOGIN;"
        " CREATE ROLE full LOGIN CONNECTION LIMIT 0"
    )
    yield made
    made.stop()


ENCRYPTED = "SELECT CASE WHEN ssl THEN 1 ELSE 0 END AS is_encrypted FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@pytest.mark.parametrize(
    ("database", "options", "is_encrypted"),
    [
        ("postgres", "", 1),
        ("postgres", "sslmode=disable", 0),
        ("postgres", "sslmode=allow", 0),
        ("postgres", "sslmode=prefer", 1),
        ("plainonly", "sslmode=allow", 0),
        ("plainonly", "sslmode=prefer", 0),
        ("plainonly", "sslmode=disable", 0),
        ("tlsonly", "sslmode=allow", 1),
        ("tlsonly", "sslmode=prefer", 1),
        ("tlsonly", "sslmode=require", 1),
        ("tlsonly", "sslmode=require&sslrootcert={root}", 1),
        ("tlsonly", "sslmode=verify-ca&sslrootcert={root}", 1),
        ("tlsonly", "sslmode=verify-full&sslrootcert={root}", 1),
        ("tlsonly", "sslmode=require&ssl_min_protocol_version=TLSv1.3", 1),
        ("tlsonly", "sslmode=require&ssl_max_protocol_version=TLSv1.2", 1),
        ("certified", "sslmode=require&sslcert={cert}&sslkey={key}", 1),
        ("certified", "sslmode=verify-full&sslrootcert={root}&sslcert={cert}&sslkey={key}", 1),
        ("certified", f"sslmode=require&sslcert={{cert}}&sslkey={{locked}}&sslpassword={DATABASE_PASSWORD}", 1),
        ("tlsonly", "channel_binding=prefer&gssencmode=disable&keepalives=1&target_session_attrs=read-write", 1),
        ("postgres", "options=-csearch_path%3Dpublic&connect_timeout=10&application_name=x", 1),
    ],
)
async def test_the_connection_is_as_the_url_demands(
    server: PostgreSQLServer, certificates: Certificates, database: str, options: str, is_encrypted: int
) -> None:
    """Each `sslmode` meets a server with both, only TLS or only plain connections, and client certificates."""
    files = {
        "root": certificates.root_crt,
        "cert": certificates.client_crt,
        "key": certificates.client_key,
        "locked": certificates.clientlocked_key,
    }
    async with opened(f"{server.url(database, host='localhost')}?{options.format(**files)}") as opening:
        row = await opening.fetch_one(ENCRYPTED)
    assert row is not None
    assert is_encrypted == row["is_encrypted"]


async def test_the_authorities_of_the_system_are_used(
    server: PostgreSQLServer, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sslrootcert=system` uses the authorities of the system, and demands the host name."""
    url = f"{server.url('tlsonly', host='localhost')}?sslrootcert=system"
    assert "self-signed certificate" in (await failure_of(url)).why
    monkeypatch.setenv("SSL_CERT_FILE", certificates.root_crt)
    async with opened(url) as database:
        assert await database.fetch_one("SELECT 1")
    assert "not valid for" in (await failure_of(url.replace("localhost", "127.0.0.1"))).why


@pytest.mark.parametrize(
    ("host", "database", "options", "words"),
    [
        ("127.0.0.1", "tlsonly", "sslmode=verify-full&sslrootcert={root}", "IP address mismatch"),
        ("localhost", "tlsonly", "sslmode=verify-ca&sslrootcert={other}", "certificate"),
        ("localhost", "tlsonly", "sslmode=require&sslrootcert={other}", "certificate"),
        ("localhost", "tlsonly", "sslmode=disable", "no encryption"),
        ("localhost", "plainonly", "sslmode=require", "pg_hba.conf"),
        ("localhost", "certified", "sslmode=require", "certificate"),
        ("localhost", "nobody", "", "pg_hba.conf"),
        ("localhost", "secretive", "", "password authentication failed"),
        ("localhost", "secretive", "password=wrong", "28P01"),
        ("localhost", "no_such_database", "", "3D000"),
        ("localhost", "postgres", "user=no_such_role", "28000"),
        ("localhost", "postgres", "options=-cno_such_setting%3D1", "42704"),
        ("localhost", "postgres", "statement_timeout=soon", "22023"),
        ("localhost", "postgres", "role=no_such_role", "22023"),
    ],
)
async def test_a_refusal_of_the_server_is_reported_in_its_own_words(
    server: PostgreSQLServer, certificates: Certificates, *, host: str, database: str, options: str, words: str
) -> None:
    """Each is a different sentence, says that waiting does not help, and contains no password."""
    files = {
        "root": certificates.root_crt,
        "other": certificates.other_crt,
        "otherc": certificates.other_crt,
        "otherk": certificates.other_key,
    }
    url = server.url(database, host=host)
    if "user=" in options:
        url = url.replace("keyturn@", "")
    error = await failure_of(f"{url}?{options.format(**files)}")
    assert words in error.why
    assert error.is_lasting, error.why


async def test_a_temporary_failure_is_reported_as_such(server: PostgreSQLServer) -> None:
    """The causes: too many connections, a closed port, an unknown host, and a missing socket."""
    for url, words in (
        (server.url("postgres", user="full"), "53300"),
        ("postgresql://keyturn@127.0.0.1:1/x", "127.0.0.1:1 refuses connections (ConnectionRefusedError)"),
        ("postgresql://keyturn@no-such-host.invalid/x", "no-such-host.invalid:5432 is not known"),
        ("postgresql:///x?user=keyturn&host=/no/such/folder", "no socket of PostgreSQL at /no/such/folder"),
    ):
        error = await failure_of(url)
        assert words in error.why
        assert not error.is_lasting, url


async def test_an_untrusted_client_certificate_is_reported(
    server: PostgreSQLServer, certificates: Certificates
) -> None:
    """With TLS 1.3 the server only closes the connection; the error names the likely cause."""
    files = f"sslcert={certificates.other_crt}&sslkey={certificates.other_key}"
    error = await failure_of(f"{server.url('certified')}?sslmode=require&{files}")
    assert "sslcert" in error.why or "certificate" in error.why


async def test_a_server_without_tls_is_reported_if_tls_is_required(postgresql_server: PostgreSQLServer) -> None:
    """`sslmode=require` is refused with the reason that there is no TLS; `prefer` is served."""
    url = postgresql_server.url("postgres")
    error = await failure_of(f"{url}?sslmode=require")
    assert "offers no TLS" in error.why
    assert error.is_lasting
    for mode in ("disable", "allow", "prefer"):
        async with opened(f"{url}?sslmode={mode}") as database:
            assert await database.fetch_one("SELECT 1")


async def test_a_wrong_password_on_a_server_without_tls_is_reported_as_such(server: PostgreSQLServer) -> None:
    """The error is not about TLS, which was tried first and is not offered."""
    error = await failure_of(server.url("secretive", host="127.0.0.1") + "?sslmode=prefer&password=wrong")
    assert "28P01" in error.why


async def test_no_file_of_the_home_folder_is_read(
    server: PostgreSQLServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither broken files where the driver would look for them nor a correct password file is used."""
    (tmp_path / ".postgresql").mkdir()
    for name in ("root.crt", "root.crl", "postgresql.crt", "postgresql.key"):
        (tmp_path / ".postgresql" / name).write_text("not PEM")
    (tmp_path / ".pgpass").write_text(f"*:*:*:*:{DATABASE_PASSWORD}\n")
    (tmp_path / ".pgpass").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    for options in ("", "?sslmode=require"):
        async with opened(server.url("tlsonly") + options) as database:
            assert await database.fetch_one("SELECT 1")
    assert "28P01" in (await failure_of(server.url("secretive"))).why
    async with opened(f"{server.url('secretive')}?passfile={quote(str(tmp_path / '.pgpass'))}") as database:
        assert await database.fetch_one("SELECT 1")


async def test_the_first_of_several_hosts_that_accepts_writes_is_used(server: PostgreSQLServer) -> None:
    """An unreachable host is skipped, both in the authority of the URL and in its query."""
    for hosts in (
        f"127.0.0.1:1,127.0.0.1:{server.port}/postgres",
        f"/postgres?host=127.0.0.1,127.0.0.1&port=1,{server.port}",
    ):
        async with opened(f"postgresql://keyturn@{hosts}") as database:
            assert await database.fetch_one("SELECT 1")


# Rights


async def test_the_table_of_rights_matches_the_statements(server: PostgreSQLServer) -> None:
    """It has each table and operation of the service's statements, and nothing but those outside commands."""
    server.run("CREATE DATABASE migrated")
    await asyncio.to_thread(migrations.migrate, server.url("migrated"))
    async with opened(server.url("migrated")) as database:
        rows = await database.fetch_all("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    tables = {row["tablename"] for row in rows}
    by_commands = {"cli", "attack", "migrations", "moving.py", "restoring.py", "resealing.py"}
    used: dict[str, set[str]] = {}
    pattern = re.compile(r"\b(INSERT INTO|UPDATE|DELETE FROM|FROM|JOIN) ([a-z_]+)\b")
    for file in (REPOSITORY / "service").rglob("*.py"):
        if by_commands & set(file.relative_to(REPOSITORY / "service").parts):
            continue
        for operation, table in pattern.findall(file.read_text()):
            if table in tables:
                used.setdefault(table, set()).add(
                    {"FROM": "SELECT", "JOIN": "SELECT"}.get(operation, operation.split()[0])
                )
    for table in ("deliverer", "subjects"):
        used[table].add("SELECT")  # for the WHERE of a change
    used["addresses"].add("UPDATE")  # ON CONFLICT DO UPDATE
    assert {table: sorted(rights) for table, rights in used.items()} == {
        table: sorted(rights) for table, rights in PRIVILEGES.items()
    }


def environment(url: str) -> dict[str, str]:
    return {"KEYTURN_DATABASE_URL": url, "KEYTURN_MASTER_SECRETS": SECRET}


COMMANDS = (("migrate",), ("serve", "--port", "0"), ("doctor",), ("users", "list"))


def test_every_command_reports_the_servers_error_in_one_sentence(server: PostgreSQLServer) -> None:
    """A wrong password, a missing database, a forbidden schema: there is no traceback."""
    for name in ("empty_one", "foreign_one"):
        server.run(f"CREATE DATABASE {name}")
    migrations.migrate(server.url("foreign_one"))
    cases = {
        server.url("secretive").replace("keyturn@", f"keyturn:{DATABASE_PASSWORD}x@"): ["28P01"] * 4,
        server.url("no_such_database"): ["3D000"] * 4,
        server.url("empty_one", user="app"): ["42501", *["may not create tables in the schema public"] * 3],
        server.url("foreign_one", user="app"): ["42501"] * 4,
        server.url("empty_one", user="app") + "?search_path=nowhere": ["3F000", *["nowhere"] * 3],
    }
    invocations = [
        # A process does not wait for the end of a TLS connection, and Python reports the open transport.
        Invocation(command, environment=environment(url + ("&" if "?" in url else "?") + "sslmode=disable"))
        for url in cases
        for command in COMMANDS
    ]
    answers = run_all(invocations)
    for (url, words), group in zip(cases.items(), range(0, len(answers), 4), strict=True):
        for command, word, answer in zip(COMMANDS, words, answers[group : group + 4], strict=True):
            output = answer.out + answer.err
            assert word in output, (url, command, output)
            assert DATABASE_PASSWORD not in output
            assert answer.status == (REFUSED if command == ("doctor",) else MISUSED), (command, output)
            assert "Traceback" not in output


def test_commands_report_why_the_database_is_unreachable() -> None:
    """The service may start and wait for the database; a command reports the reason and ends."""
    listing, doctor, migrating = run_all(
        [
            Invocation(arguments, environment=environment("postgresql://u@127.0.0.1:1/x"))
            for arguments in (("users", "list"), ("doctor",), ("migrate",))
        ]
    )
    assert REFUSED == listing.status
    for answer in (listing, doctor, migrating):
        assert "127.0.0.1:1 refuses connections" in answer.out + answer.err


def test_no_command_starts_with_an_invalid_url() -> None:
    """Every command refuses it with the same sentence."""
    url = f"postgresql://u:{DATABASE_PASSWORD}@127.0.0.1:1/x?pgbouncer=true"
    for answer in run_all([Invocation(command, environment=environment(url)) for command in COMMANDS]):
        assert (MISUSED, "") == (answer.status, answer.out)
        assert "the option pgbouncer is another client's" in answer.err
        assert DATABASE_PASSWORD not in answer.err


async def test_a_schema_outside_the_search_path_is_reported(server: PostgreSQLServer) -> None:
    """The schema is another one, or one that the role may not use: the advice names the missing grant or option."""
    server.run("CREATE DATABASE aside")
    server.run("CREATE SCHEMA auth", "aside")
    url = server.url("aside") + "?options=-csearch_path%3Dauth"
    await asyncio.to_thread(migrations.migrate, url)
    async with opened(url) as database:
        assert SCHEMA == await schema_revision(database)
    elsewhere = Settings(database_url=server.url("aside"), master_secrets=SECRET)
    (finding,) = findings_with(await examine(elsewhere), "schema is missing")
    assert "Add options=-csearch_path%3Dauth to KEYTURN_DATABASE_URL" in finding.advice
    forbidden = Settings(database_url=url.replace("keyturn@", "app@"), master_secrets=SECRET)
    (finding,) = findings_with(await examine(forbidden), "schema is missing")
    assert "GRANT USAGE ON SCHEMA auth TO app" in finding.advice


async def replace_every_connection(client: AsyncClient) -> None:
    """Send requests until the pool has replaced the connections that the server ended; there are ten at most."""
    for _ in range(30):
        reason = (await client.get("/readyz")).json()["database_reason"] or ""
        if "connection" not in reason:
            return
        await asyncio.sleep(0.02)


async def test_revoked_rights_are_reported_while_serving(
    server: PostgreSQLServer, open_client: Opener, clock: MovableClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is 503, never 500; /readyz names the right; the log has it once, and once the recovery."""
    server.run("CREATE DATABASE granted")
    await asyncio.to_thread(migrations.migrate, server.url("granted"))
    tables = ", ".join(PRIVILEGES)
    grant = f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO app"
    server.run(grant, "granted")
    caplog.set_level(logging.INFO, "keyturn")
    async with open_client(
        {"database_url": server.url("granted", user="app"), "master_secrets": SECRET},
        timeouts=STORE_TIMEOUTS,
    ) as client:
        await sign_up(client, clock, "alice", mfa=False)
        ready = (await client.get("/readyz")).json()
        assert ("up", None) == (ready["database"], ready["database_reason"])
        for statement, word in (
            ("REVOKE INSERT ON users FROM app", "INSERT on users"),
            (f"REVOKE ALL ON {tables} FROM app", "SELECT on users"),
            ("REVOKE USAGE ON SCHEMA public FROM PUBLIC", "no table"),
            ("ALTER DATABASE granted SET default_transaction_read_only = on", "read-only"),
        ):
            caplog.clear()
            server.run(statement, "granted")
            if "read_only" in statement or "USAGE" in statement:
                end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'"
                server.run(end, "granted")
                await replace_every_connection(client)
            for _ in range(2):
                answer = await client.get("/readyz")
                assert 503 == answer.status_code, statement
                assert ("unavailable", "down") == (answer.json()["status"], answer.json()["database"])
                assert word in answer.json()["database_reason"]
                person = {"username": "bob", "password": PASSWORD}
                assert 503 == (await client.post("/signup", json=person)).status_code, statement
            unreachable = [record for record in caplog.records if record.message == "database.unreachable"]
            reasons = [details_of(record)["reason"] for record in unreachable]
            assert len(reasons) == len(set(reasons))
            assert any(word in reason for reason in reasons)
            server.run("ALTER DATABASE granted RESET default_transaction_read_only")
            server.run(f"GRANT USAGE ON SCHEMA public TO PUBLIC; {grant}", "granted")
            if "read_only" in statement:
                server.run(end, "granted")
                await replace_every_connection(client)
            assert 200 == (await client.get("/readyz")).status_code
            assert ["database.reachable"] == [r.message for r in caplog.records if r.message == "database.reachable"]
        caplog.clear()
        await sign_up(client, clock, "bob", mfa=False)


@pytest.mark.parametrize(
    ("statement", "is_an_outage"),
    [
        ("DO $$ BEGIN RAISE insufficient_privilege; END $$", True),
        ("DO $$ BEGIN RAISE disk_full; END $$", True),
        ("DO $$ BEGIN RAISE io_error; END $$", True),
        ("DO $$ BEGIN RAISE lock_not_available; END $$", True),
        ("DO $$ BEGIN RAISE index_corrupted; END $$", True),
        ("DO $$ BEGIN RAISE query_canceled; END $$", True),
        ("DO $$ BEGIN RAISE deadlock_detected; END $$", True),
        ("DO $$ BEGIN RAISE invalid_schema_name; END $$", True),
        ("DO $$ BEGIN RAISE read_only_sql_transaction; END $$", True),
        ("DO $$ BEGIN RAISE invalid_sql_statement_name; END $$", True),
        ("SELECT pg_terminate_backend(pg_backend_pid())", True),
        ("SELECT no_such_column", False),
        ("SELECT 1 / 0", False),
        ("not SQL at all", False),
        ("DO $$ BEGIN RAISE unique_violation; END $$", False),
        ("DO $$ BEGIN RAISE feature_not_supported; END $$", False),
    ],
)
async def test_errors_of_a_statement_are_outages_or_mistakes(
    postgresql_server: PostgreSQLServer, statement: str, is_an_outage: bool
) -> None:
    """An error that the operator or time mends is `StoreUnavailable` with a reason; a mistake of ours is not."""
    async with opened(postgresql_server.url("postgres")) as database:
        with pytest.raises(StoreUnavailable if is_an_outage else asyncpg.PostgresError) as raised:
            async with database.begin() as transaction:
                await transaction.execute(statement)
        if isinstance(raised.value, StoreUnavailable):
            assert raised.value.why
        assert await database.fetch_one("SELECT 1")


async def test_a_parameter_of_the_wrong_type_is_not_an_outage(postgresql_server: PostgreSQLServer) -> None:
    """The driver's own error is raised: the mistake is in the service."""
    async with opened(postgresql_server.url("postgres")) as database:
        with pytest.raises(asyncpg.DataError):
            await database.fetch_one("SELECT CAST($1 AS BIGINT)", "text")
        with pytest.raises(asyncpg.InterfaceError):
            await database.fetch_one("SELECT 1", "too many")


# Collations


async def test_every_key_is_compared_byte_by_byte(postgresql_server: PostgreSQLServer) -> None:
    """No index on text depends on the machine's collation, so that its order is the same on every machine."""
    async with opened(postgresql_server.url("migrated")) as database:
        rows = await database.fetch_all(
            "SELECT c.relname AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid"
            " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey)"
            " JOIN pg_collation l ON l.oid = a.attcollation JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'public' AND l.collname <> 'C' AND c.relname <> 'alembic_version'"
        )
    assert [] == [row["name"] for row in rows]


async def test_a_changed_collation_is_reported(server: PostgreSQLServer) -> None:
    """`doctor` compares the version that the database was made with to that of the server's library."""
    server.run("CREATE DATABASE collated TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en' LOCALE 'C'")
    await asyncio.to_thread(migrations.migrate, server.url("collated"))
    settings = Settings(database_url=server.url("collated"), master_secrets=SECRET)
    assert [] == findings_with(await examine(settings), "collation")
    server.run("UPDATE pg_database SET datcollversion = '1.0' WHERE datname = 'collated'")
    (finding,) = findings_with(await examine(settings), "collation")
    assert "warning" == finding.verdict
    assert "REFRESH COLLATION VERSION" in finding.advice


async def test_another_default_isolation_level_fails_no_login(server: PostgreSQLServer, open_client: Opener) -> None:
    """Transactions set their own level; `doctor` reports the default, which other statements have."""
    server.run("CREATE DATABASE serializable")
    await asyncio.to_thread(migrations.migrate, server.url("serializable"))
    server.run("ALTER DATABASE serializable SET default_transaction_isolation = 'serializable'")
    settings = {"database_url": server.url("serializable"), "master_secrets": SECRET}
    clock = MovableClock()
    async with open_client(settings, timeouts=STORE_TIMEOUTS) as client:
        people = [await sign_up(client, clock, f"person{number}", mfa=False) for number in range(6)]
        answers = await asyncio.gather(*(person.give_password() for person in people for _ in range(4)))
    assert {200} == {answer.status_code for answer in answers}
    (finding,) = findings_with(await examine(Settings(**settings)), "isolation level")
    assert "warning" == finding.verdict
    assert "ALTER ROLE" in finding.advice


async def test_a_duplicate_username_stops_the_migration(server: PostgreSQLServer) -> None:
    """The migration to byte order rebuilds the index, finds the duplicate, changes nothing, and says what to do."""
    server.run("CREATE DATABASE twice")
    await asyncio.to_thread(migrations.migrate, server.url("twice"), to="0005")
    connection = await asyncpg.connect(server.url("twice"))
    try:
        for user in ("one", "two"):
            await connection.execute(
                "INSERT INTO users (id, username, password_hash, created_at) VALUES ($1, 'alice', 'x', 1)", user
            )
            index = "indexrelid = 'users_username_key'::regclass"
            await connection.execute(f"UPDATE pg_index SET indisunique = false, indisready = false WHERE {index}")
        await connection.execute(f"UPDATE pg_index SET indisunique = true, indisready = true WHERE {index}")
        environment = {"KEYTURN_DATABASE_URL": server.url("twice"), "KEYTURN_MASTER_SECRETS": SECRET}
        command = Invocation(("migrate",), environment=environment)
        (refused,) = await asyncio.to_thread(run_all, [command])
        assert MISUSED == refused.status
        assert "Key (username)=(alice) is duplicated" in refused.err
        assert "Rename or remove all but one of these rows, then run keyturn migrate again." in refused.err
        assert "Traceback" not in refused.err
        assert "0005" == await connection.fetchval("SELECT version_num FROM alembic_version")
    finally:
        await connection.close()


# A pooler


@pytest.fixture(scope="module")
def pooler(tmp_path_factory: pytest.TempPathFactory, postgresql_server: PostgreSQLServer) -> Iterator[PgBouncer]:
    made = PgBouncer(tmp_path_factory.mktemp("pgbouncer"), postgresql_server)
    made.start()
    yield made
    made.stop()


@pytest.mark.parametrize(("at_once", "is_patient"), [(20, True), (200, True), (200, False)])
async def test_logins_work_through_a_pooler_in_transaction_mode(
    pooler: PgBouncer,
    postgresql_server: PostgreSQLServer,
    open_client: Opener,
    clock: MovableClock,
    *,
    at_once: int,
    is_patient: bool,
) -> None:
    """Over one pooler with two connections, every login succeeds or gets 503 in time, and none gets 500."""
    url = pooler.url(postgresql_server.new_database())
    await asyncio.to_thread(migrations.migrate, url)
    settings: dict[str, Any] = {
        "database_url": url,
        "master_secrets": SECRET,
        "hash_queue": 400,
        "limit_signup": None,
        "limit_login": None,
        "limit_login_address": None,
    }
    timeouts = PATIENT if is_patient else STORE_TIMEOUTS
    async with open_client(settings, timeouts=timeouts) as client:
        alice = await sign_up(client, clock, "alice")
        await alice.confirm()
        clock.next_step()
        assert 200 == (await alice.log_in()).status_code
        login = {"username": "alice", "password": PASSWORD}
        answers = await asyncio.gather(*(client.post("/login", json=login) for _ in range(at_once)))
        ready = await asyncio.gather(*(client.get("/readyz") for _ in range(at_once)))
        assert {answer.status_code for answer in (*answers, *ready)} <= {200, *(() if is_patient else (503,))}
        tokens = [answer.json()["mfa_token"] for answer in answers if answer.status_code == 200][:10]
        clock.next_step()
        code = alice.code()
        second = await asyncio.gather(*(alice.give_code(code, token) for token in tokens))
        admitted = sum(answer.status_code == 200 for answer in second)
        assert admitted == 1 or (admitted == 0 and not is_patient)
        assert {answer.status_code for answer in second} <= {200, 401, 429, *(() if is_patient else (503,))}


async def test_a_pooler_is_recognised_and_can_be_named(
    pooler: PgBouncer, postgresql_server: PostgreSQLServer
) -> None:
    """Behind it no statement is kept prepared; without it each is; the setting overrides the detection."""
    name = postgresql_server.new_database()
    prepared = "SELECT CAST(COUNT(*) AS BIGINT) AS number FROM pg_prepared_statements"
    cases: tuple[tuple[str, Literal["auto", "off"], bool], ...] = (
        (pooler.url(name), "auto", False),
        (postgresql_server.url(name), "auto", True),
        (postgresql_server.url(name), "off", False),
    )
    for url, setting, keeps in cases:
        database = connect_database(url, prepared_statements=setting)
        await database.open()
        try:
            for _ in range(3):
                row = await database.fetch_one(prepared)
            assert row is not None
            assert keeps == (row["number"] > 0), (url, setting)
        finally:
            await database.close()


async def test_a_pooler_that_was_not_recognised_is_noticed(
    pooler: PgBouncer, postgresql_server: PostgreSQLServer
) -> None:
    """With prepared statements forced on, the first lost statement costs a 503, and no later one does."""
    database = connect_database(pooler.url(postgresql_server.new_database()), prepared_statements="on")
    await database.open()
    try:
        outcomes = []
        for round_ in range(6):
            work = [database.fetch_one(f"SELECT {n} AS n, {round_}") for n in range(8)]
            outcomes.append(await asyncio.gather(*work, return_exceptions=True))
        lost = [error for outcome in outcomes for error in outcome if isinstance(error, BaseException)]
        assert all(isinstance(error, StoreUnavailable) for error in lost)
        assert not any(isinstance(error, BaseException) for error in outcomes[-1])
    finally:
        await database.close()


async def test_a_refusal_of_the_pooler_is_reported(pooler: PgBouncer) -> None:
    """The error has its words and what to change at the pooler, here for an option that it does not pass on."""
    error = await failure_of(pooler.url("postgres") + "?search_path=x")
    assert "unsupported startup parameter: search_path" in error.why
    assert "ignore_startup_parameters" in error.why
    assert error.is_lasting


# A slow network


class SlowProxy:
    """A proxy to the server with a delay of `seconds` in each direction."""

    def __init__(self, port: int, seconds: float) -> None:
        self._port = port
        self._seconds = seconds
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.is_cut = False

    async def __aenter__(self) -> "SlowProxy":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, upstream_writer]
        for source, target in ((reader, upstream_writer), (upstream_reader, writer)):
            task = asyncio.create_task(self._carry(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if not self.is_cut:
                    loop.call_later(self._seconds, self._write, target, data)
        loop.call_later(self._seconds, target.close)

    def _write(self, target: asyncio.StreamWriter, data: bytes) -> None:
        if not target.is_closing():
            target.write(data)


async def test_a_database_150_ms_away_is_usable(
    postgresql_server: PostgreSQLServer, open_client: Opener, clock: MovableClock
) -> None:
    """Neither handshakes nor delayed answers exceed a time limit; when the line is cut, 503 comes within 1 s."""
    name = postgresql_server.lend()
    async with SlowProxy(postgresql_server.port, 0.075) as proxy:
        url = f"postgresql://keyturn@127.0.0.1:{proxy.port}/{name}"
        async with open_client({"database_url": url, "master_secrets": SECRET}, timeouts=STORE_TIMEOUTS) as client:
            alice = await sign_up(client, clock, "alice")
            await alice.confirm()
            clock.next_step()
            assert 200 == (await alice.log_in()).status_code
            several = await asyncio.gather(*(client.get("/readyz") for _ in range(5)))
            assert {200} == {answer.status_code for answer in several}
            proxy.is_cut = True
            for _ in range(2):
                began = time.perf_counter()
                answers = await asyncio.gather(*(alice.give_password() for _ in range(4)))
                assert {503} == {answer.status_code for answer in answers}
                assert time.perf_counter() - began < 1.0
            assert "does not answer in time" in (await client.get("/readyz")).json()["database_reason"]
    postgresql_server.take_back(name)


WITH_WEBHOOK = {"webhook_url": "http://127.0.0.1:9/", "webhook_secret": f"whsec_{'a' * 43}="}


@pytest.mark.parametrize(("more", "number", "kinds"), [({}, 23, 11), (WITH_WEBHOOK, 25, 12)])
async def test_the_first_code_needs_no_more_round_trips_than_its_allowance(
    *,
    more: dict[str, str],
    number: int,
    kinds: int,
    postgresql_server: PostgreSQLServer,
    open_client: Opener,
    clock: MovableClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has the longest transaction: 23 statements, and one for each of its two events that a webhook gets.

    One of the 23 puts the message to the user into the outbox, if they have an address.

    Each kind is prepared once, and behind a pooler each statement, except BEGIN and COMMIT.
    """
    sent: list[tuple[asyncpg.Connection, str]] = []

    def recorded(send: Callable[..., Any]) -> Callable[..., Any]:
        def record(self: asyncpg.Connection, sql: str, *parameters: object) -> Any:
            sent.append((self, sql))
            return send(self, sql, *parameters)

        return record

    name = postgresql_server.lend()
    settings = {"database_url": postgresql_server.url(name), "master_secrets": SECRET, **more}
    async with open_client(settings, timeouts=STORE_TIMEOUTS) as client:
        alice = await sign_up(client, clock, "alice")
        for method in ("fetchrow", "fetch", "execute"):
            monkeypatch.setattr(asyncpg.Connection, method, recorded(getattr(asyncpg.Connection, method)))
        await alice.confirm()
        monkeypatch.undo()
    used = next(connection for connection, sql in sent if sql.startswith("INSERT INTO sessions"))
    own = [sql for connection, sql in sent if connection is used]  # the tasks in the background have other ones
    opened_at = next(number for number, sql in enumerate(own) if sql.startswith("INSERT INTO sessions"))
    first = max(number for number, sql in enumerate(own[:opened_at]) if sql == BEGIN)
    statements = own[first : own.index("COMMIT", opened_at) + 1]
    prepared = set(statements) - {BEGIN, "COMMIT"}
    assert (number, kinds) == (len(statements), len(prepared))
    assert number + number - 2 <= MAX_ROUND_TRIPS
    postgresql_server.take_back(name)


def test_an_invalid_url_is_refused_before_a_connection_is_opened() -> None:
    """`connect_database` raises the error."""
    with pytest.raises(ConfigurationError, match="the option schema is another client's"):
        connect_database("postgresql://u@h/n?schema=x")
