"""Cookie sessions: a browser keeps its tokens in cookies that no script can read (RFC 10017 section 6).

A request with the header `Keyturn-Session: cookie` gets its refresh token in the cookie `COOKIE` instead of the body,
and a device token, if one was requested, in `DEVICE_COOKIE`. `POST /token` with the header and without a
`refresh_token` reads the first cookie, and `POST /login` with the header and without a `device_token` the second.
Without the header no cookie is read or set, so that a request that a browser sends by itself, as for a form or an
image, never uses a cookie.

Three things prevent cross-site request forgery:

- The header forces a preflight, which only allowed origins pass.
- `SameSite=Strict`: a browser does not send the cookies with requests from other sites.
- This module compares `Origin` itself, because the first two do not suffice: a proxy may answer preflights, and all
  hosts of one domain are the same site.

An unusable refresh cookie is an error, because the request needs it. An unusable device cookie counts as no device
token: it never makes a login fail that would succeed without it (law 5: password failures slow down, they never lock
out).
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NoReturn

from fastapi import Request
from starlette.responses import Response

from service.errors import InvalidOAuthRequest, InvalidRequest
from service.login.admission import LoginTokens
from service.sessions.grants import TokenGrant
from service.telemetry.event_names import LogName
from service.telemetry.log import emit
from service.tokens.device import LIFETIME
from service.web.bodies import MAX_DEVICE_TOKEN_LENGTH
from service.web.problems import OAUTH_PATHS

HEADER = "Keyturn-Session"
COOKIE = "__Host-keyturn-refresh"
"""The prefix makes browsers refuse the cookie from a subdomain, without `Secure`, or with another path."""
DEVICE_COOKIE = "__Host-keyturn-device"
"""The device token. A known device outlives its sessions; therefore `/logout` leaves this cookie."""
_ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Strict"

_PARAMETER = {
    "name": HEADER,
    "in": "header",
    "schema": {"type": "string", "enum": ["cookie"]},
    "description": f"For browsers: `cookie` moves the refresh token from the body into the cookie `{COOKIE}`, and a "
    f"device token into `{DEVICE_COOKIE}`. An `Origin`, if the request has one, must then be that of the issuer or "
    "one of `KEYTURN_CORS_ORIGINS`. Without this header no cookie is read or set.",
}
_COOKIE_PARAMETER = {
    "name": COOKIE,
    "in": "cookie",
    "schema": {"type": "string"},
    "description": f"The refresh token, if the request has the header `{HEADER}` and no `refresh_token` in its body. "
    "The request must then have an `Origin`.",
}
_DEVICE_COOKIE_PARAMETER = {
    "name": DEVICE_COOKIE,
    "in": "cookie",
    "schema": {"type": "string"},
    "description": f"The device token, if the request has the header `{HEADER}`, an `Origin`, and no `device_token` "
    f"in its body. One that is invalid, expired, longer than {MAX_DEVICE_TOKEN_LENGTH:,} characters or given twice "
    "is ignored.",
}
PARAMETERS = {"parameters": [_PARAMETER]}
"""The `openapi_extra` of an operation that reads the header."""
TOKEN_PARAMETERS = {"parameters": [_PARAMETER, _COOKIE_PARAMETER]}
"""The `openapi_extra` of `/token`."""
LOGIN_PARAMETERS = {"parameters": [_PARAMETER, _DEVICE_COOKIE_PARAMETER]}
"""The `openapi_extra` of `/login`."""


def sets_cookie(status: int, description: str) -> dict[int | str, dict[str, Any]]:
    """Return the `responses=` of an operation that sets the cookie with this status."""
    header = {"description": f"With `{HEADER}: cookie`: {description}", "schema": {"type": "string"}}
    return {status: {"headers": {"Set-Cookie": header}}}


REFRESH_TOKEN = f"the cookie `{COOKIE}` with the refresh token, which the body then does not have."
LOGIN_TOKENS = (
    f"the cookie `{COOKIE}` with the refresh token, and with `remember_device` the cookie `{DEVICE_COOKIE}` with the "
    "device token; the body then has neither."
)


class CookieSessions:
    """Reads and sets the cookies, for requests of the allowed origins.

    `origins` are the issuer's origin and those of `KEYTURN_CORS_ORIGINS`.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origins)

    def is_requested(self, request: Request) -> bool:
        """Return whether the request has the header.

        Raises `InvalidRequest`, or at `OAUTH_PATHS` `InvalidOAuthRequest`, if the header has an unknown value or the
        `Origin` is not an allowed one.

        A request without `Origin` is not a browser's `POST`, and passes unless it needs the cookie (see `read`). An
        unknown value is refused because ignoring it would put the tokens into the body.
        """
        values = request.headers.getlist(HEADER)
        if not values:
            return False
        if values != ["cookie"]:
            _refuse(request, HEADER, f"the value of {HEADER} must be: cookie")
        if any(origin not in self._origins for origin in request.headers.getlist("origin")):
            self._refuse_origin(request)
        return True

    def read(self, request: Request) -> str | None:
        """Return the refresh token in the cookie of a request that has the header; `None` if there is no cookie.

        Raises `InvalidOAuthRequest` without an `Origin`, and for two cookies of this name: one of them may have been
        set by somebody else.
        """
        if not _has_one_origin(request):
            self._refuse_origin(request)
        found = _values_of(COOKIE, request)
        if len(found) > 1:
            emit(LogName.SESSION_REFRESH_REFUSED, reason="two_cookies")
            _refuse(request, "Cookie", f"the cookie {COOKIE} is given twice")
        return found[0] if found else None

    def find_device_token(self, request: Request) -> str | None:
        """Return the device token in the cookie of a request that has the header and one allowed `Origin`.

        `None` without such a cookie, for two of them, because somebody else may have set one, and for a value that is
        too long. Raises only what `is_requested` does.
        """
        if not self.is_requested(request) or not _has_one_origin(request):
            return None
        found = _values_of(DEVICE_COOKIE, request)
        return found[0] if len(found) == 1 and len(found[0]) <= MAX_DEVICE_TOKEN_LENGTH else None

    def delivery(self, request: Request, response: Response) -> Callable[[LoginTokens], LoginTokens]:
        """Return a function that moves the tokens of a login into the cookies, if the header asks for it.

        Call this before anything is consumed, because it may raise: see `is_requested`.
        """
        if not self.is_requested(request):
            return lambda tokens: tokens

        def move(tokens: LoginTokens) -> LoginTokens:
            self.set(tokens, response)
            if tokens.device_token is not None:
                _set(response, DEVICE_COOKIE, tokens.device_token, int(LIFETIME.total_seconds()))
            return replace(tokens, refresh_token=None, device_token=None)

        return move

    def set(self, tokens: LoginTokens | TokenGrant, response: Response) -> None:
        """Set the refresh cookie, for as long as the refresh token is valid.

        A step-up has no refresh token: the cookie of its session stays as it is.
        """
        if tokens.refresh_token is not None:
            _set(response, COOKIE, tokens.refresh_token, tokens.refresh_expires_in)

    def clear(self, response: Response) -> None:
        """Remove the refresh cookie from the browser. The device cookie may be that of another user, and stays."""
        _set(response, COOKIE, "", 0)

    def _refuse_origin(self, request: Request) -> NoReturn:
        if request.scope["path"] in OAUTH_PATHS:
            emit(LogName.SESSION_REFRESH_REFUSED, reason="foreign_origin")
        _refuse(request, "Origin", "the Origin must be that of KEYTURN_ISSUER or one of KEYTURN_CORS_ORIGINS")


def _has_one_origin(request: Request) -> bool:
    """Return whether the request names one origin, as each `POST` of a browser does."""
    return len(request.headers.getlist("origin")) == 1


def _values_of(name: str, request: Request) -> list[str]:
    """Return the values of every cookie with this name (RFC 6265 section 5.4). Names are case-sensitive.

    HTTP/2 splits the header into several lines, and a proxy may not join them (RFC 9113 section 8.2.3).
    """
    pairs = (
        pair.strip(" \t").partition("=") for line in request.headers.getlist("cookie") for pair in line.split(";")
    )
    return [value for given, equals, value in pairs if equals and given == name]


def _set(response: Response, name: str, value: str, max_age: int) -> None:
    response.headers.append("Set-Cookie", f"{name}={value}; Max-Age={max_age}; {_ATTRIBUTES}")


def _refuse(request: Request, header: str, reason: str) -> NoReturn:
    if request.scope["path"] in OAUTH_PATHS:
        raise InvalidOAuthRequest(reason)
    raise InvalidRequest(((header, reason),))
