"""Hostile requests: each is wrong by construction, so an accepted one is a finding. Pure, from a seed.

A `Target` is one operation of openapi.json and a valid request to it. A mutator returns the request with one thing
wrong: in the JSON, in the form, in the headers, or in the boundaries of the request in the stream.
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

CANARY = "c4n4ry"
"""Part of every invented text. No answer may contain it."""
JSON_TYPE, FORM_TYPE = "application/json", "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Target:
    """An operation. `body` is that of a valid request, as JSON or as a form; `None`: the operation has no body."""

    method: str
    path: str
    template: str
    body: Mapping[str, Any] | None = None
    media_type: str = ""
    bearer: str = ""
    required: frozenset[str] = field(default_factory=frozenset)
    is_public: bool = False
    """Whether it needs no authentication."""
    needs_body: bool = True
    """Whether the request is wrong without a body. Means something only where there is one."""

    def head(self, length: int, *more: bytes, media_type: str | None = None, host: bytes = b"localhost") -> bytes:
        lines = [f"{self.method} {self.path} HTTP/1.1".encode(), b"Host: " + host, *more]
        if self.bearer:
            lines.append(b"Authorization: Bearer " + self.bearer.encode())
        if self.body is not None:
            lines.append(b"Content-Type: " + (self.media_type if media_type is None else media_type).encode())
            lines.append(b"Content-Length: %d" % length)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def whole(self, body: bytes | None = None, *more: bytes, media_type: str | None = None) -> bytes:
        body = self.ordinary_body() if body is None else body
        return self.head(len(body), *more, media_type=media_type) + body

    def ordinary_body(self) -> bytes:
        if self.body is None:
            return b""
        return urlencode(self.body).encode() if self.media_type == FORM_TYPE else json.dumps(self.body).encode()


Mutator = Callable[[Target, random.Random], bytes]

NASTY = (
    "", " ", "\0", "a\0b", "\x1b[2J", "\x7f", "\r\nSet-Cookie: x=1", "\u202e", "\ufeff", "\U0001f511", "\u212a",
    "\uff41\uff42\uff43", "' OR '1'='1", "'; DROP TABLE users; --", '"><script>alert(1)</script>', "../../etc/passwd",
    "%00", "%s%s%n", "{{7*7}}", "${jndi:ldap://x}", "__proto__", "a" * 70, "a" * 5000, "-1", "1e999", "null", "\x85",
)  # fmt: skip
WRONG: tuple[Any, ...] = (0, -1, 1.5, 10**30, [], {}, [CANARY], {CANARY: CANARY}, [[[[]]]], {"$ne": ""}, True)


def nasty(chance: random.Random) -> str:
    """Return a text that has broken parsers."""
    return CANARY + "".join(chance.choice(NASTY) for _ in range(chance.randrange(1, 4)))


def _controls(chance: random.Random) -> str:
    return CANARY + chance.choice("\0\x01\x08\n\r\x1b\x1f\x7f\x80\x85\x9f") + nasty(chance)


# --- JSON ---


def _field(target: Target, chance: random.Random) -> str:
    assert target.body
    return chance.choice(list(target.body))


def wrong_type(target: Target, chance: random.Random) -> bytes:
    assert target.body
    name = _field(target, chance)
    others = [value for value in WRONG if _type_of(value) is not _type_of(target.body[name])]
    return target.whole(json.dumps({**target.body, name: chance.choice(others)}).encode())


def _type_of(value: Any) -> type:
    """Return the type that JSON gives a value: all numbers are of one."""
    return float if type(value) is int else type(value)


def unknown_member(target: Target, chance: random.Random) -> bytes:
    assert target.body is not None
    return target.whole(json.dumps({**target.body, nasty(chance): chance.choice([CANARY, *WRONG])}).encode())


def missing_member(target: Target, chance: random.Random) -> bytes:
    assert target.body is not None
    gone = chance.choice(sorted(target.required))
    return target.whole(json.dumps({name: v for name, v in target.body.items() if name != gone}).encode())


def null_member(target: Target, chance: random.Random) -> bytes:
    assert target.body is not None
    return target.whole(json.dumps({**target.body, chance.choice(sorted(target.required)): None}).encode())


def control_character(target: Target, chance: random.Random) -> bytes:
    assert target.body
    texts = [name for name, value in target.body.items() if isinstance(value, str)]
    return target.whole(json.dumps({**target.body, chance.choice(texts): _controls(chance)}).encode())


def lone_surrogate(target: Target, chance: random.Random) -> bytes:
    assert target.body
    body = json.dumps({**target.body, _field(target, chance): f"{CANARY}?"})
    return target.whole(body.replace("?", chance.choice(["\\ud800", "\\udfff", "\\udc00\\ud800"])).encode())


def twice(target: Target, chance: random.Random) -> bytes:
    body, name = target.ordinary_body(), _field(target, chance)
    spelt = json.dumps(name) if chance.random() < 0.5 else '"' + "".join(f"\\u{ord(c):04x}" for c in name) + '"'
    return target.whole(body[:-1] + f", {spelt}: {json.dumps(nasty(chance))}}}".encode())


def no_json(target: Target, chance: random.Random) -> bytes:
    body = target.ordinary_body()
    wrong = [
        body[: chance.randrange(len(body))], body + chance.choice([b"}", b" {}", b"\0", b",", b"// x"]),
        b"[" + body + b"]", json.dumps(body.decode()).encode(), b"null", b"true", b"0",
        body.decode().encode("utf-16"), b"\xef\xbb\xbf" + body, body.replace(b'"', b"'"), body[:-1] + b", }",
        body[:-1] + b', "x": NaN}',
        b"[" * 8000, b'{"a":' * 2000, body[:-1] + b', "' + CANARY.encode() + b'": -Infinity}',
        body.replace(b'": "', b'": "\xff', 1), body.replace(b'": "', b'": "\xed\xa0\x80', 1), bytes(100),
        body.replace(b'": ', b'": \x00', 1), body.replace(b'": "', b'": "\n', 1),
    ]  # fmt: skip
    if not target.needs_body:
        wrong = [one for one in wrong if one not in {b"", b"null"}]
    return target.whole(chance.choice([one for one in wrong if one != body]))


def random_bytes(target: Target, chance: random.Random) -> bytes:
    return target.whole(b"\xff" + chance.randbytes(chance.randrange(1, 400)))


def too_large(target: Target, chance: random.Random) -> bytes:
    return target.whole(target.ordinary_body() + b" " * chance.choice([16384, 20000, 60000]))


def other_media_type(target: Target, chance: random.Random) -> bytes:
    kinds = ["", "text/plain", "application/jsonp", "multipart/form-data; boundary=x", "application/xml", "*/*"]
    kinds.append(FORM_TYPE if target.media_type == JSON_TYPE else JSON_TYPE)
    return target.whole(media_type=chance.choice(kinds))


# --- forms ---


def parameter_twice(target: Target, chance: random.Random) -> bytes:
    name = _field(target, chance)
    return target.whole(target.ordinary_body() + f"&{name}=".encode() + urlencode({"": nasty(chance)})[1:].encode())


def broken_form(target: Target, chance: random.Random) -> bytes:
    """Remove the first parameter, which every form needs, or make it invalid text."""
    assert target.body
    name, value = next(iter(target.body.items()))
    rest = urlencode({other: v for other, v in target.body.items() if other != name})
    wrong = ["", f"{name}", f"{name}=%ff{CANARY}", f"{name}=%ed%a0%80{value}", f"{name}={value}%c0%80"]
    first = chance.choice(wrong)
    return target.whole(f"{first}&{rest}".encode())


# --- headers, and the boundaries of requests in a stream ---


def ambiguous(target: Target, chance: random.Random) -> bytes:
    """Two parsers could split it differently, or one could read a header that the other ignores (RFC 9112)."""
    body = target.ordinary_body()
    line, _, rest = target.head(len(body)).partition(b"\r\n")
    more = chance.choice([
        b"Host: " + CANARY.encode(), b"Host : x", b" folded: x", b"A: b\r\n folded", b"A\0: b", b"A: \0", b": b",
        b"Content-Length: 3\r\nContent-Length: 4", b"Content-Length: -1", b"Content-Length: +3", b"A b: c",
        b"Content-Length: 0x3", b"Content-Length: 3\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: " + CANARY.encode(), b"Content-Length: 99999999999999999999", b"A\x7f: b",
        b"Content-Length : 3", b"Content-Length: 3, 4", b"Transfer-Encoding : chunked", b"A: b\rC: d",
    ])  # fmt: skip
    return b"\r\n".join([line, more, rest]) + body


def no_request_line(target: Target, chance: random.Random) -> bytes:
    line, _, rest = target.whole().partition(b"\r\n")
    method, path, version = line.split(b" ")
    lines = [
        b"%s %s" % (method, path), b"%s %s HTTP/2.0" % (method, path), b"%s %s" % (path, version),
        b"%s %s %s x" % (method, path, version), b"%s %s\xff %s" % (method, path, version),
        b"%s \0%s %s" % (method, path, version), b"%s %s HTTP/1.10" % (method, path), b"\x16\x03\x01\x02\x00\x01",
        b"%s %s HTTX/1.1" % (method, path), b"%s %s FTP/1.1" % (method, path), path, b"", b" ".join([path, method]),
        b"%s\t%s\t%s" % (method, path, version), b"CONNECT localhost:80 HTTP/1.1",
    ]  # fmt: skip
    return b"\r\n".join([chance.choice(lines), rest])


def no_host(target: Target, chance: random.Random) -> bytes:
    other = chance.choice([b"", b"Hostt: localhost\r\n", b"Host\r\n"])
    return target.whole().replace(b"Host: localhost\r\n", other, 1)


def many_headers(target: Target, chance: random.Random) -> bytes:
    what = chance.choice([b"X: " + b"a" * 17000, b"\r\n".join([b"X-%d: y" % n for n in range(3000)]), b"a" * 17000])
    return target.whole(None, what)


def other_method(target: Target, chance: random.Random) -> bytes:
    method = chance.choice(["PATCH", "PUT", "TRACE", "PROPFIND", "REPORT", "LOCK", "PURGE", "MKCOL", "BREW", "gEt"])
    method = method if method != target.method else "OPTION"
    return target.whole().replace(target.method.encode(), method.encode(), 1)


def other_path(target: Target, chance: random.Random) -> bytes:
    """Return a similar path, which a gateway may treat as another path."""
    path = target.path.partition("?")[0]
    wrong = [f"/{path}", f"{path}/", f"/.{path}", f"{path}/..", f"{path}%00", f"{path};x=1", f"{path}%20"]
    wrong += [path.upper(), f"{path}.json", f"/..{path}", f"/%2e{path}", f"{path}%2f", f"/{CANARY}/..{path}"]
    other = chance.choice([one for one in wrong if one != path])
    return target.whole().replace(target.path.encode(), other.encode(), 1)


def broken_chunks(target: Target, chance: random.Random) -> bytes:
    body = target.ordinary_body()
    head = target.head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    sizes = [b"zz", b"-1", b"0x5", b"+5", b"1" * 30, b"5 5", b" 5", b"", b"\xff", b"5\0"]
    return head + chance.choice(sizes) + b"\r\n" + body + b"\r\n0\r\n\r\n"


def flipped(target: Target, chance: random.Random) -> bytes:
    """Change, remove, repeat and insert bytes anywhere. Only for targets with invalid credentials."""
    data = bytearray(target.whole())
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        place = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data[place] ^= 1 << chance.randrange(8)
            case 1:
                del data[place : place + chance.randrange(1, 8)]
            case 2:
                data[place:place] = chance.randbytes(chance.randrange(1, 8))
            case _:
                data[place:place] = data[place : place + chance.randrange(1, 60)]
        data = data or bytearray(b"\0")
    return bytes(data)


WIRE: Sequence[Mutator] = (ambiguous, no_request_line, no_host, many_headers, other_method, other_path)
JSON: Sequence[Mutator] = (
    wrong_type, unknown_member, missing_member, null_member, control_character, lone_surrogate, twice, no_json,
    random_bytes, too_large, other_media_type, broken_chunks,
)  # fmt: skip
FORM: Sequence[Mutator] = (parameter_twice, broken_form, too_large, other_media_type, broken_chunks)


def mutators_of(target: Target) -> Sequence[Mutator]:
    """Return the mutators that certainly make a request to the target wrong."""
    if target.body is None:
        return WIRE
    if target.media_type == FORM_TYPE:
        return (*WIRE, *FORM)
    unfit = set() if target.required else {missing_member, null_member}
    if not any(isinstance(value, str) for value in target.body.values()):
        unfit.add(control_character)
    return (*WIRE, *(mutator for mutator in JSON if mutator not in unfit))
