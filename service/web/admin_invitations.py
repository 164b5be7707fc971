"""`/admin/invitations`: invitations to sign up."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field
from starlette.responses import Response

from service.accounts.invitations import DEFAULT_LIFETIME, MAX_LIFETIME, MIN_LIFETIME
from service.origin import Act, Actor
from service.web.account_answers import InvitationAnswer
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
)
from service.web.bodies import Body, Email, Locale
from service.web.context import WebContext
from service.web.edge import StrictJsonRoute
from service.web.problems import error_responses

InvitationId = Annotated[
    str,
    Path(
        pattern="^[0-9a-f]{32}$",
        description="The id of the invitation.",
        examples=["5f0c9d2be1a74c0d8a3b6e9f10273c4d"],
    ),
]


class InvitationsAnswer(BaseModel):
    invitations: list[InvitationAnswer] = Field(description="In the order of their ids.")
    next_cursor: str | None = Field(description=NEXT_CURSOR)


class NewInvitationBody(Body):
    email: Email | None = Field(None, description="Only this address may sign up, and counts as confirmed.")
    locale: Locale | None = None
    roles: Roles = Field(default_factory=list)
    expires_in: int = Field(
        int(DEFAULT_LIFETIME.total_seconds()),
        ge=int(MIN_LIFETIME.total_seconds()),
        le=int(MAX_LIFETIME.total_seconds()),
        description="Seconds; a week unless given.",
    )


def routes(web: WebContext) -> APIRouter:
    parts, bearers = web.parts, web.bearers
    invitations = parts.invitations
    router = APIRouter(route_class=StrictJsonRoute, tags=[TAG])

    @router.get(
        "/admin/invitations",
        operation_id="adminListInvitations",
        summary="List invitations",
        responses=error_responses(401, 403, 422),
    )
    @bearers.administrator(READ_USERS, writes=False)
    async def get_invitations(
        _actor: Actor, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
    ) -> InvitationsAnswer:
        page = await invitations.list_page(limit=limit, cursor=cursor)
        return InvitationsAnswer(
            invitations=[InvitationAnswer.of(invitation) for invitation in page.items], next_cursor=page.next_cursor
        )

    @router.post(
        "/admin/invitations",
        operation_id="adminInvite",
        summary="Make an invitation",
        status_code=201,
        responses=error_responses(401, 403, 422),
    )
    @bearers.administrator(WRITE_USERS, writes=True)
    async def post_invitation(actor: Actor, body: NewInvitationBody) -> NewInvitationAnswer:
        made = await invitations.create(
            Act(actor, parts.clock()),
            email=body.email,
            locale=body.locale,
            roles=tuple(body.roles),
            lifetime=timedelta(seconds=body.expires_in),
        )
        return NewInvitationAnswer(
            invitation=InvitationAnswer.of(made.invitation), link=invitations.shown_link_of(made)
        )

    @router.get(
        "/admin/invitations/{id}",
        operation_id="adminShowInvitation",
        summary="Show an invitation",
        responses=error_responses(401, 403, 404, 422),
    )
    @bearers.administrator(READ_USERS, writes=False)
    async def get_invitation(_actor: Actor, id: InvitationId) -> InvitationAnswer:  # noqa: A002 -- the API's name
        return InvitationAnswer.of(await invitations.get(id))

    @router.delete(
        "/admin/invitations/{id}",
        operation_id="adminRevokeInvitation",
        summary="Revoke an invitation that was not used",
        status_code=204,
        responses=error_responses(401, 403, 404, 422),
    )
    @bearers.administrator(WRITE_USERS, writes=True)
    async def delete_invitation(actor: Actor, id: InvitationId) -> Response:  # noqa: A002 -- the API's name
        await invitations.revoke(id, Act(actor, parts.clock()))
        return Response(status_code=204)

    return router
