"""Canary secrets over the whole suite (law 15: logs, metrics, traces, errors and outbox rows hold no secret).

The suite watches every client of a service in this process. It collects passwords, codes, seeds, tokens, links and
client secrets from requests and answers, and the secrets of the settings. A service whose messages a test delivers
(`harness/mail`) is watched too: every link that it writes is a canary. When the test ends, it searches for them in
the log, in error answers, in the spans, in the metrics, in the rows of the database and the keys of Redis: verbatim,
in base64, in hex, and quoted.
"""

import base64
import json
import logging
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, quote

import httpx2
import redis.asyncio
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import SecretStr

from service.components import Components
from service.errors import StoreUnavailable
from service.operations.tracing import Tracing
from service.settings import Settings
from service.smtp_url import read_smtp_url
from service.storage.sealing import Sealer
from service.telemetry import metrics
from service.telemetry.log import JsonLines
from service.tokens.links import Link, Links
from tests.harness.people import secret_in
from tests.harness.servers import REPOSITORY

TABLES = ("users", "totp_authenticators", "recovery_codes", "recovery_budgets", "sessions", "signing_keys", "clients",
          "subjects", "events", "outbox", "deliverer", "addresses", "invitations")  # fmt: skip
ROWS = 300
"""Rows of each table that are searched."""

GIVEN = {
    "password", "new_password", "current_password", "otp", "token", "recovery_code", "refresh_token", "mfa_token",
    "device_token", "client_secret", "invitation",
}  # fmt: skip
GOT = {"access_token", "refresh_token", "mfa_token", "device_token", "secret", "client_secret"}

LINK = re.compile("ktl_[A-Za-z0-9_-]{20,}")
"""The token of a link, anywhere in an answer."""

SHORTEST = 8
"""Minimum length of a canary other than a code: "pass" occurs in many ordinary words."""

SOURCE = "\n".join(file.read_text("utf-8") for file in (REPOSITORY / "service").rglob("*.py"))
"""Text that is no secret, even where a test sends it as one: generated canaries take words from the source."""


class Watch:
    """The canaries of one client, and the output of its service."""

    searched_for: ClassVar[int] = 0
    """Number of canaries in the whole run. Each is searched for in every place."""

    def __init__(self) -> None:
        self.canaries: set[str] = set()
        self.names: set[str] = set()
        self._errors: list[str] = []
        self._log = _Log()
        self._spans = _Spans()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.tracing = Tracing(provider=provider)

    def attach(self, client: httpx2.AsyncClient) -> None:
        client.event_hooks = {"request": [self._note_request], "response": [self._note_answer]}

    def begin(self) -> None:
        logger = logging.getLogger("keyturn")
        logger.setLevel(logging.INFO)
        logging.getLogger().addHandler(self._log)

    def end(self) -> None:
        logging.getLogger().removeHandler(self._log)

    async def search(self, parts: Components) -> None:
        """Fail if a canary is found."""
        places = {
            "the log": "\n".join(self._log.lines),
            "an error": "\n".join(self._errors),
            "a span": "\n".join(self._spans.texts),
            "the metrics": _read_metrics(parts),
            "the database": await _dump_sql(parts),
            "Redis": await _dump_redis(parts),
        }
        for canary in (self.canaries | secrets_of(parts.settings)) - self.names:
            Watch.searched_for += 1
            forms = _forms(canary)
            for place, text in places.items():
                # The source is the longest text, so it is searched for what was found, which is next to nothing.
                if _occurs(canary, forms, text):
                    assert canary in SOURCE, f"{place} contains the secret {canary[:4]}..."

    async def _note_request(self, request: httpx2.Request) -> None:
        body = request.content if isinstance(request.stream, httpx2.ByteStream) else b""
        for name, value in _members(body):
            if name == "username" and isinstance(value, str):
                self.names |= {value, value.lower()}
            elif name in GIVEN and isinstance(value, str):
                self._add(value)
        for credential in request.headers.get_list("authorization"):
            self._add(credential.partition(" ")[2])
        for line in request.headers.get_list("cookie"):
            for pair in line.split(";"):
                self._add(pair.strip().partition("=")[2])

    async def _note_answer(self, answer: httpx2.Response) -> None:
        await answer.aread()
        if answer.status_code >= 400:
            self._errors.append(f"{answer.headers} {answer.text}")
        for line in answer.headers.get_list("set-cookie"):
            self._add(line.partition(";")[0].partition("=")[2])
        if answer.status_code < 400:
            self.canaries |= set(LINK.findall(answer.text))
        for name, value in _members(answer.content):
            if name in GOT and isinstance(value, str):
                self._add(value)
            elif name == "provisioning_uri" and isinstance(value, str):
                self._add(secret_in(value))
            elif name == "recovery_codes" and isinstance(value, list):
                for code in value:
                    self._add(code)

    def _add(self, secret: str) -> None:
        if len(secret) >= SHORTEST or re.fullmatch("[0-9]{6}", secret):
            self.canaries.add(secret)


