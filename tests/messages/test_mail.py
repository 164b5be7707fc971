"""Mail servers: encryption, authentication, refusals, outages, order, replicas, and a service that is killed."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiosmtplib
import httpx2
import pytest

from service.errors import ConfigurationError
from service.messages.mail_smtp import Smtp
from service.operations.doctor import Finding
from service.settings import Settings
from service.smtp_url import SmtpServer, read_sender, read_smtp_url
from service.telemetry.event_names import EventName
from tests.harness.certificates import make_authority
from tests.harness.commands import REFUSED, run
from tests.harness.examinations import examine
from tests.harness.log_records import details_of
from tests.harness.mail import MAIL_PASSWORD, SENDER, USER, MailServer, Post, open_post, receiving_mail
from tests.harness.people import PASSWORD, MovableClock, real_clock
from tests.harness.ports import free_port
from tests.harness.servers import keyturn, make_schema, wait_until

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not")
"""The server does not know that `smtps` has TLS already."""

ACCOUNT = f"{USER}:{quote(MAIL_PASSWORD, safe='')}@"


@pytest.fixture(autouse=True)
def log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="keyturn")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def trusted(authority: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The authority, which the service trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    return authority


def lines(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, Any]]:
    return [details_of(record) for record in caplog.records if record.getMessage() == name]


@asynccontextmanager
async def posting(
    world: dict[str, Any], clock: MovableClock, server: MailServer, *, url: str = "smtp://127.0.0.1:{port}"
) -> AsyncIterator[Post]:
    async with open_post(world, clock, smtp_url=url.format(port=server.port), mail_from=SENDER) as post:
        yield post


async def notify(post: Post, name: str = "alice") -> None:
    await post.record(EventName.PASSWORD_CHANGED, await post.add_user(name))


# --- encryption and authentication ---


@pytest.mark.parametrize("begins_with_tls", [True, False])
async def test_mail_goes_over_tls_with_the_credentials(
    world: dict[str, Any], clock: MovableClock, trusted: Path, begins_with_tls: bool
) -> None:
    """With STARTTLS or from the first byte; the password is percent-encoded in the URL."""
    with receiving_mail(authority=trusted, begins_with_tls=begins_with_tls, needs_login=True) as server:
        url = f"{'smtps' if begins_with_tls else 'smtp'}://{ACCOUNT}localhost:{{port}}"
        async with posting(world, clock, server, url=url) as post:
            await notify(post)
            delivery = post.deliverer()
            assert 1 == await post.deliver(delivery)
            await delivery.close()
    (letter,) = server.letters
    assert ([True], [USER]) == (server.encrypted, server.users)
    assert (["alice@example.net"], "alice@example.net") == (server.recipients, letter["To"])
    assert "Example <noreply@example.com>" == letter["From"]
    assert letter["Message-ID"].endswith("_password_changed@example.com>")
    assert "auto-generated" == letter["Auto-Submitted"]
    assert ["text/plain", "text/html"] == [part.get_content_type() for part in letter.iter_parts()]


@pytest.mark.parametrize("begins_with_tls", [True, False])
async def test_an_untrusted_certificate_is_refused(
    embedded: dict[str, Any], clock: MovableClock, authority: Path, caplog: pytest.LogCaptureFixture,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begins_with_tls: bool,
) -> None:  # fmt: skip
    """Neither a letter nor the credentials go to such a server. A named file is trusted in place of all folders."""
    monkeypatch.setenv("SSL_CERT_FILE", str(make_authority(tmp_path, name="another authority") / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(authority))
    with receiving_mail(authority=authority, begins_with_tls=begins_with_tls, needs_login=True) as server:
        url = f"{'smtps' if begins_with_tls else 'smtp'}://{ACCOUNT}localhost:{{port}}"
        async with posting(embedded, clock, server, url=url) as post:
            await notify(post)
            assert 0 == await post.deliver(post.deliverer())
    assert [] == server.letters
    assert ["untrusted_certificate"] == [line["reason"] for line in lines(caplog, "message.refused")]


async def test_credentials_never_go_in_clear(
    embedded: dict[str, Any], clock: MovableClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Not to a server on loopback either."""
    with receiving_mail() as server:
        async with posting(embedded, clock, server, url=f"smtp://{ACCOUNT}127.0.0.1:{{port}}") as post:
            await notify(post)
            assert 0 == await post.deliver(post.deliverer())
    assert [] == server.letters
    assert ["no_starttls"] == [line["reason"] for line in lines(caplog, "message.refused")]


