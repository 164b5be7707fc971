"""Traces for OpenTelemetry, if a collector is configured: how a request spent its time.

There is a span for the request and one for each operation that it waited for: a password's hash, a transaction and
its statements, a command to the ephemeral store. The traced objects contain no tracing code: they are wrapped, and
only if a collector is configured. No span has a value of a caller except the trace id of its `traceparent` and the
request id, both of a fixed form (law 15: logs, metrics, traces, errors and outbox rows hold no secret). It has the
declared route, not the path with a name in it; the verb and the table of a statement, not its parameters; the class
of an error, not its text.

The SDK's own variables apply besides Keyturn's one setting: `OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`,
`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_RESOURCE_ATTRIBUTES`.
"""

import asyncio
import os
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, TypeVar

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from requests import Session
from requests.adapters import HTTPAdapter

from service import VERSION
from service.outgoing import make_tls_context
from service.storage.database import Database, Row, Transaction
from service.storage.ephemeral import Bucket, Ephemeral
from service.telemetry.log import request_id
from service.users.passwords import Passwords

EXPORT_TIMEOUT_SECONDS = 2.0
"""Seconds for which the collector may be silent while it receives a batch."""
CLOSE_TIMEOUT_SECONDS = 3.0
"""Seconds that the last batch may take in total when the process ends; after that it is lost."""

_OWN_CERTIFICATE = {"OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"}
"""The SDK's variables for the collector's authority, used in place of `SSL_CERT_FILE` and `SSL_CERT_DIR`."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

_STATEMENT = re.compile(r"(SELECT|INSERT|UPDATE|DELETE)\b(?:.*?\b(?:FROM|INTO)\b)?\s*([a-z_]*)", re.DOTALL)
_PARENTHESES = re.compile(r"\([^()]*\)")
_T = TypeVar("_T")


class _TrustedAuthorities(HTTPAdapter):
    """Verifies the collector with the authorities that Keyturn trusts, not with those of the library `requests`."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, ssl_context=make_tls_context(), **options)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        super().cert_verify(conn, url, verify, cert)
        conn.ca_certs = conn.ca_cert_dir = None  # the context has the authorities


def _make_session() -> Session:
    session = Session()
    if not _OWN_CERTIFICATE & os.environ.keys():
        session.mount("https://", _TrustedAuthorities())
    return session


