"""Redis as operators find it: without HELLO, with ACL users, TLS, Sentinels, a Cluster of three nodes, and Valkey.

The tests state what works with each, and which sentence reports a fault.
"""

import asyncio
import contextlib
import itertools
import logging
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis._parsers.base import BaseParser

from service.redis_url import read_redis_url
from service.settings import Settings
from service.storage.ephemeral import SILENT_KINDS, Bucket, EphemeralUnavailable, RateLimit
from service.storage.ephemeral_redis import Redis
from service.storage.redis_faults import explain
from tests.harness.clients import Opener
from tests.harness.examinations import examine, findings_with
from tests.harness.ports import free_port
from tests.harness.redis_servers import (
    Certificates,
    ProvidersRedis,
    ProvidersSentinel,
    ThreeNodes,
    ValkeyServer,
    make_certificates,
)
from tests.harness.servers import REPOSITORY, make_schema

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
PASSWORD = "s3cr3t-word"
OTHER_PASSWORD = "w@tch:word"


def documented_rights(*, of_cluster: bool = False) -> list[str]:
    """Return the words of the ACL line in docs/guides/redis.md, after the password."""
    text = (REPOSITORY / "docs" / "guides" / "redis.md").read_text()
    line = re.search(r"^ACL SETUSER keyturn on >\S+ (.+)$", text, re.MULTILINE)
    more = re.search(r"In a Cluster add `([^`]+)`", text)
    assert line is not None
    assert more is not None
    return [*line[1].split(), *(more[1].split() if of_cluster else ())]


USERS: dict[str, list[str]] = {
    "no-eval": ["~*", "+@all", "-@scripting"],
    "no-set": ["~*", "+@all", "-set"],
    "no-hash": ["~*", "+@all", "-hset"],
    "no-select": ["~*", "+@all", "-select"],
    "other-keys": ["~other:*", "+@all"],
    "no-info": ["~*", "+@all", "-info", "-time", "-config"],
}
"""Users of Redis, by what they may not do."""


@dataclass
class Servers:
    """All servers with their ports."""

    certificates: Certificates
    redis: ProvidersRedis
    sentinel: ProvidersSentinel
    tls_sentinel: ProvidersSentinel
    cluster: ThreeNodes

    def url(self, form: str) -> str:
        """Fill the ports and files of these servers into a form of URL."""
        return form.format(
            redis=f"127.0.0.1:{self.redis.port}",
            port=self.redis.port,
            tls=f"127.0.0.1:{self.redis.tls_port}",
            tls_port=self.redis.tls_port,
            socket=self.redis.socket,
            sentinel=f"127.0.0.1:{self.sentinel.port}",
            tls_sentinel=f"127.0.0.1:{self.tls_sentinel.tls_port}",
            plain_sentinel=f"127.0.0.1:{self.tls_sentinel.port}",
            cluster=self.cluster.hosts,
            tls_cluster=self.cluster.tls_hosts,
            node=f"127.0.0.1:{self.cluster.nodes[1].port}",
            first_node=f"127.0.0.1:{self.cluster.nodes[0].port}",
            ca=f"ssl_ca_certs={self.certificates.authority}",
            nothing=f"127.0.0.1:{free_port()}",
            word=PASSWORD,
        )


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("found")
    certificates = make_certificates(folder)
    folders = {name: folder / name for name in ("redis", "sentinel", "tls", "cluster")}
    for folder in folders.values():
        folder.mkdir()
    with contextlib.ExitStack() as stack:
        redis = ProvidersRedis(folders["redis"], certificates)
        cluster = ThreeNodes(folders["cluster"], certificates)
        for server in (redis, cluster):
            stack.callback(server.stop)
            server.start()
        for name, rights in USERS.items():
            redis.command("ACL", "SETUSER", name, "on", f">{PASSWORD}", *rights)
        redis.command("ACL", "SETUSER", "keyturn", "on", f">{PASSWORD}", *documented_rights())
        for node in cluster.nodes:
            node.command("ACL", "SETUSER", "keyturn", "on", f">{PASSWORD}", *documented_rights(of_cluster=True))
            node.command("ACL", "SETUSER", "no-slots", "on", f">{PASSWORD}", "~*", "+@all", "-cluster")
        masters = {"keyturn": redis.port, "gone": free_port()}
        sentinel = ProvidersSentinel(folders["sentinel"], certificates, masters, has_tls=False)
        tls_sentinel = ProvidersSentinel(
            folders["tls"], certificates, {"keyturn": redis.tls_port}, has_tls=True, password=OTHER_PASSWORD
        )
        for watcher in (sentinel, tls_sentinel):
            watcher.start()
            stack.callback(watcher.stop)
        sentinel.wait_for_down("gone")
        yield Servers(certificates, redis, sentinel, tls_sentinel, cluster)


