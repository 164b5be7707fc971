"""The second factor: `/enable-mfa`, `/qrcode`, `/factors`, `/recovery-codes`, `/recovery`, `/disable-mfa`."""

from typing import Annotated, Literal, Self

from fastapi import APIRouter, Path, Request
from pydantic import AliasChoices, BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from service.factors.listing import AuthenticatorSummary
from service.factors.totp_authenticators import TotpCode
from service.login.enrolment import EnrolmentStarted, SharedSecret
from service.tokens.access import AccessClaims
from service.web import qrcodes
from service.web.bearers import pending_token
from service.web.bodies import Body, FactorName, Otp, Password, Username
from service.web.context import WebContext
from service.web.edge import StrictJsonRoute
from service.web.problems import error_responses

FactorId = Annotated[
    str, Path(alias="id", description="The id of the authenticator.", examples=["pZ9yKq2mX0d4Wc1bR7tLhA"])
]
OFFERS = ("image/png", "image/svg+xml", "application/json")
"""Representations of `/qrcode/{username}`; the first is the default."""


class EnableBody(Body):
    password: Password
    name: FactorName | None = Field(
        None, description="The name of the authenticator. Required to add another one beside a confirmed one."
    )


class EnableAnswer(BaseModel):
    provisioning_uri: str = Field(description="The otpauth:// URI for the authenticator app.")
    mfa_token: str = Field(
        description="A pending token, valid for /qrcode and, with the first verification code, for /login-2fa."
    )
    expires_in: int = Field(description="The lifetime of mfa_token in seconds.")

    @classmethod
    def of(cls, started: EnrolmentStarted) -> Self:
        return cls(
            provisioning_uri=started.provisioning_uri,
            mfa_token=started.mfa_token,
            expires_in=started.expires_in,
        )


class DisableBody(Body):
    username: Username
    password: Password
    otp: Otp = Field(validation_alias=AliasChoices("token", "otp"), description="The current verification code.")


class RenameBody(Body):
    name: FactorName


class MessageAnswer(BaseModel):
    message: str


class RecoveryCodesAnswer(BaseModel):
    recovery_codes: list[str] = Field(
        description="The new recovery codes, shown only once. The user must keep them safe."
    )


class SecretAnswer(BaseModel):
    """The secret of an authenticator that is not confirmed yet, for typing it into the app."""

    provisioning_uri: str
    secret: str = Field(description="Base32: 160 bits, or those of an imported secret.")

    @classmethod
    def of(cls, shown: SharedSecret) -> Self:
        return cls(provisioning_uri=shown.provisioning_uri, secret=shown.secret)


class FactorAnswer(BaseModel):
    """One authenticator. Times are in epoch seconds."""

    id: str
    type: Literal["totp"]
    name: str
    created_at: int
    confirmed_at: int | None = Field(description="When its first verification code confirmed it; null before that.")
    last_used_at: int | None
    offset_seconds: int = Field(
        description="By how many seconds its clock was ahead at its last accepted code; negative: behind."
    )
    weak_secret: bool = Field(
        description="Whether it was imported with a secret of less than 112 bits. Confirming another authenticator "
        "removes it."
    )

    @classmethod
    def of(cls, factor: AuthenticatorSummary) -> Self:
        return cls(
            id=factor.id,
            type="totp",
            name=factor.name,
            created_at=factor.created_at,
            confirmed_at=factor.confirmed_at,
            last_used_at=factor.last_used_at,
            offset_seconds=factor.offset_seconds,
            weak_secret=factor.is_weak,
        )


class FactorsAnswer(BaseModel):
    factors: list[FactorAnswer] = Field(description="The oldest comes first.")


class RecoveryBody(Body):
    username: Username
    password: Password


class RecoveryAnswer(BaseModel):
    """The same answer for every username and password."""

    message: str
    delay: int = Field(description="Seconds until a login with the password leads to a new enrolment.")


