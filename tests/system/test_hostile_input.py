"""Input is validated at the edge, and no answer or log line contains what was sent.

Law 13: input is validated at the edge, strictly. Law 15: logs, metrics, traces, errors and outbox rows hold no
secret.

Every text in these tests contains the canary, which no answer and no log line may contain. Every refusal is a problem
with a code of the table, never a 5xx. The operations are those of the OpenAPI document, so new ones are tested too.
"""

import gc
import json
import logging
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from httpx2 import AsyncClient, Response
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.telemetry.log import JsonLines
from service.web.edge import MAX_BODY_BYTES, EdgeMiddleware
from service.web.problems import OAUTH_PATHS, STATUS, WIRE
from tests.harness.clients import Client, Opener
from tests.harness.people import PASSWORD, MovableClock, sign_up

pytestmark = pytest.mark.heavy

CANARY = "c4n4ry"
CODES = {error.code for error in STATUS} | {code for code, _ in WIRE.values()}
LIMITS_OFF = dict.fromkeys(["limit_signup", "limit_login", "limit_login_address", "limit_login_username"])
JSON = {"Content-Type": "application/json"}
LINKS = {"/email/confirm", "/email/cancel", "/password-reset/confirm"}
"""Paths whose `token` is that of a link; elsewhere it is a verification code."""


@dataclass(frozen=True)
class Operation:
    """An operation that takes JSON, and a valid body for it."""

    path: str
    body: dict[str, object]

    def without(self, field: str) -> dict[str, object]:
        return {name: value for name, value in self.body.items() if name != field}

    @property
    def texts(self) -> list[str]:
        return [name for name, value in self.body.items() if isinstance(value, str)]


@pytest.fixture
async def client(embedded: dict[str, Any], open_client: Opener) -> AsyncIterator[AsyncClient]:
    async with open_client({**embedded, **LIMITS_OFF, "recovery_delay": "72h"}) as opened:
        yield opened


@pytest.fixture
def operations(client: Client) -> list[Operation]:
    document = client.app.openapi()
    found = []
    for path, methods in document["paths"].items():
        content = methods.get("post", {}).get("requestBody", {}).get("content", {})
        if "application/json" in content:
            name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
            properties = document["components"]["schemas"][name]["properties"]
            body = {field: example(schema) for field, schema in properties.items()}
            if "otp" in body:
                body.pop("recovery_code", None)
            body.pop("invitation", None)  # its example is of no invitation
            found.append(Operation(path, body))
    assert {"/signup", "/login", "/login-2fa", "/enable-mfa", "/disable-mfa"} <= {one.path for one in found}
    return found


def example(schema: dict[str, Any]) -> object:
    for kind in (schema, *schema.get("anyOf", ())):
        if kind.get("examples"):
            return kind["examples"][0]
    return False if schema.get("type") == "boolean" else "e30.e30.e30"


