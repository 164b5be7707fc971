"""How a server process treats bytes: limits, deadlines, and one way only to split them into requests.

Law 13: input is validated at the edge, strictly.
"""

import asyncio
import contextlib
import json
import resource
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from starlette.applications import Starlette

from service.web.edge import MAX_BODY_BYTES
from service.web.server import SHUTDOWN_GRACE_SECONDS
from service.web.wire import DEADLINE_SECONDS, LINGER_SECONDS, MAX_HEADER_BYTES, MAX_PIPELINED
from tests.harness.databases import PATIENT_SECONDS
from tests.harness.people import PASSWORD
from tests.harness.servers import Served, keyturn
from tests.harness.spoiled import listening

pytestmark = pytest.mark.heavy

# tests.harness.servers.Process leaves its log file open; the garbage collector closes it with a warning.
PATIENCE = 5.0
"""Seconds after which a test assumes that there is no answer, where no deadline is tested."""
TOO_LATE = DEADLINE_SECONDS + LINGER_SECONDS + 3
KEEP_ALIVE = 13
"""Seconds for which the server of most tests keeps an idle connection: longer than it waits for a request."""

ALIVE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
NOBODY = json.dumps({"username": "nobody", "password": "not the password"}).encode()
LOGIN = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def login(body: bytes = NOBODY, *headers: bytes) -> bytes:
    """Return a login of an unknown user; a complete one is answered 401."""
    lines = [b"%s\r\n" % header for header in (*headers, b"Content-Length: %d" % len(body))]
    return LOGIN + b"".join(lines) + b"\r\n" + body


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    parts = [b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks]
    return LOGIN + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(parts) + end


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of an error, whose fields must be complete and consistent."""
        problem: dict[str, Any] = json.loads(self.body)
        assert "application/problem+json" == self.headers["content-type"]
        assert self.status == problem["status"]
        assert f"urn:keyturn:problem:{problem['code']}" == problem["type"]
        return str(problem["code"])


class Connection:
    """One client connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, *parts: bytes, pause: float = 0.02) -> None:
        """Send each part in its own packet, until the server closes the connection."""
        with contextlib.suppress(ConnectionError):
            for part in parts:
                self.writer.write(part)
                await self.writer.drain()
                await asyncio.sleep(pause)

    async def receive(self, *, within: float = PATIENCE) -> Answer | None:
        """Return the next answer, or `None` if the connection was closed instead."""
        try:
            async with asyncio.timeout(within):
                head = await self.reader.readuntil(b"\r\n\r\n")
                first, *lines = head.decode().split("\r\n")[:-2]
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                body = await self.reader.readexactly(int(headers.get("content-length", 0)))
                return Answer(int(first.split(" ")[1]), headers, body)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def receive_all(self, *, within: float = PATIENCE) -> list[Answer]:
        """Return every answer until the connection is closed."""
        answers = []
        while (answer := await self.receive(within=within)) is not None:
            answers.append(answer)
        return answers


