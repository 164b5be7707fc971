"""Input is proven at the edge (law 13): bytes, deadlines and JSON, before any act is asked.

- `DeadlineProtocol`: uvicorn's HTTP protocol, with a deadline for the whole request (a trickling client gets 408,
  a silent one is closed) and a limit on headers (431).
- `Edge`: the ASGI layer around everything: request id, `Cache-Control: no-store`, and 500s that say nothing.
- `StrictJson`: a route whose body is a JSON object in UTF-8 without duplicate keys, NaN or lone surrogates.
"""

import asyncio
import json
import re
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.events import request_id
from service.web import problems

MAX_BODY = 16 * 1024
MAX_HEADERS = 16 * 1024
DEADLINE = 10.0
"""Seconds from the connection, or from the answer before, until a request must have arrived whole."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_OUR_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")


class DeadlineProtocol(HttpToolsProtocol):
    """One timer per connection: it runs whenever the client owes us bytes."""

    _timer: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self._refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._refused:
            return
        super().on_message_complete()
        if self.cycle.response_complete:
            self._arm()  # answered before the body was read: the next request is due
        else:
            self._disarm()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unset_keepalive_if_required()  # our deadline is the keep-alive timeout too
        if not self.transport.is_closing() and not self.pipeline:
            self._arm()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400)

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > MAX_HEADERS:
            self._refuse(431)

    def _arm(self) -> None:
        self._disarm()
        self._timer = self.loop.call_later(DEADLINE, self._too_late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self) -> None:
        has_begun = self.headers is not None and (self.cycle is None or not self.cycle.response_complete)
        if has_begun:
            self._refuse(408)
        else:
            self.transport.close()

    def _refuse(self, status: int) -> None:
        """Answer for the application, once, unless it has begun to; then close."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._disarm()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # the application, if it waits for the body, sees the client gone
            self.cycle.message_event.set()
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            answer = problems.wire_problem(status)
            lines = [b"HTTP/1.1 %d \r\n" % status]
            lines += [b"%s: %s\r\n" % header for header in answer.raw_headers]
            lines += [b"cache-control: no-store\r\n", b"connection: close\r\n\r\n", bytes(answer.body)]
            self.transport.write(b"".join(lines))
        self.transport.close()


class Edge:
    """Around the application: an id for every request, no caching of answers, and no traceback outside."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identity = _request_id(scope)
        token = request_id.set(identity)
        has_started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                headers = MutableHeaders(raw=message["headers"])
                headers.setdefault("Cache-Control", "no-store")
                headers["X-Content-Type-Options"] = "nosniff"
                headers["X-Request-Id"] = identity
                message["headers"] = headers.raw
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception as error:  # noqa: BLE001 -- the last place where a defect can become an answer
            answer = problems.internal_error(error)
            if not has_started:
                await answer(scope, receive, send_with_headers)
        finally:
            request_id.reset(token)


class StrictJson(APIRoute):
    """A route that takes its body as strict JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def handle_strictly(request: Request) -> Response:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise HTTPException(415)
            return await handle(_StrictRequest(request.scope, request.receive))

        return handle_strictly


class _StrictRequest(Request):
    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            body = bytearray()
            async for chunk in self.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise HTTPException(413, headers={"Connection": "close"})  # the rest is not read
            self._body = bytes(body)
        return self._body

    async def json(self) -> Any:
        try:
            value = json.loads(
                (await self.body()).decode("utf-8"),
                object_pairs_hook=_object,
                parse_constant=_refuse_constant,
            )
        except (ValueError, RecursionError):
            raise HTTPException(400) from None
        if not isinstance(value, dict):
            raise HTTPException(400)
        return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is given twice")
    for name, value in pairs:
        if _SURROGATE.search(name) or (isinstance(value, str) and _SURROGATE.search(value)):
            raise ValueError("a lone surrogate is no text")
    return members


def _refuse_constant(_name: str) -> None:
    raise ValueError("NaN and Infinity are no JSON")


def _request_id(scope: Scope) -> str:
    """The caller's `X-Request-Id` if it is harmless, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _OUR_REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    return secrets.token_hex(8)