@pytest.fixture(autouse=True)
def _the_log_has_no_canary(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No line of any logger, at any level, contains the canary, and none reports a defect."""
    caplog.set_level(logging.DEBUG)
    yield
    for record in caplog.get_records("call"):
        if record.name.partition(".")[0] not in {"httpx2", "httpcore2"}:  # the test client's own loggers
            assert CANARY not in (JsonLines().format(record) + str(record.__dict__)).lower(), record.name
            assert record.levelno < logging.WARNING, record.getMessage()


def refusal(answer: Response, what: object = "") -> str:
    """Return the code of a refusal, after checking its form."""
    everything = f"{answer.text}{answer.headers}".lower()
    assert 400 <= answer.status_code < 500, (what, answer.status_code)
    if answer.request.url.path in OAUTH_PATHS:
        assert "application/json" == answer.headers["content-type"], what
        assert CANARY not in everything, what
        assert {"error", "error_description"} == set(answer.json())
        return str(answer.json()["error"])
    assert "application/problem+json" == answer.headers["content-type"], what
    assert "no-store" == answer.headers["cache-control"]
    assert CANARY not in everything, what
    assert "traceback" not in everything
    problem = answer.json()
    assert {"type", "title", "status", "code"} <= set(problem)
    assert set(problem) <= {"type", "title", "status", "code", "detail", "errors", "offset_seconds", "server_time"}
    assert answer.status_code == problem["status"]
    assert f"urn:keyturn:problem:{problem['code']}" == problem["type"]
    assert problem["code"] in CODES
    return str(problem["code"])


async def test_the_bodies_of_these_tests_are_valid(client: AsyncClient, operations: list[Operation]) -> None:
    """So a refusal in the tests below is caused by the change that the test makes."""
    for operation in operations:
        answer = await client.post(operation.path, json=operation.body)
        assert answer.status_code in {200, 201, 202, 204, 401}, operation.path


NO_JSON = {
    "no UTF-8": b'{"username": "c4n4ry\xff"}',
    "an overlong NUL": b'{"username": "c4n4ry\xc0\x80"}',
    "a surrogate in UTF-8": b'{"username": "c4n4ry\xed\xa0\x80"}',
    "UTF-16": '{"username": "c4n4ry"}'.encode("utf-16"),
    "UTF-16 without a mark": '{"username": "c4n4ry"}'.encode("utf-16-be"),
    "UTF-32": '{"username": "c4n4ry"}'.encode("utf-32"),
    "a byte order mark": '{"username": "c4n4ry"}'.encode("utf-8-sig"),
    "truncated": b'{"username": "c4n4ry',
    "text after it": b'{"username": "c4n4ry"} {}',
    "a comment": b'{"username": "c4n4ry"} // or not',
    "single quotes": b"{'username': 'c4n4ry'}",
    "no quotes": b"{username: c4n4ry}",
    "a trailing comma": b'{"username": "c4n4ry",}',
    "NaN": b'{"username": "c4n4ry", "otp": NaN}',
    "Infinity": b'{"username": "c4n4ry", "otp": -Infinity}',
    "nested NaN": b'{"username": "c4n4ry", "otp": [[{"a": NaN}]]}',
    "a name twice": b'{"username": "c4n4ry", "username": "c4n4ry"}',
    "a name twice, spelt in two ways": b'{"username": "c4n4ry", "us\\u0065rname": "other"}',
    "a nested name twice": b'{"username": [{"c4n4ry": 1, "c4n4ry": 2}]}',
    "a lone surrogate": b'{"username": "c4n4ry\\ud800"}',
    "a lone low surrogate": b'{"username": "\\udc00c4n4ry"}',
    "a lone surrogate in a name": b'{"username\\ud800": "c4n4ry"}',
    "a lone surrogate in an array": b'{"username": ["c4n4ry", ["\\ud800"]]}',
    "a nested lone surrogate": b'{"username": {"a": [{"\\udfff": "c4n4ry"}]}}',
    "control characters": b'{"username": "c4n4ry\x00\x1f\n"}',
    "NUL": b"\x00" * 100,
    "a number of 5,000 digits": b'{"username": ' + b"9" * 5000 + b"}",
    "arrays in arrays": b'{"username": ' + b"[" * 8000 + b"]" * 8000 + b"}",
    "objects in objects": b'{"username": ' + b'{"c4n4ry":' * 1400 + b"1" + b"}" * 1400 + b"}",
    "unclosed arrays": b"[" * 16000,
    "null": b"null",
    "a string": b'"c4n4ry"',
    "a number": b"1",
    "true": b"true",
    "an array": b'[{"username": "c4n4ry"}]',
}


async def test_a_body_is_one_json_object_in_utf_8(client: AsyncClient, operations: list[Operation]) -> None:
    """Any other body is malformed, and the answer does not say where."""
    for operation in operations:
        for what, body in NO_JSON.items():
            answer = await client.post(operation.path, content=body, headers=JSON)
            assert (400, "malformed_request") == (answer.status_code, refusal(answer, what)), (operation.path, what)


async def test_a_body_is_required(client: AsyncClient, operations: list[Operation]) -> None:
    """A missing body or an empty object lacks the required fields."""
    for operation in operations:
        for body in (b"", b"{}", b" { } "):
            answer = await client.post(operation.path, content=body, headers=JSON)
            assert (422, "invalid_request") == (answer.status_code, refusal(answer, body)), operation.path


WRONG_TYPES: list[Any] = [0, 1, -1, 0.5, 10**400, True, [], [CANARY], {}, {CANARY: CANARY}, [[[{"a": [CANARY]}]]]]


async def test_types_are_strict(client: AsyncClient, operations: list[Operation]) -> None:
    """A number is no text, `"true"` and 1 are no booleans; the answer names the field and not the value."""
    for operation in operations:
        for field, right in operation.body.items():
            wrong = [value for value in WRONG_TYPES if type(value) is not type(right)]
            bodies = [json.dumps({**operation.body, field: value}) for value in wrong]
            bodies.append(json.dumps({**operation.body, field: "\0"}).replace('"\\u0000"', "1e999"))
            if isinstance(right, bool):
                bodies += [json.dumps({**operation.body, field: value}) for value in ("true", "", None, CANARY)]
            for body in bodies:
                answer = await client.post(operation.path, content=body, headers=JSON)
                assert (422, "invalid_request") == (answer.status_code, refusal(answer, body)), (operation.path, body)
                assert [field] == [error["field"] for error in answer.json()["errors"]]


PLAUSIBLE = [
    "remember_me", "rememberMe", "usrname", "passwd", "email", "totp", "mfa", "enable_2fa", "enable2fa",
    "phone_number", "captchaToken", "client", "is_admin", "_csrf", "authentication", "x",
    "two_factor_authentication_code",
]  # fmt: skip
SECRETS_BY_MISTAKE = [
    "492039", "JBSWY3DPEHPK3PXP", "jbswy3dpehpk3pxp", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", "ABCDEFGHIJKLMNOP",
    "abcdefghijklmnop", "ABCD-EFGH-IJKL-MNOP", "eyJhbGciOiJFUzI1NiJ9", "kts_Jx3QmNvTz0pLrW8yBcDfGhKs",
    "ktr_QmNvTzpLrWyBcDfGhKsAbCd", "whsec_C2FVsBQIhrscChlQIMV", "correcthorsebatterystaple", "hunter2", "Secret",
    "P4ssw0rd", "passwordOFalice", "c8fed00eb2e87f1cee8e90ebbe870c190ac3848c", "pZ9yKq2mX0d4Wc1bR7tLhA",
    "$2b$12$abcdefghijklmnopqrstuv", "-----BEGIN", "a" * 15, "a_" * 19 + "a", "a" * 41, "é", "user name", "user-name",
]  # fmt: skip
"""What a client may send by mistake as a field name: a code, an authenticator's secret, a recovery code, tokens, a
client's secret, a password, a hash; and text that is no identifier."""


async def test_an_unknown_field_is_named_if_it_looks_like_a_field(
    client: AsyncClient, operations: list[Operation]
) -> None:
    """A spelling mistake is then found at once."""
    for operation in operations:
        for name in PLAUSIBLE:
            if name not in operation.body:
                answer = await client.post(operation.path, json={**operation.body, name: CANARY})
                assert (422, "invalid_request") == (answer.status_code, refusal(answer)), (operation.path, name)
                errors = answer.json()["errors"]
                assert [{"field": name, "message": "This field is unknown."}] == errors


async def test_an_unknown_field_that_could_be_a_secret_is_not_named(
    client: AsyncClient, operations: list[Operation]
) -> None:
    """Some clients send a secret in the place of a name; no answer repeats one (law 13)."""
    for name in SECRETS_BY_MISTAKE:
        answer = await client.post(operations[0].path, json={**operations[0].body, name: CANARY})
        assert "invalid_request" == refusal(answer, name), name
        assert [{"field": "", "message": "A field is unknown."}] == answer.json()["errors"], name


async def test_unknown_fields_are_refused(client: AsyncClient, operations: list[Operation]) -> None:
    """The answer reports a misspelt field, and does not repeat the name where it could be anything."""
    for operation in operations:
        for name in (CANARY, "", "__class__", "Username", "password ", "\u0000", "a" * 10_000, "\ufeffotp"):
            answer = await client.post(operation.path, json={**operation.body, name: CANARY})
            assert (422, "invalid_request") == (answer.status_code, refusal(answer, name)), (operation.path, name)
            assert [""] == [error["field"] for error in answer.json()["errors"]]
        many = {f"{CANARY}{number}": CANARY for number in range(500)}
        answer = await client.post(operation.path, json={**operation.body, **many})
        assert "invalid_request" == refusal(answer)
        assert len(answer.content) < 4096


NO_USERNAME = [
    "", "ab", " ab ", "a" * 65, f"{CANARY} x", f"x {CANARY}", f"{CANARY}\nx", f"{CANARY}\0", f"{CANARY}/..",
    f"{CANARY}é", f"{CANARY}\u0130", f"{CANARY}\uff21", f"{CANARY}\u212a", f"{CANARY}\u200bx", f"{CANARY}\u202ex",
    f"{CANARY}\u3164", f"{CANARY}\0 ", " " * 16_000, "\ufeff" * 5_000, f"{CANARY}'--",
    f"{CANARY}%00", f"{CANARY}\U0001f511", f"{CANARY}\\", f'{CANARY}"', f"<{CANARY}>", f"{CANARY}{{}}",
]  # fmt: skip
NO_PASSWORD = ["", f"{CANARY}\0", f"{CANARY}\n", f"{CANARY}\x1b[2J", f"{CANARY}\x7f", f"{CANARY}\x85", CANARY * 200]
NO_PASSWORD += [CANARY + "\ufdfa" * 60]  # 18 characters each after NFKC
NO_CODE = [
    "", "12345", "1234567", " 12345", "12345\n", "12345\0", "123456\0", "+12345", "-12345", "1e5000", "0x1234",
    "12 345", "123,456", "123/456", "12345O", " " * 16_000, "-" * 5_000, "123\u3164456", "123\u20e3456",
    " \uff11\uff12\uff13 \uff14\uff15\uff16", "12345\uff16 ",
    "\uff11\uff12\uff13\uff14\uff15\uff16", "\u2460\u2461\u2462\u2463\u2464\u2465",
    "\u00b9\u00b2\u00b3\u2074\u2075\u2076",
    "\u0661\u0662\u0663\u0664\u0665\u0666", "\U0001d7cf\U0001d7d0\U0001d7d1\U0001d7d2\U0001d7d3\U0001d7d4",
    "12345\u00b9", "12345\u0301", "\u2155" * 6, CANARY, "a" * 6, CANARY * 1000,
]  # fmt: skip
NO_FORM = {"username": NO_USERNAME, "password": NO_PASSWORD, "otp": NO_CODE, "token": NO_CODE}


async def test_texts_must_match_the_form_of_their_field(client: AsyncClient, operations: list[Operation]) -> None:
    """NUL, control characters, look-alike digits, and too short or too long texts are refused."""
    for operation in operations:
        for field in operation.texts:
            is_link = field == "token" and operation.path in LINKS  # any text may be the token of a link
            for text in () if is_link else NO_FORM.get(field, ()):
                answer = await client.post(operation.path, json={**operation.body, field: text})
                assert (422, "invalid_request") == (answer.status_code, refusal(answer, text)), (operation.path, text)
                assert [field] == [error["field"] for error in answer.json()["errors"]]


async def test_the_correct_code_in_other_digits_is_refused(client: AsyncClient, clock: MovableClock) -> None:
    """Full-width, circled and superscript forms of the current code are refused, and are not charged."""
    alice = await sign_up(client, clock)
    pending = alice.mfa_token
    looks = ["\uff10", "\U0001d7ce", "\u0660", "\u0966"]
    for zero in looks:
        otp = "".join(chr(ord(zero) + int(digit)) for digit in alice.code())
        answer = await alice.give_code(otp, pending)
        assert (422, "invalid_request") == (answer.status_code, refusal(answer, otp))
    otp = alice.code().translate(dict(zip(map(ord, "0123456789"), "⓪①②③④⑤⑥⑦⑧⑨", strict=True)))
    assert "invalid_request" == refusal(await alice.give_code(otp, pending))
    otp = alice.code().translate(dict(zip(map(ord, "0123456789"), "⁰¹²³⁴⁵⁶⁷⁸⁹", strict=True)))
    assert "invalid_request" == refusal(await alice.give_code(otp, pending))
    assert 200 == (await alice.give_code(mfa_token=pending)).status_code


OTHER_TYPES = [
    "", "text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=c4n4ry",
    "application/jsonp", "application/c4n4ry+json", "application/problem+json", "application", "application/json,x/y",
    "application/*", "*/*", "json", ";", "c4n4ry", "application/xml; charset=utf-8", "application /json",
]  # fmt: skip


async def test_only_the_json_media_type_is_accepted(client: AsyncClient, operations: list[Operation]) -> None:
    """Another or no media type is refused whatever the body is, because a form of another site cannot send JSON."""
    for operation in operations:
        for kind in [*OTHER_TYPES, None]:
            headers = {} if kind is None else {"Content-Type": kind}
            answer = await client.post(operation.path, content=json.dumps(operation.body).encode(), headers=headers)
            assert (415, "unsupported_media_type") == (answer.status_code, refusal(answer, kind)), kind
        for kind in ("application/json; charset=utf-8", "Application/JSON", "application/json;charset=c4n4ry"):
            answer = await client.post(operation.path, content=b"{}", headers={"Content-Type": kind})
            assert "invalid_request" == refusal(answer, kind)


async def test_a_body_has_at_most_16_kib(client: AsyncClient, operations: list[Operation]) -> None:
    """The declared length is checked before reading, and chunks while reading: 10 MB are never read."""
    taken = 0

    async def ten_megabytes() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield b"c4n4ry    " * 1000

    for operation in operations:
        declared = [
            b" " * (MAX_BODY_BYTES + 1),
            CANARY.encode() * 1_700_000,
            b'{"username": "' + b"a" * 10_000_000 + b'"}',
        ]
        bodies: list[bytes | AsyncIterator[bytes]] = [*declared, ten_megabytes()]
        for body in bodies:
            answer = await client.post(operation.path, content=body, headers=JSON)
            assert (413, "content_too_large") == (answer.status_code, refusal(answer))
        just_enough = json.dumps(operation.without("password") | {CANARY: ""}).encode().ljust(MAX_BODY_BYTES)
        assert "invalid_request" == refusal(await client.post(operation.path, content=just_enough, headers=JSON))
        for length in ("9" * 5000, "-1", "²", CANARY):
            headers = [(b"content-type", b"application/json"), (b"content-length", length.encode())]
            answer = await client.post(operation.path, content=b"{}", headers=headers)
            assert refusal(answer, length) in {"content_too_large", "invalid_request"}
    assert taken == 2 * len(operations)


NO_BEARER: list[list[bytes]] = [
    [],
    [b""],
    [b"Bearer"],
    [b"Bearer "],
    [b"Bearer c4n4ry"],
    [b"Bearer c4n4ry.c4n4ry.c4n4ry"],
    [b"Bearer ..."],
    [b"Bearer .."],
    [b"Bearer e30.e30.e30"],
    [b"Bearer e30.e30."],
    [b"Bearer bnVsbA.bnVsbA.bnVsbA"],
    [b"Bearer W10.W10.W10"],
    [b"Bearer eyJhbGciOiJub25lIn0.e30."],
    [b"Bearer eyJhbGciOiJub25lIiwia2lkIjp7fX0.e30."],
    [b"Bearer \xff\xfe.e30.e30"],
    [b"Bearer \xed\xa0\x80.e30.e30"],
    [b"Bearer c4n4ry\xe2\x82\xac"],
    [b"Bearer e30.e30.e30 c4n4ry"],
    [b"Bearer\te30.e30.e30"],
    [b"Bearer,e30.e30.e30"],
    [b"Basic YzRuNHJ5OmM0bjRyeQ=="],
    [b"Digest username=c4n4ry"],
    [b"c4n4ry"],
    [b"Bearer " + b"c4n4ry" * 1000],
    [b"Bearer " + b"e30." * 4000],
    [b"Bearer " + b"a" * 15_000],
]


async def test_a_bearer_token_is_ascii_short_and_single(client: AsyncClient, clock: MovableClock) -> None:
    """Any other content or number of Authorization headers gets the same 401 with a challenge."""
    alice = await sign_up(client, clock)
    good = f"Bearer {alice.mfa_token}".encode()
    repeated = [[good, good], [good, b"Bearer c4n4ry"], [b"Basic c4n4ry", good], [good + b", " + good]]
    for headers in NO_BEARER + repeated:
        given = [(b"Authorization", value) for value in headers]
        for answer in (
            await client.get("/qrcode/alice", headers=given),
            await client.post("/enable-mfa", json={"password": PASSWORD}, headers=given),
            await client.post("/login-2fa", json={"otp": "123456"}, headers=given),
        ):
            assert (401, "invalid_token") == (answer.status_code, refusal(answer, headers))
            error = ', error="invalid_token"' if headers else ""  # a request without credentials made no error
            assert f'Bearer realm="keyturn"{error}' == answer.headers["www-authenticate"]
    assert 200 == (await client.get("/qrcode/alice", headers=[(b"authorization", good)])).status_code


async def test_a_pending_token_in_the_body_is_checked_alike(client: AsyncClient) -> None:
    """A token that is not ASCII, malformed or too long is refused, and the code with it is not compared."""
    texts = [header[0].partition(b" ")[2].decode("latin-1") for header in NO_BEARER if header]
    for text in [*texts, f"{CANARY}\0", "\u202e", "\U0001f511" * 100, " ", "e30.e30.e30\n"]:
        answer = await client.post("/login-2fa", json={"mfa_token": text, "otp": "123456"})
        assert refusal(answer, text) in {"invalid_token", "invalid_request"}


async def test_odd_accept_headers(client: AsyncClient, clock: MovableClock) -> None:
    """Every Accept header gets the QR code in one of its three formats, or 406."""
    alice = await sign_up(client, clock)
    bearer = (b"authorization", f"Bearer {alice.mfa_token}".encode())
    served = ["*/*", "image/*", "image/svg+xml", "application/json;q=0.1", "text/html, */*;q=0.1", "IMAGE/PNG"]
    served += ["image/png;q=1e999", "image/png;c4n4ry=1", ",,,image/png"]
    refused = [CANARY, "text/html", "*/*;q=0", "image/png;q=nan", "image/png;q=c4n4ry", "image/png;q=", "," * 10_000]
    refused += [";", "/", "image", "\xff/\xfe", "image/png;q=-1", "text/c4n4ry," * 1000 + "image/png"]
    for accept in served:
        answer = await client.get("/qrcode/alice", headers=[bearer, (b"accept", accept.encode())])
        assert 200 == answer.status_code, accept
    for accept in refused:
        answer = await client.get("/qrcode/alice", headers=[bearer, (b"accept", accept.encode("latin-1"))])
        assert (406, "not_acceptable") == (answer.status_code, refusal(answer, accept)), accept


async def test_invalid_paths(client: AsyncClient, clock: MovableClock) -> None:
    """Unknown paths are not found; other users' QR codes are not found either, in any spelling of the name."""
    alice = await sign_up(client, clock)
    bearer = {"Authorization": f"Bearer {alice.mfa_token}"}
    junk = [
        "/c4n4ry", "//login", "/login/", "/LOGIN", "/login%00", "/login%0a", "/%6cogin%2f", "/%ff", "/%", "/%zz",
        "/..%2f..%2fetc%2fpasswd", "/%ed%a0%80", "/login;c4n4ry=1", "/qrcode", "/qrcode/", "/qrcode/alice/c4n4ry",
        "/qrcode/%00", "/qrcode/alice%00", "/qrcode/al%20ice", "/qrcode/%ed%a0%80", "/qrcode/%ff", "/qrcode/a%2fb",
        "/qrcode/%F0%9F%94%91", "/qrcode/al%C4%B1ce", "/qrcode/" + "c4n4ry" * 1000, "/qrcode/..%2flivez", "/" * 8000,
    ]  # fmt: skip
    for path in junk:
        for query in ("", "?", "?c4n4ry=%00%ff&=&&c4n4ry"):
            url = httpx2.URL("http://localhost:8000", raw_path=(path + query).encode())
            answer = await client.get(url, headers=bearer)
            assert answer.status_code in {404, 405}, path
            refusal(answer, path)


async def test_unknown_methods(client: Client) -> None:
    """405 with the allowed methods, on every path of the document except /verify, which accepts any method."""
    document = client.app.openapi()
    tried = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "BREW", "C4N4RY")
    del document["paths"]["/verify"]
    for path, methods in document["paths"].items():
        for method in tried:
            known = {*methods, "head"} if "get" in methods else methods
            if method.lower() not in known:
                answer = await client.request(method, re.sub("{.*}", CANARY, path), content=CANARY)
                assert 405 == answer.status_code, (method, path)
                code = "invalid_request" if path in OAUTH_PATHS else "method_not_allowed"
                assert method == "HEAD" or code == refusal(answer, path)
                assert {name.upper() for name in methods} == set(answer.headers["allow"].split(", "))