_names = itertools.count()


async def use(store: Redis) -> None:
    """Do what serving does: claims, charges up to their limit, and refunds, on keys of every node."""
    await store.ping()
    for _ in range(8):
        name = f"{{person{next(_names)}}}"
        assert await store.claim(name, ttl=timedelta(seconds=60), now=NOW)
        assert not await store.claim(name, ttl=timedelta(seconds=60), now=NOW)
        assert not await store.claim(f"{name}:1", name, ttl=timedelta(seconds=60), now=NOW)
        assert not await store.claim(f"{name}:1", ttl=timedelta(seconds=60), now=NOW)
        network = Bucket(
            f"{name}:network", RateLimit(2, 60), aggregate_key=f"{name}:aggregate", aggregate_limit=RateLimit(10, 60)
        )
        other = Bucket(f"{{other}}{name}", RateLimit(5, 60))
        assert [0.0, 0.0] == [await store.charge(network, other, now=NOW) for _ in range(2)]
        assert await store.charge(network, other, now=NOW) > 0
        await store.refund(network, other, now=NOW)
        assert 0.0 == await store.charge(network, other, now=NOW)


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Redis]:
    store = Redis(url)
    try:
        yield store
    finally:
        await store.close()


async def warm(store: Redis) -> None:
    """Connect. On a busy machine more than one TLS handshake may exceed the time that Redis is given."""
    deadline = time.monotonic() + 20
    while True:
        try:
            await store.ping()
        except EphemeralUnavailable as error:
            if time.monotonic() > deadline or error.kind not in SILENT_KINDS:
                raise
        else:
            return


WORKS = [
    "redis://{redis}",
    "redis://localhost:{port}/3",
    "redis://[::1]:{port}/1",
    "redis://keyturn:{word}@{redis}/0",
    "redis://keyturn:{word}@{redis}/1",
    "redis://no-info:{word}@{redis}/0",
    "redis://{redis}?username=keyturn&password={word}",
    "unix://{socket}?db=2",
    "rediss://keyturn:{word}@{tls}/1?{ca}",
    "rediss://[::1]:{tls_port}/0?{ca}&ssl_check_hostname=false",
    "rediss://{tls}/0?ssl_cert_reqs=none",
    "redis+sentinel://{nothing},{sentinel}/keyturn/2",
    "redis+sentinel://keyturn:{word}@{sentinel}/keyturn?db=2&sentinel_password=",
    "rediss+sentinel://keyturn:{word}@{tls_sentinel}/keyturn/3?sentinel_username=watcher"
    "&sentinel_password=w%40tch%3Aword&{ca}",
    "redis+cluster://{cluster}",
    "redis+cluster://keyturn:{word}@{cluster}/0",
    "rediss+cluster://keyturn:{word}@{tls_cluster}?{ca}",
]


@pytest.mark.parametrize("form", WORKS)
async def test_a_supported_redis_works(servers: Servers, form: str) -> None:
    """It has the rights that docs/guides/redis.md lists, and the keys are in the database that the URL names."""
    url = servers.url(form)
    if "[::1]" in url and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    servers.redis.command("FLUSHALL")
    async with connected(url) as store:
        await warm(store)
        await use(store)
    if "cluster" not in url:
        filled = set(re.findall(r"\bdb(\d)\b", str(servers.redis.command("INFO", "keyspace"))))
        assert {str(read_redis_url(url).database)} == filled


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@dataclass(frozen=True)
class Wrong:
    form: str
    kind: str
    words: str


