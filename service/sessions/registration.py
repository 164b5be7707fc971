"""The operations on registered clients: add, remove, replace the secret, list. Each change records an event.

The events are about no user: they have the id of the client as a detail.
"""

from datetime import timedelta

from service.clock import Clock
from service.messages.events import Events
from service.origin import Act, Actor
from service.sessions import clients
from service.sessions.clients import ClientSummary
from service.storage.database import Database
from service.telemetry.event_names import EventName

MAX_OVERLAP_HOURS = 24 * 90
"""The longest time for which a replaced secret may stay valid."""


class Clients:
    def __init__(self, *, clock: Clock, database: Database, events: Events) -> None:
        self._clock = clock
        self._database = database
        self._events = events

    async def add(self, client_id: str, scopes: tuple[str, ...], *, by: Actor) -> str | None:
        """Register a client and return its secret, shown only now; `None` if the id is taken, also as a `sub`.

        Raises `ValueError` for an id or a scope that cannot exist.
        """
        client_id, scopes = clients.check_id(client_id), clients.check_scopes(scopes)
        act = Act(by, self._clock())
        async with self._database.begin() as transaction:
            secret = await clients.add(transaction, client_id, scopes, act.at)
            if secret is not None:
                details = {"client_id": client_id, "scopes": " ".join(scopes)}
                await self._events.record(transaction, EventName.CLIENT_ADDED, None, act, **details)
        return secret

    async def rotate_secret(self, client_id: str, *, overlap_hours: float = 0, by: Actor) -> str | None:
        """Return a new secret, shown only now; the old one stays valid for the overlap. `None` for an unknown client.

        Raises `ValueError` for an overlap that is not 0 to `MAX_OVERLAP_HOURS`.
        """
        if not 0 <= overlap_hours <= MAX_OVERLAP_HOURS:
            raise ValueError(f"The overlap must be 0 to {MAX_OVERLAP_HOURS} hours")
        act, overlap = Act(by, self._clock()), timedelta(hours=overlap_hours)
        async with self._database.begin() as transaction:
            secret = await clients.rotate_secret(transaction, client_id, overlap=overlap, now=act.at)
            if secret is not None:
                await self._events.record(
                    transaction, EventName.CLIENT_SECRET_ROTATED, None, act, client_id=client_id
                )
        return secret

    async def remove(self, client_id: str, *, by: Actor) -> bool:
        """Remove a client. Return whether there was one."""
        act = Act(by, self._clock())
        async with self._database.begin() as transaction:
            is_removed = await clients.remove(transaction, client_id)
            if is_removed:
                await self._events.record(transaction, EventName.CLIENT_REMOVED, None, act, client_id=client_id)
        return is_removed

    async def list_all(self) -> list[ClientSummary]:
        """Return every client, in the order of the ids."""
        return await clients.list_all(self._database)
