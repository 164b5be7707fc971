"""`keyturn doctor` finds the mistakes that lock users out, and says what to do."""

import hashlib
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from service.clock import system_clock
from service.components import open_components
from service.origin import OPERATOR
from service.settings import Settings
from service.storage.migrations import migrate
from service.users.passwords import CHEAPEST
from tests.harness.clients import SECRET
from tests.harness.commands import DONE, MISUSED, REFUSED, run
from tests.harness.databases import PATIENT
from tests.harness.examinations import examine, findings_with
from tests.harness.people import PASSWORD, MovableClock, real_clock
from tests.harness.servers import RedisServer, keyturn, make_schema
from tests.harness.webhooks import WEBHOOK


async def start(settings: Settings, clock: Any = system_clock) -> None:
    """Start the service once, which makes the master secret and the first signing key."""
    async with open_components(settings, clock, hash_cost=CHEAPEST, timeouts=PATIENT):
        pass


@pytest.fixture
def embedded_settings(tmp_path: Path) -> Settings:
    settings = Settings(data_dir=tmp_path / "data")
    make_schema(settings)
    return settings


def test_a_running_service_passes(tmp_path: Path) -> None:
    """Without any setting it reports the missing TLS as a warning, because loopback needs none."""
    here = {"KEYTURN_DATA_DIR": str(tmp_path / "data")}
    with keyturn(here) as served:
        checked = run("doctor", environment={**here, "KEYTURN_ISSUER": served.url})
    assert (DONE, "") == (checked.status, checked.err)
    assert f"Verifiers find the keys at {served.url}/.well-known/jwks.json." in checked.out
    assert "WARNING KEYTURN_ISSUER" in checked.out
    assert "WRONG" not in checked.out


def test_the_exit_status_reports_errors(tmp_path: Path) -> None:
    """It is 1 if something is wrong, and 2 if there is nothing to check."""
    here = {"KEYTURN_DATA_DIR": str(tmp_path / "data")}
    assert MISUSED == run("doctor", environment=here).status
    assert DONE == run("migrate", environment=here).status
    checked = run("doctor", environment={**here, "KEYTURN_ISSUER": "http://127.0.0.1:9"})
    assert REFUSED == checked.status
    failed = "the request fails (ConnectError)"
    assert f"WRONG   There is no key set at http://127.0.0.1:9/.well-known/jwks.json: {failed}.\n" in checked.out


@pytest.mark.parametrize(
    ("chosen", "verdict", "word"),
    [
        ({"host": "127.0.0.1"}, "ok", "Sign-up is open to programs on this machine"),
        ({"host": "0.0.0.0"}, "warning", "Sign-up is open: everybody"),  # noqa: S104
        ({"host": "::"}, "warning", "Sign-up is open: everybody"),
        ({"host": "192.0.2.7"}, "warning", "Sign-up is open: everybody"),
        ({"host": "0.0.0.0", "signup": "closed"}, "ok", "Sign-up is closed"),  # noqa: S104
        ({}, "ok", "POST /recovery is off"),
        ({"recovery_delay": "off"}, "ok", "POST /recovery is off"),
        ({"recovery_delay": "3s", "messages": "off"}, "warning", "after 3 s, and a user gets no message"),
        ({"recovery_delay": "36h"}, "warning", "and a user without a confirmed e-mail address gets no message"),
        ({"recovery_delay": "36h", **WEBHOOK}, "ok", "after 36 h; recovery.started is sent"),
        ({"messages": "off", **WEBHOOK}, "ok", "after 72 h; recovery.started is sent"),
        (WEBHOOK, "ok", "after 72 h; recovery.started is sent"),
    ],
)
async def test_open_sign_up_and_unannounced_recovery_are_warnings(
    embedded_settings: Settings, chosen: dict[str, Any], verdict: str, word: str
) -> None:
    """Sign-up that is open to other machines, and a recovery that no owner would notice, are warnings with advice."""
    (finding,) = findings_with(await examine(Settings(data_dir=embedded_settings.data_dir, **chosen)), word)
    assert verdict == finding.verdict
    assert verdict == "ok" or "KEYTURN_" in finding.advice


async def test_proxies_trusted_too_widely(embedded_settings: Settings) -> None:
    """The whole internet or a large part of it is a warning; a cluster network of /16 is not, since some need it."""
    for proxies, expected in (
        (("0.0.0.0/0",), 1),
        (("::/0", "10.0.0.0/8"), 2),
        (("::ffff:0:0/96",), 1),
        (("10.1.0.0/16", "fd00::/48"), 0),
    ):
        settings = embedded_settings.model_copy(update={"trusted_proxies": proxies})
        assert expected == len(findings_with(await examine(settings), "trusts every address")), proxies