WRONG = [
    Wrong("redis://keyturn:wrong-{word}@{redis}/0", "wrong_password", "refuses the user name or the password"),
    Wrong("redis://nobody:{word}@{redis}/0", "wrong_password", "refuses the user name or the password"),
    Wrong("redis://:{word}@{redis}/0", "password_not_wanted", "has no password"),
    Wrong("redis://no-eval:{word}@{redis}/0", "missing_right", "may not run EVALSHA"),
    Wrong("redis://no-set:{word}@{redis}/0", "missing_right", "may not run SET"),
    Wrong("redis://no-hash:{word}@{redis}/0", "missing_right", "lacks a right"),
    Wrong("redis://no-select:{word}@{redis}/1", "missing_right", "may not run SELECT"),
    Wrong("redis://other-keys:{word}@{redis}/0", "missing_right", "may not use the keys keyturn:*"),
    Wrong("redis://{redis}/4", "unknown_database", "has no database 4"),
    Wrong("unix://{socket}?db=9", "unknown_database", "has no database 9"),
    Wrong("redis+sentinel://{sentinel}/keyturn/9", "unknown_database", "has no database 9"),
    Wrong("redis://{redis}/0?protocol=3", "unknown_command", "does not know the command HELLO"),
    Wrong("redis://{nothing}/0", "refused", "Redis refuses the connection"),
    Wrong("redis+sentinel://{nothing}/keyturn", "refused", "The Sentinel refuses the connection"),
    Wrong("redis+cluster://{nothing}", "refused", "Redis refuses the connection"),
    Wrong("unix:///nowhere/redis.sock", "no_socket", "no socket"),
    Wrong("redis://nowhere.invalid/0", "unknown_host", "cannot be resolved"),
    Wrong("redis://{tls}/0", "closed", "expects TLS"),
    Wrong("redis+cluster://{tls_cluster}", "closed", "expects TLS"),
    Wrong("rediss://{redis}/0", "tls_no_answer", "may not speak TLS"),
    Wrong("rediss+sentinel://{plain_sentinel}/keyturn", "tls_no_answer", "may not speak TLS"),
    Wrong("rediss+cluster://{cluster}", "tls_no_answer", "may not speak TLS"),
    Wrong("rediss://{tls}/0", "tls_certificate", "certificate of Redis is refused: self-signed"),
    Wrong("rediss://localhost:{tls_port}/0?{ca}", "tls_certificate", "refused: Hostname mismatch"),
    Wrong("rediss+sentinel://{tls_sentinel}/keyturn", "tls_certificate", "certificate of the Sentinel is refused"),
    Wrong("rediss+cluster://{tls_cluster}", "tls_certificate", "certificate of Redis is refused"),
    Wrong("redis+sentinel://{sentinel}/other", "unknown_master", "know no master with the name"),
    Wrong("redis+sentinel://{sentinel}", "unknown_master", "by default mymaster"),
    Wrong("redis+sentinel://{sentinel}/gone", "master_down", "consider the master to be down"),
    Wrong("redis+sentinel://keyturn:{word}@{sentinel}/keyturn", "wrong_password", "The Sentinel refuses the user"),
    Wrong("redis+sentinel://:{word}@{sentinel}/keyturn", "password_not_wanted", "sentinel_password= without a value"),
    Wrong("redis+sentinel://{plain_sentinel}/keyturn", "password_missing", "The Sentinel requires a password"),
    Wrong("redis+sentinel://{redis}/keyturn", "no_sentinel", "is not a Sentinel"),
    Wrong("redis://{sentinel}/0", "no_redis", "if it is a Sentinel"),
    Wrong("redis+cluster://{redis}", "no_cluster", "is not a Cluster"),
    Wrong("redis://{node}/0", "is_cluster", "is a node of a Cluster"),
    Wrong("redis://{first_node}/0", "is_cluster", "is a node of a Cluster"),
    Wrong("redis+cluster://no-slots:{word}@{cluster}", "missing_right", "may not run CLUSTER|SLOTS"),
    Wrong(
        "redis+cluster://keyturn:wrong-{word}@{cluster}", "wrong_password", "refuses the user name or the password"
    ),
]


@pytest.mark.parametrize("wrong", WRONG, ids=[wrong.form for wrong in WRONG])
async def test_the_reason_why_redis_cannot_be_used(servers: Servers, wrong: Wrong) -> None:
    """It is a kind and one sentence, without a password, an address or a key."""
    async with connected(servers.url(wrong.form)) as store:
        refusal = await refused(store, wrong.kind)
    assert (wrong.kind, True) == (refusal.kind, wrong.words in refusal.reason), refusal.reason
    assert re.fullmatch(r"[A-Z][^\n]+[^.]\.", refusal.reason)
    for secret in (PASSWORD, "127.0.0.1", "keyturn:{"):
        assert secret not in refusal.reason


