"""The answers to refused requests: problem details (RFC 9457) with a stable `code`.

The status of every error is defined in this module and nowhere else. No answer repeats a value that was sent (law 13:
input is validated at the edge, strictly; law 15: logs, metrics, traces, errors and outbox rows hold no secret). An
answer has the name of an unknown field only if the name matches `_FIELD_NAME`. After an internal error the answer has
the code and its sentence, and no details.
"""

import logging
import math
import re
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from service import errors
from service.clock import unix_seconds
from service.errors import ServiceError
from service.telemetry.event_names import LogName
from service.telemetry.log import warn

STATUS: dict[type[ServiceError], int] = {
    errors.InvalidRequest: 422,
    errors.WeakPassword: 422,
    errors.BreachedPassword: 422,
    errors.SignupClosed: 403,
    errors.InvalidInvitation: 403,
    errors.Forbidden: 403,
    errors.AccountDisabled: 409,
    errors.ClientIdTaken: 409,
    errors.LastAdministrator: 409,
    errors.UsernameTaken: 409,
    errors.EmailTaken: 409,
    errors.MfaAlreadyEnabled: 409,
    errors.MfaNotEnabled: 409,
    errors.TooManyFactors: 409,
    errors.LastFactor: 409,
    errors.InvalidCredentials: 401,
    errors.InvalidCode: 401,
    errors.InvalidRecoveryCode: 401,
    errors.CodeOutOfStep: 401,
    errors.CodeOutOfStoredStep: 401,
    errors.InvalidToken: 401,
    errors.MissingToken: 401,
    errors.InsufficientAuthentication: 401,
    errors.InsufficientScope: 403,
    errors.NotFound: 404,
    errors.TooManyAttempts: 429,
    errors.Busy: 503,
    errors.StoreUnavailable: 503,
    errors.MissingTable: 503,
    errors.InvalidOAuthRequest: 400,
    errors.InvalidGrant: 400,
    errors.InvalidClient: 401,
    errors.UnauthorizedClient: 400,
    errors.InvalidScope: 400,
    errors.UnsupportedGrantType: 400,
    errors.UnsupportedTokenType: 400,
}

OAUTH_PATHS = frozenset({"/token", "/revoke", "/introspect"})
"""The paths whose refusals have the form of RFC 6749 section 5.2."""

WIRE: dict[int, tuple[str, str]] = {
    400: ("malformed_request", "The request is not well-formed."),
    404: (errors.NotFound.code, errors.NotFound.message),
    405: ("method_not_allowed", "This path does not allow this method."),
    406: ("not_acceptable", "No representation that the Accept header allows exists."),
    408: ("request_timeout", "The request did not arrive in time."),
    413: ("content_too_large", "The request body is larger than 16 KiB."),
    415: ("unsupported_media_type", "The body must be JSON: Content-Type: application/json."),
    431: ("headers_too_large", "The request's headers are larger than 16 KiB."),
    500: ("internal_error", "Internal error. The log has the details under the id of this request."),
}
"""The code and the sentence of each status that is answered without a `ServiceError`."""

MAX_FIELD_NAME_LENGTH = 40
_FIELD_NAME = re.compile("_?[a-z]{1,14}(?:_(?:[a-z]{1,14}|2fa)|[A-Z][a-z]{1,13}|2fa){0,5}")
"""A name in snake_case or camelCase: words of at most 14 letters, without digits except in `2fa`.

So the pattern matches no code (digits), no secret of an authenticator or recovery code (16 letters or more in one
word, or capitals), and no token or hash (digits, dots, adjacent capitals). It may match a password, which then
returns to its sender only.
"""

MEDIA_TYPE = "application/problem+json"
_log = logging.getLogger("keyturn.web")


class FieldProblem(BaseModel):
    """One field that was refused."""

    field: str = Field(
        description="The name of the field, with dots where it is nested; empty for the request as a whole, and for "
        "an unknown field that may be a secret."
    )
    message: str


