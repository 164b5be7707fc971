"""Browser scripts of allowed origins can read every answer, also refusals; scripts of other origins read none."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from httpx2 import AsyncClient, Response
from pydantic import ValidationError

from service.app import create_app
from service.environment import read_settings
from service.errors import ConfigurationError, StoreUnavailable
from service.settings import Settings
from service.users.passwords import CHEAPEST
from service.web.cors import Cors
from service.web.wire import DEADLINE_SECONDS, MAX_HEADER_BYTES
from tests.harness.clients import Opener
from tests.harness.databases import PATIENT
from tests.harness.servers import make_schema
from tests.harness.spoiled import listening

APP = "https://app.example.com"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def settings(embedded: dict[str, Any]) -> dict[str, Any]:
    return {**embedded, "cors_origins": f"{APP}, http://localhost:5173", "cors_headers": "X-Tenant-Id, dpop"}


async def preflight(client: AsyncClient, headers: str, origin: str = APP, method: str = "POST") -> Response:
    return await client.options(
        "/login",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": headers,
        },
    )


TRACING = [
    "traceparent", "tracestate", "baggage", "sentry-trace", "b3", "X-B3-TraceId", "X-B3-SpanId", "X-B3-Sampled",
    "x-datadog-trace-id", "x-datadog-parent-id", "x-datadog-origin", "x-datadog-sampling-priority", "x-datadog-tags",
    "X-Requested-With", "uber-trace-id", "newrelic", "elastic-apm-traceparent", "Request-Id", "X-Amzn-Trace-Id",
]  # fmt: skip


async def test_a_preflight_allows_what_tracing_libraries_add(settings: dict[str, Any], open_client: Opener) -> None:
    """Each header is allowed alone, with the others, and with those that the operator names; any other is refused."""
    async with open_client(settings) as client:
        for headers in (*TRACING, ",".join(TRACING), "authorization, content-type", "x-tenant-id,DPoP", ""):
            answer = await preflight(client, headers)
            assert (200, APP) == (answer.status_code, answer.headers["access-control-allow-origin"]), headers
            allowed = answer.headers["access-control-allow-headers"].split(", ")
            assert {name.strip().lower() for name in headers.split(",") if name} <= set(allowed)
            assert "GET, POST, PATCH, DELETE" == answer.headers["access-control-allow-methods"]
        for headers in ("x-other", "authorization, x-other", "x-datadog-a b", "x-datadog", "b3-x"):
            answer = await preflight(client, headers)
            assert 400 == answer.status_code, headers
            assert headers not in answer.headers["access-control-allow-headers"].split(", ")
        assert 400 == (await preflight(client, "", method="PUT")).status_code


async def test_other_origins_get_no_headers(settings: dict[str, Any], open_client: Opener) -> None:
    """However similar such an origin is, no header of an answer names it."""
    others = [f"{APP}.evil.example", "https://evil.example", "null", "http://app.example.com", f"{APP}:8443", "*",
              "https://APP.example.com", f"{APP}/", "http://localhost"]  # fmt: skip
    async with open_client(settings) as client:
        for origin in others:
            for answer in (await preflight(client, "", origin), await client.get("/me", headers={"Origin": origin})):
                assert answer.status_code >= 400
                assert "access-control-allow-origin" not in answer.headers
                assert "Origin" in answer.headers["vary"]


async def test_every_answer_names_an_allowed_origin(settings: dict[str, Any], open_client: Opener) -> None:
    """200, 400, 401, 404, 405, 406, 413, 415, 422, 429: a script can read what was wrong."""
    async with open_client({**settings, "limit_signup": "1/1h"}) as client:
        bob = {"username": "bob", "password": "correct horse battery staple", "enable_mfa": True}
        signed_up = await client.post("/signup", json=bob, headers={"Origin": APP})
        bearer = {"Authorization": f"Bearer {signed_up.json()['mfa_token']}"}

        async def ask(method: str, path: str, **named: Any) -> Response:
            return await client.request(
                method, path, **{**named, "headers": {"Origin": APP, **named.get("headers", {})}}
            )

        answers = {
            200: await ask("GET", "/.well-known/jwks.json"),
            201: signed_up,
            400: await ask("POST", "/login", content=b"{", headers=JSON),
            401: await ask("GET", "/me"),
            404: await ask("GET", "/nothing"),
            405: await ask("PUT", "/login"),
            406: await ask("GET", "/qrcode/bob", headers={**bearer, "Accept": "text/html"}),
            413: await ask("POST", "/login", content=b" " * 20_000, headers=JSON),
            415: await ask("POST", "/login", content=b"{}"),
            422: await ask("POST", "/login", json={}),
            429: await ask("POST", "/signup", json={**bob, "username": "carol"}),
        }
        for status, answer in answers.items():
            assert (status, APP) == (answer.status_code, answer.headers.get("access-control-allow-origin")), status
            assert "Retry-After, WWW-Authenticate, X-Request-Id" == answer.headers["access-control-expose-headers"]
            assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize(("error", "status"), [(RuntimeError("a defect"), 500), (StoreUnavailable(), 503)])
async def test_a_defect_is_readable_too(
    settings: dict[str, Any], open_client: Opener, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    """The server sends a 500 from outside the application, and still with the headers; the same holds for 503."""

    async def broken(*_arguments: object) -> None:
        raise error

    async with open_client(settings) as client:
        monkeypatch.setattr(client.parts.keys, "jwks", broken)
        answer = await client.get("/.well-known/jwks.json", headers={"Origin": APP})
        assert (status, APP) == (answer.status_code, answer.headers.get("access-control-allow-origin"))


async def test_without_a_setting_no_answer_has_cors_headers(embedded: dict[str, Any], open_client: Opener) -> None:
    """No header is sent, and a preflight request is a method that is not allowed."""
    async with open_client(embedded) as client:
        answer = await client.get("/livez", headers={"Origin": APP})
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert 405 == (await preflight(client, "")).status_code


# On the wire: requests that are refused before the application is called.

DEADLINE = 3.0
"""Seconds for a request: less than the deadline of a service, which nobody waits for here."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    settings = Settings.model_validate({"data_dir": tmp_path_factory.mktemp("cors") / "data", "cors_origins": APP})
    make_schema(settings)
    app = create_app(settings, hash_cost=CHEAPEST, timeouts=PATIENT)
    with listening(app, cors=Cors(settings.cors_origins, settings.cors_headers), deadline=DEADLINE) as url:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        yield parts.hostname, parts.port