@dataclass(frozen=True)
class Server:
    served: Served
    log: Path

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        parts = urlsplit(self.served.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            yield Connection(reader, writer)
        finally:
            writer.close()

    async def talk(self, *parts: bytes, pause: float = 0.02) -> list[Answer]:
        """Send each part in its own packet; return every answer until the server closes."""
        async with self.connect() as connection:
            await connection.send(*parts, pause=pause)
            return await connection.receive_all()

    async def is_well(self) -> bool:
        async with self.connect() as connection:
            await connection.send(ALIVE)
            answer = await connection.receive()
            return answer is not None and 200 == answer.status


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A process in the embedded mode, whose log must report no defect after all tests."""
    folder = tmp_path_factory.mktemp("wire")
    log = folder / "log"
    limits = {f"KEYTURN_LIMIT_{name}": "off" for name in ("LOGIN", "LOGIN_ADDRESS", "LOGIN_USERNAME")}
    settings = {"KEYTURN_DATA_DIR": str(folder / "data"), "KEYTURN_KEEP_ALIVE": str(KEEP_ALIVE), **limits}
    with keyturn(settings, log=log) as served:
        yield Server(served, log)
    for line in log.read_text().splitlines()[1:]:
        assert json.loads(line)["level"] == "info", line


INVALID_HTTP = {
    "a TLS handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.1 that says it is 2.0": b"GET /livez HTTP/2.0\r\nHost: localhost\r\n\r\n",
    "HTTP/0.9": b"GET /livez\r\n\r\n",
    "an unknown method": b"BREW /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a tunnel": b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: elsewhere\r\n\r\n",
    "a path without its slash": b"GET livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a URL without a path": b"GET http://localhost HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path that is not ASCII": b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "NUL in the path": b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "NUL in a header": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nA: \x00\r\n\r\n",
    "a space before the colon": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nA : b\r\n\r\n",
    "a folded header": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nA: b\r\n c\r\n\r\n",
    "bare line feeds": b"GET /livez HTTP/1.1\nHost: localhost\n\n",
    "an invalid chunk": chunked(b'{"username"', end=b"zz\r\n"),
    "an invalid chunk for a route without a body": ALIVE[:-2] + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
}


@pytest.mark.parametrize("nonsense", INVALID_HTTP.values(), ids=INVALID_HTTP)
async def test_invalid_http_is_refused_once(server: Server, nonsense: bytes) -> None:
    """The answer is 400 as a problem, then the connection ends; what follows is not parsed."""
    (answer,) = await server.talk(nonsense + ALIVE)
    assert (400, "malformed_request") == (answer.status, answer.code)
    assert ("close", "no-store") == (answer.headers["connection"], answer.headers["cache-control"])


async def test_a_request_that_is_refused_within_its_body_is_counted_once(server: Server) -> None:
    """Its route does not count the answer that nobody gets."""

    def count() -> float:
        lines = httpx2.get(f"{server.served.url}/metrics", timeout=PATIENCE).text.splitlines()
        counted = [line for line in lines if line.startswith('keyturn_requests_total{method="POST",route="/login"')]
        return sum(float(line.split()[-1]) for line in counted)

    assert [401] == [answer.status for answer in await server.talk(login(NOBODY, b"Connection: close"))]
    before = count()
    assert before > 0
    assert [400] == [answer.status for answer in await server.talk(chunked(b'{"username"', end=b""), b"zz\r\n")]
    assert before == count()


async def test_a_body_may_become_invalid_later(server: Server) -> None:
    """The application, which waits for the rest, sees its client disconnect, and the client gets one 400."""
    (answer,) = await server.talk(chunked(b'{"username":', end=b""), b"zz\r\n")
    assert "malformed_request" == answer.code


SMUGGLED = {
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "one length twice": b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a list of lengths": b"Content-Length: 5, 5\r\n\r\nhello",
    "length, then chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks, then length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "a signed length": b"Content-Length: +5\r\n\r\nhello",
    "a negative length": b"Content-Length: -5\r\n\r\nhello",
    "a length that overflows": b"Content-Length: 18446744073709551621\r\n\r\nhello",
    "no such coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked, but not last": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk in another notation": b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "a chunk that overflows": b"Transfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n",
    "a chunk that ends elsewhere": b"Transfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("framing", SMUGGLED.values(), ids=SMUGGLED)
async def test_no_second_request_hides_in_an_ambiguous_body(server: Server, framing: bytes) -> None:
    """If a proxy may see another end of the body than Keyturn, there is one 400 and no next request."""
    (answer,) = await server.talk(LOGIN + framing + ALIVE)
    assert "malformed_request" == answer.code


@pytest.fixture(scope="module")
def account(server: Server) -> dict[str, str]:
    given = {"username": "wired", "password": PASSWORD}
    assert 201 == httpx2.post(f"{server.served.url}/signup", json=given, timeout=PATIENT_SECONDS).status_code
    return given


@pytest.mark.parametrize("framing", SMUGGLED.values(), ids=SMUGGLED)
async def test_a_refused_request_is_not_done(server: Server, account: dict[str, str], framing: bytes) -> None:
    """A logout needs no body, but one with an ambiguous body ends no session: the body may hide another request."""
    async with server.connect() as connection:
        await connection.send(login(json.dumps(account).encode()))
        answer = await connection.receive()
    assert answer is not None
    bearer = b"Authorization: Bearer " + json.loads(answer.body)["access_token"].encode() + b"\r\n"
    (refusal,) = await server.talk(LOGIN.replace(b"/login", b"/logout") + bearer + framing)
    assert "malformed_request" == refusal.code
    async with server.connect() as connection:
        await connection.send(ALIVE.replace(b"/livez", b"/sessions")[:-2] + bearer + b"\r\n", pause=0.2)
        answer = await connection.receive()
    assert answer is not None
    assert 200 == answer.status


async def test_an_offer_to_upgrade_changes_nothing(server: Server) -> None:
    """Java's client offers HTTP/2 with its first POST: the body is read as a body, also in a later packet."""
    offer = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAoAAA")
    whole = login(ALIVE, *offer)
    for parts in ([login(NOBODY, *offer)], [whole[: -len(ALIVE)], ALIVE], [whole[:100], whole[100:]], [whole]):
        async with server.connect() as connection:
            await connection.send(*parts, ALIVE)
            first, second = await connection.receive(), await connection.receive()
        assert first is not None
        assert second is not None
        expected = "invalid_credentials" if NOBODY in parts[0] else "malformed_request"
        assert (expected, 200) == (first.code, second.status)


async def test_a_trailer_is_not_a_header(server: Server) -> None:
    """Proxies do not check trailers, so an X-Forwarded-For in a trailer must not be trusted."""
    async with server.connect() as connection:
        await connection.send(
            chunked(NOBODY, end=b"0\r\nX-Request-Id: from-a-trailer\r\nContent-Type: text/plain\r\n\r\n")
        )
        answer = await connection.receive()
    assert answer is not None
    assert "invalid_credentials" == answer.code
    assert "from-a-trailer" != answer.headers["x-request-id"]


OVERSIZED = {
    "many headers": [b"GET /livez HTTP/1.1\r\nHost: localhost\r\n", *[b"A: b\r\n" * 1000] * 4],
    "one long header": [b"GET /livez HTTP/1.1\r\nHost: localhost\r\nA: ", *[b"b" * 5000] * 6],
    "one long name": [b"GET /livez HTTP/1.1\r\nHost: localhost\r\n", *[b"b" * 5000] * 6],
    "one long path": [b"GET /", *[b"b" * 5000] * 6],
    "many trailers": [chunked(NOBODY, end=b"0\r\n"), *[b"A: b\r\n" * 1000] * 4],
    "one long trailer": [chunked(NOBODY, end=b"0\r\nA: "), *[b"b" * 5000] * 6],
    "one long chunk extension": [chunked(NOBODY, end=b"1;a="), *[b"b" * 5000] * 6],
    "empty lines": [b"\r\n" * 2500] * 6,
    "all at once": [b"GET /livez HTTP/1.1\r\nHost: localhost\r\nA: " + b"b" * 20_000_000 + b"\r\n\r\n"],
}


@pytest.mark.parametrize("parts", OVERSIZED.values(), ids=OVERSIZED)
async def test_more_than_16_kib_of_headers_are_refused_before_they_end(server: Server, parts: list[bytes]) -> None:
    """The answer is 431 as a problem, for every place that could grow; no line is buffered until it is complete."""
    (answer,) = await server.talk(*parts, pause=0.005)
    assert (431, "headers_too_large") == (answer.status, answer.code)


async def test_15_kib_of_headers_are_accepted(server: Server) -> None:
    """Such a request is served, in whatever pieces it arrives."""
    request = ALIVE[:-2] + b"A: " + b"b" * (MAX_HEADER_BYTES - 1024) + b"\r\n\r\n"
    pieces = [request[n : n + 1000] for n in range(0, len(request), 1000)]
    async with server.connect() as connection:
        for parts in ([request], pieces, [bytes([byte]) for byte in ALIVE], [ALIVE]):
            await connection.send(*parts, pause=0.001)
            answer = await connection.receive()
            assert answer is not None
            assert 200 == answer.status


async def test_a_client_with_a_body_of_10_mb_can_read_the_refusal(server: Server) -> None:
    """A client that reads after sending all, by length or in chunks, gets 413, and the connection stays open."""
    for request in (login(b"a" * 10_000_000), chunked(*[b"a" * 65536] * 150), login(b"a" * (MAX_BODY_BYTES + 1))):
        async with server.connect() as connection:
            await connection.send(request, ALIVE)
            refused, alive = await connection.receive(), await connection.receive()
        assert refused is not None
        assert alive is not None
        assert (413, "content_too_large", 200) == (refused.status, refused.code, alive.status)


async def test_expect_continue_is_answered(server: Server) -> None:
    """`Expect: 100-continue` is answered 100, and then the request is served."""
    request = login(NOBODY, b"Expect: 100-continue")
    async with server.connect() as connection:
        await connection.send(request[: -len(NOBODY)])
        interim = await connection.receive()
        await connection.send(NOBODY, ALIVE)
        answers = [await connection.receive(), await connection.receive()]
    assert [100, 401, 200] == [answer.status for answer in (interim, *answers) if answer]


async def test_a_refused_expect_continue_closes_the_connection(server: Server) -> None:
    """It gets 413 or 404 at once: the bytes that follow may be the body or a new request, so neither is read."""
    too_large = login(b"a" * (MAX_BODY_BYTES + 1), b"Expect: 100-continue")[: -MAX_BODY_BYTES - 1]
    nowhere = login(ALIVE, b"Expect: 100-continue")[: -len(ALIVE)].replace(b"/login", b"/nothing")
    for head, status in ((too_large, 413), (nowhere, 404)):
        (answer,) = await server.talk(head, ALIVE, pause=0.1)
        assert status == answer.status


async def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    """Each request gets its own complete answer."""
    async with server.connect() as connection:
        await connection.send(ALIVE + login() + ALIVE + login()[:-5], login()[-5:] + ALIVE)
        answers = [await connection.receive() for _ in range(5)]
    assert [200, 401, 200, 401, 200] == [answer.status for answer in answers if answer]


async def test_invalid_bytes_suppress_no_earlier_answer(server: Server) -> None:
    """A request that was processed is answered first; then comes the 400 for the bytes after it."""
    for behind in (b"\x00\x01\x02", b"GET / HTTP/1.1\r\n\r\n", chunked(b'{"username"', end=b"zz\r\n")):
        for parts in ([login() + behind], [login() + login() + behind[:5], behind[5:]]):
            answers = await server.talk(*parts, pause=0.001)
            codes = [answer.code for answer in answers]
            assert codes == ["invalid_credentials"] * (len(codes) - 1) + ["malformed_request"]
            assert parts[0].count(b"POST /login") - behind.count(b"POST /login") <= len(codes)


async def test_the_number_of_pipelined_requests_is_limited(server: Server) -> None:
    """A few requests of a full packet are answered; all of them would take a hundred times their size in memory."""
    answers = await server.talk(ALIVE * 5000)
    assert [200] * (MAX_PIPELINED + 1) + [400] == [answer.status for answer in answers]


async def test_the_connection_closes_after_the_last_answer(server: Server) -> None:
    """After `Connection: close`, or in HTTP/1.0, there is one answer."""
    for request in (ALIVE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), b"GET /livez HTTP/1.0\r\n\r\n"):
        (answer,) = await server.talk(request + ALIVE)
        assert (200, "close") == (answer.status, answer.headers["connection"])


