"""`POST /login` and `POST /login-2fa`, the two steps of a login; `POST /step-up`, which repeats the second step."""

from typing import Annotated, Literal, Self

from fastapi import APIRouter, Request
from pydantic import AliasChoices, BaseModel, Field, WithJsonSchema, model_validator
from starlette.responses import Response

from service.errors import InvalidRequest
from service.factors.recovery_codes import RecoveryCode as RecoveryCodeProof
from service.factors.second_factor import METHODS, Proof
from service.factors.totp_authenticators import TotpCode
from service.login.admission import LoginTokens
from service.login.pending import SecondFactorRequired
from service.tokens.access import AccessClaims
from service.web import cookie_session
from service.web.bodies import Body, DeviceToken, MfaToken, Otp, Password, RecoveryCode, Username
from service.web.caller import bearer, require_bearer
from service.web.context import WebContext
from service.web.edge import StrictJsonRoute
from service.web.problems import error_responses

RememberDevice = Annotated[
    bool,
    Field(
        description="Return a device_token, or set its cookie. Request it only if nobody else uses this browser or "
        "program."
    ),
]

Method = Annotated[str, WithJsonSchema({"type": "string", "enum": list(METHODS)})]
METHODS_DESCRIPTION = (
    "What can be sent with this token: totp is a verification code, in otp; recovery_code is a recovery code."
)


class LoginBody(Body):
    username: Username
    password: Password
    device_token: DeviceToken | None = Field(
        None,
        description="The device token of an earlier login on this device. An invalid or expired one is ignored. With "
        "the header Keyturn-Session leave it out: the cookie has it.",
    )
    remember_device: RememberDevice = False


class CodeBody(Body):
    mfa_token: MfaToken | None = Field(None, description="The pending token, in this field or as the bearer token.")
    otp: Otp | None = Field(None, validation_alias=AliasChoices("otp", "token"))
    recovery_code: RecoveryCode | None = Field(None, description="A recovery code, in place of otp.")
    remember_device: RememberDevice = False

    @model_validator(mode="after")
    def _has_one_code(self) -> Self:
        if (self.otp is None) == (self.recovery_code is None):
            raise ValueError("exactly one of otp and recovery_code is needed")
        return self

    def proof(self) -> Proof:
        return TotpCode(self.otp) if self.otp is not None else RecoveryCodeProof(self.recovery_code or "")


class TokenAnswer(BaseModel):
    """The user is logged in: an access token for this and other services (RFC 6749 section 5.1)."""

    mfa_required: Literal[False] = Field(description="Distinguishes the two answers of /login.")
    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int = Field(description="The lifetime of the access token in seconds.")
    refresh_token: str | None = Field(
        None,
        description="For /token. Each use replaces it. Absent after a step-up: the session keeps the one it has. "
        "Absent with the header Keyturn-Session: it is in the cookie.",
    )
    recovery_codes: list[str] | None = Field(
        None,
        description="Ten recovery codes, after the first verification code of an enrolment and never again. Show "
        "them to the user and ask the user to keep them safe.",
    )
    recovery_codes_left: int | None = Field(
        None, description="The number of unused recovery codes, after a login with one."
    )
    device_token: str | None = Field(
        None,
        description="If requested: send it with the next /login from this device, so that failures elsewhere do not "
        "delay that login. Absent with the header Keyturn-Session: it is in a cookie.",
    )

    @classmethod
    def of(cls, admitted: LoginTokens) -> Self:
        return cls(
            mfa_required=False,
            access_token=admitted.access_token,
            token_type="Bearer",  # noqa: S106 -- the scheme's name (RFC 6750)
            expires_in=admitted.expires_in,
            refresh_token=admitted.refresh_token,
            recovery_codes=list(admitted.recovery_codes) or None,
            recovery_codes_left=admitted.recovery_codes_left,
            device_token=admitted.device_token,
        )


class StepUpAnswer(BaseModel):
    """Send one of the proofs in `methods` to /login-2fa with this token. It steps up the session, and opens none."""

    mfa_token: str = Field(description="A pending token, valid once, for /login-2fa and this session only.")
    expires_in: int = Field(description="The lifetime of mfa_token in seconds.")
    methods: list[Method] = Field(description=METHODS_DESCRIPTION)

    @classmethod
    def of(cls, pending: SecondFactorRequired) -> Self:
        return cls(mfa_token=pending.mfa_token, expires_in=pending.expires_in, methods=pending.methods)


