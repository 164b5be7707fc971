"""Malformed and oversized input: refused, never with a failure, and no answer repeats what was sent."""

import asyncio
import json
from collections.abc import Iterable

from service.attack.campaign import Attack, Context
from service.attack.lines import connected, head
from service.attack.report import Broken
from service.attack.target import Answer, Target

CANARY = "c4n4ry"
READ_TIMEOUT_SECONDS = 3.0
"""Seconds to wait for the answer to raw bytes. A service that waits for more bytes sends none."""

_FORMS = ("/token", "/revoke", "/introspect")
_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"

_NO_JSON: dict[str, bytes] = {
    "nothing": b"",
    "not UTF-8": b'{"username": "c4n4ry\xff"}',
    "a surrogate in UTF-8": b'{"username": "c4n4ry\xed\xa0\x80"}',
    "UTF-16": '{"username": "c4n4ry"}'.encode("utf-16"),
    "a byte order mark": '{"username": "c4n4ry"}'.encode("utf-8-sig"),
    "half a document": b'{"username": "c4n4ry',
    "text after the document": b'{"username": "c4n4ry"} {}',
    "NUL": bytes(100),
    "NaN": b'{"username": "c4n4ry", "otp": NaN}',
    "a duplicate name": b'{"username": "c4n4ry", "username": "c4n4ry"}',
    "half a character": b'{"username": "c4n4ry\\ud800", "password": "\\udfff", "otp": "\\ud800"}',
    "half a character in a name": b'{"username\\ud800": "c4n4ry"}',
    "control characters": b'{"username": "c4n4ry\x00\x1f"}',
    "5,000 digits": b'{"username": ' + b"9" * 5000 + b"}",
    "a huge exponent": b'{"otp": 1e999999999}',
    "deep arrays": b'{"username": ' + b"[" * 7000 + b"]" * 7000 + b"}",
    "open arrays": b"[" * 15_000,
    "deep objects": b'{"c4n4ry":' * 1400 + b"1" + b"}" * 1400,
    "many members": b"{%s}" % b",".join(b'"%d":0' % number for number in range(1500)),
    "null": b"null",
    "a string": b'"c4n4ry"',
    "a number": b"1",
    "an array": b'[{"username": "c4n4ry"}]',
}
_VALUES: tuple[object, ...] = (
    None, True, 0, -1, 10**400, 0.5, [], [CANARY], {}, {CANARY: CANARY}, "", "\0", f"{CANARY}\0",
    f"{CANARY}\u202e{CANARY}", f"{CANARY}' OR '1'='1", f"{CANARY}\\", f"${{jndi:ldap://{CANARY}}}",
    f"{{{{7*7}}}}{CANARY}", "%s%n", f"../../{CANARY}", "\uff11\uff12\uff13\uff14\uff15\uff16",
    f"{CANARY}\U0001f511", f"{CANARY}\r\nX-Evil: 1", CANARY * 600, "\ufdfa" * 700,
)  # fmt: skip
_MALFORMED_FORMS = (
    b"", b"=", b"&&&", b"%", b"%zz=%zz", b"token=%ff&grant_type=%00", b"token=a&token=b", b"\xff" * 99,
    b"grant_type=refresh_token&refresh_token=" + b"a" * 9000, b"a=b&" * 3000, b'{"token":"c4n4ry"}',
)  # fmt: skip
_KINDS = ("", "text/plain", _FORM, "multipart/form-data; boundary=x", "application/xml", "*/*", "application/jsonp",
          "application/json, text/html")  # fmt: skip
_PATHS = (
    "/%00", "/login%00", "/..%2f..%2fetc%2fpasswd", "/%2e%2e/%2e%2e/etc/passwd", "/%ff%fe", "/%ed%a0%80", "/%",
    "/%zz", "//", "//login", "/login/", "/login;a=b", "/qrcode/%00", "/qrcode/%ed%a0%80", "/qrcode/" + "a" * 4000,
    "/verify/%00", "/sessions/%00", "/sessions/" + "%f0%9f%94%91" * 50, "/factors/%ff", "/.env", "/.git/config",
    "/%c0%ae%c0%ae/", "/login?" + "a=b&" * 2000, "/verify?acr=%00", "/verify?max_age=1e9", "/verify?acr[]=aal1",
    "/logout?everywhere=%ff",
)  # fmt: skip


def _bodies(context: Context) -> dict[str, dict[str, object]]:
    """Return the user routes that accept a POST of JSON, each with a well-formed body for a username of this run.

    `/password-reset` is left out: it accepts every valid name.
    """
    name: dict[str, object] = {"username": context.people.name, "password": CANARY}
    return {
        "/signup": {**name, "enable_mfa": False},
        "/login": name,
        "/login-2fa": {"mfa_token": "e30.e30.e30", "otp": "123456"},
        "/disable-mfa": {**name, "token": "123456"},
        "/recovery": name,
        "/password": {"current_password": CANARY, "new_password": CANARY},
        "/enable-mfa": {"password": CANARY},
        "/password-reset/confirm": {"token": "ktl_AAAA", "new_password": CANARY},
        "/email": {"email": f"{CANARY}@attack.invalid", "password": CANARY},
        "/email/confirm": {"token": "ktl_AAAA"},
        "/email/cancel": {"token": "ktl_AAAA"},
        "/me/restore": name,
    }


