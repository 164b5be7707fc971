"""`/admin/users/{sub}/sessions`: the sessions of a user."""

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import Response

from service.origin import Actor
from service.web.account_answers import UserSessionAnswer
from service.web.admin_fields import READ_USERS, TAG, WRITE_USERS, Sid, Sub
from service.web.admin_routes import UserRoute
from service.web.context import WebContext
from service.web.problems import error_responses


class UserSessionsAnswer(BaseModel):
    sessions: list[UserSessionAnswer] = Field(description="The session that was used last comes first.")


def routes(web: WebContext) -> APIRouter:
    administration, user_sessions, bearers = web.parts.administration, web.parts.user_sessions, web.bearers
    router = APIRouter(route_class=UserRoute, tags=[TAG])

    @router.get(
        "/admin/users/{sub}/sessions",
        operation_id="adminListSessions",
        summary="List the sessions of a user",
        responses=error_responses(401, 403, 404, 422),
    )
    @bearers.administrator(READ_USERS, writes=False)
    async def get_sessions(_actor: Actor, sub: Sub) -> UserSessionsAnswer:
        found = await user_sessions.list_live(await administration.get(f"sub:{sub}"))
        return UserSessionsAnswer(sessions=[UserSessionAnswer.of(session) for session in found])

    @router.delete(
        "/admin/users/{sub}/sessions",
        operation_id="adminEndSessions",
        summary="End every session of a user",
        status_code=204,
        responses=error_responses(401, 403, 404, 422),
    )
    @bearers.administrator(WRITE_USERS, writes=True)
    async def delete_sessions(actor: Actor, sub: Sub) -> Response:
        await user_sessions.end_all(await administration.get(f"sub:{sub}"), by=actor)
        return Response(status_code=204)

    @router.delete(
        "/admin/users/{sub}/sessions/{sid}",
        operation_id="adminEndSession",
        summary="End one session of a user",
        status_code=204,
        responses=error_responses(401, 403, 404, 422),
    )
    @bearers.administrator(WRITE_USERS, writes=True)
    async def delete_session(actor: Actor, sub: Sub, sid: Sid) -> Response:
        await user_sessions.end(await administration.get(f"sub:{sub}"), sid, by=actor)
        return Response(status_code=204)

    return router