async def test_mail_goes_in_clear_to_loopback_only(
    embedded: dict[str, Any], clock: MovableClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A server elsewhere that offers no STARTTLS gets nothing.

    0.0.0.0 stands for it: the address is not one of loopback, and Linux connects it to this machine.
    """
    with receiving_mail() as server:
        async with posting(embedded, clock, server) as post:
            await notify(post)
            delivery = post.deliverer()
            assert 1 == await post.deliver(delivery)
            await delivery.close()
            await notify(post, "bob")
            elsewhere = Smtp(read_smtp_url(f"smtp://0.0.0.0:{server.port}"), local_name="localhost")
            assert 0 == await post.deliver(post.deliverer(elsewhere))
    assert 1 == server.attempts
    assert (["alice@example.net"], [False]) == (server.recipients, server.encrypted)
    assert ["no_starttls"] == [line["reason"] for line in lines(caplog, "message.refused")]


async def test_wrong_credentials_are_an_error_of_the_settings(
    embedded: dict[str, Any], clock: MovableClock, trusted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The message waits until they are corrected."""
    with receiving_mail(authority=trusted, needs_login=True) as server:
        async with posting(embedded, clock, server, url="smtp://keyturn:wrong@localhost:{port}") as post:
            await notify(post)
            assert 0 == await post.deliver(post.deliverer())
            assert ["password_changed"] == await post.due()
    (line,) = lines(caplog, "message.refused")
    assert ("credentials_refused", 535) == (line["reason"], line["status"])
    assert "wrong" not in str(line)


# --- refusals ---


@pytest.mark.parametrize("answer", ["550 5.1.1 unknown", "552 full", "554 no"])
@pytest.mark.parametrize("to", ["rcpt", "data"])
async def test_a_permanent_refusal_drops_the_message(
    embedded: dict[str, Any], clock: MovableClock, caplog: pytest.LogCaptureFixture, answer: str, to: str
) -> None:
    """It does not hold up the later messages of the user, and the log has a warning."""
    with receiving_mail() as server:
        async with posting(embedded, clock, server) as post:
            alice = await post.add_user("alice")
            await post.record(EventName.PASSWORD_CHANGED, alice)
            await post.record(EventName.FACTOR_ADDED, alice)
            server.rcpt, server.data = ({"alice@example.net": answer}, None) if to == "rcpt" else ({}, answer)
            delivery = post.deliverer()
            assert 2 == await post.deliver_all(delivery)
            server.rcpt, server.data = {}, None
            await post.record(EventName.FACTOR_REMOVED, alice)
            assert 1 == await post.deliver(delivery)
    assert ["An authenticator was removed from your account"] == [letter["Subject"] for letter in server.letters]
    dropped = lines(caplog, "message.dropped")
    assert {("refused", int(answer[:3]))} == {(line["reason"], line["status"]) for line in dropped}
    assert "alice@" not in str(dropped)


@pytest.mark.parametrize("answer", ["450 4.2.1 later", "530 5.7.0 authenticate"])
async def test_another_refusal_is_tried_again(
    world: dict[str, Any], clock: MovableClock, caplog: pytest.LogCaptureFixture, answer: str
) -> None:
    """After a wait, with the same letter; the messages of other users do not wait for it."""
    with receiving_mail() as server:
        async with posting(world, clock, server) as post:
            server.rcpt = {"alice@example.net": answer}
            await notify(post)
            await notify(post, "bob")
            delivery = post.deliverer()
            assert 1 == await post.deliver(delivery)
            server.rcpt = {}
            assert 0 == await post.deliver(delivery)
            clock.advance(seconds=2)
            assert 1 == await post.deliver(delivery)
    assert ["bob@example.net", "alice@example.net"] == server.recipients
    (line,) = lines(caplog, "message.refused")
    assert (int(answer[:3]), 2) == (line["status"], line["again_in"])


async def test_each_attempt_sends_the_same_letter(embedded: dict[str, Any], clock: MovableClock) -> None:
    """A mail program that got it twice shows it once."""
    with receiving_mail() as server:
        async with posting(embedded, clock, server) as post:
            await post.record(EventName.PASSWORD_RESET_REQUESTED, await post.add_user("alice"))
            rows = [dict(row) for row in await post.parts.database.fetch_all("SELECT * FROM outbox")]
            delivery = post.deliverer()
            assert 1 == await post.deliver(delivery)
            async with post.parts.database.begin() as transaction:  # as if the row had not been deleted: a crash
                (row,) = rows
                await transaction.execute(
                    "INSERT INTO outbox (kind, recipient, transport, event_id, created_at, address, due_at)"
                    " VALUES ($1, $2, $3, $4, $5, $6, $5)",
                    *(row[name] for name in ("kind", "recipient", "transport", "event_id", "created_at", "address")),
                )
            clock.advance(seconds=60)
            assert 1 == await post.deliver(delivery)
    first, second = server.letters
    assert first.as_bytes() == second.as_bytes()


async def test_the_messages_of_a_user_keep_their_order(embedded: dict[str, Any], clock: MovableClock) -> None:
    """While the first is refused the later ones wait."""
    with receiving_mail() as server:
        async with posting(embedded, clock, server) as post:
            alice = await post.add_user("alice")
            for event in (EventName.PASSWORD_CHANGED, EventName.FACTOR_ADDED, EventName.FACTOR_REMOVED):
                await post.record(event, alice)
            server.rcpt = {"alice@example.net": "450 later"}
            delivery = post.deliverer()
            assert 0 == await post.deliver(delivery)
            assert 1 == server.attempts
            server.rcpt = {}
            clock.advance(seconds=2)
            await post.deliver_all(delivery)
    subjects = [letter["Subject"] for letter in server.letters]
    assert ["Your password was changed", "An authenticator was added to your account"] == subjects[:2]
    assert 3 == len(subjects)


async def test_an_unconfirmed_address_holds_up_no_notice(embedded: dict[str, Any], clock: MovableClock) -> None:
    """A stranger may have chosen its mail server."""
    with receiving_mail() as server:
        async with posting(embedded, clock, server) as post:
            server.rcpt = {"new@example.net": "450 later"}
            alice = await post.add_user("alice", new_email="new@example.net")
            await post.record(EventName.EMAIL_CHANGE_REQUESTED, alice)
            await post.record(EventName.PASSWORD_CHANGED, alice)
            delivery = post.deliverer()
            await post.deliver_all(delivery)
            assert ["email_confirmation"] == await post.due()
    assert ["alice@example.net"] * 2 == server.recipients


# --- outages ---


async def test_a_server_that_hangs_costs_one_timeout_a_round(
    embedded: dict[str, Any], clock: MovableClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The other messages of the round are not tried and not counted, and come first in the next one."""
    with receiving_mail() as server:
        async with posting(embedded, clock, server) as post:
            for name in ("alice", "bob", "carol"):
                await notify(post, name)
            server.hangs_for = 2
            hasty = Smtp(read_smtp_url(f"smtp://127.0.0.1:{server.port}"), local_name="localhost", timeout=0.4)
            delivery = post.deliverer(hasty)
            started = time.monotonic()
            assert 0 == await post.deliver(delivery)
            assert time.monotonic() - started < 1.5
            server.hangs_for = 0
            assert 2 == await post.deliver(delivery)
            clock.advance(seconds=2)
            assert 1 == await post.deliver(delivery)
            await asyncio.sleep(0)
    assert ["bob@example.net", "carol@example.net", "alice@example.net"] == server.recipients
    assert ["timeout"] == [line["reason"] for line in lines(caplog, "message.refused")]


async def test_a_stopped_server_gets_everything_once_it_is_back(
    world: dict[str, Any], clock: MovableClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The waits grow, and nothing is lost."""
    port = free_port()
    async with posting(world, clock, MailServer(port)) as post:
        await notify(post)
        delivery = post.deliverer()
        for wait in (2, 4, 8, 16):
            assert 0 == await post.deliver(delivery)
            clock.advance(seconds=wait)
        with receiving_mail(port=port) as server:
            assert 1 == await post.deliver(delivery)
    assert ["alice@example.net"] == server.recipients
    refused = lines(caplog, "message.refused")
    assert [("refused", 2), ("refused", 4), ("refused", 8), ("refused", 16)] == [
        (line["reason"], line["again_in"]) for line in refused
    ]


async def test_a_message_that_expires_during_an_outage_is_never_sent(
    embedded: dict[str, Any], clock: MovableClock
) -> None:
    """Its link would be refused."""
    port = free_port()
    async with posting(embedded, clock, MailServer(port)) as post:
        await post.record(EventName.PASSWORD_RESET_REQUESTED, await post.add_user("alice"))
        delivery = post.deliverer()
        assert 0 == await post.deliver(delivery)
        clock.advance(seconds=3600)
        with receiving_mail(port=port) as server:
            assert 1 == await post.deliver(delivery)
        assert [] == await post.due()
    assert [] == server.letters


async def test_of_two_replicas_one_sends(world: dict[str, Any], clock: MovableClock) -> None:
    """The other takes over when the first is silent; the lease of the webhook is another one."""
    with receiving_mail() as server:
        async with posting(world, clock, server) as post:
            await notify(post)
            one, other = post.deliverer(), post.deliverer()
            assert 1 == await post.deliver(one)
            await notify(post, "bob")
            assert 0 == await post.deliver(other)
            clock.advance(seconds=30)
            assert 1 == await post.deliver(other)
            holders = await post.parts.database.fetch_all("SELECT holder FROM deliverer WHERE transport = 'webhook'")
            assert [""] == [row["holder"] for row in holders]
    assert ["alice@example.net", "bob@example.net"] == server.recipients


async def test_a_round_uses_one_connection(
    embedded: dict[str, Any], clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is closed at the end of the round."""
    connected = []
    connect = aiosmtplib.SMTP.connect

    async def count(self: Any, **options: Any) -> Any:
        connected.append(self)
        return await connect(self, **options)

    monkeypatch.setattr(aiosmtplib.SMTP, "connect", count)
    with receiving_mail() as server:
        async with posting(embedded, clock, server) as post:
            for number in range(5):
                await notify(post, f"user{number}")
            assert 5 == await post.deliver(post.deliverer())
    assert 1 == len(connected)
    assert not connected[0].is_connected
    assert 5 == len(server.letters)


@pytest.mark.heavy
def test_a_service_that_is_killed_loses_no_message(tmp_path: Path) -> None:
    """It is killed between the commit and the delivery; the next process sends what is due."""
    port = free_port()
    data = tmp_path / "data"
    environment = {
        "KEYTURN_DATA_DIR": str(data),
        "KEYTURN_SMTP_URL": f"smtp://127.0.0.1:{port}",
        "KEYTURN_MAIL_FROM": SENDER,
    }
    settings = Settings(data_dir=data)
    make_schema(settings)

    async def prepare() -> None:
        more = {"smtp_url": environment["KEYTURN_SMTP_URL"], "mail_from": SENDER}
        async with open_post({"data_dir": data}, MovableClock(real_clock()), **more) as post:
            await notify(post)

    asyncio.run(prepare())
    with keyturn(environment) as served:
        served.process.kill()
    with receiving_mail(port=port) as server, keyturn(environment):
        wait_until(lambda: check(["alice@example.net"] == server.recipients), seconds=60)


@pytest.mark.heavy
def test_a_mail_server_that_hangs_delays_no_login(tmp_path: Path, authority: Path) -> None:
    """The letter is on its way, over TLS and after a login there, while others sign up and log in."""
    with receiving_mail(authority=authority, needs_login=True) as server:
        environment = {
            "KEYTURN_DATA_DIR": str(tmp_path / "data"),
            "KEYTURN_SMTP_URL": f"smtp://{ACCOUNT}localhost:{server.port}",
            "KEYTURN_MAIL_FROM": SENDER,
            "SSL_CERT_FILE": str(authority / "ca.pem"),
        }
        server.hangs_for = 9  # a letter has ten seconds
        with keyturn(environment) as served, httpx2.Client(base_url=served.url, timeout=4) as client:
            alice = {"username": "alice", "password": PASSWORD}
            assert 201 == client.post("/signup", json={**alice, "email": "alice@example.net"}).status_code
            wait_until(lambda: check(server.attempts == 1), seconds=60)
            for _ in range(5):
                assert 200 == client.post("/login", json=alice).status_code
            assert [] == server.recipients
            server.hangs_for = 0
            wait_until(lambda: check(["alice@example.net"] == server.recipients), seconds=60)


def check(is_so: bool) -> None:
    assert is_so


# --- settings ---


URLS = [
    ("smtp.example.com", "smtp://"),
    ("http://mail.example.com", "smtp://"),
    ("smtp://", "host"),
    ("smtp://mail.example.com:0", "1 to 65535"),
    ("smtp://mail.example.com:99999", "1 to 65535"),
    ("smtp://user@mail.example.com", "both"),
    ("smtp://:secret1@mail.example.com", "both"),
    ("smtp://user:secret1@mail.example.com/inbox", "path"),
    ("smtp://user:sec/ret1@mail.example.com", "%2F"),
    ("smtp://user:sec#ret1@mail.example.com", "%23"),
    ("smtp://user:sec%zz@mail.example.com", "%25"),
    ("smtp://user:a%0d%0asecret1@mail.example.com", "line break"),
    ("smtp://user:a%00secret1@mail.example.com", "null"),
    ("smtp://user:%ff@mail.example.com", "UTF-8"),
    ("smtp://mail.example.com?timeout=3", "10 s"),
    ("smtp://mail.example.com?verify=no", "always verified"),
    ("smtp://mail.example.com?colour=red", "colour"),
    ("smtp://mail.example.com?se-cret1!=x", "not a word"),
    ("smtp://[::1", "in brackets"),
    ("smtp://[zz]:25", "IPv6"),
    ("smtp://a..b", "two dots"),
    ("smtp://b\u00fccher.example", "host"),
    ("smtp://mail.example.com :25", "white space"),
]


@pytest.mark.parametrize(("url", "reason"), URLS)
def test_a_wrong_url_is_refused_without_its_secret(url: str, reason: str) -> None:
    """The sentence says what is wrong and names the setting."""
    with pytest.raises(ValueError, match="KEYTURN_SMTP_URL") as refused:
        read_smtp_url(url)
    assert reason in str(refused.value)
    assert "secret1" not in str(refused.value)
    assert "ret1" not in str(refused.value)


def test_a_url_is_read() -> None:
    """The ports are those of RFC 6409 and RFC 8314; the password does not show."""
    assert SmtpServer("mail.example.com", 587, False) == read_smtp_url("smtp://mail.example.com")
    assert SmtpServer("::1", 465, True, "u@x", "p:/") == read_smtp_url("SMTPS://u%40x:p%3A%2F@[::1]")
    assert "hidden" not in repr(read_smtp_url("smtp://u:hidden@h"))
    assert [True, True, False] == [
        read_smtp_url(f"smtp://{host}").is_on_loopback for host in ("127.0.0.2", "localhost", "localhost.example")
    ]


@pytest.mark.parametrize(
    "text",
    ["", "example.com", "a@", "a@b@c", "a b@c", "Name a@b", '"N" <a@b>', "N <a@b>, x@y", "N\x07 <a@b>", "a@b\r\nX"],
)
def test_a_sender_is_one_address(text: str) -> None:
    """It may have a name."""
    with pytest.raises(ValueError, match=r"address|name"):
        read_sender(text)
    assert "Caf\u00e9 <a@b.example>" == str(read_sender("Caf\u00e9 <a@b.example>"))


# --- commands ---


def test_a_test_message_is_sent_at_once(tmp_path: Path) -> None:
    """The command prints the server's answer, or in one sentence why there is none."""
    with receiving_mail() as server:
        environment = {
            "KEYTURN_DATA_DIR": str(tmp_path),
            "KEYTURN_SMTP_URL": f"smtp://127.0.0.1:{server.port}",
            "KEYTURN_MAIL_FROM": SENDER,
        }
        output = run("messages", "send-test", "alice@example.net", environment=environment)
        assert (0, ["alice@example.net"]) == (output.status, server.recipients)
        assert "queued as 12AB" in output.out
        server.rcpt = {"bob@example.net": "550 unknown"}
        output = run("messages", "send-test", "bob@example.net", environment=environment)
        assert REFUSED == output.status
        assert "550. The server refuses the recipient." in output.err
    output = run("messages", "send-test", "alice@example.net", environment=environment)
    assert REFUSED == output.status
    assert "Nothing listens" in output.err
    output = run("messages", "send-test", "alice", environment=environment)
    assert 2 == output.status


def test_a_message_can_be_previewed(tmp_path: Path) -> None:
    """With invented values, in a language, as text or HTML; without a database."""
    environment = {"KEYTURN_DATA_DIR": str(tmp_path / "none"), "KEYTURN_TOTP_ISSUER": "Bank"}
    text = run("messages", "preview", "password_reset", "--locale", "de", environment=environment)
    assert (0, True) == (text.status, text.out.startswith("Neues Passwort festlegen\n\nGuten Tag alice,"))
    html = run("messages", "preview", "new_device", "--html", environment=environment)
    assert (0, True, True) == (html.status, html.out.startswith("<!doctype html>"), "Bank" in html.out)
    assert 2 == run("messages", "preview", "nonsense", environment=environment).status
    assert not (tmp_path / "none").exists()


# --- the doctor ---


async def findings(embedded: dict[str, Any], clock: MovableClock, **more: object) -> list[Finding]:
    settings = Settings(**{**embedded, **more})
    make_schema(settings)
    found = await examine(settings, clock)
    return [finding for finding in found if re.match("Messages|The mail|The links|A message", finding.what)]


async def test_the_doctor_connects_and_sends_nothing(
    embedded: dict[str, Any], clock: MovableClock, trusted: Path
) -> None:
    """It reports TLS, credentials and a server that is away."""
    with receiving_mail(authority=trusted, needs_login=True) as server:
        url = f"smtp://{ACCOUNT}localhost:{server.port}"
        (found,) = await findings(embedded, clock, smtp_url=url, mail_from=SENDER)
        assert "ok" == found.verdict
        url = f"smtp://keyturn:wrong@localhost:{server.port}"
        (found,) = await findings(embedded, clock, smtp_url=url, mail_from=SENDER)
        assert ("wrong", True) == (found.verdict, "credentials_refused" in found.what)
    (found,) = await findings(embedded, clock, smtp_url=url, mail_from=SENDER)
    assert ("wrong", True) == (found.verdict, "Nothing listens" in found.advice)
    assert (0, []) == (server.attempts, server.letters)


async def test_the_doctor_says_how_messages_leave(embedded: dict[str, Any], clock: MovableClock) -> None:
    """Files on loopback, and a note where others reach the service and nothing is set."""
    (found,) = await findings(embedded, clock)
    assert ("ok", True) == (found.verdict, "written to" in found.what)
    public = {"issuer": "https://id.example.com", "host": "0.0.0.0"}  # noqa: S104
    (found,) = await findings(embedded, clock, **public)
    assert ("ok", True) == (found.verdict, "KEYTURN_SMTP_URL" in found.advice)
    (found,) = await findings(embedded, clock, **public, messages="off")
    assert ("ok", "") == (found.verdict, found.advice)


async def test_the_doctor_reports_a_page_without_tls(embedded: dict[str, Any], clock: MovableClock) -> None:
    """The links in messages open accounts."""
    found = await findings(embedded, clock, page_url="http://id.example.com/account")
    assert ["wrong"] == [finding.verdict for finding in found if "without TLS" in finding.what]


async def test_the_doctor_reports_links_that_lead_nowhere(embedded: dict[str, Any], clock: MovableClock) -> None:
    """The page is off, and no other one is named."""
    found = await findings(embedded, clock, account_page="off")
    assert ["warning"] == [finding.verdict for finding in found if "KEYTURN_ACCOUNT_PAGE" in finding.what]
    found = await findings(embedded, clock, account_page="off", messages="off")
    assert ["warning"] == [finding.verdict for finding in found if "links of invitations" in finding.what]
    for settings in ({"account_page": "off", "page_url": "http://localhost/account"}, {"messages": "off"}):
        assert not [finding for finding in await findings(embedded, clock, **settings) if "The links" in finding.what]


async def test_a_message_that_waits_is_measured_and_reported(embedded: dict[str, Any], clock: MovableClock) -> None:
    """By the metric `keyturn_mail_waiting_seconds` and by the doctor."""
    async with posting(embedded, clock, MailServer(free_port())) as post:
        await notify(post)
        clock.advance(seconds=700)
        await post.parts.database_metrics.measure_backlogs(clock())
        values = {
            family.name: family.samples[0].value for family in post.parts.database_metrics.collect() if family.samples
        }
        assert (700, 0) == (values["keyturn_mail_waiting_seconds"], values["keyturn_webhook_waiting_seconds"])
        found = [
            finding for finding in await examine(post.parts.settings, clock) if "A message to a user" in finding.what
        ]
    assert ["warning"] == [finding.verdict for finding in found]


def test_a_mail_server_needs_a_trusted_file_of_authorities(
    embedded: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong SSL_CERT_FILE stops the start, as with a webhook."""
    from service.components import make_components

    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(ConfigurationError, match="SSL_CERT_FILE"):
        make_components(Settings(**embedded, smtp_url="smtp://localhost", mail_from=SENDER))