def routes(web: WebContext) -> APIRouter:
    enrolment, own_factors, recovery = web.parts.enrolment, web.parts.own_factors, web.parts.recovery
    bearers, callers, qr_renderer = web.bearers, web.callers, web.qr_renderer
    has_webhook = web.settings.webhook_url is not None
    router = APIRouter(route_class=StrictJsonRoute, tags=["People"])

    @router.get(
        "/qrcode/{username}",
        operation_id="qrcode",
        summary="Show the QR code of an unconfirmed authenticator",
        response_class=Response,
        responses={
            200: {
                "description": "The provisioning URI as a QR code: a PNG without an Accept header and wherever "
                "Accept does not prefer another form; an SVG with `Accept: image/svg+xml`. With "
                "`application/json` the answer is that of `/qrcode/{username}/secret`, which generated clients use.",
                "content": {
                    "image/png": {"schema": {"type": "string", "format": "binary"}},
                    "image/svg+xml": {"schema": {"type": "string"}},
                },
            },
            **error_responses(401, 404, 406, 429),
        },
    )
    @pending_token
    async def get_qrcode(
        mfa_token: str,
        username: Annotated[str, Path(description="The username of the user.", examples=["alice"])],
        request: Request,
    ) -> Response:
        kind = _preferred(",".join(request.headers.getlist("accept")) or "*/*")
        as_picture = kind in {"image/png", "image/svg+xml"}
        if kind is None:
            raise HTTPException(406)
        shown = await enrolment.show_secret(mfa_token, username, as_picture=as_picture)
        if kind == "application/json":
            return JSONResponse(SecretAnswer.of(shown).model_dump())
        draw = qrcodes.png if kind == "image/png" else qrcodes.svg
        return Response(await qr_renderer.draw(draw, shown.provisioning_uri), media_type=kind)

    @router.get(
        "/qrcode/{username}/secret",
        operation_id="enrolmentSecret",
        summary="Show the secret of an unconfirmed authenticator",
        responses=error_responses(401, 404),
    )
    @pending_token
    async def get_secret(
        mfa_token: str, username: Annotated[str, Path(description="The username of the user.", examples=["alice"])]
    ) -> SecretAnswer:
        return SecretAnswer.of(await enrolment.show_secret(mfa_token, username, as_picture=False))

    @router.post(
        "/enable-mfa",
        operation_id="enableMfa",
        summary="Begin an enrolment, or add an authenticator",
        responses=error_responses(401, 409, 422, 429),
    )
    @bearers.user
    async def post_enable_mfa(access: AccessClaims, body: EnableBody, request: Request) -> EnableAnswer:
        password = body.password.get_secret_value()
        return EnableAnswer.of(await enrolment.start(access, password, callers.of(request), name=body.name))

    @router.get(
        "/factors",
        operation_id="listFactors",
        summary="List the authenticators of the account",
        responses=error_responses(401),
    )
    @bearers.user
    async def get_factors(access: AccessClaims) -> FactorsAnswer:
        return FactorsAnswer(factors=[FactorAnswer.of(factor) for factor in await own_factors.list_factors(access)])

    @router.patch(
        "/factors/{id}",
        operation_id="renameFactor",
        summary="Rename an authenticator",
        responses=error_responses(401, 404, 422),
    )
    @bearers.recent_user
    async def patch_factor(
        access: AccessClaims, factor_id: FactorId, body: RenameBody, request: Request
    ) -> FactorAnswer:
        return FactorAnswer.of(await own_factors.rename_factor(access, factor_id, body.name, callers.of(request)))

    @router.delete(
        "/factors/{id}",
        operation_id="removeFactor",
        summary="Remove an authenticator and end all other sessions",
        status_code=204,
        responses=error_responses(401, 404, 409),
    )
    @bearers.recent_user
    async def delete_factor(access: AccessClaims, factor_id: FactorId, request: Request) -> Response:
        await own_factors.remove_factor(access, factor_id, callers.of(request))
        return Response(status_code=204)

    @router.post(
        "/disable-mfa",
        operation_id="disableMfa",
        summary="Turn the second factor off",
        responses=error_responses(401, 422, 429),
    )
    async def post_disable_mfa(body: DisableBody, request: Request) -> MessageAnswer:
        await own_factors.disable(
            body.username, body.password.get_secret_value(), TotpCode(body.otp), callers.of(request)
        )
        return MessageAnswer(
            message="The second factor is off. Remove this account from your authenticator app: its codes are void."
        )

    @router.post(
        "/recovery-codes",
        operation_id="replaceRecoveryCodes",
        summary="Replace the recovery codes",
        responses=error_responses(401, 409),
    )
    @bearers.recent_user
    async def post_recovery_codes(access: AccessClaims) -> RecoveryCodesAnswer:
        return RecoveryCodesAnswer(recovery_codes=list(await own_factors.replace_recovery_codes(access)))

    @router.post(
        "/recovery",
        operation_id="askRecovery",
        summary="Request delayed recovery",
        status_code=202,
        responses=error_responses(404, 422, 429),
    )
    async def post_recovery(body: RecoveryBody, request: Request) -> RecoveryAnswer:
        password = body.password.get_secret_value()
        delay = await recovery.request(body.username, password, callers.of(request))
        notice = " An event is sent to the operator's webhook when the delay starts." if has_webhook else ""
        return RecoveryAnswer(
            message="If this is the password of an account with a second factor, log in after the delay to enrol a "
            f"new one. A login with the second factor before that cancels the recovery.{notice}",
            delay=delay,
        )

    @router.delete(
        "/recovery",
        operation_id="callOffRecovery",
        summary="Cancel a delayed recovery",
        status_code=204,
        responses=error_responses(401),
    )
    @bearers.user
    async def delete_recovery(access: AccessClaims) -> Response:
        await recovery.cancel_own(access)
        return Response(status_code=204)

    return router


def _preferred(accept: str) -> str | None:
    """The offered representation with the highest weight (RFC 9110 section 12.5.1), the first of `OFFERS` if equal.

    The most specific range that matches a representation gives its weight, and a weight of 0 excludes it. A range
    whose weight is not a number is ignored, and so are those after the twentieth.
    """
    weights: dict[str, float] = {}
    for part in accept.split(",")[:20]:
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        given = [value.strip() for name, _, value in (piece.partition("=") for piece in parameters) if name == "q"]
        try:
            weight = float(given[0]) if given else 1.0
        except ValueError:
            continue
        if weight == weight:  # not NaN  # noqa: PLR0124
            weights[media_range] = max(min(weight, 1.0), weights.get(media_range, 0.0))

    def weight_of(offer: str) -> float:
        ranges = (offer, f"{offer.partition('/')[0]}/*", "*/*")
        return next((weights[media_range] for media_range in ranges if media_range in weights), 0.0)

    best = max(OFFERS, key=weight_of)  # the first of several equal ones
    return best if weight_of(best) > 0 else None
