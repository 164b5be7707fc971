"""`/admin/events` and `/admin/users/{sub}/events`: the events of all users and clients, and those of one user."""

from typing import Annotated, Self

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from service.messages.events import NumberedEvent
from service.messages.feed import MAX_NUMBER
from service.origin import Actor
from service.web.admin_fields import DEFAULT_LIMIT, NEXT_CURSOR, READ_EVENTS, TAG, Cursor, Limit, Sub
from service.web.admin_routes import UserRoute
from service.web.context import WebContext
from service.web.problems import error_responses


class NumberedEventAnswer(BaseModel):
    """One event."""

    id: int = Field(description="The number of the event. Later events have greater numbers.")
    event: str = Field(description="The name; see the reference page on events.", examples=["login.admitted"])
    occurred_at: int = Field(description="Epoch seconds.")
    sub: str | None = Field(description="The user that the event is about; null: it is about no user.")
    details: dict[str, str | int | bool] = Field(examples=[{"by": "client:support-desk"}])

    @classmethod
    def of(cls, numbered: NumberedEvent) -> Self:
        event = numbered.event
        return cls(
            id=numbered.id,
            event=event.event,
            occurred_at=event.occurred_at,
            sub=numbered.sub,
            details=event.details,
        )


class EventPageAnswer(BaseModel):
    events: list[NumberedEventAnswer] = Field(description="The newest first.")
    next_cursor: str | None = Field(description=NEXT_CURSOR)


class EventFeedAnswer(BaseModel):
    events: list[NumberedEventAnswer] = Field(description="In the order of their numbers.")
    next_after: int = Field(description="The `after` of the next request: the number of the last event.")


def routes(web: WebContext) -> APIRouter:
    administration, feed, bearers = web.parts.administration, web.parts.event_feed, web.bearers
    router = APIRouter(route_class=UserRoute, tags=[TAG])

    @router.get(
        "/admin/users/{sub}/events",
        operation_id="adminListUserEvents",
        summary="List the events of a user",
        responses=error_responses(401, 403, 404, 422),
    )
    @bearers.administrator(READ_EVENTS, writes=False)
    async def get_user_events(
        _actor: Actor, sub: Sub, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
    ) -> EventPageAnswer:
        user = await administration.get(f"sub:{sub}")
        page = await feed.list_of_user(user.id, limit=limit, cursor=cursor)
        return EventPageAnswer(
            events=[NumberedEventAnswer.of(event) for event in page.items], next_cursor=page.next_cursor
        )

    @router.get(
        "/admin/events",
        operation_id="adminReadEvents",
        summary="Read all events in their order",
        responses=error_responses(401, 403, 422),
    )
    @bearers.administrator(READ_EVENTS, writes=False)
    async def get_events(
        _actor: Actor,
        after: Annotated[
            int,
            Query(ge=0, le=MAX_NUMBER, description="The number of the last event that was read."),
        ] = 0,
        limit: Limit = DEFAULT_LIMIT,
    ) -> EventFeedAnswer:
        batch = await feed.read_after(after, limit=limit)
        return EventFeedAnswer(
            events=[NumberedEventAnswer.of(event) for event in batch.events], next_after=batch.next_after
        )

    return router
