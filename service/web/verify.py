"""`/verify`: forward authentication for gateways that accept 204. It accepts any method and reads no store.

The answer is 204 with the user in headers, or 401 with the challenge that the gateway passes on (RFC 6750, RFC 9470).
All four headers are always present, so that a gateway that copies them overwrites headers that the caller sent.
"""

import re
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from service.errors import InvalidRequest
from service.sessions.bearers import ACR_LEVELS
from service.tokens.access import AccessClaims
from service.web.caller import require_bearer
from service.web.context import WebContext
from service.web.oauth import RawRoute
from service.web.problems import error_responses

_SECONDS = re.compile(r"[0-9]{1,9}")


def routes(web: WebContext) -> APIRouter:
    bearer_auth = web.parts.bearer_auth
    router = APIRouter(route_class=RawRoute, tags=["Services"])

    async def verify(request: Request) -> Response:
        acr, max_age = _demands(request.scope["query_string"])
        access = await bearer_auth.verify(require_bearer(request), acr=acr, max_age=max_age)
        return Response(status_code=204, headers=_identity(access))

    def header(text: str) -> dict[str, object]:
        return {"description": text, "schema": {"type": "string"}}

    router.add_api_route(
        "/verify",
        verify,
        methods=["GET"],
        operation_id="verify",
        summary="Check an access token for a gateway",
        status_code=204,
        response_class=Response,
        openapi_extra={
            "security": [{"accessToken": []}],
            "parameters": [
                {
                    "name": "acr",
                    "in": "query",
                    "description": "The lowest authentication level that is accepted.",
                    "example": "aal2",
                    "schema": {"type": "string", "enum": sorted(ACR_LEVELS)},
                },
                {
                    "name": "max_age",
                    "in": "query",
                    "description": "The greatest age of the authentication in seconds.",
                    "example": 300,
                    "schema": {"type": "integer", "minimum": 0, "maximum": 999999999},
                },
            ],
        },
        responses={
            204: {
                "description": "The access token is valid. The headers name the user.",
                "headers": {
                    "X-Auth-Subject": header("The id of the user: opaque and never reused."),
                    "X-Auth-Username": header("The username, for display."),
                    "X-Auth-Roles": header("The roles, separated by commas."),
                    "X-Auth-Amr": header("The authentication methods (RFC 8176), separated by commas."),
                },
            },
            **error_responses(401, 422),
        },
    )
    router.routes.append(Route("/verify", AnyMethod(verify), include_in_schema=False))
    return router


class AnyMethod:
    """An endpoint for any method. It is a class because Starlette limits a function to GET by default."""

    def __init__(self, answer: Callable[[Request], Awaitable[Response]]) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)


def _identity(access: AccessClaims) -> dict[str, str]:
    return {
        "X-Auth-Subject": access.sub,
        "X-Auth-Username": access.username,
        "X-Auth-Roles": ",".join(access.roles),
        "X-Auth-Amr": ",".join(access.amr),
    }


def _demands(query: bytes) -> tuple[str | None, int | None]:
    """Return `acr` and `max_age`. A misspelt demand is refused: if it were ignored, any valid token would pass."""
    if not query:
        return None, None
    try:
        pairs = parse_qsl(query.decode("ascii"), strict_parsing=True, keep_blank_values=True, errors="strict")
    except ValueError:
        raise InvalidRequest((("", "the query is not well-formed"),)) from None
    demands = dict(pairs)
    acr, max_age = demands.get("acr"), demands.get("max_age")
    if len(demands) != len(pairs) or not demands.keys() <= {"acr", "max_age"}:
        raise InvalidRequest((("", "only acr and max_age can be demanded, each once"),))
    if acr is not None and acr not in ACR_LEVELS:
        raise InvalidRequest((("acr", f"This must be one of {', '.join(sorted(ACR_LEVELS))}"),))
    if max_age is not None and _SECONDS.fullmatch(max_age) is None:
        raise InvalidRequest((("max_age", "This must be a number of seconds"),))
    return acr, None if max_age is None else int(max_age)
