"""Traces show where the time of a request went, and contain no data of users."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from httpx2 import AsyncClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.operations.tracing import Tracing
from tests.harness.clients import Opener
from tests.harness.databases import PATIENT_SECONDS
from tests.harness.people import PASSWORD, MovableClock, Person, sign_up
from tests.harness.servers import keyturn


class Spans:
    """The spans that were recorded."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = Tracing(provider=provider)

    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def last(self, name: str) -> ReadableSpan:
        return [span for span in self.all() if span.name == name][-1]

    def beneath(self, parent: ReadableSpan) -> list[str]:
        """Return the names of the other spans of the same request, in the order of their beginning."""
        assert parent.context is not None
        trace = parent.context.trace_id
        same = [span for span in self.all() if span.context is not None and span.context.trace_id == trace]
        return [span.name for span in sorted(same, key=lambda span: span.start_time or 0) if span is not parent]


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
async def traced(world: dict[str, Any], open_client: Opener, spans: Spans) -> AsyncIterator[AsyncClient]:
    async with open_client(world, tracing=spans.tracing) as client:
        yield client


@pytest.fixture
async def alice_traced(traced: AsyncClient, clock: MovableClock) -> Person:
    alice = await sign_up(traced, clock)
    await alice.confirm()
    clock.next_step()
    return alice


async def test_a_login_is_traced_by_its_steps(alice_traced: Person, spans: Spans) -> None:
    """/login charges, reads and hashes; /login-2fa charges in SQL, claims, and decides in one transaction."""
    assert 200 == (await alice_traced.log_in()).status_code
    first = spans.beneath(spans.last("POST /login"))
    assert ["charge", "SELECT users", "hash", "refund"] == first[:4]
    second = spans.beneath(spans.last("POST /login-2fa"))
    decided = second.index("transaction")
    assert second.index("charge") < second.index("UPDATE totp_authenticators") < second.index("claim") < decided
    assert ["UPDATE totp_authenticators", "INSERT sessions", "INSERT events"] == second[decided + 1 : decided + 4]


async def test_a_span_has_the_status_and_the_request_id(alice_traced: Person, spans: Spans) -> None:
    """The id links a line of the log to its trace; a path with a parameter is recorded as its route."""
    await alice_traced.client.get("/qrcode/alice", headers={"X-Request-Id": "of-this-request"})
    attributes = spans.last("GET /qrcode/{username}").attributes
    assert {
        "http.request.method": "GET",
        "http.route": "/qrcode/{username}",
        "http.response.status_code": 401,
        "keyturn.request_id": "of-this-request",
    } == dict(attributes or {})


async def test_the_trace_of_the_caller_is_continued(traced: AsyncClient, spans: Spans) -> None:
    """A gateway's `traceparent` is the parent; with an invalid one a new trace begins."""
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    await traced.get("/livez", headers={"traceparent": f"00-{trace}-{parent}-01", "tracestate": "of=somebody"})
    span = spans.last("GET /livez")
    assert span.context is not None
    assert not span.context.trace_state
    assert span.parent is not None
    assert (int(trace, 16), int(parent, 16)) == (span.context.trace_id, span.parent.span_id)
    await traced.get("/livez", headers={"traceparent": "nonsense"})
    assert spans.last("GET /livez").parent is None


async def test_no_span_has_data_of_users(alice_traced: Person, spans: Spans) -> None:
    """It has no name, password, code, token or error text, also after a failed request."""
    admitted = (await alice_traced.log_in()).json()
    await alice_traced.give_password("a password that is wrong")
    await alice_traced.client.get("/nowhere/alice?token=secret")
    text = "".join(span.to_json() for span in spans.all())
    words = ("alice", PASSWORD, "a password that is wrong", alice_traced.secret, "token=", "nowhere")
    for word in (*words, admitted["access_token"], admitted["refresh_token"]):
        assert word not in text
    assert 404 == (spans.last("GET none").attributes or {})["http.response.status_code"]


class Collector(ThreadingHTTPServer):
    """An OTLP receiver."""

    def __init__(self) -> None:
        self.batches: list[ExportTraceServiceRequest] = []
        self.arrived = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert "/v1/traces" == self.path
                collector.batches.append(ExportTraceServiceRequest.FromString(body))
                collector.arrived.set()
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Write nothing to standard error."""

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_collector_gets_the_traces_of_the_service(tmp_path: Path, collector: Collector) -> None:
    """They arrive as OTLP over HTTP under the service's name, the last ones when the service ends."""
    settings = {"KEYTURN_DATA_DIR": str(tmp_path / "data"), "KEYTURN_OTLP_ENDPOINT": collector.url}
    with keyturn(settings) as served:
        body = {"username": "alice", "password": PASSWORD}
        assert 201 == httpx2.post(f"{served.url}/signup", json=body, timeout=PATIENT_SECONDS).status_code
    resources = [resource for batch in collector.batches for resource in batch.resource_spans]
    names = {span.name for resource in resources for scope in resource.scope_spans for span in scope.spans}
    assert {"POST /signup", "hash", "INSERT users"} <= names
    attributes = {attribute.key: attribute.value.string_value for attribute in resources[0].resource.attributes}
    assert "keyturn" == attributes["service.name"]


def test_an_unreachable_collector_affects_no_request(tmp_path: Path) -> None:
    """Requests are answered, the service ends in order, and the log says that traces were lost."""
    log = tmp_path / "log"
    settings = {"KEYTURN_DATA_DIR": str(tmp_path / "data"), "KEYTURN_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    with keyturn(settings, log=log) as served:
        assert 200 == httpx2.get(f"{served.url}/livez", timeout=PATIENT_SECONDS).status_code
    assert served.process.child is not None
    assert 0 == served.process.child.returncode
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert any("spans" in line["event"] and line["level"] == "error" for line in lines)


def test_a_slow_collector_does_not_delay_the_end(tmp_path: Path) -> None:
    """Even while the collector sends single bytes, the end waits three seconds for the last batch, not more."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def trickle() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                while True:
                    time.sleep(1)
                    connection.sendall(b"X-Still: here\r\n")

        threading.Thread(target=trickle, daemon=True).start()
        collector = f"http://127.0.0.1:{listener.getsockname()[1]}"
        settings = {"KEYTURN_DATA_DIR": str(tmp_path / "data"), "KEYTURN_OTLP_ENDPOINT": collector}
        with keyturn(settings) as served:
            assert 200 == httpx2.get(f"{served.url}/livez", timeout=PATIENT_SECONDS).status_code
    assert served.process.child is not None
    assert 0 == served.process.child.returncode  # after 20 seconds it would have been killed