async def test_a_role_of_the_policy_that_no_user_has(embedded_settings: Settings) -> None:
    """It may be misspelt, and then demands a second factor of nobody. A part of a role's name is not that role."""
    policy = Settings(data_dir=embedded_settings.data_dir, require_mfa="admin,team_a adm")
    async with open_components(policy, hash_cost=CHEAPEST, timeouts=PATIENT) as parts:
        for name, roles in (("alice", ("admin", "team-a")), ("bob", ("adm",))):
            await parts.sign_up.sign_up(name, PASSWORD, enable_mfa=False, caller=None)
            for role in roles:
                await parts.administration.set_roles(name, add=role, by=OPERATOR)
        await parts.administration.delete("bob", by=OPERATOR)
    found = findings_with(await examine(policy), "KEYTURN_REQUIRE_MFA")
    assert [("warning", role) for role in ("team_a", "adm")] == [
        (finding.verdict, finding.what.split()[4].rstrip(",")) for finding in found
    ]
    everyone = policy.model_copy(update={"require_mfa": ("everyone",)})
    assert [] == findings_with(await examine(everyone), "KEYTURN_REQUIRE_MFA")


async def test_an_issuer_without_tls(embedded_settings: Settings) -> None:
    """It is a warning on loopback and wrong elsewhere."""
    assert ["warning"] == [
        finding.verdict for finding in findings_with(await examine(embedded_settings), "without TLS")
    ]
    for changed in ({"issuer": "http://auth.invalid"}, {"host": "0.0.0.0"}):  # noqa: S104 -- that is the mistake
        settings = embedded_settings.model_copy(update=changed)
        assert ["wrong"] == [finding.verdict for finding in findings_with(await examine(settings), "without TLS")]


async def test_a_service_with_the_default_name(embedded_settings: Settings) -> None:
    """In production, apps show the name and keep the first one that they got; on a laptop it does not matter."""
    public = {"issuer": "https://id.invalid"}
    for changed, expected in (({}, []), (public, ["warning"]), ({**public, "totp_issuer": "Example"}, [])):
        found = findings_with(await examine(embedded_settings.model_copy(update=changed)), "KEYTURN_TOTP_ISSUER")
        assert expected == [finding.verdict for finding in found]


@pytest.mark.parametrize(
    ("secret", "is_weak"),
    [
        ("00" * 32, True),
        ("deadbeef" * 8, True),
        (bytes(range(32)).hex(), True),
        (SECRET, True),
        (b"my very own secret, 2026 edition".hex(), True),
        (hashlib.sha256(b"by chance").hexdigest(), False),
        (hashlib.sha512(b"by chance, and longer").hexdigest(), False),
    ],
)
async def test_a_weak_master_secret(tmp_path: Path, secret: str, is_weak: bool) -> None:
    """A typed or copied secret is recognised by a pattern. The report has its position, never its value."""
    both = SecretStr(f"{secrets.token_hex(32)},{secret}")
    settings = Settings(data_dir=tmp_path / "data", master_secrets=both)
    make_schema(settings)
    found = findings_with(await examine(settings), "pattern")
    assert is_weak == bool(found)
    assert all(finding.what.startswith("Master secret 2 ") and secret not in finding.what for finding in found)


async def test_another_master_secret(embedded_settings: Settings) -> None:
    """It is reported before a user notices it."""
    await start(embedded_settings)
    settings = Settings(data_dir=embedded_settings.data_dir, master_secrets="ab" * 32)
    assert ["wrong"] == [
        finding.verdict for finding in findings_with(await examine(settings), "No master secret opens")
    ]


async def test_another_master_secret_than_the_running_service_has(tmp_path: Path) -> None:
    """The key set is found, but the keys that it should have are unknown: the report gives the reason once."""
    here = {"KEYTURN_DATA_DIR": str(tmp_path / "data")}
    with keyturn(here) as served:
        settings = Settings(data_dir=tmp_path / "data", master_secrets=SecretStr("5e" * 32), issuer=served.url)
        found = await examine(settings)
    assert ["wrong"] == [finding.verdict for finding in findings_with(found, "No master secret opens")]
    assert [] == findings_with(found, "key set")


async def test_a_master_secret_that_others_may_read(embedded_settings: Settings) -> None:
    """It opens every sealed secret."""
    await start(embedded_settings)
    (embedded_settings.data_dir / "master-secret").chmod(0o644)
    assert ["wrong"] == [finding.verdict for finding in findings_with(await examine(embedded_settings), "may read")]


