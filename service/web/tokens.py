"""`POST /token`, `POST /revoke`, `POST /introspect`: the OAuth 2.0 endpoints."""

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from service.errors import InvalidClient, InvalidGrant, InvalidScope, UnsupportedGrantType
from service.sessions.clients import Client
from service.sessions.grants import ActiveToken, TokenGrant
from service.tokens.access import FIRST_PARTY, AccessClaims, ClientAccessClaims
from service.web import cookie_session
from service.web.context import WebContext
from service.web.oauth import RawRoute, credentials, form_body, oauth_error_responses, read_form, require_parameter

_AUTHENTICATION: dict[str, Any] = {"security": [{}, {"clientBasic": []}]}
_CLIENT = {
    "client_id": f"The id of a registered client, or {FIRST_PARTY}. Not needed with Basic.",
    "client_secret": "The secret of a registered client that does not use Basic.",
}


class GrantAnswer(BaseModel):
    """The answer of RFC 6749 section 5.1."""

    access_token: str
    token_type: str = Field(examples=["Bearer"])
    expires_in: int = Field(description="The lifetime of the access token in seconds.")
    refresh_token: str | None = Field(
        None,
        description="The next refresh token; it replaces the one just used. Absent with the header Keyturn-Session, "
        "because it is in the cookie, and for a client's own token.",
    )
    scope: str | None = Field(None, description="The scope of a registered client's access token.")


class IntrospectionAnswer(BaseModel):
    """The answer of RFC 7662 section 2.2. For a token that is not valid it is `active: false` and nothing else.

    It also has the static claims that `KEYTURN_CLAIMS` names, with their current values.
    """

    model_config = ConfigDict(extra="allow")

    active: bool
    iss: str | None = None
    sub: str | None = None
    aud: str | None = None
    client_id: str | None = None
    username: str | None = None
    scope: str | None = None
    token_type: str | None = None
    exp: int | None = None
    iat: int | None = None
    jti: str | None = None
    sid: str | None = None
    auth_time: int | None = None
    acr: str | None = None
    amr: list[str] | None = None
    roles: list[str] | None = Field(
        None, description="The current roles of the user, which may differ from those in the token."
    )


