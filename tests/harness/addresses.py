"""Users with a confirmed e-mail address, and the tokens of links as messages have them."""

from typing import Any

from service.clock import unix_seconds
from service.tokens.links import EmailCancellation, EmailConfirmation, PasswordReset, digest_address
from service.users import users
from service.users.users import User
from tests.harness.clients import Client
from tests.harness.people import PASSWORD, Person
from tests.harness.sessions import bearer

ADDRESS = "alice@example.com"


async def get_user(client: Client, name: str = "alice") -> User:
    user = await users.find(client.parts.database, name)
    assert user is not None
    return user


async def access_token(person: Person) -> str:
    """Log a user without a second factor in."""
    return str((await person.give_password()).json()["access_token"])


async def request_address(client: Client, token: str, email: str = ADDRESS, **more: Any) -> Any:
    body = {"email": email, "password": PASSWORD, **more}
    return await client.post("/email", json=body, headers=bearer(token))


async def confirmation(client: Client, username: str, email: str = ADDRESS, *, seconds: int = 86400) -> str:
    """Return the token of the link that goes to an address which was requested now."""
    now = unix_seconds(client.clock())
    claims = EmailConfirmation(now, now + seconds, sub=(await get_user(client, username)).id, address=email)
    return client.parts.links.write(claims)


async def cancellation(client: Client, username: str, email: str = ADDRESS) -> str:
    """Return the token of the link with which the reader of the former address refuses the new one."""
    now = unix_seconds(client.clock())
    sub = (await get_user(client, username)).id
    return client.parts.links.write(
        EmailCancellation(now, now + 86400, sub=sub, address_digest=digest_address(email))
    )


async def reset_link(client: Client, username: str = "alice", *, seconds: int = 3600) -> str:
    """Return the token of a link for a new password that was requested now."""
    now, user = unix_seconds(client.clock()), await get_user(client, username)
    claims = PasswordReset(now, now + seconds, sub=user.id, credential_version=user.credential_version)
    return client.parts.links.write(claims)


async def set_address(client: Client, person: Person, email: str = ADDRESS) -> str:
    """Give a user without a second factor a confirmed address; return their access token."""
    token = await access_token(person)
    assert 202 == (await request_address(client, token, email)).status_code
    link = await confirmation(client, person.username, email)
    assert 204 == (await client.post("/email/confirm", json={"token": link})).status_code
    return token