class PendingAnswer(BaseModel):
    """The password is right. Send one of the proofs in `methods` to /login-2fa with this token."""

    mfa_required: Literal[True]
    mfa_confirmed: bool = Field(description="False: no authenticator is confirmed yet. Show the QR code of /qrcode.")
    mfa_token: str = Field(
        description="A pending token for /login-2fa, and for /qrcode until the authenticator is confirmed. Nothing "
        "else accepts it."
    )
    expires_in: int = Field(description="The lifetime of mfa_token in seconds.")
    methods: list[Method] = Field(description=METHODS_DESCRIPTION)
    message: str

    @classmethod
    def of(cls, pending: SecondFactorRequired) -> Self:
        return cls(
            mfa_required=True,
            mfa_confirmed=pending.is_confirmed,
            mfa_token=pending.mfa_token,
            expires_in=pending.expires_in,
            methods=pending.methods,
            message="Send the code of your authenticator app to /login-2fa."
            if pending.is_confirmed
            else "Scan the QR code of /qrcode and send its first code to /login-2fa.",
        )


LoginAnswer = Annotated[TokenAnswer | PendingAnswer, Field(discriminator="mfa_required")]


def routes(web: WebContext) -> APIRouter:
    login, step_up = web.parts.login, web.parts.step_up
    bearers, callers, cookie_sessions = web.bearers, web.callers, web.cookie_sessions
    router = APIRouter(route_class=StrictJsonRoute, tags=["People"])

    @router.post(
        "/login", operation_id="login", summary="Log in with a password",
        responses=cookie_session.sets_cookie(200, cookie_session.LOGIN_TOKENS) | error_responses(401, 422, 429),
        response_model=LoginAnswer, response_model_exclude_none=True, openapi_extra=cookie_session.LOGIN_PARAMETERS,
    )  # fmt: skip
    async def post_login(body: LoginBody, request: Request, response: Response) -> TokenAnswer | PendingAnswer:
        deliver = cookie_sessions.delivery(request, response)
        match await login.with_password(
            body.username,
            body.password.get_secret_value(),
            callers.of(request),
            device_token=body.device_token or cookie_sessions.find_device_token(request),
            remember_device=body.remember_device,
        ):
            case SecondFactorRequired() as pending:
                return PendingAnswer.of(pending)
            case LoginTokens() as admitted:
                return TokenAnswer.of(deliver(admitted))

    @router.post(
        "/login-2fa",
        operation_id="login2fa",
        summary="Complete a login with a verification code or a recovery code",
        openapi_extra={"security": [{}, {"mfaToken": []}], **cookie_session.PARAMETERS},
        responses=cookie_session.sets_cookie(200, cookie_session.LOGIN_TOKENS) | error_responses(401, 422, 429),
        response_model_exclude_none=True,
    )
    async def post_login_2fa(body: CodeBody, request: Request, response: Response) -> TokenAnswer:
        deliver = cookie_sessions.delivery(request, response)
        token = _one_token(body.mfa_token, request)
        admitted = await login.with_proof(
            token, body.proof(), callers.of(request), remember_device=body.remember_device
        )
        return TokenAnswer.of(deliver(admitted))

    @router.post(
        "/step-up",
        operation_id="stepUp",
        summary="Request a step-up of the running session",
        responses=error_responses(401, 409),
    )
    @bearers.user
    async def post_step_up(access: AccessClaims) -> StepUpAnswer:
        return StepUpAnswer.of(await step_up.start(access))

    return router


def _one_token(in_body: str | None, request: Request) -> str:
    """Return the pending token, from the body or from the header. Both at once are refused (RFC 6750 section 2)."""
    in_header = bearer(request)
    if in_body is not None and in_header is not None:
        raise InvalidRequest(
            (("mfa_token", "The token is in the body and is the bearer token as well; send it once"),)
        )
    return in_body or in_header or require_bearer(request)
