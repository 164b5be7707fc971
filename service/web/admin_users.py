"""`/admin/users`: accounts."""

from typing import Annotated, Literal, Self

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from service.accounts.administration import AccountDetails, AccountFilter
from service.accounts.changes import Changes, Unchanged
from service.accounts.signup import SignUpDetails
from service.errors import InvalidRequest
from service.origin import Act, Actor
from service.sessions.sessions import MAX_LISTED_SESSIONS
from service.static_claims import Value
from service.users.listing import AccountSummary
from service.users.mfa import MfaState
from service.web.account_answers import AuthenticatorAnswer, InvitationAnswer, UserSessionAnswer
from service.web.admin_fields import (
    DEFAULT_LIMIT,
    NEXT_CURSOR,
    READ_USERS,
    TAG,
    WRITE_USERS,
    Cursor,
    Limit,
    NewInvitationAnswer,
    Roles,
    StaticClaims,
    Sub,
)
from service.web.admin_routes import UserRoute
from service.web.bodies import Body, Email, Locale, NewPassword, Username
from service.web.context import WebContext
from service.web.problems import error_responses


class UserAnswer(BaseModel):
    """An account in a list."""

    sub: str
    username: str
    created_at: int = Field(description="Epoch seconds.")
    disabled: bool
    mfa: Literal["off", "asked", "confirmed"] = Field(
        description="`asked`: an enrolment has begun, and no code has confirmed it yet."
    )
    roles: list[str]
    deletion_due_at: int | None = Field(
        description="Epoch seconds at which the account is removed, as its user requested. Until then it is disabled."
    )

    @classmethod
    def of(cls, account: AccountSummary) -> Self:
        return cls(
            sub=account.sub,
            username=account.username,
            created_at=account.created_at,
            disabled=account.is_disabled,
            mfa=account.mfa,
            roles=list(account.roles),
            deletion_due_at=account.deletion_due_at,
        )


class UserDetailsAnswer(UserAnswer):
    """An account with what belongs to it, without secrets."""

    email: str | None = Field(description="The confirmed address.")
    new_email: str | None = Field(description="The address that a link was sent to and that is not confirmed yet.")
    locale: str | None
    claims: dict[str, Value] = Field(description="The static claims.")
    recovery_due_at: int | None = Field(description="Epoch seconds from which a delayed recovery can be completed.")
    recovery_codes_left: int
    authenticators: list[AuthenticatorAnswer]
    sessions: list[UserSessionAnswer] = Field(
        description=f"The live sessions; of more than {MAX_LISTED_SESSIONS}, those that were used last."
    )

    @classmethod
    def with_details(cls, details: AccountDetails) -> Self:
        return cls(
            **UserAnswer.of(details.account).model_dump(),
            email=details.email,
            new_email=details.new_email,
            locale=details.locale,
            claims=dict(details.claims),
            recovery_due_at=details.recovery_due_at,
            recovery_codes_left=details.recovery_codes_left,
            authenticators=[AuthenticatorAnswer.of(factor) for factor in details.authenticators],
            sessions=[UserSessionAnswer.of(session) for session in details.sessions],
        )


class UsersAnswer(BaseModel):
    users: list[UserAnswer] = Field(description="In the order of their usernames.")
    next_cursor: str | None = Field(description=NEXT_CURSOR)


class NewUserBody(Body):
    username: Username | None = Field(None, description="With a password: the account is made at once.")
    password: NewPassword | None = None
    enable_mfa: bool = Field(False, description="Require a second factor: the first login begins the enrolment.")
    email: Email | None = Field(
        None,
        description="With a username: a message asks for its confirmation. Without: an invitation goes to it.",
    )
    locale: Locale | None = None
    roles: Roles = Field(default_factory=list)


class NewUserAnswer(BaseModel):
    """The new account, or the invitation to make it."""

    user: UserDetailsAnswer | None
    invited: NewInvitationAnswer | None


class ChangesBody(Body):
    roles: Roles | None = Field(None, description="All roles that the account has from now on. Absent: they stay.")
    disabled: bool | None = Field(None, description="Whether the account is disabled. Absent: this stays.")
    email: Email | None = Field(
        None,
        description="A new address; a link that confirms it is sent there. Null removes the address. Absent: it "
        "stays.",
    )
    claims: StaticClaims | None = None
    locale: Locale | None = Field(
        None,
        description="The language of messages to the user (RFC 5646). One that is not "
        "available is stored as well. Null: that of the service. Absent: it stays.",
    )


class ResetLinkAnswer(BaseModel):
    """Both fields are null where a message brings the link to the user."""

    link: str | None
    expires_at: int | None = Field(description="Epoch seconds.")


