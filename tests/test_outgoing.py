"""Requests that the service sends (webhook, collector, own key set): trusted authorities, and reasons of failures."""

import json
import logging
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from pydantic import SecretStr

from service.app import create_app
from service.components import make_components, open_components
from service.errors import ConfigurationError
from service.messages.delivery import Delivery
from service.messages.webhook import ANSWER_TIMEOUT_SECONDS, Webhook
from service.operations.doctor import Doctor, Finding
from service.operations.tracing import Tracing
from service.outgoing import FAILURES, failure_of
from service.settings import Settings
from service.users.breached.range_service import RangeService
from service.users.breached.source import Unanswered
from service.users.passwords import CHEAPEST
from tests.harness.certificates import make_authority
from tests.harness.databases import PATIENT
from tests.harness.people import PASSWORD, MovableClock
from tests.harness.ranges import answering, sha1
from tests.harness.servers import make_schema
from tests.harness.webhooks import Ticks

SECRET = "whsec_" + "a" * 43 + "="


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the certificate of a private authority (`ca.pem`) and of one of its servers (`server.pem`)."""
    return make_authority(tmp_path_factory.mktemp("authority"))


@dataclass
class Receiver:
    port: int
    status: int = 200
    paths: list[str] = field(default_factory=list)

    def url(self, scheme: str = "https") -> str:
        return f"{scheme}://127.0.0.1:{self.port}"


@contextmanager
def receiving(authority: Path | None) -> Iterator[Receiver]:
    """Run an HTTP server, with TLS if there is a folder of certificates, that records the paths of requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            receiver.paths.append(self.path)
            self.send_response(receiver.status)
            body = json.dumps({"keys": []}).encode()
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815 -- the name that http.server calls

        def log_message(self, *_: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:  # the tests let clients close the connection early
            return

    server = Server(("127.0.0.1", 0), Handler)
    if authority is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority / "server.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    receiver = Receiver(server.server_port)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    chosen = Settings(data_dir=tmp_path / "data")
    make_schema(chosen)
    return chosen


async def deliver(
    settings: Settings,
    url: str,
    clock: MovableClock,
    caplog: pytest.LogCaptureFixture,
    *,
    seconds: float = ANSWER_TIMEOUT_SECONDS,
) -> str:
    """Deliver one event; return `delivered`, or the reason in the log."""
    ticks = Ticks()
    chosen = settings.model_copy(update={"webhook_url": "http://127.0.0.1:9", "webhook_secret": SecretStr(SECRET)})
    async with open_components(chosen, clock, hash_cost=CHEAPEST, timeouts=PATIENT) as parts:
        await parts.sign_up.sign_up("alice", PASSWORD, enable_mfa=False, caller=None)
        webhook = Delivery(parts.database, Webhook(url=url, key=b"k" * 32, timeout=seconds), ticks=ticks)
        caplog.set_level(logging.INFO, "keyturn")
        await webhook.deliver(clock())
        ticks.now += 2
        arrived = await webhook.deliver(clock())
        await webhook.close()
    if arrived:
        return "delivered"
    (refused,) = [record for record in caplog.records if record.getMessage() == "webhook.refused"]
    return str(vars(refused)["details"]["reason"])


async def examine(settings: Settings, clock: MovableClock, **changed: object) -> list[Finding]:
    """Return the findings of the doctor with these settings."""
    chosen = settings.model_copy(update=changed)
    parts = make_components(settings, clock, hash_cost=CHEAPEST, timeouts=PATIENT)
    try:
        await parts.database.open()
        return [finding async for finding in Doctor(chosen, parts.database, parts.clock).examine()]
    finally:
        parts.passwords.close()
        await parts.ephemeral.close()
        await parts.database.close()


def find(findings: list[Finding], word: str) -> Finding:
    (finding,) = [finding for finding in findings if word in finding.what]
    return finding


TRUSTING: dict[str, dict[str, str]] = {
    "file": {"SSL_CERT_FILE": "{authority}/ca.pem", "REQUESTS_CA_BUNDLE": "{other}/ca.pem"},
    "folders": {"SSL_CERT_DIR": "{other}:{authority}"},
}
DISTRUSTING: dict[str, dict[str, str]] = {
    "nothing": {},
    "another file": {
        "SSL_CERT_FILE": "{other}/ca.pem", "SSL_CERT_DIR": "{authority}", "REQUESTS_CA_BUNDLE": "{authority}/ca.pem",
    },
}  # fmt: skip
"""Environments with and without trust in the private authority. A file is used in place of folders."""


@pytest.fixture(params=[*TRUSTING, *DISTRUSTING])
def is_trusted(
    request: pytest.FixtureRequest, authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """True if the environment names the private authority."""
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "other").mkdir()
    other = make_authority(tmp_path / "other", name="another authority")
    for variable, value in (TRUSTING | DISTRUSTING)[request.param].items():
        monkeypatch.setenv(variable, value.format(authority=authority, other=other))
    return request.param in TRUSTING


async def test_a_range_service_needs_a_trusted_certificate(is_trusted: bool, authority: Path) -> None:
    """The variables apply to it too. Without trust the password is accepted, and no digits are sent."""
    with answering(["leaked horse battery staple"], certificate=authority / "server.pem") as ranges:
        service = RangeService(ranges.url, timeout=20)
        try:
            if is_trusted:
                assert await service.has(bytes.fromhex(sha1("leaked horse battery staple")))
                assert 1 == len(ranges.asked)
            else:
                with pytest.raises(Unanswered, match="untrusted_certificate"):
                    await service.has(bytes(20))
                assert [] == ranges.asked
        finally:
            await service.close()


async def test_a_private_authority_is_trusted_if_it_is_named(
    is_trusted: bool,
    authority: Path,
    settings: Settings,
    clock: MovableClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The variables apply to the webhook, the collector and the doctor; without them the reason is reported."""
    with receiving(authority) as receiver:
        outcome = await deliver(settings, receiver.url() + "/hook", clock, caplog)
        tracing = Tracing(receiver.url())
        with tracing.span("one"):
            pass
        await tracing.close()
        found = await examine(settings, clock, webhook_url=receiver.url() + "/hook", issuer=receiver.url())
    keys = find(found, "key set")
    if is_trusted:
        assert "delivered" == outcome
        assert {"/hook", "/v1/traces", "/.well-known/jwks.json"} == set(receiver.paths)
        assert "No event waits for the webhook." == find(found, "webhook").what
        assert "belongs to another service" in keys.what
    else:
        assert ("untrusted_certificate", []) == (outcome, receiver.paths)
        assert "SSL_CERT_FILE" in find(found, "cannot be reached (untrusted_certificate)").advice
        assert "SSL_CERT_FILE" in keys.advice


@pytest.mark.parametrize("reason", ["refused", "unknown_host", "tls", "timeout", "disconnected", "status"])
async def test_the_log_states_why_a_delivery_failed(
    settings: Settings,
    clock: MovableClock,
    caplog: pytest.LogCaptureFixture,
    reason: str,
) -> None:
    """A closed port, an unknown host, no TLS, no answer, a closed connection, an answer that is not 2xx."""
    with receiving(None) as receiver, socket.create_server(("127.0.0.1", 0)) as listener:
        receiver.status = 500
        silent = f"http://127.0.0.1:{listener.getsockname()[1]}/"

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.recv(1)
            connection.close()

        if reason == "disconnected":
            Thread(target=hang_up, daemon=True).start()
        urls = {
            "refused": "http://127.0.0.1:9/",
            "unknown_host": "http://nowhere.invalid/",
            "tls": receiver.url("https"),
            "timeout": silent,
            "disconnected": silent,
            "status": receiver.url("http"),
        }
        assert reason == await deliver(settings, urls[reason], clock, caplog, seconds=1.0)


async def test_the_doctor_reports_a_failed_delivery(
    settings: Settings, clock: MovableClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The finding is not "up to date" if the last delivery was refused or the receiver is unreachable."""
    with receiving(None) as receiver:
        receiver.status = 500
        url = receiver.url("http")
        assert (
            "No event waits for the webhook." == find(await examine(settings, clock, webhook_url=url), "webhook").what
        )
        assert "status" == await deliver(settings, url, clock, caplog)
        finding = find(await examine(settings, clock, webhook_url=url), "webhook's last delivery failed")
        assert "warning" == finding.verdict
    finding = find(await examine(settings, clock, webhook_url=url), "cannot be reached (refused)")
    assert ("warning", FAILURES["refused"]) == (finding.verdict, finding.advice)


@pytest.mark.parametrize("content", [None, "", "no certificate"])
@pytest.mark.parametrize("setting", ["webhook_url", "otlp_endpoint"])
def test_the_service_does_not_start_with_an_invalid_file_of_authorities(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, setting: str
) -> None:
    """If a setting needs HTTPS, one sentence names the variable and the file."""
    file = tmp_path / "authorities.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with_https = settings.model_copy(update={setting: "https://example.invalid", "webhook_secret": Settings(
        webhook_secret=SECRET
    ).webhook_secret})  # fmt: skip
    with pytest.raises(ConfigurationError, match=r"SSL_CERT_FILE: .*authorities\.pem (cannot be read|has no)"):
        create_app(with_https, hash_cost=CHEAPEST, timeouts=PATIENT)
    create_app(settings, hash_cost=CHEAPEST, timeouts=PATIENT).state.parts.passwords.close()
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError, match="SSL_CERT_DIR"):
        create_app(with_https, hash_cost=CHEAPEST, timeouts=PATIENT)


def test_every_failure_has_advice() -> None:
    """The cause is found inside the HTTP client's error; a timeout while connecting counts, too."""
    wrapped = RuntimeError("wrapped")
    for cause, reason in (
        (ssl.SSLCertVerificationError(), "untrusted_certificate"),
        (ssl.SSLError(), "tls"),
        (socket.gaierror(), "unknown_host"),
        (ConnectionRefusedError(), "refused"),
        (TimeoutError(), "timeout"),
        (OSError(113, "No route to host"), "unreachable"),
        (ConnectionResetError(), "disconnected"),
        (EOFError(), "disconnected"),
    ):
        wrapped.__cause__ = cause
        assert reason == failure_of(wrapped)
        assert FAILURES[reason].endswith((".", "?"))
