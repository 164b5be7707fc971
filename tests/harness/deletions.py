"""Users who request the deletion of their account, and take it back."""

from httpx2 import AsyncClient, Response

from service.users import users
from service.users.users import User
from tests.harness.clients import Client
from tests.harness.people import PASSWORD, Person
from tests.harness.sessions import bearer

DELAY = 14 * 86400


async def request_deletion(client: AsyncClient, access_token: str, password: str = PASSWORD) -> Response:
    return await client.request("DELETE", "/me", json={"password": password}, headers=bearer(access_token))


async def restore(client: AsyncClient, username: str = "alice", password: str = PASSWORD) -> Response:
    return await client.post("/me/restore", json={"username": username, "password": password})


async def scheduled(client: Client, person: Person) -> User:
    """Log the user in, request the deletion, and return the user as stored then."""
    answer = await (person.log_in() if person.secret else person.give_password())
    requested = await request_deletion(client, answer.json()["access_token"])
    assert 202 == requested.status_code, requested.text
    user = await users.find(client.parts.database, person.username)
    assert user is not None
    return user


async def event_names(client: Client, user_id: str) -> list[str]:
    """The names of the user's events, the newest first."""
    return [event.event for event in await client.parts.events.list_latest(user_id)]