class Tracing:
    """Makes spans. `collector` is the base URL of an OTLP/HTTP receiver; tests pass their own provider."""

    def __init__(self, collector: str = "", *, provider: TracerProvider | None = None) -> None:
        if provider is None:
            ours = Resource({SERVICE_NAME: "keyturn", SERVICE_VERSION: VERSION})
            provider = TracerProvider(resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
            exporter = OTLPSpanExporter(
                f"{collector.rstrip('/')}/v1/traces",
                session=_make_session(),
                timeout=EXPORT_TIMEOUT_SECONDS,
            )
            provider.add_span_processor(BatchSpanProcessor(exporter))
        self._provider = provider
        self._tracer = provider.get_tracer("keyturn", VERSION)

    @contextmanager
    def span(
        self, name: str, *, kind: SpanKind = SpanKind.INTERNAL, context: Context | None = None
    ) -> Iterator[Span]:
        """Measure the block as a span. `name` must contain no value of a user; of an error only the class is kept."""
        with self._tracer.start_as_current_span(
            name, kind=kind, context=context, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except Exception as error:
                span.set_attribute("error.type", type(error).__name__)
                raise

    async def close(self) -> None:
        """Export the remaining spans in a thread and for a limited time, because a collector may be slow."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, CLOSE_TIMEOUT_SECONDS)


class TracedApplication:
    """An ASGI application with a span for every request.

    The caller's `traceparent` is continued (W3C Trace Context). `route_of` returns the declared path of a scope.
    """

    def __init__(self, app: Application, tracing: Tracing, route_of: Callable[[Message], str]) -> None:
        self._app = app
        self._tracing = tracing
        self._route_of = route_of

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # The tracestate is ignored: it is text of the caller, and would go to the collector unchanged.
        parents = [str(value, "latin-1") for name, value in scope["headers"] if name == b"traceparent"]
        context = TraceContextTextMapPropagator().extract({"traceparent": parents[0]} if parents else {})
        with self._tracing.span(scope["method"], kind=SpanKind.SERVER, context=context) as span:

            async def send_and_record(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_status(Status(StatusCode.ERROR))
                await send(message)

            span.set_attribute("http.request.method", scope["method"])
            span.set_attribute("keyturn.request_id", request_id.get())
            try:
                await self._app(scope, receive, send_and_record)
            finally:
                route = self._route_of(scope)
                span.set_attribute("http.route", route)
                span.update_name(f"{scope['method']} {route}")


class TracedPasswords(Passwords):
    """`Passwords` with one span for each hash, which includes its wait for a thread."""

    def __init__(self, tracing: Tracing, **options: Any) -> None:
        super().__init__(**options)
        self._tracing = tracing

    async def _run(self, work: Callable[[], _T], origin: str) -> _T:
        with self._tracing.span("hash"):
            return await super()._run(work, origin)


class TracedDatabase:
    """A `Database` with a span for each transaction and statement, except those of `probe` and `read_running`."""

    def __init__(self, database: Database, tracing: Tracing) -> None:
        self._database = database
        self._tracing = tracing
        self.open, self.close, self.probe = database.open, database.close, database.probe
        self.read_running = database.read_running

    def begin(self) -> AbstractAsyncContextManager[Transaction]:
        return self._begin()

    @asynccontextmanager
    async def _begin(self) -> AsyncIterator[Transaction]:
        with self._tracing.span("transaction"):
            async with self._database.begin() as transaction:
                yield _TracedTransaction(transaction, self._tracing)

    async def fetch_one(self, sql: str, *parameters: object) -> Row | None:
        with self._tracing.span(_summary(sql)):
            return await self._database.fetch_one(sql, *parameters)

    async def fetch_all(self, sql: str, *parameters: object) -> list[Row]:
        with self._tracing.span(_summary(sql)):
            return await self._database.fetch_all(sql, *parameters)

    async def write_one(self, sql: str, *parameters: object) -> Row | None:
        with self._tracing.span(_summary(sql)):
            return await self._database.write_one(sql, *parameters)


class _TracedTransaction:
    def __init__(self, transaction: Transaction, tracing: Tracing) -> None:
        self._transaction = transaction
        self._tracing = tracing
        self.on_commit = transaction.on_commit

    async def fetch_one(self, sql: str, *parameters: object) -> Row | None:
        with self._tracing.span(_summary(sql)):
            return await self._transaction.fetch_one(sql, *parameters)

    async def fetch_all(self, sql: str, *parameters: object) -> list[Row]:
        with self._tracing.span(_summary(sql)):
            return await self._transaction.fetch_all(sql, *parameters)

    async def execute(self, sql: str, *parameters: object) -> int:
        with self._tracing.span(_summary(sql)):
            return await self._transaction.execute(sql, *parameters)


class TracedEphemeral:
    """An `Ephemeral` with a span for each command except `ping`.

    Spans omit the keys, which contain usernames and addresses.
    """

    def __init__(self, ephemeral: Ephemeral, tracing: Tracing) -> None:
        self._ephemeral = ephemeral
        self._tracing = tracing
        self.ping, self.close = ephemeral.ping, ephemeral.close

    async def claim(self, *keys: str, ttl: timedelta, now: datetime) -> bool:
        with self._tracing.span("claim"):
            return await self._ephemeral.claim(*keys, ttl=ttl, now=now)

    async def release(self, *keys: str) -> None:
        with self._tracing.span("release"):
            await self._ephemeral.release(*keys)

    async def charge(self, *buckets: Bucket, now: datetime) -> float:
        with self._tracing.span("charge"):
            return await self._ephemeral.charge(*buckets, now=now)

    async def charge_tracked(self, *buckets: Bucket, now: datetime) -> tuple[float, Ephemeral]:
        with self._tracing.span("charge"):
            wait, charged_store = await self._ephemeral.charge_tracked(*buckets, now=now)
        return wait, TracedEphemeral(charged_store, self._tracing)

    async def refund(self, *buckets: Bucket, now: datetime) -> None:
        with self._tracing.span("refund"):
            await self._ephemeral.refund(*buckets, now=now)


@lru_cache(256)
def _summary(sql: str) -> str:
    """Return a statement's verb and table: `UPDATE totp_authenticators`."""
    while (shortened := _PARENTHESES.sub("", sql)) != sql:
        sql = shortened  # without subqueries, whose tables are not the statement's table
    found = _STATEMENT.match(sql)
    return f"{found[1]} {found[2]}".rstrip() if found is not None else "SQL"
