"""The layer around the application: what it does for every request, and the validation of bodies.

Law 13: input is validated at the edge, strictly.

- `EdgeMiddleware`: the outermost ASGI layer: request id, fair start, `Cache-Control: no-store` unless the answer has
  another value, CORS headers and preflights, 500 answers without details, and the count of requests.
- `StrictJsonRoute`: a route whose body is a JSON object in UTF-8 without duplicate keys, NaN or lone surrogates.
"""

import inspect
import json
import re
import secrets
from collections.abc import Callable, Coroutine, Iterable, MutableMapping
from time import perf_counter
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.origin import Actor
from service.telemetry import metrics
from service.telemetry.log import request_id
from service.tokens.access import AccessClaims, ClientAccessClaims
from service.web import problems
from service.web.cors import Cors
from service.web.fair_start import FairStarts
from service.web.wire import REFUSED_KEY

MAX_BODY_BYTES = 16 * 1024

_CLAIMS = (AccessClaims, ClientAccessClaims, Actor)
_SURROGATE = re.compile("[\ud800-\udfff]")
_VALID_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")


class EdgeMiddleware:
    """The outermost ASGI layer: an id for every request, no caching unless an answer allows it, and no
    traceback in an answer.

    `paths` are the paths of the application. In each iteration of the event loop, one request of each kind starts
    (see `fair_start`); requests of the kinds of `unqueued` start at once.
    """

    def __init__(
        self, app: ASGIApp, *, paths: Iterable[str], unqueued: Iterable[str] = (), cors: Cors | None = None
    ) -> None:
        self._app = app
        self._cors = cors if cors is not None and cors.is_on else None
        self._fair_starts = FairStarts(paths, unqueued=unqueued)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # RFC 9110 section 9.3.2: the same answer; the server drops the body
        identity = _request_id(scope)
        token = request_id.set(identity)
        begun = perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"]
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                headers += ((b"x-content-type-options", b"nosniff"), (b"x-request-id", identity.encode()))
                if self._cors is not None:
                    headers += self._cors.answer_headers(scope["path"], _origin(scope))
            await send(message)

        try:
            await self._fair_starts.wait(scope["path"])
            preflight = None if self._cors is None else self._cors.preflight(scope)
            await (preflight or self._app)(scope, receive, send_with_headers)
        except Exception as error:  # noqa: BLE001 -- the last place where a defect can become an answer
            answer = problems.internal_error(error)
            if not status:
                await answer(scope, receive, send_with_headers)
        finally:
            request_id.reset(token)
            if not scope.get("state", {}).get(REFUSED_KEY):  # else the protocol has counted its own answer
                metrics.count_request(route_of(scope), scope["method"], status, perf_counter() - begun)


class StrictJsonRoute(APIRoute):
    """A route that accepts its body as strict JSON only, and documents the security scheme of its operation."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if any(field.annotation in _CLAIMS for field in inspect.signature(endpoint).parameters.values()):
            raise RuntimeError(f"{path} has no decorator of web/bearers.py: its claims would be read from the body")
        security = getattr(endpoint, "security", None)  # set by the decorators of `bearers`
        if security is not None:
            options["openapi_extra"] = {**(options.get("openapi_extra") or {}), "security": security}
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        is_optional = not self.body_field.field_info.is_required()

        async def handle_strictly(request: Request) -> Response:
            if is_optional and not _has_body(request):
                return await handle(request)
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise HTTPException(415)
            return await handle(_StrictRequest(request.scope, request.receive))

        return handle_strictly


def _has_body(request: Request) -> bool:
    """Return whether the request has a body (RFC 9112 section 6)."""
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"


async def read_body(request: Request) -> bytes:
    """Read the body. Raises 413 if it is longer than 16 KiB, 400 if the client disconnects."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 9 or int(declared) > MAX_BODY_BYTES):
        raise HTTPException(413)  # before a client with Expect: 100-continue sends the body
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise HTTPException(413)  # the rest is discarded as it arrives
    except ClientDisconnect:
        raise HTTPException(400) from None  # the client is gone. FastAPI's own error would be a cycle of 45 objects
    return bytes(body)


class _StrictRequest(Request):
    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            self._body = await read_body(self)
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
        if _SURROGATE.search(name) or _has_surrogate(value):
            raise ValueError("a lone surrogate is not text")
    return members


def _has_surrogate(value: object) -> bool:
    """Return whether a string or an array has a lone surrogate. `_object` has checked nested objects already."""
    if isinstance(value, list):
        return any(map(_has_surrogate, value))
    return isinstance(value, str) and _SURROGATE.search(value) is not None


def _refuse_constant(_name: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")


def route_of(scope: MutableMapping[str, Any]) -> str:
    """Return the declared path of the route. All paths without a route share one label, which keeps labels few."""
    route = scope.get("route")
    if route is not None:
        return str(route.path)
    return str(scope["path"]) if "endpoint" in scope else "none"


def _origin(scope: Scope) -> bytes | None:
    return next((value for name, value in scope["headers"] if name == b"origin"), None)


def _request_id(scope: Scope) -> str:
    """Return the caller's `X-Request-Id` if it has an accepted form, else a new id."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _VALID_REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    return secrets.token_hex(8)