async def test_a_client_that_disconnects_is_not_a_defect(server: Server) -> None:
    """It may leave in its headers, its body or during the answer, by an end or a reset: the log shows no defect."""
    for part in (ALIVE[:-3], login()[:-5], chunked(NOBODY, end=b""), login(), ALIVE * 10, login() * 3):
        for linger in (None, b"\x01\0\0\0\0\0\0\0"):
            async with server.connect() as connection:
                await connection.send(part)
                if linger is not None:  # a reset instead of an end
                    connection.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    connection.writer.transport.abort()
    assert await server.is_well()
    assert "traceback" not in server.log.read_text().lower()


class SlowClients:
    """Slow clients, all started at once."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.began = time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began

    async def client(
        self, *, first: bytes = b"", at_once: bytes = b"", then: bytes = b"", closes_after: float = DEADLINE_SECONDS
    ) -> list[str]:
        """Send `first` and read its answer, send `at_once`, then a byte a second; return the codes of all answers."""
        async with self.server.connect() as connection:
            if first:
                await connection.send(first)
                assert await connection.receive()
            receiving = asyncio.create_task(connection.receive_all(within=TOO_LATE))
            await connection.send(at_once)
            for byte in then:
                if receiving.done():
                    break
                await connection.send(bytes([byte]), pause=1)
            answers = await receiving
        assert closes_after - 1 < self.elapsed < closes_after + LINGER_SECONDS + 3
        return [answer.code for answer in answers]

    async def read_nothing(self) -> int:
        """Request 5 MB, more than any buffer takes, without reading; count the bytes that arrive after a deadline."""
        loop = asyncio.get_running_loop()
        parts = urlsplit(self.server.served.url)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            await loop.sock_connect(client, (parts.hostname, parts.port))
            with contextlib.suppress(ConnectionError):  # on a slow machine the connection is cut while it still sends
                for _ in range(250):
                    with contextlib.suppress(BlockingIOError):
                        client.send(ALIVE.replace(b"/livez", b"/openapi.json"))
                    await asyncio.sleep(0.01)
                await asyncio.sleep(DEADLINE_SECONDS)
            received = 0
            with contextlib.suppress(ConnectionError):
                while data := await asyncio.wait_for(loop.sock_recv(client, 1_000_000), PATIENCE):
                    received += len(data)
            return received

    async def be_quick(self) -> float:
        """Return the longest wait of a client that sends and reads quickly all the time."""
        longest = 0.0
        async with self.server.connect() as connection:
            while self.elapsed < DEADLINE_SECONDS:
                sent_at = time.monotonic()
                for request, status in ((ALIVE, 200), (login(), 401)):
                    await connection.send(request, pause=0)
                    answer = await connection.receive()
                    assert answer is not None
                    assert status == answer.status
                longest = max(longest, time.monotonic() - sent_at)
                await asyncio.sleep(0.2)
        return longest


@pytest.mark.parametrize(("keep_alive", "deadline"), [(1, 30.0), (30, 1.0)])
async def test_one_of_very_many_idle_connections_is_closed_early(keep_alive: int, deadline: float) -> None:
    """After the deadline of a request, or after `KEYTURN_KEEP_ALIVE` if that is shorter."""
    with listening(Starlette(), keep_alive=keep_alive, deadline=deadline, max_keep_alive=0) as url:
        reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
        writer.write(ALIVE)
        async with asyncio.timeout(10):
            assert b"404" in await reader.read()  # up to the end of the connection
        writer.close()


async def test_every_client_has_ten_seconds(server: Server) -> None:
    """A slow client gets 408, a silent one or one that does not read is cut off, and other clients do not notice.

    All 300 of them and a few special ones run at once, so that this takes little more than one deadline.
    """
    await server.talk(
        ALIVE.replace(b"/livez", b"/openapi.json").replace(b"1.1", b"1.0")
    )  # the first answer is a slow one
    slow = SlowClients(server)
    head, body = login().split(NOBODY)[0], NOBODY
    late = "request_timeout"
    cases: list[tuple[list[str], Awaitable[list[str]]]] = []
    for _ in range(100):
        cases += [
            ([late], slow.client(then=ALIVE)),
            ([late], slow.client(at_once=head, then=body)),
            ([], slow.client()),
        ]
    cases += [
        ([], slow.client(first=ALIVE, closes_after=KEEP_ALIVE)),
        ([late], slow.client(first=ALIVE, then=ALIVE)),
        ([], slow.client(first=ALIVE, then=b"\r\n" * 10, closes_after=KEEP_ALIVE)),
        ([late], slow.client(first=login(), at_once=head, then=body)),
        ([late], slow.client(at_once=ALIVE[:-1])),
        ([late], slow.client(at_once=login()[:-1])),
        (["invalid_credentials"], slow.client(at_once=login())),
        (["invalid_credentials", late], slow.client(at_once=login() + login()[:-1])),
        (["invalid_credentials", late], slow.client(at_once=login() + ALIVE[:-1])),
        (["content_too_large"], slow.client(at_once=login(b"a" * 20_000)[:-1])),
        (["not_found"], slow.client(at_once=login().replace(b"/login", b"/nothing")[:-1])),
    ]
    quick, unread = asyncio.create_task(slow.be_quick()), asyncio.create_task(slow.read_nothing())
    assert [expected for expected, _ in cases] == await asyncio.gather(*(client for _, client in cases))
    assert await quick < 2
    assert await unread < 1_000_000
    assert await server.is_well()


async def test_an_idle_connection_does_not_delay_the_end(tmp_path: Path) -> None:
    """SIGTERM ends idle connections and incomplete requests after a last wait; a running request finishes."""
    with keyturn({"KEYTURN_DATA_DIR": str(tmp_path / "data")}) as served:
        server = Server(served, tmp_path)
        async with (
            server.connect() as silent,
            server.connect() as idle,
            server.connect() as half,
            server.connect() as busy,
        ):
            await idle.send(ALIVE)
            assert await idle.receive()
            await half.send(ALIVE[:-1])
            await busy.send(login()[:-1])
            began = time.monotonic()
            stopping = asyncio.create_task(asyncio.to_thread(served.process.stop))
            assert [[], [], []] == [await connection.receive_all() for connection in (silent, idle, half)]
            await busy.send(login()[-1:])
            answer = await busy.receive()
            assert answer is not None
            assert ("invalid_credentials", "close") == (answer.code, answer.headers["connection"])
            await stopping
    assert time.monotonic() - began < 3


async def test_a_request_on_its_way_is_answered_when_the_server_goes(tmp_path: Path) -> None:
    """The connection was idle or new at SIGTERM and ends with its answer; no new connection is accepted."""
    with keyturn({"KEYTURN_DATA_DIR": str(tmp_path / "data")}) as served:
        server = Server(served, tmp_path)
        async with server.connect() as silent, server.connect() as idle:
            await idle.send(ALIVE)
            assert await idle.receive()
            assert await server.is_well()
            stopping = asyncio.create_task(asyncio.to_thread(served.process.stop))
            await refused(served)
            for connection in (silent, idle):
                await connection.send(ALIVE + ALIVE)
                (answer,) = await connection.receive_all()
                assert (200, "close") == (answer.status, answer.headers["connection"])
            await stopping
    assert served.process.child is not None
    assert 0 == served.process.child.returncode


async def test_a_slow_client_cannot_delay_the_end(tmp_path: Path) -> None:
    """A request that never ends is aborted at its deadline, within the grace period; the process ends in order."""
    with keyturn({"KEYTURN_DATA_DIR": str(tmp_path / "data")}) as served:
        server = Server(served, tmp_path)
        async with server.connect() as trickling:
            await trickling.send(login()[:-20])
            began = time.monotonic()
            stopping = asyncio.create_task(asyncio.to_thread(served.process.stop))
            drops = (bytes([byte]) for byte in login()[-20:-1])
            answers, _ = await asyncio.gather(
                trickling.receive_all(within=TOO_LATE), trickling.send(*drops, pause=DEADLINE_SECONDS / 12)
            )
            assert [408] == [answer.status for answer in answers]
            await stopping
    assert served.process.child is not None
    assert 0 == served.process.child.returncode
    assert time.monotonic() - began < SHUTDOWN_GRACE_SECONDS + LINGER_SECONDS + 8


async def refused(served: Served) -> None:
    """Wait until the server accepts no more connections."""
    parts = urlsplit(served.url)
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                _, writer = await asyncio.open_connection(parts.hostname, parts.port)
            except ConnectionError:
                return
            writer.close()
            await asyncio.sleep(0.01)


def test_a_server_raises_its_limit_of_connections(tmp_path: Path) -> None:
    """A hundred silent connections a second exhaust the usual 1,024 descriptors of a shell or of systemd."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        with keyturn({"KEYTURN_DATA_DIR": str(tmp_path / "data")}) as served:
            assert served.process.child is not None
            limits = Path(f"/proc/{served.process.child.pid}/limits").read_text("ascii")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
    assert [str(hard)] * 2 == line.split()[3:5]
