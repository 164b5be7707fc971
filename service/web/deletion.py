"""`DELETE /me`, `/me/restore`, `/me/export`: request the deletion of the account, restore it, export its data."""

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response, StreamingResponse

from service.login.admission import LoginTokens
from service.login.pending import SecondFactorRequired
from service.tokens.access import AccessClaims
from service.web import cookie_session
from service.web.bodies import Body, Password, Username
from service.web.context import WebContext
from service.web.edge import StrictJsonRoute
from service.web.export import ExportAnswer, write_export
from service.web.login import LoginAnswer, PendingAnswer, TokenAnswer
from service.web.problems import error_responses


class DeleteBody(Body):
    password: Password


class RestoreBody(Body):
    username: Username
    password: Password


class DeletionAnswer(BaseModel):
    deleted_at: int = Field(description="Epoch seconds at which the account is removed.")


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
            write_export(await exports.read(access)),
            media_type="application/json",
            headers={"Content-Disposition": 'attachment; filename="account.json"'},
        )

    return router
