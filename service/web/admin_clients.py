"""`/admin/clients`: registered clients."""

from typing import Annotated, Self

from fastapi import APIRouter, Path
from pydantic import AfterValidator, BaseModel, Field
from starlette.responses import Response

from service.errors import ClientIdTaken, NotFound
from service.origin import Actor
from service.sessions.clients import MAX_SCOPES, ClientSummary, check_id, check_scopes
from service.sessions.registration import MAX_OVERLAP_HOURS
from service.web.admin_fields import CLIENTS, DEFAULT_LIMIT, NEXT_CURSOR, TAG, Cursor, Limit
from service.web.bodies import Body
from service.web.context import WebContext
from service.web.edge import StrictJsonRoute
from service.web.problems import error_responses

ClientId = Annotated[str, Path(max_length=64, description="The id of the client.", examples=["billing"])]


def _check_scopes(scopes: list[str]) -> list[str]:
    return list(check_scopes(tuple(scopes)))


class ClientAnswer(BaseModel):
    """A registered client. Times are in epoch seconds."""

    client_id: str
    scopes: list[str]
    created_at: int
    previous_until: int | None = Field(
        description="When the previous secret stops being valid, or stopped; null if the secret was never replaced."
    )

    @classmethod
    def of(cls, client: ClientSummary) -> Self:
        return cls(
            client_id=client.id,
            scopes=list(client.scopes),
            created_at=client.created_at,
            previous_until=client.previous_until,
        )


class ClientsAnswer(BaseModel):
    clients: list[ClientAnswer] = Field(description="In the order of their ids.")
    next_cursor: str | None = Field(description=NEXT_CURSOR)


class NewClientBody(Body):
    client_id: Annotated[str, AfterValidator(check_id)] = Field(
        max_length=64,
        description="3 to 64 of a-z 0-9 . _ -, the first a letter or a digit; not keyturn.",
        json_schema_extra={"pattern": "^[a-z0-9][a-z0-9._-]{2,63}$"},
        examples=["billing"],
    )
    scopes: Annotated[list[str], AfterValidator(_check_scopes)] = Field(
        default_factory=list,
        max_length=MAX_SCOPES,
        description="Without a scope the client may use /introspect only. Only a user with the role keyturn-admin "
        "can give a scope that begins with keyturn:",
        examples=[["invoices:read"]],
    )


class RotationBody(Body):
    overlap_hours: float = Field(
        0,
        ge=0,
        le=MAX_OVERLAP_HOURS,
        description="Hours for which the previous secret stays valid.",
        examples=[24],
    )


class ClientSecretAnswer(BaseModel):
    """The secret of a client, shown only now."""

    client: ClientAnswer
    client_secret: str


def routes(web: WebContext) -> APIRouter:
    clients, bearers = web.parts.clients, web.bearers
    router = APIRouter(route_class=StrictJsonRoute, tags=[TAG])

    @router.get(
        "/admin/clients",
        operation_id="adminListClients",
        summary="List registered clients",
        responses=error_responses(401, 403, 422),
    )
    @bearers.administrator(CLIENTS, writes=False)
    async def get_clients(_actor: Actor, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> ClientsAnswer:
        page = await clients.list_page(limit=limit, cursor=cursor)
        return ClientsAnswer(clients=[ClientAnswer.of(client) for client in page.items], next_cursor=page.next_cursor)

    @router.post(
        "/admin/clients",
        operation_id="adminCreateClient",
        summary="Register a client and show its secret",
        status_code=201,
        responses=error_responses(401, 403, 409, 422),
    )
    @bearers.administrator(CLIENTS, writes=True)
    async def post_client(actor: Actor, body: NewClientBody) -> ClientSecretAnswer:
        secret = await clients.add(body.client_id, tuple(body.scopes), by=actor)
        if secret is None:
            raise ClientIdTaken
        return ClientSecretAnswer(client=ClientAnswer.of(await clients.get(body.client_id)), client_secret=secret)

    @router.get(
        "/admin/clients/{client_id}",
        operation_id="adminShowClient",
        summary="Show a registered client",
        responses=error_responses(401, 403, 404, 422),
    )
    @bearers.administrator(CLIENTS, writes=False)
    async def get_client(_actor: Actor, client_id: ClientId) -> ClientAnswer:
        return ClientAnswer.of(await clients.get(client_id))

    @router.delete(
        "/admin/clients/{client_id}",
        operation_id="adminRemoveClient",
        summary="Remove a registered client",
        status_code=204,
        responses=error_responses(401, 403, 404, 422),
    )
    @bearers.administrator(CLIENTS, writes=True)
    async def delete_client(actor: Actor, client_id: ClientId) -> Response:
        if not await clients.remove((await clients.get(client_id)).id, by=actor):
            raise NotFound
        return Response(status_code=204)

    @router.post(
        "/admin/clients/{client_id}/rotate-secret",
        operation_id="adminRotateSecret",
        summary="Give a client a new secret and show it",
        responses=error_responses(401, 403, 404, 422),
    )
    @bearers.administrator(CLIENTS, writes=True)
    async def post_rotate_secret(
        actor: Actor, client_id: ClientId, body: RotationBody | None = None
    ) -> ClientSecretAnswer:
        overlap = 0.0 if body is None else body.overlap_hours
        found = await clients.get(client_id)
        secret = await clients.rotate_secret(found.id, overlap_hours=overlap, by=actor)
        if secret is None:
            raise NotFound
        return ClientSecretAnswer(client=ClientAnswer.of(await clients.get(found.id)), client_secret=secret)

    return router