class NotedLinks(Links):
    """Links of which every token is a canary."""

    def __init__(self, sealer: Sealer, watch: Watch) -> None:
        super().__init__(sealer)
        self._watch = watch

    def write(self, claims: Link) -> str:
        token = super().write(claims)
        self._watch.canaries.add(token)
        return token


def secrets_of(settings: Settings) -> set[str]:
    """Return the secrets in the settings, and the password in the URL of the mail server by itself."""
    values = (getattr(settings, name) for name in type(settings).model_fields)
    texts = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
    found = {part for text in texts for part in text.split(",")}
    if settings.smtp_url is not None:
        found.add(read_smtp_url(settings.smtp_url.get_secret_value()).password or "")
    return {text for text in found if len(text) >= SHORTEST}


def _forms(canary: str) -> set[str]:
    """Return what to search for: the canary itself and its encodings."""
    if canary.isdecimal():
        return {canary}
    raw = canary.encode("utf-8", "surrogatepass")
    forms = {canary, raw.hex(), base64.b64encode(raw).decode().rstrip("="), quote(canary), json.dumps(canary)[1:-1]}
    with suppress(ValueError):
        seed = base64.b32decode(canary)
        forms |= {seed.hex(), base64.b64encode(seed).decode()}
    return forms


def _occurs(canary: str, forms: set[str], text: str) -> bool:
    if not any(form in text for form in forms):
        return False
    # Digits must not be part of a longer number or of a random id.
    return not canary.isdecimal() or re.search(rf"(?<![\w.-]){canary}(?![\w-])", text) is not None


def _members(body: bytes) -> Iterator[tuple[str, Any]]:
    """Yield the members of a JSON object or a form, if the body is one."""
    with suppress(ValueError, AttributeError, RecursionError):
        yield from json.loads(body).items()
        return
    with suppress(ValueError):
        yield from parse_qsl(body.decode())


def _read_metrics(parts: Components) -> str:
    """Return the text of all metrics of this process. It is made again when a metric has got new values of labels.

    Without new labels only numbers have changed since then, and to write all of them takes a tenth of a short test.
    """
    count = sum(len(getattr(metric, "_metrics", ())) for metric in vars(metrics).values())
    if count != _metrics_of_process["count"]:
        _metrics_of_process.update(count=count, text=metrics.render().decode())
    own = CollectorRegistry()
    own.register(parts.database_metrics)
    return f"{_metrics_of_process['text']}\n{generate_latest(own).decode()}"


_metrics_of_process: dict[str, Any] = {"count": None, "text": ""}


async def _dump_sql(parts: Components) -> str:
    if parts.settings.database_url is None:
        return _dump_file(parts.settings.sqlite_file)
    lines = []
    with suppress(StoreUnavailable):
        for table in TABLES:
            for row in await parts.database.fetch_all(f"SELECT * FROM {table} LIMIT {ROWS}"):
                lines += [_text(value) for value in dict(row).values()]
    return "\n".join(lines)


def _dump_file(file: Path) -> str:
    """Read the tables of SQLite in this thread: each statement of the service takes two changes of the thread."""
    lines = []
    with (
        suppress(sqlite3.DatabaseError),
        closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as sqlite,
    ):
        for table in TABLES:
            for row in sqlite.execute(f"SELECT * FROM {table} LIMIT {ROWS}"):
                lines += [_text(value) for value in row]
    return "\n".join(lines)


async def _dump_redis(parts: Components) -> str:
    url = parts.settings.resolved_redis_url
    if url is None or not url.startswith("redis://"):
        return ""
    lines = []
    with suppress(redis.exceptions.RedisError, OSError):
        async with redis.asyncio.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1) as client:
            async for key in client.scan_iter(count=1000):
                kind = await client.type(key)
                value = await (client.hgetall(key) if kind == b"hash" else client.get(key))
                lines += [_text(key), str(value)]
    return "\n".join(lines)


def _text(value: object) -> str:
    if isinstance(value, bytes | memoryview):
        value = bytes(value)
        return f"{value.decode('latin-1')} {value.hex()} {base64.b64encode(value).decode()}"
    return str(value)


class _Log(logging.Handler):
    """Collect every line as the operator sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(("keyturn", "uvicorn", "service")):
            self.lines.append(self.format(record))


class _Spans(SpanExporter):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.texts += [f"{span.name} {dict(span.attributes or {})} {span.events}" for span in spans]
        return SpanExportResult.SUCCESS