async def test_head_is_allowed_where_get_is(client: AsyncClient) -> None:
    """Some probes use HEAD (RFC 9110 section 9.1)."""
    for path in ("/livez", "/readyz", "/.well-known/jwks.json"):
        assert 200 == (await client.head(path)).status_code


COOKIE, DEVICE_COOKIE = "__Host-keyturn-refresh", "__Host-keyturn-device"
COOKIE_MODE: list[list[tuple[str, str]]] = [
    [("Keyturn-Session", CANARY)],
    [("Keyturn-Session", "cookie"), ("Keyturn-Session", CANARY)],
    [("Keyturn-Session", "cookie"), ("Origin", f"https://{CANARY}.example.com")],
    *(
        [("Keyturn-Session", "cookie"), ("Origin", "http://localhost:8000"), *(("Cookie", line) for line in lines)]
        for lines in (
            [f"{COOKIE}={CANARY}"], [f"{COOKIE}={CANARY}; {COOKIE}={CANARY}"], [f"{COOKIE}={CANARY}"] * 2,
            [f'{COOKIE}="{CANARY}; {COOKIE}={CANARY}"'], [f"{COOKIE}=ktr_{CANARY}" + "A" * 12_000],
            [f"{COOKIE}={CANARY}\xff\xfe"], [f"{COOKIE}=%00{CANARY}%0d%0aSet-Cookie: x=1"],
            [f"{COOKIE}={CANARY}\t;;;=;"], [f"{COOKIE}" + f"={CANARY}" * 900], [f"{COOKIE}=\u00a0{CANARY}"],
            [f"{CANARY}={COOKIE}; =" + "; a=b" * 3000],
            [f"{DEVICE_COOKIE}={CANARY}"], [f"{DEVICE_COOKIE}={CANARY}; {DEVICE_COOKIE}={CANARY}"],
            [f"{DEVICE_COOKIE}=ktd_{CANARY}" + "A" * 12_000], [f"{DEVICE_COOKIE}=ktd_{CANARY}\xff\xfe"],
            [f"{COOKIE}={CANARY}; {DEVICE_COOKIE}=%0d%0a{CANARY}"],
        )
    ),
]  # fmt: skip