async def test_a_named_authority_is_the_only_one_that_is_trusted(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those of the system as well, which sign certificates for everybody."""
    monkeypatch.setenv("SSL_CERT_FILE", str(servers.certificates.authority))
    async with connected(servers.url("rediss://{tls}/0")) as store:
        await warm(store)
    other = make_certificates(tmp_path).authority
    async with connected(servers.url(f"rediss://{{tls}}/0?ssl_ca_certs={other}")) as store:
        with pytest.raises(EphemeralUnavailable, match="certificate"):
            await store.ping()


async def test_tls_is_named_as_a_cause_only_before_the_first_answer(servers: Servers) -> None:
    """After Redis has answered once, a timeout or a closed connection does not question the scheme of the URL."""
    async with connected(servers.url("rediss://{tls}/0?{ca}")) as store:
        await warm(store)
        servers.redis.freeze()
        try:
            late = await refused(store, "timed_out")
        finally:
            servers.redis.thaw()
        await warm(store)
        servers.redis.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        cut = await refused(store, "closed")
    assert [("timed_out", False), ("closed", False)] == [(error.kind, "TLS" in error.reason) for error in (late, cut)]


async def test_another_service_at_the_port_is_reported(servers: Servers) -> None:
    """A server of another protocol gets a sentence and raises no other exception, for every scheme."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for form in ("redis://{}", "redis+sentinel://{}/keyturn", "redis+cluster://{}"):
            async with connected(form.format(host)) as store:
                assert "no_redis" == (await refused(store, "no_redis")).kind
        async with connected(f"rediss://{host}") as store:
            assert "tls_mismatch" == (await refused(store, "tls_mismatch")).kind


async def refused(store: Redis, expected: str) -> EphemeralUnavailable:
    """Return the error of a probe, ignoring timeouts of a busy machine for a while."""
    deadline = time.monotonic() + 20
    while True:
        with pytest.raises(EphemeralUnavailable) as refusal:
            await store.ping()
        if expected in SILENT_KINDS or refusal.value.kind not in SILENT_KINDS or time.monotonic() > deadline:
            return refusal.value


def test_each_cause_has_its_own_sentence() -> None:
    """Two kinds never share a sentence, so that an operator knows which one it is."""
    sentences: dict[str, str] = {}
    for text, kind in ANSWERS:
        error = BaseParser.parse_error(text)  # type: ignore[no-untyped-call]
        fault = explain(error, ADDRESS, has_answered=True)
        assert kind == fault.kind, (text, fault)
        assert kind == sentences.setdefault(fault.reason, kind)
        assert "s3cr3t" not in fault.reason


ADDRESS = read_redis_url("redis://:s3cr3t@redis/9")
ANSWERS = [
    ("WRONGPASS invalid username-password pair or user is disabled.", "wrong_password"),
    ("ERR invalid password", "wrong_password"),
    ("NOAUTH Authentication required.", "password_missing"),
    ("ERR Client sent AUTH, but no password is set", "password_not_wanted"),
    ("NOPERM this user has no permissions to run the 'set' command", "missing_right"),
    ("NOPERM User s3cr3t has no permissions to run the 'evalsha' command", "missing_right"),
    ("NOPERM No permissions to access a key", "missing_right"),
    ("ERR user_script:12: The user executing the script can't run this command or subcommand", "missing_right"),
    ("ERR DB index is out of range", "unknown_database"),
    ("ERR SELECT is not allowed in cluster mode", "unknown_database"),
    ("LOADING Redis is loading the dataset in memory", "loading"),
    ("OOM command not allowed when used memory > 'maxmemory'.", "full"),
    ("READONLY You can't write against a read only replica.", "read_only"),
    (
        "MISCONF Redis is configured to save RDB snapshots, but it cannot.",
        "cannot_save",
    ),
    ("NOREPLICAS Not enough good replicas to write.", "no_replicas"),
    ("DENIED Redis is running in protected mode because protected mode is enabled", "protected_mode"),
    ("CLUSTERDOWN Hash slot not served", "cluster_down"),
    ("MOVED 3999 127.0.0.1:6381", "is_cluster"),
    ("ERR This instance has cluster support disabled", "no_cluster"),
    ("ERR max number of clients reached", "too_many_clients"),
    ("ERR unknown command 'AUTH', with args beginning with: 's3cr3t' ", "unknown_command"),
    ("ERR unknown command `EVALSHA`, with args beginning with: `abc`, `s3cr3t`, ", "unknown_command"),
    ("ERR unknown command 's3cr3t', with args beginning with: ", "other"),
    ("ERR something new: s3cr3t", "other"),
    ("NEWCODE s3cr3t", "other"),
]


async def test_a_user_without_info_is_accepted(servers: Servers) -> None:
    """The service needs neither INFO nor TIME: doctor says what it did not check, and reports no fault."""
    async with connected(servers.url("redis://no-info:{word}@{redis}/0")) as store:
        await warm(store)
        state = await store.inspect()
    assert (None, None) == (state.now, state.info)


@pytest.fixture
def settings(embedded: dict[str, Any]) -> dict[str, Any]:
    chosen = Settings(**embedded)
    make_schema(chosen)
    return embedded


async def test_doctor_reports_the_reason(servers: Servers, settings: dict[str, Any]) -> None:
    """Doctor reports a store's sentence as wrong, and of a working store its version."""
    for form, words in (
        ("redis://no-eval:{word}@{redis}/0", "may not run EVALSHA"),
        ("redis://other-keys:{word}@{redis}/0", "may not use the keys"),
        ("redis://{redis}/4", "has no database 4"),
        ("redis+sentinel://{sentinel}/other", "know no master"),
        ("redis://keyturn:wrong@{redis}/0", "refuses the user name or the password"),
    ):
        (finding,) = findings_with(await examine(Settings(**settings, redis_url=servers.url(form))), words)
        assert "wrong" == finding.verdict
    everything = await examine(Settings(**settings, redis_url=servers.url("redis://{redis}/0")))
    (version,) = findings_with(everything, "the oldest Redis that is tested is 7.0")
    assert "ok" == version.verdict
    nothing = await examine(Settings(**settings, redis_url=servers.url("redis://keyturn:{word}@{redis}/0")))
    (finding,) = findings_with(nothing, "Redis works")
    assert ("ok", True) == (finding.verdict, "+info +time" in finding.advice)


async def test_readiness_and_the_log_report_the_reason(
    servers: Servers, settings: dict[str, Any], open_client: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    """`/readyz` is degraded with the reason; the log has each reason once, from the start on, and the recovery."""
    url = servers.url("redis://changing:{word}@{redis}/0")

    async def state(client: Any, expected: str) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        while True:
            body: dict[str, Any] = (await client.get("/readyz")).json()
            if expected in str(body["redis_reason"]) or time.monotonic() > deadline:
                return body

    def causes(event: str) -> list[str]:
        return [
            vars(record)["details"].get("cause", "")
            for record in caplog.records
            if record.getMessage() == event and vars(record)["details"].get("cause") not in SILENT_KINDS
        ]

    servers.redis.command("ACL", "SETUSER", "changing", "reset", "on", f">{PASSWORD}", "~*", "+@all", "-@scripting")
    caplog.set_level(logging.INFO, "keyturn")
    async with open_client({**settings, "redis_url": url}) as client:
        assert ["missing_right"] == causes("redis.away")
        for _ in range(3):
            body = await state(client, "may not run EVALSHA")
        assert ("degraded", "down") == (body["status"], body["redis"])
        assert ["missing_right"] == causes("redis.away")
        servers.redis.command("ACL", "SETUSER", "changing", "resetpass", ">another")
        servers.redis.command("CLIENT", "KILL", "USER", "changing")
        body = await state(client, "refuses the user name or the password")
        assert ("degraded", "down") == (body["status"], body["redis"])
        assert ["missing_right", "wrong_password"] == causes("redis.away")
        assert [] == causes("redis.back")
        servers.redis.command("ACL", "SETUSER", "changing", "resetpass", f">{PASSWORD}", "+@all")
        body = await state(client, "None")
        assert ("ready", "up", None) == (body["status"], body["redis"], body["redis_reason"])
        assert [""] == causes("redis.back")
        servers.redis.command("ACL", "SETUSER", "changing", "-set")
        await state(client, "may not run SET")
        assert ["missing_right", "wrong_password", "missing_right"] == causes("redis.away")


async def test_valkey_works(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Valkey does what Redis does, and doctor reports it by its name."""
    server = ValkeyServer(tmp_path)
    server.start()
    try:
        server.command("ACL", "SETUSER", "keyturn", "on", f">{PASSWORD}", *documented_rights())
        for url in (server.url, server.url.replace("//", f"//keyturn:{PASSWORD}@")):
            async with connected(url) as store:
                await warm(store)
                await use(store)
        findings = await examine(Settings(**settings, redis_url=server.url))
        assert ["ok"] == [finding.verdict for finding in findings_with(findings, "Valkey 9.")]
    finally:
        server.stop()
