"""`/email`: the e-mail address of the account."""

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from service.errors import NotFound
from service.tokens.access import AccessClaims
from service.web.bodies import Body, Email, LinkToken, Password
from service.web.context import WebContext
from service.web.edge import StrictJsonRoute
from service.web.problems import error_responses


class EmailBody(Body):
    email: Email
    password: Password


class LinkBody(Body):
    token: LinkToken


class RemoveEmailBody(Body):
    password: Password | None = None


class AcceptedAnswer(BaseModel):
    """A message may be on its way."""

    message: str


def routes(web: WebContext) -> APIRouter:
    emails, bearers, callers = web.parts.emails, web.bearers, web.callers
    sends_messages = web.settings.message_transport is not None
    router = APIRouter(route_class=StrictJsonRoute, tags=["People"])

    @router.post(
        "/email",
        operation_id="changeEmail",
        summary="Set or change the e-mail address",
        status_code=202,
        responses=error_responses(401, 404, 422, 429),
    )
    @bearers.user
    async def post_email(access: AccessClaims, body: EmailBody, request: Request) -> AcceptedAnswer:
        if not sends_messages:
            raise NotFound
        await emails.request_change(access, body.email, body.password.get_secret_value(), callers.of(request))
        return AcceptedAnswer(message="A message with a link is on its way to the new address.")

    @router.post(
        "/email/confirm",
        operation_id="confirmEmail",
        summary="Confirm the e-mail address with the token of a link",
        status_code=204,
        responses=error_responses(401, 409, 422),
    )
    async def post_email_confirm(body: LinkBody, request: Request) -> Response:
        await emails.confirm(body.token, callers.of(request))
        return Response(status_code=204)

    @router.post(
        "/email/cancel",
        operation_id="cancelEmail",
        summary="Refuse a new e-mail address with the token of a link",
        status_code=204,
        responses=error_responses(401, 422),
    )
    async def post_email_cancel(body: LinkBody, request: Request) -> Response:
        await emails.cancel(body.token, callers.of(request))
        return Response(status_code=204)

    @router.delete(
        "/email",
        operation_id="removeEmail",
        summary="Remove the e-mail address",
        status_code=204,
        responses=error_responses(401, 422, 429),
    )
    @bearers.user
    async def delete_email(access: AccessClaims, request: Request, body: RemoveEmailBody | None = None) -> Response:
        password = None if body is None or body.password is None else body.password.get_secret_value()
        await emails.remove(access, password, callers.of(request))
        return Response(status_code=204)

    return router