async def test_cookies_are_not_repeated(client: AsyncClient, operations: list[Operation]) -> None:
    """The header, the origin and the cookie of a cookie session are hostile too, at every operation."""
    for headers in COOKIE_MODE:
        lines = [(name.encode(), value.encode("latin-1")) for name, value in headers]
        token = await client.post("/token", data={"grant_type": "refresh_token"}, headers=lines)
        assert refusal(token, headers) in {"invalid_request", "invalid_grant"}
        assert not any(value for value in token.headers.get_list("set-cookie") if CANARY in value)
        for operation in operations:
            answer = await client.post(operation.path, json=operation.body, headers=lines)
            if not answer.is_success:
                refusal(answer, headers)


async def test_no_value_is_repeated(client: AsyncClient, clock: MovableClock, operations: list[Operation]) -> None:
    """A canary in every field and header, valid or invalid, is in no refusal and in no line of the log."""
    headers = dict.fromkeys(("User-Agent", "Cookie", "Referer", "Origin", "Accept", "X-Forwarded-For"), CANARY)
    headers |= {"Authorization": f"Bearer {CANARY}", "X-Request-Id": f"{CANARY} is not harmless", "Forwarded": CANARY}
    texts = [CANARY, f"{CANARY}-{'x' * 10}", f"{CANARY} and a password", CANARY.upper() + "\0", CANARY * 500]
    await sign_up(client, clock, "alice")
    for operation in operations:
        for text in texts:
            for field in operation.body:
                answer = await client.post(
                    operation.path, params={CANARY: text}, json={**operation.body, field: text}, headers=headers
                )
                if answer.status_code not in {200, 201, 202}:  # the answer to a sign-up has the username
                    refusal(answer, (field, text))
            answer = await client.post(operation.path, json=dict.fromkeys(operation.body, text), headers=headers)
            if operation.path not in {"/recovery", "/password-reset"}:  # they have the same answer for all users
                refusal(answer, text)
    weak = await client.post("/signup", json={"username": CANARY + "two", "password": CANARY + "two"})
    assert "weak_password" == refusal(weak)
    taken = await client.post("/signup", json={"username": CANARY, "password": f"{CANARY}-password"})
    assert "username_taken" == refusal(taken)
    answer = await client.post("/login", json={"username": CANARY, "password": f"{CANARY} and not the password"})
    assert "invalid_credentials" == refusal(answer)