def routes(web: WebContext) -> APIRouter:
    parts, bearers = web.parts, web.bearers
    administration = parts.administration
    router = APIRouter(route_class=UserRoute, tags=[TAG])

    @router.get(
        "/admin/users",
        operation_id="adminListUsers",
        summary="List accounts",
        responses=error_responses(401, 403, 422),
    )
    @bearers.administrator(READ_USERS, writes=False)
    async def get_users(
        _actor: Actor,
        username: Annotated[str, Query(max_length=128, description="The beginning of the username.")] = "",
        email: Annotated[Email | None, Query(description="The confirmed address, in upper or lower case.")] = None,
        role: Annotated[str | None, Query(max_length=64, description="A role that the account has.")] = None,
        disabled: Annotated[bool | None, Query(description="Only disabled accounts, or only enabled ones.")] = None,
        mfa: Annotated[MfaState | None, Query(description="The state of the second factor.")] = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
    ) -> UsersAnswer:
        chosen = AccountFilter(
            prefix=username.lower(),
            role=role,
            mfa=mfa,
            only_disabled=disabled is True,
            only_enabled=disabled is False,
            email=email,
        )
        page = await administration.list_page(chosen, limit=limit, cursor=cursor)
        return UsersAnswer(users=[UserAnswer.of(account) for account in page.items], next_cursor=page.next_cursor)

    @router.post(
        "/admin/users",
        operation_id="adminCreateUser",
        summary="Create an account, or invite its user",
        status_code=201,
        responses=error_responses(401, 403, 409, 422),
    )
    @bearers.administrator(WRITE_USERS, writes=True)
    async def post_user(actor: Actor, body: NewUserBody) -> NewUserAnswer:
        roles = tuple(body.roles)
        if body.username is None and body.password is None:
            if body.email is None or body.enable_mfa:
                raise InvalidRequest((("username", "Give a username and a password, or an email to invite"),))
            made = await parts.invitations.create(
                Act(actor, parts.clock()), email=body.email, locale=body.locale, roles=roles
            )
            answer = NewInvitationAnswer(
                invitation=InvitationAnswer.of(made.invitation), link=parts.invitations.shown_link_of(made)
            )
            return NewUserAnswer(user=None, invited=answer)
        if body.username is None or body.password is None:
            missing = "username" if body.username is None else "password"
            raise InvalidRequest(((missing, "A username and a password are given together"),))
        signed_up = await parts.sign_up.sign_up(
            body.username,
            body.password.get_secret_value(),
            enable_mfa=body.enable_mfa,
            caller=None,
            by=actor,
            details=SignUpDetails(body.email, body.locale, roles=roles),
        )
        details = await administration.show(f"sub:{signed_up.user.id}")
        return NewUserAnswer(user=UserDetailsAnswer.with_details(details), invited=None)

    @router.get(
        "/admin/users/{sub}",
        operation_id="adminShowUser",
        summary="Show an account",
        responses=error_responses(401, 403, 404, 422),
    )
    @bearers.administrator(READ_USERS, writes=False)
    async def get_user(_actor: Actor, sub: Sub) -> UserDetailsAnswer:
        return UserDetailsAnswer.with_details(await administration.show(f"sub:{sub}"))

    @router.patch(
        "/admin/users/{sub}",
        operation_id="adminChangeUser",
        summary="Change the roles, the state, the address, the static claims or the language of an account",
        responses=error_responses(401, 403, 404, 409, 422),
    )
    @bearers.administrator(WRITE_USERS, writes=True)
    async def patch_user(actor: Actor, sub: Sub, body: ChangesBody) -> UserDetailsAnswer:
        changes = Changes(
            roles=None if body.roles is None else tuple(body.roles),
            disabled=body.disabled,
            email=body.email if "email" in body.model_fields_set else Unchanged.UNCHANGED,
            claims=body.claims,
            locale=body.locale if "locale" in body.model_fields_set else Unchanged.UNCHANGED,
        )
        await administration.change(f"sub:{sub}", changes, by=actor)
        return UserDetailsAnswer.with_details(await administration.show(f"sub:{sub}"))

    @router.delete(
        "/admin/users/{sub}",
        operation_id="adminDeleteUser",
        summary="Delete an account for good",
        status_code=204,
        responses=error_responses(401, 403, 404, 409, 422),
    )
    @bearers.administrator(WRITE_USERS, writes=True)
    async def delete_user(actor: Actor, sub: Sub) -> Response:
        await administration.delete(f"sub:{sub}", by=actor)
        return Response(status_code=204)

    @router.post(
        "/admin/users/{sub}/password-reset",
        operation_id="adminResetPassword",
        summary="Send the user a link for a new password, or show it",
        responses={
            202: {"description": "A message brings the link to the user.", "model": ResetLinkAnswer},
            **error_responses(401, 403, 404, 409, 422),
        },
    )
    @bearers.administrator(WRITE_USERS, writes=True)
    async def post_password_reset(actor: Actor, sub: Sub, response: Response) -> ResetLinkAnswer:
        shown = await parts.password_resets.offer(await administration.get(f"sub:{sub}"), by=actor)
        if shown is None:
            response.status_code = 202
            return ResetLinkAnswer(link=None, expires_at=None)
        return ResetLinkAnswer(link=shown.link, expires_at=shown.expires_at)

    @router.post(
        "/admin/users/{sub}/reset-mfa",
        operation_id="adminResetMfa",
        summary="Remove the second factor of a user who lost it",
        status_code=204,
        responses=error_responses(401, 403, 404, 422),
    )
    @bearers.administrator(WRITE_USERS, writes=True)
    async def post_reset_mfa(actor: Actor, sub: Sub) -> Response:
        await administration.reset_mfa(f"sub:{sub}", by=actor)
        return Response(status_code=204)

    return router
