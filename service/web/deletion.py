"""`DELETE /me`, `/me/restore`, `/me/export`: request the deletion of the account, restore it, export its data."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response, StreamingResponse

from service.accounts.exports import Export
from service.login.admission import LoginTokens
from service.login.pending import SecondFactorRequired
from service.static_claims import Value
from service.tokens.access import AccessClaims
from service.users.users import User
from service.web import cookie_session
from service.web.account import EventAnswer
from service.web.account_answers import ExportedAuthenticator, ExportedInvitation, ExportedSession
from service.web.bodies import Body, Password, Username
from service.web.context import WebContext
from service.web.edge import StrictJsonRoute
from service.web.login import LoginAnswer, PendingAnswer, TokenAnswer
from service.web.problems import error_responses


class DeleteBody(Body):
    password: Password


class RestoreBody(Body):
    username: Username
    password: Password


class DeletionAnswer(BaseModel):
    deleted_at: int = Field(description="Epoch seconds at which the account is removed.")


class ExportedAccount(BaseModel):
    """The row of the account. Times are in epoch seconds."""

    sub: str
    username: str
    created_at: int
    roles: list[str]
    locale: str | None
    email: str | None
    new_email: str | None
    claims: dict[str, Value] = Field(description="The static claims.")
    mfa: str = Field(description="off, asked (not confirmed yet) or confirmed.")
    credential_version: int = Field(
        description="Rises each time that all pending tokens and device tokens of the account are revoked."
    )
    recovery_due_at: int | None
    password_reset_at: int | None

    @classmethod
    def of(cls, user: User) -> "ExportedAccount":
        return cls(
            sub=user.id,
            username=user.username,
            created_at=user.created_at,
            roles=list(user.roles),
            locale=user.locale,
            email=user.email,
            new_email=user.new_email,
            claims=dict(user.claims),
            mfa=user.mfa,
            credential_version=user.credential_version,
            recovery_due_at=user.recovery_due_at,
            password_reset_at=user.password_reset_at,
        )


class ExportAnswer(BaseModel):
    """Everything that is stored about the user, without secrets."""

    exported_at: int = Field(description="Epoch seconds.")
    account: ExportedAccount
    authenticators: list[ExportedAuthenticator]
    recovery_codes_left: int
    invitation: ExportedInvitation | None = Field(description="The invitation with which the account was made.")
    sessions: list[ExportedSession]
    events: list[EventAnswer] = Field(description="The events of the last 90 days, the oldest first.")


def routes(web: WebContext) -> APIRouter:
    deletions, restore, exports = web.parts.deletions, web.parts.restore, web.parts.exports
    bearers, callers, cookie_sessions = web.bearers, web.callers, web.cookie_sessions
    router = APIRouter(route_class=StrictJsonRoute, tags=["People"])

    @router.delete(
        "/me",
        operation_id="deleteMe",
        summary="Request the deletion of the account",
        status_code=202,
        responses=error_responses(401, 409, 422, 429),
    )
    @bearers.user
    async def delete_me(access: AccessClaims, body: DeleteBody, request: Request) -> DeletionAnswer:
        due_at = await deletions.request(access, body.password.get_secret_value(), callers.of(request))
        return DeletionAnswer(deleted_at=due_at)

    @router.post(
        "/me/restore", operation_id="restoreMe", summary="Take back the deletion of the account, and log in",
        responses=cookie_session.sets_cookie(200, cookie_session.REFRESH_TOKEN) | error_responses(401, 422, 429),
        response_model=LoginAnswer, response_model_exclude_none=True, openapi_extra=cookie_session.PARAMETERS,
    )  # fmt: skip
    async def post_restore(body: RestoreBody, request: Request, response: Response) -> TokenAnswer | PendingAnswer:
        deliver = cookie_sessions.delivery(request, response)
        match await restore.with_password(body.username, body.password.get_secret_value(), callers.of(request)):
            case SecondFactorRequired() as pending:
                return PendingAnswer.of(pending)
            case LoginTokens() as admitted:
                return TokenAnswer.of(deliver(admitted))

    @router.get(
        "/me/export",
        operation_id="exportMe",
        summary="Export everything that is stored about the user",
        responses=error_responses(401),
        response_model=ExportAnswer,
    )
    @bearers.user
    async def get_export(access: AccessClaims) -> StreamingResponse:
        return StreamingResponse(
            _written(await exports.read(access)),
            media_type="application/json",
            headers={"Content-Disposition": 'attachment; filename="account.json"'},
        )

    return router


async def _written(export: Export) -> AsyncIterator[str]:
    """Write an `ExportAnswer` in parts, so that its sessions and events are never in memory all at once."""
    head = ExportAnswer(
        exported_at=export.exported_at,
        account=ExportedAccount.of(export.user),
        authenticators=[ExportedAuthenticator.of(factor) for factor in export.authenticators],
        recovery_codes_left=export.recovery_codes_left,
        invitation=None if export.invitation is None else ExportedInvitation.of(export.invitation),
        sessions=[],
        events=[],
    )
    yield head.model_dump_json(exclude={"sessions", "events"}).removesuffix("}")
    async for text in _list("sessions", export.sessions, ExportedSession.of_stored):
        yield text
    async for text in _list("events", export.events, EventAnswer.of):
        yield text
    yield "}"


async def _list(name: str, items: AsyncIterator[Any], write: Callable[[Any], BaseModel]) -> AsyncIterator[str]:
    """Write a member that is a list, item by item."""
    yield f',"{name}":['
    separator = ""
    async for item in items:
        yield separator + write(item).model_dump_json()
        separator = ","
    yield "]"