async def test_codes_and_recovery_codes_are_not_repeated(client: AsyncClient, clock: MovableClock) -> None:
    """With a valid pending token, the log records a well-formed wrong code as an event, without its value."""
    alice = await sign_up(client, clock)
    await alice.confirm()
    clock.next_step()
    pending = await alice.pending()
    wrong = {"mfa_token": pending, "recovery_code": "C4N4-RYC4-N4RY-C4N4"}
    assert "invalid_code" == refusal(await client.post("/login-2fa", json=wrong))
    assert "invalid_code" == refusal(await alice.give_code(alice.wrong_code(), pending))


texts = st.text(st.characters(blacklist_categories=()), max_size=40).map(lambda text: CANARY + text)  # surrogates too
names = st.sampled_from(["username", "password", "otp", "token", "mfa_token", "enable_mfa", "recovery_code"]) | texts
numbers = st.integers() | st.floats() | st.sampled_from([10**300, 1e308, -0.0])
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=20,
)
anything = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@anything
@given(body=values, ascii_only=st.booleans())
async def test_any_json(client: AsyncClient, operations: list[Operation], body: object, ascii_only: bool) -> None:
    """Any JSON, and any invalid JSON, is refused with a code."""
    raw = json.dumps(body, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    for operation in operations:
        answer = await client.post(operation.path, content=raw, headers=JSON)
        assert refusal(answer, raw) in {"malformed_request", "invalid_request"}


@anything
@given(data=st.data())
async def test_any_value_in_any_field(client: AsyncClient, operations: list[Operation], data: st.DataObject) -> None:
    """A valid body with one or two changed fields is refused or accepted, and never causes a failure."""
    for operation in operations:
        changed = data.draw(st.dictionaries(st.sampled_from(sorted(operation.body)), values, min_size=1, max_size=2))
        answer = await client.post(operation.path, content=json.dumps({**operation.body, **changed}), headers=JSON)
        if answer.status_code not in {200, 201, 202}:
            refusal(answer, changed)


@anything
@given(raw=st.binary(max_size=200), kind=st.sampled_from(["application/json", "text/plain"]) | st.text(max_size=20))
async def test_any_bytes(client: AsyncClient, operations: list[Operation], raw: bytes, kind: str) -> None:
    """Any bytes under any media type are refused with a code."""
    for operation in operations:
        headers = [(b"content-type", kind.encode("utf-8", "replace"))]
        answer = await client.post(operation.path, content=raw, headers=headers)
        assert refusal(answer) in {"malformed_request", "invalid_request", "unsupported_media_type"}


@anything
@given(token=st.text(st.characters(max_codepoint=255), max_size=60), path=st.binary(max_size=60))
async def test_any_token_and_any_path(client: AsyncClient, token: str, path: bytes) -> None:
    """Any octets as a token and any octets as a path are refused with a code."""
    bearer = [(b"authorization", b"Bearer " + token.encode("latin-1"))]
    assert "invalid_token" == refusal(await client.get("/qrcode/alice", headers=bearer))
    raw_path = b"/qrcode/" + b"".join(b"%%%02x" % byte for byte in path)
    answer = await client.get(httpx2.URL("http://localhost:8000", raw_path=raw_path), headers=bearer)
    assert refusal(answer) in {"invalid_token", "not_found"}


async def test_a_disconnect_leaves_no_reference_cycle(client: Client) -> None:
    """The garbage collector of a service runs rarely: cycles that many disconnects leave stay in memory long."""

    async def leave() -> None:
        heard = iter([{"type": "http.request", "body": b'{"user', "more_body": True}])

        async def receive() -> dict[str, object]:
            return next(heard, {"type": "http.disconnect"})

        async def send(_message: object) -> None:
            """Discard the message: the client has disconnected."""

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        where = {"method": "POST", "path": "/login", "raw_path": b"/login", "query_string": b"", "headers": headers}
        await client.app({"type": "http", "client": ("192.0.2.1", 1), **where}, receive, send)

    await leave()
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await leave()
        assert gc.collect() < 20
    finally:
        gc.enable()


async def test_a_defect_is_answered_without_details(caplog: pytest.LogCaptureFixture) -> None:
    """The 500 has the id under which the log has the place of the defect, without the value that caused it."""

    async def defect(_scope: object, _receive: object, _send: object) -> None:
        int("hunter2")

    transport = httpx2.ASGITransport(EdgeMiddleware(defect, paths=[]))
    async with AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
        answer = await client.get("/", headers={"X-Request-Id": "request-12345678"})
    assert (500, "internal_error") == (answer.status_code, answer.json()["code"])
    assert "request-12345678" == answer.headers["x-request-id"]
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "internal_error" == record.getMessage()
    assert "test_hostile_input.py" in JsonLines().format(record)
    assert "hunter2" not in JsonLines().format(record) + answer.text
    caplog.clear()