class Problem(BaseModel):
    """Problem details (RFC 9457). Compare `code`; the sentences may change."""

    model_config = ConfigDict(title="Problem")

    type: str = Field(examples=["urn:keyturn:problem:invalid_code"])
    title: str
    status: int = Field(examples=[401])
    code: str = Field(examples=sorted({error.code for error in STATUS} | {code for code, _ in WIRE.values()}))
    detail: str | SkipJsonSchema[None] = None  # left out rather than null, and so is errors
    errors: list[FieldProblem] | SkipJsonSchema[None] = None
    offset_seconds: int | SkipJsonSchema[None] = Field(
        None,
        description="With code_out_of_step: the seconds that the authenticator's clock is ahead; negative: behind.",
    )
    server_time: int | SkipJsonSchema[None] = Field(
        None, description="With code_out_of_step: the time of the service in epoch seconds."
    )


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses=` of a route, all problems: these statuses, 400, 503, and with 422 also 413 and 415."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    described = {401: "The authentication failed.", 403: "Not permitted.", 404: "Not found.",
                 409: "The state of the account does not allow it.", 422: "A field is invalid.",
                 429: "Too many attempts; see Retry-After.", 503: "Try again; see Retry-After."}  # fmt: skip
    retry = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
    return {
        status: {
            "description": described.get(status) or WIRE[status][1],
            "content": {MEDIA_TYPE: schema},
            **({"headers": retry} if status in {429, 503} else {}),
        }
        for status in sorted({400, *statuses, *({413, 415} if 422 in statuses else ()), 503})
    }


def install(app: FastAPI) -> None:
    """Install handlers that give every refusal of `app` this form."""
    app.add_exception_handler(ServiceError, refuse)
    app.add_exception_handler(RequestValidationError, _refuse_fields)
    app.add_exception_handler(HTTPException, _refuse_wire)
    app.add_exception_handler(ClientDisconnect, _answer_disconnect)


def problem(
    status: int,
    code: str,
    title: str,
    *,
    headers: dict[str, str] | None = None,
    **details: Any,
) -> Response:
    """Make the answer. `details` are the members of `Problem` that not every refusal has."""
    body = Problem(type=f"urn:keyturn:problem:{code}", title=title, status=status, code=code, **details)
    return Response(body.model_dump_json(exclude_none=True), status, headers, MEDIA_TYPE)


def wire_problem(status: int, headers: dict[str, str] | None = None) -> Response:
    """Make the answer for a refusal of HTTP itself, one of `WIRE`."""
    code, title = WIRE.get(status, ("http_error", "The request was refused."))
    return problem(status, code, title, headers=headers)


async def refuse(request: Request, error: Exception) -> Response:
    """Answer a `ServiceError`."""
    assert isinstance(error, ServiceError)
    headers: dict[str, str] = {}
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
    challenge = _challenge(error)
    if challenge is not None:
        headers["WWW-Authenticate"] = challenge
    if isinstance(error, errors.StoreUnavailable):
        warn(LogName.REQUEST_REFUSED, reason=error.code, cause=type(error.__cause__ or error).__name__)
    if request.scope["path"] in OAUTH_PATHS:
        code = error.code if isinstance(error, errors.OAuthError) else "temporarily_unavailable"
        return _oauth_problem(STATUS[type(error)], code, getattr(error, "reason", None) or error.message, headers)
    return problem(STATUS[type(error)], error.code, error.message, headers=headers, **details_of(error))


def details_of(error: ServiceError) -> dict[str, Any]:
    """Return the members of the problem document that only this error has."""
    match error:
        case errors.InvalidRequest(fields=fields) if fields:
            return {"errors": [FieldProblem(field=name, message=message) for name, message in fields]}
        case errors.WeakPassword(reason=reason):
            return {"detail": reason}
        case errors.CodeOutOfStep(offset=offset, server_time=moment):
            return {"offset_seconds": offset, "server_time": unix_seconds(moment)}
    return {}


def _challenge(error: ServiceError) -> str | None:
    """Return the `WWW-Authenticate` of a 401 or 403 (RFC 6750 section 3, RFC 9470 section 3, RFC 7617)."""
    match error:
        case errors.MissingToken():
            return 'Bearer realm="keyturn"'
        case errors.InvalidToken():
            return 'Bearer realm="keyturn", error="invalid_token"'
        case errors.InvalidClient():
            return 'Basic realm="keyturn"'
        case errors.InsufficientScope(scope=scope):
            return f'Bearer realm="keyturn", error="{error.code}", scope="{scope}"'
        case errors.InsufficientAuthentication():
            demands = "" if error.acr is None else f', acr_values="{error.acr}"'
            demands += "" if error.max_age is None else f', max_age="{error.max_age}"'
            return f'Bearer realm="keyturn", error="{error.code}", error_description="{error.message}"{demands}'
    return None


def _oauth_problem(status: int, code: str, description: str, headers: dict[str, str]) -> Response:
    return JSONResponse({"error": code, "error_description": description}, status, headers)


async def _refuse_fields(request: Request, error: Exception) -> Response:
    """Answer pydantic's errors without the values: one may be a password, and a lone surrogate cannot be encoded."""
    assert isinstance(error, RequestValidationError)
    found = []
    for mistake in error.errors():
        if mistake["type"] == "json_invalid":
            return wire_problem(400)
        place = [str(part) for part in mistake["loc"] if part != "body"]
        if mistake["type"] == "extra_forbidden":
            found.append(_unknown_field(place))
        else:
            found.append((".".join(place), mistake["msg"].removeprefix("Value error, ")))
    return await refuse(request, errors.InvalidRequest(tuple(found[:20])))


def _unknown_field(place: list[str]) -> tuple[str, str]:
    """Name an unknown field only where its name looks like one, because clients send secrets as names by mistake."""
    name = place[-1]
    if len(name) <= MAX_FIELD_NAME_LENGTH and _FIELD_NAME.fullmatch(name):
        return ".".join(place), "This field is unknown."
    return "", "A field is unknown."


async def _refuse_wire(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if request.scope["path"] in OAUTH_PATHS:
        title = WIRE[error.status_code][1]
        if error.status_code == 415:
            title = "The body must be a form: Content-Type: application/x-www-form-urlencoded."
        return _oauth_problem(error.status_code, "invalid_request", title, dict(error.headers or {}))
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = _allowed(request)
    return wire_problem(error.status_code, headers)


def _allowed(request: Request) -> str:
    """Return the methods of all routes of this path. Starlette reports only those of the first route that matches."""
    methods: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] != Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return ", ".join(sorted(methods))


async def _answer_disconnect(_request: Request, _error: Exception) -> Response:
    return wire_problem(400)  # the client disconnected while it sent the body; the answer is not read


def internal_error(error: Exception) -> Response:
    """Answer a defect with a 500 without details, and log its traceback."""
    _log.error("internal_error", exc_info=error)
    return wire_problem(500)
