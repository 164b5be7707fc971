"""Requests and refusals in the form of OAuth 2.0 (RFC 6749): parameters in a form body, `{"error": ...}` answers.

RFC 6749 section 3.2 demands that unknown parameters are ignored and repeated ones are refused. The paths with this
form are listed in `problems.OAUTH_PATHS`.
"""

import base64
import binascii
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.errors import InvalidClient, InvalidOAuthRequest
from service.web.edge import read_body

FORM = "application/x-www-form-urlencoded"


class RawRoute(APIRoute):
    """A route whose function receives the request itself and returns the response itself.

    FastAPI's resolution of parameters costs more than the work of these routes. FastAPI still documents the routes.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return answer


@dataclass(frozen=True, slots=True)
class Credentials:
    """The id that a client claims, and its secret. A public client has no secret."""

    client_id: str | None
    secret: str | None


async def read_form(request: Request) -> dict[str, str]:
    """Read the parameters of the body. One with an empty value is omitted (RFC 6749 section 3.2).

    Raises `InvalidOAuthRequest` for more than 32 parameters, one without `=`, one that is given twice, or a body that
    is not ASCII; 415 for another content type; and what `read_body` does.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != FORM:
        raise HTTPException(415)
    try:
        text = (await read_body(request)).decode("ascii")
        pairs = parse_qsl(text, strict_parsing=bool(text), keep_blank_values=True, errors="strict", max_num_fields=32)
    except ValueError:
        raise InvalidOAuthRequest("the body is not a form") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise InvalidOAuthRequest("a parameter is given twice")
    return {name: value for name, value in form.items() if value}


def require_parameter(form: Mapping[str, str], name: str) -> str:
    """Return a parameter. Raises `InvalidOAuthRequest`, with its name, if it is missing."""
    if name not in form:
        raise InvalidOAuthRequest(f"{name} is missing")
    return form[name]


def credentials(request: Request, form: Mapping[str, str]) -> Credentials:
    """Read the client's credentials, from Basic or from the form, never from both (RFC 6749 sections 2.3 and 2.3.1).

    An empty secret counts as no secret: a client may omit an empty secret, and a public client may send one.
    """
    given = request.headers.getlist("authorization")
    if len(given) > 1:
        raise InvalidOAuthRequest("the client authenticates in more than one way")
    if not given or given[0].lower().startswith("bearer "):  # some frontends send their token with every request
        return Credentials(form.get("client_id"), form.get("client_secret"))
    if "client_secret" in form:
        raise InvalidOAuthRequest("the client authenticates in more than one way")
    scheme, _, encoded = given[0].partition(" ")
    try:
        if scheme.lower() != "basic":
            raise InvalidClient
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        client_id, secret = (unquote_plus(part, errors="strict") for part in (user, password))
    except (binascii.Error, ValueError):
        raise InvalidClient from None
    if not colon or form.get("client_id", client_id) != client_id:
        raise InvalidClient
    return Credentials(client_id, secret or None)


def form_body(required: Mapping[str, str], optional: Mapping[str, str]) -> dict[str, Any]:
    """Return the `requestBody` for the OpenAPI document, from names and descriptions of parameters."""
    properties = {
        name: {"type": "string", "minLength": 1 if name in required else 0, "description": text}
        for name, text in {**required, **optional}.items()
    }
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return {"required": True, "content": {FORM: {"schema": schema}}}


class OAuthProblem(BaseModel):
    """An error of OAuth 2.0 (RFC 6749 section 5.2)."""

    error: str
    error_description: str


def oauth_error_responses() -> dict[int | str, dict[str, Any]]:
    """Return the `responses=` of a route: what every route of this form may refuse with."""
    texts = {400: "The request is refused; see `error`.", 401: "The client did not authenticate.",
             413: "The body is larger than 16 KiB.", 415: f"The body must be {FORM}.",
             503: "Try again; see Retry-After."}  # fmt: skip
    return {status: {"description": text, "model": OAuthProblem} for status, text in texts.items()}
