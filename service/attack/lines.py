"""Raw connections: requests that no HTTP library would send, slow requests, and many simultaneous ones."""

import asyncio
import contextlib
import http.client
import io
import json
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from service.attack.target import ANSWER_TIMEOUT_SECONDS, NOTHING, Answer, Target


@dataclass(frozen=True, slots=True)
class Post:
    """A POST for `burst`, with JSON or with an encoded form."""

    path: str
    body: Mapping[str, object] | str
    bearer: str | None = None

    def bytes_for(self, target: Target) -> bytes:
        if isinstance(self.body, str):
            kind, payload = "application/x-www-form-urlencoded", self.body.encode()
        else:
            kind, payload = "application/json", json.dumps(self.body).encode()
        extra = "" if self.bearer is None else f"Authorization: Bearer {self.bearer}\r\n"
        return head(target, "POST", self.path, f"Content-Type: {kind}", f"Content-Length: {len(payload)}",
                    "Connection: close", extra=extra) + payload  # fmt: skip


def head(target: Target, method: str, path: str, *lines: str, extra: str = "") -> bytes:
    """Return the well-formed head of a request."""
    first = f"{method} {target.path}{path} HTTP/1.1\r\nHost: {target.netloc}\r\nUser-Agent: keyturn-attack\r\n"
    return (first + "".join(f"{header}\r\n" for header in lines) + extra + "\r\n").encode("latin-1")


class RawConnection:
    """One TCP connection to the target, with TLS if its URL has it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, data: bytes) -> bool:
        """Send bytes, and return whether the connection is still open."""
        try:
            self._writer.write(data)
            async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
                await self._writer.drain()
        except (OSError, TimeoutError):
            return False
        return True

    async def receive(
        self, *, within: float = ANSWER_TIMEOUT_SECONDS, settled: float | None = None
    ) -> tuple[list[Answer], bool]:
        """Return the answers of the next `within` seconds, and whether the service closed the connection.

        With `settled`, it returns earlier: after so many seconds of silence that follow some bytes. It reads 1 MiB at
        most.
        """
        heard, has_ended, started = b"", False, time.perf_counter()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while len(heard) < 1 << 20 and not has_ended:
                    try:
                        async with asyncio.timeout(settled if heard else None):
                            more = await self._reader.read(65536)
                    except OSError as error:
                        if isinstance(error, TimeoutError):
                            raise
                        more = b""
                    has_ended = not more
                    heard += more
        return _answers(heard, time.perf_counter() - started), has_ended


@contextlib.asynccontextmanager
async def connected(target: Target, *, receive_buffer: int | None = None) -> AsyncIterator[RawConnection]:
    """Open a connection to the target, which counts as one request.

    Raises `OSError` if it cannot be opened in time, and `NotTried` if no request is left.
    """
    target.budget.spend()
    place = socket.socket(socket.AF_INET6 if ":" in target.address else socket.AF_INET)
    try:
        place.setblocking(False)
        if target.source is not None:
            place.bind((target.source, 0))
        if receive_buffer is not None:
            place.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
            await asyncio.get_running_loop().sock_connect(place, (target.address, target.port))
            reader, writer = await asyncio.open_connection(
                sock=place, ssl=target.tls, server_hostname=target.host if target.tls else None
            )
    except BaseException:
        place.close()
        raise
    try:
        yield RawConnection(reader, writer)
    finally:
        writer.transport.abort()


async def ask_on_new_connection(target: Target, path: str) -> Answer:
    """Send a GET on a new connection, like another client. Returns `NOTHING` if no answer came."""
    try:
        async with connected(target) as connection:
            await connection.send(head(target, "GET", path, "Connection: close"))
            answers, _ = await connection.receive()
    except (OSError, TimeoutError):
        return NOTHING
    return answers[0] if answers else NOTHING


async def burst(target: Target, posts: Sequence[Post]) -> list[Answer]:
    """Send all at once: every connection is open and every request encoded before the first byte is sent.

    If a connection cannot be opened, the others wait for 5 s and then send. `NOTHING` stands for a missing answer.
    """
    ready = asyncio.Event()
    waiting = 0

    async def one(post: Post) -> Answer:
        nonlocal waiting
        payload = post.bytes_for(target)
        try:
            async with connected(target) as connection:
                waiting += 1
                if waiting == len(posts):
                    ready.set()
                with contextlib.suppress(
                    TimeoutError
                ):  # a request that cannot connect must not block the others forever
                    await asyncio.wait_for(ready.wait(), 5)
                await connection.send(payload)
                answers, _ = await connection.receive()
        except (OSError, TimeoutError):
            return NOTHING
        return answers[0] if answers else NOTHING

    return list(await asyncio.gather(*(one(post) for post in posts)))


class _ReceivedSocket(io.BytesIO):
    """A stand-in for a socket, which http.client cannot close after the first answer."""

    def makefile(self, *_: object) -> io.BytesIO:
        return self

    def close(self) -> None:
        """Stay open, because another answer may follow."""


def _answers(heard: bytes, seconds: float) -> list[Answer]:
    stream, answers = _ReceivedSocket(heard), []
    while stream.tell() < len(heard):
        response = http.client.HTTPResponse(stream)  # type: ignore[arg-type]
        try:
            response.begin()
            body = response.read()
        except (http.client.HTTPException, OSError, ValueError):
            break  # incomplete, or not HTTP: keep the answers before it
        headers = {name.lower(): value for name, value in response.getheaders()}
        answers.append(Answer(response.status, headers, body, seconds))
    return answers
