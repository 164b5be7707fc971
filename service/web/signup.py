"""`POST /signup`."""

from collections.abc import Callable, Coroutine
from typing import Any, Self

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from service.accounts.signup import SignUpDetails, SignUpResult
from service.errors import SignupClosed
from service.telemetry.event_names import LogName
from service.telemetry.log import emit
from service.web.bodies import Body, Email, LinkToken, Locale, NewPassword, Username
from service.web.context import WebContext
from service.web.edge import StrictJsonRoute
from service.web.problems import error_responses


class SignupBody(Body):
    username: Username
    password: NewPassword
    enable_mfa: bool = Field(False, description="Begin an enrolment: from now on the password alone is not enough.")
    email: Email | None = None
    locale: Locale | None = None
    invitation: LinkToken | None = None


class SignupAnswer(BaseModel):
    """The new account. The last three fields are null without a second factor."""

    message: str
    username: str
    mfa_enabled: bool
    provisioning_uri: str | None = Field(description="The otpauth:// URI for the authenticator app.")
    mfa_token: str | None = Field(
        description="A pending token, valid for /qrcode and, with the first verification code, for /login-2fa."
    )
    expires_in: int | None = Field(description="The lifetime of mfa_token in seconds.")

    @classmethod
    def of(cls, signed_up: SignUpResult) -> Self:
        enrolment = signed_up.enrolment
        message = "The account exists. Log in at /login."
        if enrolment is not None:
            message = "The account exists. Scan the QR code and send its first code to /login-2fa."
        return cls(
            message=message,
            username=signed_up.user.username,
            mfa_enabled=enrolment is not None,
            provisioning_uri=enrolment and enrolment.provisioning_uri,
            mfa_token=enrolment and enrolment.mfa_token,
            expires_in=enrolment and enrolment.expires_in,
        )


class ClosedSignup(StrictJsonRoute):
    """The route when sign-up is closed. It refuses before it reads the body, so that all requests cost the same."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def refuse(_request: Request) -> Response:
            raise _closed()

        return refuse


def _closed() -> SignupClosed:
    """Log the refusal and return the error."""
    emit(LogName.SIGNUP_REFUSED, reason="closed")
    return SignupClosed()


def routes(web: WebContext) -> APIRouter:
    sign_up, callers = web.parts.sign_up, web.callers
    signup = web.settings.signup
    router = APIRouter(route_class=ClosedSignup if signup == "closed" else StrictJsonRoute, tags=["People"])

    @router.post(
        "/signup",
        operation_id="signup",
        summary="Create an account",
        status_code=201,
        responses=error_responses(403, 409, 422, 429),
    )
    async def post_signup(body: SignupBody, request: Request) -> SignupAnswer:
        if signup == "invited" and body.invitation is None:
            raise _closed()
        signed_up = await sign_up.sign_up(
            body.username,
            body.password.get_secret_value(),
            enable_mfa=body.enable_mfa,
            caller=callers.of(request),
            details=SignUpDetails(body.email, body.locale, body.invitation),
        )
        return SignupAnswer.of(signed_up)

    return router
