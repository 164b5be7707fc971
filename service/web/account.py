"""`/me`, `/sessions`, `/events`, `/logout`, `/password`: what users do with their account."""

from contextlib import suppress
from typing import Annotated, Self

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from service.accounts.accounts import Account
from service.errors import NotFound
from service.messages.events import Event
from service.sessions.sessions import SessionSummary
from service.tokens.access import AccessClaims
from service.web import cookie_session
from service.web.account_answers import UserSessionAnswer
from service.web.bodies import Body, Locale, NewPassword, Password
from service.web.context import WebContext
from service.web.edge import StrictJsonRoute
from service.web.problems import error_responses


class PasswordBody(Body):
    current_password: Password
    new_password: NewPassword


class AccountChangesBody(Body):
    locale: Locale | None = Field(
        description="The language of messages to the user (RFC 5646). One that is not available is stored as well. "
        "Null: that of the service."
    )


class AccountAnswer(BaseModel):
    sub: str = Field(description="The id of the account: opaque and never reused. Store this, not the username.")
    username: str
    created_at: int = Field(description="Epoch seconds.")
    roles: list[str]
    mfa_enabled: bool = Field(
        description="Whether the account has a second factor, confirmed or not: the password alone is not enough."
    )
    mfa_confirmed: bool = Field(description="Whether the first verification code has confirmed an authenticator.")
    recovery_codes_left: int | None = Field(description="Null without a confirmed second factor.")
    recovery_due_at: int | None = Field(
        description="Epoch seconds from which a login with the password leads to a new enrolment, because delayed "
        "recovery was requested. Null if none is pending. If the request was not yours, cancel it and change the "
        "password."
    )
    email: str | None = Field(description="The confirmed e-mail address.")
    new_email: str | None = Field(description="The address that a link was sent to and that is not confirmed yet.")
    locale: str | None = Field(description="The language of messages to the user. Null: that of the service.")
    sid: str = Field(description="The session of the request.")

    @classmethod
    def of(cls, account: Account, access: AccessClaims) -> Self:
        user = account.user
        return cls(
            sub=user.id,
            username=user.username,
            created_at=user.created_at,
            roles=list(user.roles),
            mfa_enabled=user.mfa != "off",
            mfa_confirmed=user.mfa == "confirmed",
            recovery_codes_left=account.recovery_codes_left,
            recovery_due_at=account.recovery_due_at,
            email=user.email,
            new_email=user.new_email,
            locale=user.locale,
            sid=access.sid,
        )


class SessionAnswer(UserSessionAnswer):
    """One live session of the account. Times are in epoch seconds."""

    current: bool = Field(description="Whether this is the session of the request.")

    @classmethod
    def of_own(cls, session: SessionSummary, access: AccessClaims) -> Self:
        return cls(**UserSessionAnswer.of(session).model_dump(), current=session.id == access.sid)


class EventAnswer(BaseModel):
    """One event of the account."""

    event: str = Field(description="The name; see the reference page on events.", examples=["login.admitted"])
    occurred_at: int = Field(description="Epoch seconds.")
    details: dict[str, str | int | bool] = Field(examples=[{"amr": "pwd otp mfa", "address": "203.0.113.7"}])

    @classmethod
    def of(cls, event: Event) -> Self:
        return cls(event=event.event, occurred_at=event.occurred_at, details=event.details)


class EventsAnswer(BaseModel):
    events: list[EventAnswer] = Field(
        description="The events of the last 90 days, the newest first, a hundred at most."
    )


class SessionsAnswer(BaseModel):
    sessions: list[SessionAnswer] = Field(description="The session that was used last comes first.")


def routes(web: WebContext) -> APIRouter:
    accounts, bearers, callers = web.parts.accounts, web.bearers, web.callers
    cookie_sessions = web.cookie_sessions
    router = APIRouter(route_class=StrictJsonRoute, tags=["People"])

    @router.get("/me", operation_id="me", summary="Show the account", responses=error_responses(401))
    @bearers.user
    async def get_me(access: AccessClaims) -> AccountAnswer:
        return AccountAnswer.of(await accounts.get(access), access)

    @router.patch(
        "/me",
        operation_id="changeMe",
        summary="Change the language of messages to the user",
        responses=error_responses(401, 422),
    )
    @bearers.user
    async def patch_me(access: AccessClaims, body: AccountChangesBody) -> AccountAnswer:
        return AccountAnswer.of(await accounts.change_locale(access, body.locale), access)

    @router.get(
        "/sessions",
        operation_id="listSessions",
        summary="List the sessions of the account",
        responses=error_responses(401),
    )
    @bearers.user
    async def get_sessions(access: AccessClaims) -> SessionsAnswer:
        return SessionsAnswer(
            sessions=[SessionAnswer.of_own(session, access) for session in await accounts.list_sessions(access)]
        )

    @router.get(
        "/events",
        operation_id="listEvents",
        summary="List the events of the account",
        responses=error_responses(401),
    )
    @bearers.user
    async def get_events(access: AccessClaims) -> EventsAnswer:
        return EventsAnswer(events=[EventAnswer.of(event) for event in await accounts.list_events(access)])

    @router.delete(
        "/sessions/{sid}",
        operation_id="endSession",
        summary="End one session",
        status_code=204,
        responses=error_responses(401, 404),
    )
    @bearers.user
    async def delete_session(
        access: AccessClaims,
        sid: Annotated[str, Path(description="The id of the session.", examples=["pZ9yKq2mX0d4Wc1bR7tLhA"])],
    ) -> Response:
        await accounts.end_session(access, sid)
        return Response(status_code=204)

    @router.post(
        "/logout",
        operation_id="logout",
        summary="End this session, or all sessions",
        status_code=204,
        responses=cookie_session.sets_cookie(204, "the cookie is removed.") | error_responses(401, 422),
        openapi_extra=cookie_session.PARAMETERS,
    )
    @bearers.user
    async def post_logout(
        access: AccessClaims,
        request: Request,
        everywhere: Annotated[
            bool,
            Query(description="End all sessions of the account, and revoke its pending tokens and device tokens."),
        ] = False,
    ) -> Response:
        uses_cookie = cookie_sessions.is_requested(request)
        if everywhere:
            await accounts.end_every_session(access)
        else:
            with suppress(NotFound):  # it ended after the bearer was authenticated, which is what the caller wants
                await accounts.end_session(access, access.sid)
        answer = Response(status_code=204)
        if uses_cookie:
            cookie_sessions.clear(answer)
        return answer

    @router.post(
        "/password",
        operation_id="changePassword",
        summary="Change the password and end all other sessions",
        status_code=204,
        responses=error_responses(401, 422, 429),
    )
    @bearers.user
    async def post_password(access: AccessClaims, body: PasswordBody, request: Request) -> Response:
        current, new = body.current_password.get_secret_value(), body.new_password.get_secret_value()
        await accounts.change_password(access, current, new, callers.of(request))
        return Response(status_code=204)

    return router