async def json_bodies(context: Context) -> str:
    """Send bodies that are no JSON object in UTF-8, and objects that must be refused, to each route of `_bodies`."""
    tried = ((path, what, body) for path in _bodies(context) for what, body in _NO_JSON.items())
    return await _try_all(context.target, tried)


async def fields(context: Context) -> str:
    """Send each field with a value of another type or form, and an unknown field."""

    def bodies() -> Iterable[tuple[str, str, bytes]]:
        for path, right in _bodies(context).items():
            for name in right:
                for value in _VALUES:
                    if path == "/signup" and name != "username" and type(value) is type(right[name]):
                        continue  # this would create an account
                    if name.endswith("password") and isinstance(value, str) and not _is_malformed(value):
                        continue  # this would be a guess
                    yield path, f"{name} of another form", json.dumps({**right, name: value}).encode()
            for unknown in (CANARY, "", "__proto__", "__class__", "Username", "a" * 9000):
                yield path, "an unknown member", json.dumps({**right, unknown: CANARY}).encode()

    return await _try_all(context.target, bodies())


def _is_malformed(password: str) -> bool:
    return not password or len(password) > 500 or any(ord(character) < 32 for character in password)


async def kinds(context: Context) -> str:
    """Other media types must be refused: a page of another origin can send a form or text, but not JSON."""
    target, count = context.target, 0
    for path, right in _bodies(context).items():
        content = json.dumps({name: value for name, value in right.items() if name != "password"}).encode()
        for kind in _KINDS:
            answer = await target.send("POST", path, content=content, headers=_content_type(kind))
            _check(answer, f"{path} as {kind or 'no media type'}")
            if answer.status in {401, 409, 422}:
                raise Broken(f"{path} reads a body of {kind or 'no media type'} ({answer})")
            count += 1
    for path in _FORMS:
        for content in _MALFORMED_FORMS:
            for kind in (_FORM, _JSON):
                answer = await target.send("POST", path, content=content, headers=_content_type(kind))
                if not (path == "/revoke" and answer.is_yes):  # its answer to any token (RFC 7009 section 2.2)
                    _check(answer, f"{path} with a malformed form")
                count += 1
    return f"{count} refused"


def _content_type(kind: str) -> list[tuple[str, str]]:
    return [("Content-Type", kind)] if kind else []


async def sizes(context: Context) -> str:
    """Many more bytes than any request needs must be refused."""
    target, count = context.target, 0
    large = [b'{"username": "' + b"a" * size + b'"}' for size in (20_000, 1_000_000, 5_000_000)]
    for path in (*_bodies(context), *_FORMS):
        kind = _FORM if path in _FORMS else _JSON
        for content in large if path == "/login" else large[:1]:
            answer = await target.send("POST", path, content=content, headers=_content_type(kind))
            _check(answer, f"{len(content):,} bytes at {path}")
            count += 1
    wire = {
        "a header of 100 kB": head(target, "GET", "/me", "X-Big: " + "a" * 100_000),
        "1,500 headers": head(target, "GET", "/me", *(f"X-{n}: {'a' * 60}" for n in range(1500))),
        "a path of 100 kB": head(target, "GET", "/" + "a" * 100_000),
        "a token of 60 kB": head(target, "GET", "/me", "Authorization: Bearer " + "a" * 60_000),
    }
    for what, data in wire.items():
        await _require_refusal(target, what, data)
    return f"{count + len(wire)} refused"


async def paths(context: Context) -> str:
    target = context.target
    for path in _PATHS:
        for method in ("GET", "POST"):
            data = head(target, method, path, "Content-Length: 0", "Connection: close")
            await _require_refusal(target, f"{method} {path[:24]}", data)
    for method in ("PUT", "PATCH", "TRACE", "CONNECT", "BREW", "get"):
        data = head(target, method, "/login", "Content-Length: 0", "Connection: close")
        await _require_refusal(target, f"{method} /login", data)
    return f"{2 * len(_PATHS) + 6} refused"


