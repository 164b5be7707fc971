"""An application behind a proxy application that introduces defects, as a target for tests that must detect them.

`TamperingApp` sees every request and every answer, and changes them as a service with that defect would.
"""

import contextlib
import functools
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.web.cors import Cors
from service.web.wire import DEADLINE_SECONDS, MAX_KEEP_ALIVE_CONNECTIONS, DeadlineProtocol


@dataclass(frozen=True)
class ForwardedRequest:
    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def members(self) -> dict[str, Any]:
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    def header(self, name: str) -> str:
        return next((value for known, value in self.headers if known == name), "")

    @property
    def bearer(self) -> str:
        return self.header("authorization").removeprefix("Bearer ")

    def given(self, *names: str) -> list[str]:
        return [str(self.members[name]) for name in names if self.members.get(name)]


@dataclass(frozen=True)
class ForwardedResponse:
    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @property
    def members(self) -> dict[str, Any]:
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    @classmethod
    def of(cls, status: int, body: object = None) -> "ForwardedResponse":
        return cls(
            status, (("content-type", "application/json"),), b"" if body is None else json.dumps(body).encode()
        )


Forward = Callable[[ForwardedRequest], Awaitable[ForwardedResponse]]
Tamper = Callable[[ForwardedRequest, Forward], Awaitable[ForwardedResponse]]


def combined(*flaws: Tamper) -> Tamper:
    """Return a service with several flaws that do not affect each other."""

    async def flawed(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
        for flaw in flaws:
            forward = functools.partial(lambda request, by, forward: by(request, forward), by=flaw, forward=forward)
        return await forward(request)

    return flawed


async def honest(request: ForwardedRequest, forward: Forward) -> ForwardedResponse:
    return await forward(request)


@dataclass
class TamperingApp:
    """An application that passes requests to another one and may change them and their answers."""

    app: ASGIApp
    by: Tamper = honest
    url: str = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self.by is honest:
            await self.app(scope, receive, send)
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
        request = ForwardedRequest(
            scope["method"], scope["path"], scope["query_string"].decode("latin-1"), headers, body
        )
        given = await self.by(request, lambda changed: self._forward(changed, scope))
        raw = [(name.encode(), value.encode("latin-1")) for name, value in given.headers if name != "content-length"]
        if given.status not in {204, 304}:
            raw.append((b"content-length", str(len(given.body)).encode()))
        await send({"type": "http.response.start", "status": given.status, "headers": raw})
        await send({"type": "http.response.body", "body": given.body})

    async def _forward(self, request: ForwardedRequest, scope: Scope) -> ForwardedResponse:
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers]
        changed = {
            **scope,
            "method": request.method,
            "path": request.path,
            "headers": raw,
            "query_string": request.query.encode("latin-1"),
        }
        messages: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": request.body, "more_body": False}

        async def send(message: Message) -> None:
            messages.append(message)

        await self.app(changed, receive, send)
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in messages[0]["headers"])
        return ForwardedResponse(
            messages[0]["status"], headers, b"".join(message.get("body", b"") for message in messages[1:])
        )


@contextlib.contextmanager
def listening(
    app: ASGIApp,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    cors: Cors | None = None,
    deadline: float = DEADLINE_SECONDS,
    keep_alive: int = 5,
    max_keep_alive: int = MAX_KEEP_ALIVE_CONNECTIONS,
    date_header: bool = True,
) -> Iterator[str]:
    """Serve the application in a thread, on a free port unless one is given; yield its URL.

    A test that waits for the deadline of a request gives a shorter one. Without `date_header` the application sets
    `Date`.
    """
    protocol: Any = functools.partial(DeadlineProtocol, cors=cors, deadline=deadline, max_keep_alive=max_keep_alive)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=protocol,
        ws="none",
        proxy_headers=False,
        lifespan="auto",
        log_config=None,
        access_log=False,
        timeout_keep_alive=keep_alive,
        date_header=date_header,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://{host}:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