def routes(web: WebContext) -> APIRouter:
    grants, cookie_sessions = web.parts.grants, web.cookie_sessions
    issuer, audience = web.settings.issuer, web.settings.token_audience
    router = APIRouter(route_class=RawRoute, tags=["Services"])

    @router.post(
        "/token",
        operation_id="token",
        summary="Refresh a session, or issue a client's own access token",
        response_model=GrantAnswer,
        response_model_exclude_none=True,
        openapi_extra={
            **_AUTHENTICATION,
            **cookie_session.TOKEN_PARAMETERS,
            "requestBody": form_body(
                {"grant_type": "refresh_token or client_credentials"},
                {
                    "refresh_token": "Required for grant_type=refresh_token, except with the header Keyturn-Session.",
                    "scope": "For grant_type=client_credentials: a subset of the client's scopes.",
                    **_CLIENT,
                },
            ),
        },
        responses=cookie_session.sets_cookie(200, cookie_session.REFRESH_TOKEN) | oauth_error_responses(),
    )
    async def post_token(request: Request) -> Response:
        form = await read_form(request)
        match require_parameter(form, "grant_type"):
            case "refresh_token":
                return await refresh(request, form)
            case "client_credentials":
                granted = await grants.client_credentials(await require_client(request, form), form.get("scope"))
            case _:
                raise UnsupportedGrantType
        return _granted(granted)

    async def refresh(request: Request, form: dict[str, str]) -> Response:
        """Refresh a session with the token of the body or, if the request asks for it, that of the cookie."""
        uses_cookie = cookie_sessions.is_requested(request)
        is_of_cookie = uses_cookie and "refresh_token" not in form
        given = cookie_sessions.read(request) if is_of_cookie else require_parameter(form, "refresh_token")
        await client_of(request, form)
        if "scope" in form:
            raise InvalidScope  # tokens of users have no scope (RFC 6749 section 6)
        if given is None:
            raise InvalidGrant  # the same answer as for an ended session: the user logs in
        # A refusal leaves the cookie: a login in another tab may have set a new one meanwhile.
        granted = await grants.refresh(given, keeps_recent=is_of_cookie)
        if not uses_cookie:
            return _granted(granted)
        answer = _granted(replace(granted, refresh_token=None))
        cookie_sessions.set(granted, answer)
        return answer

    @router.post(
        "/revoke",
        operation_id="revoke",
        summary="End the session that a token belongs to",
        response_class=Response,
        openapi_extra={
            **_AUTHENTICATION,
            "requestBody": form_body(
                {"token": "A refresh token or an access token."},
                {"token_type_hint": "Ignored: the token itself shows its kind.", **_CLIENT},
            ),
        },
        responses={200: {"description": "The token is not valid (any more)."}, **oauth_error_responses()},
    )
    async def post_revoke(request: Request) -> Response:
        form = await read_form(request)
        token = require_parameter(form, "token")
        await grants.revoke(token, client=await client_of(request, form))
        return Response()

    @router.post(
        "/introspect",
        operation_id="introspect",
        summary="Check whether a token is valid at this moment; registered clients only",
        response_model=IntrospectionAnswer,
        response_model_exclude_none=True,
        openapi_extra={
            "security": [{"clientBasic": []}, {}],
            "requestBody": form_body(
                {"token": "A refresh token or an access token."},
                {
                    "token_type_hint": "Ignored: the token itself shows its kind.",
                    **_CLIENT,
                    "client_id": "The id of a registered client. Not needed with Basic.",
                },
            ),
        },
        responses=oauth_error_responses(),
    )
    async def post_introspect(request: Request) -> Response:
        form = await read_form(request)
        token = require_parameter(form, "token")
        await require_client(request, form)
        return JSONResponse(_introspection_response(await grants.introspect(token), issuer=issuer, audience=audience))

    async def client_of(request: Request, form: dict[str, str]) -> Client | None:
        """Return the authenticated client. Programs of users are public: they send no client_id, or `keyturn`."""
        given = credentials(request, form)
        if given.secret is None and given.client_id in {None, FIRST_PARTY}:
            return None
        return await require_client(request, form)

    async def require_client(request: Request, form: dict[str, str]) -> Client:
        given = credentials(request, form)
        if given.client_id is None or given.secret is None:
            raise InvalidClient
        return await grants.authenticate(given.client_id, given.secret)

    return router


def _granted(granted: TokenGrant) -> Response:
    """Make the answer of RFC 6749 section 5.1."""
    answer: dict[str, Any] = {
        "access_token": granted.access_token,
        "token_type": "Bearer",
        "expires_in": granted.expires_in,
    }
    if granted.refresh_token is not None:
        answer["refresh_token"] = granted.refresh_token
    if granted.scope is not None:
        answer["scope"] = granted.scope
    return JSONResponse(answer)


def _introspection_response(active: ActiveToken | None, *, issuer: str, audience: str) -> dict[str, Any]:
    """Make the answer of RFC 7662 section 2.2."""
    if active is None:
        return {"active": False}
    token, answer = active.token, {"active": True, "iss": issuer, "aud": audience}
    if isinstance(token, AccessClaims | ClientAccessClaims):
        answer |= {"token_type": "Bearer", "jti": token.jti, "iat": token.issued_at, "exp": token.expires_at}
    if isinstance(token, ClientAccessClaims):
        return answer | {"sub": token.client_id, "client_id": token.client_id, "scope": token.scope}
    assert active.live is not None
    session = active.live.session
    proven = token if isinstance(token, AccessClaims) else session
    answer |= {} if isinstance(token, AccessClaims) else {"exp": active.expires_at}
    return {**active.static_claims, **answer} | {
        "sub": session.user_id,
        "client_id": FIRST_PARTY,
        "username": active.live.username,
        "sid": session.id,
        "auth_time": proven.auth_time,
        "acr": proven.acr,
        "amr": list(proven.amr),
        "roles": list(active.live.roles),
    }