HEAD = f"POST /login HTTP/1.1\r\nHost: localhost\r\nOrigin: {APP}\r\nContent-Type: application/json\r\n".encode()
LATE = HEAD.replace(f"Origin: {APP}\r\n".encode(), b"")
ORIGIN = f"origin: {APP}\r\n\r\n".encode()
LARGE = b"Authorization: Bearer " + b"x" * (MAX_HEADER_BYTES + 1) + b"\r\n"
REFUSED: dict[str, tuple[list[bytes], int, bool]] = {
    "too large, after the origin": ([HEAD + LARGE + b"\r\n"], 431, True),
    "too large, before the origin": ([LATE + LARGE + ORIGIN], 431, True),
    "too large, and the origin in a later packet": ([LATE + LARGE, b"Accept: */*\r\n", ORIGIN], 431, True),
    "too large, and the origin in two packets": ([LATE + LARGE + ORIGIN[:20], ORIGIN[20:]], 431, True),
    "too many headers before the origin": ([LATE, b"A: b\r\n" * 5000, ORIGIN], 431, True),
    "too large without an origin": ([LATE + LARGE + b"\r\n"], 431, False),
    "too large, never ending": ([LATE + LARGE, b"A: b\r\n"], 431, False),
    "too large, of another origin": ([LATE + LARGE + ORIGIN.replace(b"app.", b"evil.")], 431, False),
    "too large for a gateway's question": ([HEAD.replace(b"/login", b"/verify") + LARGE + b"\r\n"], 431, False),
    "a malformed chunked body": ([HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"], 400, True),
    "two lengths": ([HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx"], 400, True),
    "the same of another origin": (
        [HEAD.replace(b"app.", b"evil.") + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"], 400, False,
    ),
    "a body of 20 KiB": ([HEAD + b"Content-Length: 20480\r\nConnection: close\r\n\r\n" + b" " * 20480], 413, True),
    "a body that never ends": ([HEAD + b"Content-Length: 20\r\n\r\n"], 408, True),
    "headers that never end": ([HEAD], 408, True),
}  # fmt: skip


async def converse(address: tuple[str, int], packets: list[bytes]) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for packet in packets:
            writer.write(packet)
            await writer.drain()
            await asyncio.sleep(0.05)
        async with asyncio.timeout(DEADLINE_SECONDS - 1):
            return await reader.read()
    finally:
        writer.close()


async def test_a_refusal_on_the_wire_is_readable_too(address: tuple[str, int]) -> None:
    """431, 413, 408 and 400 to an allowed origin have the headers, wherever `Origin` is; other origins get none."""
    conversations = (converse(address, packets) for packets, _, _ in REFUSED.values())
    for (what, (_, status, is_allowed)), answer in zip(
        REFUSED.items(), await asyncio.gather(*conversations), strict=True
    ):
        head = answer.partition(b"\r\n\r\n")[0].decode().lower()
        assert f"http/1.1 {status} " in head, (what, head)
        assert is_allowed == (f"access-control-allow-origin: {APP}\r\n" in head), (what, head)
        assert is_allowed == ("access-control-expose-headers: retry-after" in head), what
        assert 1 == answer.count(b"HTTP/1.1"), what


# Origins as operators write them


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://app.example.com", "https://app.example.com"),
        ("https://app.example.com/", "https://app.example.com"),
        ("HTTPS://App.Example.COM", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("https://app.example.com:443/", "https://app.example.com"),
        ("http://app.example.com:80", "http://app.example.com"),
        ("http://app.example.com:443", "http://app.example.com:443"),
        ("https://app.example.com:0443", "https://app.example.com"),
        ("https://app.example.com:8443", "https://app.example.com:8443"),
        ("http://localhost:5173", "http://localhost:5173"),
        ("http://[::1]:5173", "http://[::1]:5173"),
        ("http://[0:0::1]", "http://[::1]"),
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
        ("https://XN--mnchen-3ya.example", "https://xn--mnchen-3ya.example"),
        ("\ufeff\u200bhttps://app.example.com\t", "https://app.example.com"),
        ("capacitor://localhost", "capacitor://localhost"),
        (
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
        ),
    ],
)
def test_an_origin_is_normalised_to_what_browsers_send(text: str, origin: str) -> None:
    """RFC 6454 section 6.2: lower case, no default port, nothing after the port."""
    assert (origin,) == read_settings({"KEYTURN_CORS_ORIGINS": f"{text}, {origin}"}).cors_origins


@pytest.mark.parametrize(
    "text",
    [
        "*", "https://*.example.com", "https://*", "app.example.com", "//app.example.com", "localhost:5173", "null",
        "https:app.example.com", "https://", "https:///", "https://app.example.com/login", "https://app.example.com?a",
        "https://app.example.com#a", "https://app.example.com:", "https://app.example.com:0", "https://app.example:x",
        "https://app.example.com:65536", "https://app..example.com", "https://-app.example", "https://a b",
        "https://[::1", "https://[::g]", "https://::1", "file:///index.html",
        "https://app.example.com\\x", "1https://app.example.com",
    ],
)  # fmt: skip
def test_an_invalid_origin_stops_the_start_by_name(text: str) -> None:
    """One sentence has the setting, the entry and the correct form: such an origin would never match."""
    with pytest.raises(ConfigurationError) as refused:
        read_settings({"KEYTURN_CORS_ORIGINS": f"https://good.example, {text}"})
    sentence = str(refused.value)
    assert sentence.startswith("KEYTURN_CORS_ORIGINS: ")
    assert "https://app.example.com" in sentence
    assert "\n" not in sentence
    assert ("*" in text) == ("wildcards are not supported, name each origin" in sentence)
    assert repr(text.split(maxsplit=1)[0]) in sentence or repr(text.rsplit(maxsplit=1)[-1]) in sentence


@pytest.mark.parametrize(
    "host",
    ["stra\u00dfe.de", "m\u00fcnchen.example", "fa\u00df.example", "\u212aeyturn.example", "\uff41pp.example",
     "a\u3002example", "app.example.com\u2024evil", "x.\u0639\u0631\u0628\u064a", "\u03c2.example"],
)  # fmt: skip
def test_a_host_that_is_not_ascii_is_refused(host: str) -> None:
    """IDNA 2003 would turn U+00DF into ss, and so allow the scripts of another site."""
    with pytest.raises(ConfigurationError) as refused:
        read_settings({"KEYTURN_CORS_ORIGINS": f"https://good.example, https://{host}:8443"})
    assert str(refused.value).startswith("KEYTURN_CORS_ORIGINS: write ")
    assert "xn-- form" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_password_in_an_origin_is_not_repeated() -> None:
    """The sentence only says what is wrong."""
    with pytest.raises(ConfigurationError) as refused:
        read_settings({"KEYTURN_CORS_ORIGINS": "https://user:hunter2-hunter2@app.example.com"})
    assert "no user and no password" in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("text", ["*", "x-tenant id:", "x:y", "\u00e9", "x" * 65, '"x", y'])
def test_an_invalid_header_name_stops_the_start(text: str) -> None:
    """The sentence has the setting's name and an example."""
    with pytest.raises(ConfigurationError, match="KEYTURN_CORS_HEADERS: write names"):
        read_settings({"KEYTURN_CORS_HEADERS": text})


@pytest.mark.parametrize("text", ["all", "none", "Off", "true", "x-tenant-id, any"])
def test_a_word_for_all_or_none_is_no_header(text: str) -> None:
    """Otherwise it would allow one header of that name, and the operator would believe that it allows all."""
    with pytest.raises(ConfigurationError, match=r"KEYTURN_CORS_HEADERS: .* is not the name of a request header"):
        read_settings({"KEYTURN_CORS_HEADERS": text})


def test_origins_are_normalised_wherever_they_come_from(tmp_path: Path) -> None:
    """Origins in a tuple are normalised too; another type is refused."""
    assert (APP,) == Settings(data_dir=tmp_path, cors_origins=("https://APP.example.com/",)).cors_origins
    with pytest.raises(ValidationError):
        Settings(data_dir=tmp_path, cors_origins=(1,))
