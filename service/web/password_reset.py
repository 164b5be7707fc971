"""`/password-reset`: forgotten passwords.

Law 8: no answer reveals who exists. A request for a link reads the user, and writes a row if a link is to be sent.
The answer 202 is sent `ANSWER_SECONDS` (see `waits`) after its request began. Both take less time, unless the
database is slow.
"""

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.errors import NotFound
from service.web.bodies import Body, LinkToken, NewPassword, Username
from service.web.context import WebContext
from service.web.edge import StrictJsonRoute
from service.web.emails import AcceptedAnswer
from service.web.problems import error_responses


class PasswordResetBody(Body):
    username: Username


class NewPasswordBody(Body):
    token: LinkToken
    new_password: NewPassword


def routes(web: WebContext) -> APIRouter:
    resets, callers, answer_seconds = web.parts.password_resets, web.callers, web.parts.waits.answer
    sends_messages = web.settings.message_transport is not None
    router = APIRouter(route_class=StrictJsonRoute, tags=["People"])

    @router.post(
        "/password-reset",
        operation_id="requestPasswordReset",
        summary="Send a link for a new password",
        status_code=202,
        responses=error_responses(404, 422, 429),
    )
    async def post_password_reset(body: PasswordResetBody, request: Request) -> AcceptedAnswer:
        if not sends_messages:
            raise NotFound
        loop = asyncio.get_running_loop()
        answer_at = loop.time() + answer_seconds
        await resets.request(body.username, callers.of(request))
        await asyncio.sleep(answer_at - loop.time())
        return AcceptedAnswer(
            message="If the account has a confirmed e-mail address, a message with a link is on its way to it."
        )

    @router.post(
        "/password-reset/confirm",
        operation_id="resetPassword",
        summary="Set a new password with the token of a link",
        status_code=204,
        responses=error_responses(401, 422),
    )
    async def post_password_reset_confirm(body: NewPasswordBody, request: Request) -> Response:
        await resets.confirm(body.token, body.new_password.get_secret_value(), callers.of(request))
        return Response(status_code=204)

    return router