async def ambiguous(context: Context) -> str:
    """A stream that two parsers would split into requests differently must not get two answers."""
    target = context.target
    inner = f"GET {target.path}/.well-known/jwks.json HTTP/1.1\r\nHost: {target.netloc}\r\n\r\n".encode()
    post = (
        f"POST {target.path}/login HTTP/1.1\r\nHost: {target.netloc}\r\nContent-Type: application/json\r\n".encode()
    )
    length = b"Content-Length: %d\r\n" % len(inner)
    chunked = b"Transfer-Encoding: chunked\r\n"
    streams = {
        "a length and chunks": post + b"Content-Length: 5\r\n" + chunked + b"\r\n0\r\n\r\n" + inner,
        "chunks and a length": post + chunked + length + b"\r\n0\r\n\r\n" + inner,
        "two lengths": post + b"Content-Length: 0\r\n" + length + b"\r\n" + inner,
        "a list of lengths": post + b"Content-Length: 0, %d\r\n\r\n" % len(inner) + inner,
        "a signed length": post + b"Content-Length: +0\r\n\r\n" + inner,
        "a negative length": post + b"Content-Length: -1\r\n\r\n" + inner,
        "a length in hex": post + b"Content-Length: 0x0\r\n\r\n" + inner,
        "chunks twice": post + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + inner,
        "an unknown transfer coding": post + b"Transfer-Encoding: xchunked\r\n" + length + b"\r\n" + inner,
        "a space before the colon": post + b"Transfer-Encoding : chunked\r\n" + length + b"\r\n" + inner,
        "a chunk size that is not a number": post + chunked + b"\r\nzz\r\n" + inner,
        "a chunk too large": post + chunked + b"\r\nfffffffffffffffff\r\n" + inner,
        "a chunk without its end": post + chunked + b"\r\n1\r\nAB\r\n0\r\n\r\n" + inner,
        "two hosts": post.replace(b"\r\n", b"\r\nHost: c4n4ry\r\n", 1) + b"Content-Length: 0\r\n\r\n" + inner,
        "no host": b"GET %s/me HTTP/1.1\r\n\r\n" % target.path.encode() + inner,
        "a folded header": post + b"X-A: b\r\n c: d\r\nContent-Length: 0\r\n\r\n" + inner,
        "a bare line feed": post + b"X-A: b\nContent-Length: 0\n\n" + inner,
        "NUL in a header": post + b"X-A: \x00\r\nContent-Length: 0\r\n\r\n" + inner,
        "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        "HTTP/0.9": b"GET /me\r\n\r\n" + inner,
        "HTTP/9.9": b"GET /me HTTP/9.9\r\nHost: a\r\n\r\n" + inner,
        "no method": b" / HTTP/1.1\r\nHost: a\r\n\r\n" + inner,
        "line ends and a letter": b"\r\n" * 2000 + b"x\r\n\r\n" + inner,
    }
    lenient = {"a bare line feed", "a folded header"}  # RFC 9112 sections 2.2 and 5.2: a server may accept them
    smuggled = []
    all_answers = await asyncio.gather(*(_talk(target, stream) for stream in streams.values()))
    for what, answers in zip(streams, all_answers, strict=True):
        _no_failure(answers, what)
        if any(answer.is_yes and b'"keys"' in answer.body for answer in answers) and what not in lenient:
            smuggled.append(what)
    if smuggled:
        raise Broken(f"bytes after an ambiguous request were answered as a request: {', '.join(smuggled)}")
    return f"{len(streams)} streams, none smuggled a request"


async def _try_all(target: Target, bodies: Iterable[tuple[str, str, bytes]]) -> str:
    count = 0
    for path, what, body in bodies:
        answer = await target.send("POST", path, content=body, headers=_content_type(_JSON))
        _check(answer, f"{path}: {what}")
        count += 1
    return f"{count} refused"


def _check(answer: Answer, what: str) -> None:
    """Raise `Broken` unless the answer is a refusal that repeats nothing."""
    if answer.is_failure:
        raise Broken(f"{what} was answered with a failure ({answer})")
    if answer.status < 400:
        raise Broken(f"{what} was accepted ({answer})")
    if CANARY in (answer.body.decode("utf-8", "replace") + str(answer.headers)).lower():
        raise Broken(f"{what}: the answer repeats what was sent")


async def _talk(target: Target, data: bytes) -> list[Answer]:
    try:
        async with connected(target) as connection:
            await connection.send(data)
            answers, _ = await connection.receive(within=READ_TIMEOUT_SECONDS, settled=0.3)
            return answers
    except (OSError, TimeoutError):
        return []


async def _require_refusal(target: Target, what: str, data: bytes) -> None:
    """Raise `Broken` if the service accepts the bytes or fails. A closed connection or no answer is a refusal."""
    answers = await _talk(target, data)
    _no_failure(answers, what)
    for answer in answers:
        if answer.is_yes:
            raise Broken(f"{what} was accepted ({answer})")


def _no_failure(answers: list[Answer], what: str) -> None:
    """Raise `Broken` for a failure. 501 and 505 are refusals, of a method and of a version."""
    for answer in answers:
        if answer.is_failure and answer.status not in {501, 505}:
            raise Broken(f"{what} was answered with a failure ({answer})")


ATTACKS = (
    Attack("Bodies that are not a JSON object", json_bodies),
    Attack("Fields of another type or form", fields),
    Attack("Other media types and malformed forms", kinds),
    Attack("Bodies, headers and paths of up to 5 MB", sizes),
    Attack("Paths and methods", paths),
    Attack("Ambiguous boundaries between requests", ambiguous),
)