async def test_all_logins_from_one_address(embedded_settings: Settings, clock: MovableClock) -> None:
    """A proxy that is not trusted makes its clients share one address and its limits."""
    from service.origin import Caller

    async with open_components(embedded_settings, clock, hash_cost=CHEAPEST, timeouts=PATIENT) as parts:
        for number in range(5):
            await parts.sign_up.sign_up(f"person{number}", PASSWORD, enable_mfa=False, caller=None)
        for number in range(20):
            assert not findings_with(await examine(embedded_settings, clock), "all came from")
            await parts.login.with_password(f"person{number % 5}", PASSWORD, Caller("10.0.0.7"))
        (finding,) = findings_with(await examine(embedded_settings, clock), "all came from 10.0.0.7")
        assert "KEYTURN_TRUSTED_PROXIES" in finding.advice
        await parts.login.with_password("person0", PASSWORD, Caller("10.0.0.8"))
        assert not findings_with(await examine(embedded_settings, clock), "all came from")


async def test_an_old_schema(tmp_path: Path) -> None:
    """Checks that depend on it are skipped."""
    settings = Settings(data_dir=tmp_path / "data")
    settings.make_data_dir()
    migrate(settings.resolved_database_url, to="0002")
    (finding,) = findings_with(await examine(settings), "The schema is 0002")
    assert ("wrong", "Run: keyturn migrate") == (finding.verdict, finding.advice)


async def test_undelivered_events(embedded_settings: Settings, clock: MovableClock) -> None:
    """After ten minutes they are a warning."""
    secret = "whsec_" + "a" * 43 + "="
    receiver = socket.create_server(("127.0.0.1", 0))  # the port is open, but nothing is delivered
    url = f"http://127.0.0.1:{receiver.getsockname()[1]}/"
    settings = Settings(data_dir=embedded_settings.data_dir, webhook_url=url, webhook_secret=secret)
    async with open_components(settings, clock, hash_cost=CHEAPEST, timeouts=PATIENT) as parts:
        await parts.sign_up.sign_up("alice", PASSWORD, enable_mfa=False, caller=None)
    assert ["ok"] == [finding.verdict for finding in findings_with(await examine(settings, clock), "webhook")]
    clock.advance(seconds=601)
    assert ["warning"] == [finding.verdict for finding in findings_with(await examine(settings, clock), "webhook")]
    receiver.close()


async def test_hashing_threads_are_reported(embedded_settings: Settings) -> None:
    """The report has the cores and memory that determine them; more than the memory allows is a warning.

    The warning advises fewer threads only where there are several.
    """
    for threads, limit, verdict in (
        (8, None, "ok"),
        (8, 1 << 30, "ok"),
        (8, 1 << 27, "warning"),
        (1, 1 << 27, "warning"),
    ):
        settings = embedded_settings.model_copy(update={"hash_concurrency": threads})
        found = await examine(settings, memory_limit=lambda limit=limit: limit)
        (finding,) = findings_with(found, f"Workers: 1, hashing threads per worker: {threads},")
        assert verdict == finding.verdict
        assert ("128 MiB" in finding.what) == (verdict == "warning")
        assert ("KEYTURN_HASH_CONCURRENCY" in finding.advice) == (verdict == "warning" and threads > 1)


@pytest.fixture
def kept_redis(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis", "--appendonly", "yes", "--maxmemory-policy", "noeviction")
    server.start()
    yield server
    server.stop()


async def test_redis_is_checked(production: dict[str, Any], kept_redis: RedisServer) -> None:
    """The checks cover its eviction policy, persistence, clock, and availability."""
    settings = Settings(**{**production, "redis_url": kept_redis.url})
    assert ["ok", "ok"] == [finding.verdict for finding in findings_with(await examine(settings), "Redis")]
    with redis.Redis.from_url(kept_redis.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")
    found = await examine(settings)
    assert ["ok", "warning", "warning"] == [finding.verdict for finding in findings_with(found, "Redis ")]
    fast = MovableClock(real_clock())
    fast.advance(seconds=90)
    assert {"wrong"} == {finding.verdict for finding in findings_with(await examine(settings, fast), " s behind")}
    gone = settings.model_copy(update={"redis_url": None})
    assert ["warning"] == [finding.verdict for finding in findings_with(await examine(gone), "without Redis")]
    kept_redis.kill()
    assert ["wrong"] == [
        finding.verdict for finding in findings_with(await examine(settings), "Redis refuses the connection")
    ]


async def test_an_unreachable_database() -> None:
    """It is reported at once, and the checks that do not need it still run."""
    settings = Settings(database_url="postgresql://nobody@127.0.0.1:1/nothing", master_secrets=SECRET)
    found = await examine(settings)
    (finding,) = findings_with(found, "database")
    refused = (
        "PostgreSQL at 127.0.0.1:1 refuses connections (ConnectionRefusedError). Does it run, and is the port right?"
    )
    assert ("wrong", f"The database cannot be used. {refused}") == (finding.verdict, finding.what)
    assert findings_with(found, "without Redis")
