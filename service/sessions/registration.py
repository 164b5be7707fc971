"""The operations on registered clients: add, remove, replace the secret, list. Each change records an event.

The events are about no user: they have the id of the client as a detail.
"""

from collections.abc import Sequence
from datetime import timedelta

from service.clock import Clock
from service.errors import Forbidden, NotFound
from service.messages.events import Events
from service.origin import Act, Actor
from service.sessions import clients
from service.sessions.clients import RESERVED_SCOPES, ClientSummary
from service.storage.database import Database, Transaction
from service.storage.page import Cursors, Page
from service.telemetry.event_names import EventName
from service.users.administrators import check_right

MAX_OVERLAP_HOURS = 24 * 90
"""The longest time for which a replaced secret may stay valid."""


class Clients:
    def __init__(self, *, clock: Clock, database: Database, events: Events, cursors: Cursors) -> None:
        self._clock = clock
        self._cursors = cursors
        self._database = database
        self._events = events

    async def add(self, client_id: str, scopes: tuple[str, ...], *, by: Actor) -> str | None:
        """Register a client and return its secret, shown only now; `None` if the id is taken, also as a `sub`.

        Raises `ValueError` for an id or a scope that cannot exist; `Forbidden`.
        """
        client_id, scopes = clients.check_id(client_id), clients.check_scopes(scopes)
        act = Act(by, self._clock())
        async with self._database.begin() as transaction:
            await _check_right(transaction, by, scopes)
            secret = await clients.add(transaction, client_id, scopes, act.at)
            if secret is not None:
                details = {"client_id": client_id, "scopes": " ".join(scopes)}
                await self._events.record(transaction, EventName.CLIENT_ADDED, None, act, **details)
        return secret

    async def rotate_secret(self, client_id: str, *, overlap_hours: float = 0, by: Actor) -> str | None:
        """Return a new secret, shown only now; the old one stays valid for the overlap. `None` for an unknown client.

        Raises `ValueError` for an overlap that is not 0 to `MAX_OVERLAP_HOURS`; `Forbidden`.
        """
        if not 0 <= overlap_hours <= MAX_OVERLAP_HOURS:
            raise ValueError(f"The overlap must be 0 to {MAX_OVERLAP_HOURS} hours")
        act, overlap = Act(by, self._clock()), timedelta(hours=overlap_hours)
        async with self._database.begin() as transaction:
            await _check_right_to(transaction, by, client_id)
            secret = await clients.rotate_secret(transaction, client_id, overlap=overlap, now=act.at)
            if secret is not None:
                await self._events.record(
                    transaction, EventName.CLIENT_SECRET_ROTATED, None, act, client_id=client_id
                )
        return secret

    async def remove(self, client_id: str, *, by: Actor) -> bool:
        """Remove a client. Return whether there was one. Raises `Forbidden`."""
        act = Act(by, self._clock())
        async with self._database.begin() as transaction:
            await _check_right_to(transaction, by, client_id)
            is_removed = await clients.remove(transaction, client_id)
            if is_removed:
                await self._events.record(transaction, EventName.CLIENT_REMOVED, None, act, client_id=client_id)
        return is_removed

    async def list_all(self) -> list[ClientSummary]:
        """Return every client, in the order of the ids."""
        return await clients.list_all(self._database)

    async def list_page(self, *, limit: int, cursor: str | None = None) -> Page[ClientSummary]:
        """Return clients in the order of their ids. Raises `InvalidRequest` for a cursor of another list."""
        after = "" if cursor is None else self._cursors.read(cursor, filters="")
        found = await clients.list_after(self._database, after, limit=limit + 1)
        shown = found[:limit]
        more = len(found) > limit
        return Page(tuple(shown), self._cursors.write(shown[-1].id, filters="") if more else None)

    async def get(self, client_id: str) -> ClientSummary:
        """Return a client. Raises `NotFound`."""
        found = await clients.find(self._database, client_id) if clients.is_id(client_id) else None
        if found is None:
            raise NotFound
        return found


async def _check_right(transaction: Transaction, by: Actor, scopes: Sequence[str]) -> None:
    """Raise `Forbidden` if the actor may not register, change or remove a client with these scopes.

    A client cannot get more rights at the admin API than it has: it may neither register a client that has rights
    there, nor replace the secret of one, nor remove one.
    """
    await check_right(transaction, by)
    _check_scopes(by, scopes)


async def _check_right_to(transaction: Transaction, by: Actor, client_id: str) -> None:
    """Like `_check_right`, with the scopes of the client, whose row it locks."""
    await check_right(transaction, by)
    found = await clients.lock(transaction, client_id)
    if found is not None:
        _check_scopes(by, found.scopes)


def _check_scopes(by: Actor, scopes: Sequence[str]) -> None:
    if by.kind == "client" and any(scope.startswith(RESERVED_SCOPES) for scope in scopes):
        raise Forbidden
