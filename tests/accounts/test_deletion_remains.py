"""What a replica of the previous version leaves of an account that it deletes, and its removal."""

from typing import Any

import pytest

from service.origin import OPERATOR, Act
from service.storage.database import Row
from service.users import deletions, users
from tests.harness.addresses import ADDRESS, set_address
from tests.harness.clients import Client, Opener
from tests.harness.databases import ForwardingDatabase
from tests.harness.people import PASSWORD, MovableClock, Person, sign_up
from tests.harness.sessions import claims

DELETED_BEFORE = (
    "UPDATE users SET epoch = epoch + 1, recovery_due_at = NULL, password_hash = '', roles = '',"
    " disabled_at = COALESCE(disabled_at, $2), deleted_at = $2 WHERE id = $1"
)
"""The statement of version 0.1, which knows no column of the migrations 0009 and 0010."""

KEPT = {"id", "username", "created_at", "disabled_at", "deleted_at", "epoch"}
EMPTY: dict[str, Any] = {"password_hash": "", "roles": "", "claims": "{}"}
NEWER = {
    "email": "'a@example.com'", "new_email": "'b@example.com'", "new_email_at": "1", "locale": "'de'",
    "password_reset_at": "1", "deletion_due_at": "1", "deletion_requested_at": "1", "claims": "'{\"a\":\"b\"}'",
}  # fmt: skip
"""The columns of those migrations, each with a value."""


async def execute(client: Client, sql: str, *parameters: object) -> None:
    async with client.parts.database.begin() as transaction:
        await transaction.execute(sql, *parameters)


async def delete_as_before(client: Client, person: Person) -> str:
    """Delete the account as a replica of the previous version does, and return its `sub`."""
    found = await users.find(client.parts.database, person.username)
    assert found is not None
    await execute(client, DELETED_BEFORE, found.id, int(client.clock().timestamp()))
    return found.id


async def content(client: Client, sub: str) -> dict[str, Any]:
    """Return what the row of the account holds, besides what stays."""
    row = await client.parts.database.fetch_one("SELECT * FROM users WHERE id = $1", sub)
    assert row is not None
    held = {name: value for name, value in dict(row).items() if name not in KEPT}
    return {name: value for name, value in held.items() if value is not None and value != EMPTY.get(name)}


async def test_an_address_of_an_account_that_was_deleted_is_free_again(client: Client, clock: MovableClock) -> None:
    """Until then no other user could confirm it."""
    sub = await delete_as_before(client, await _with_address(client, clock, "alice"))
    assert {"email": ADDRESS} == await content(client, sub)
    await client.parts.deletions.remove_remains()
    assert {} == await content(client, sub)
    bob = await _with_address(client, clock, "bob")
    assert 200 == (await client.post("/login", json={"username": ADDRESS, "password": bob.password})).status_code
    await client.parts.deletions.remove_remains()
    assert ADDRESS == (await content(client, await _sub(client, "bob")))["email"]


async def _with_address(client: Client, clock: MovableClock, username: str) -> Person:
    person = await sign_up(client, clock, username, mfa=False)
    await set_address(client, person, ADDRESS)
    return person


async def _sub(client: Client, username: str) -> str:
    token = (await client.post("/login", json={"username": username, "password": PASSWORD})).json()["access_token"]
    return str(claims(token)["sub"])


@pytest.mark.parametrize("column", NEWER)
async def test_every_column_of_a_deleted_account_is_emptied(client: Client, clock: MovableClock, column: str) -> None:
    """The username stays reserved, and an account that is only to be deleted keeps its columns."""
    alice, bob = [await sign_up(client, clock, name, mfa=False) for name in ("alice@example.org", "bob")]
    await execute(client, f"UPDATE users SET {column} = {NEWER[column]}")
    await execute(client, f"UPDATE users SET disabled_at = 1 WHERE username = '{bob.username}'")
    kept = await users.find(client.parts.database, bob.username)
    sub = await delete_as_before(client, alice)
    assert {column} == (await content(client, sub)).keys()
    await client.parts.deletions.remove_remains()
    assert {} == await content(client, sub)
    assert kept == await users.find(client.parts.database, bob.username)
    again = await client.post("/signup", json={"username": alice.username, "password": PASSWORD})
    assert 409 == again.status_code


async def test_an_invitation_of_a_deleted_account_has_no_address(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """Also if the account has none any more."""
    async with open_client({**world, "signup": "invited"}) as client:
        made = await client.parts.invitations.create(Act(OPERATOR, clock()), email=ADDRESS)
        body = {"username": "alice", "password": PASSWORD, "invitation": made.token}
        assert 201 == (await client.post("/signup", json=body)).status_code
        await execute(client, "UPDATE users SET email = NULL")
        await delete_as_before(client, Person(client, clock, "alice"))
        await client.parts.deletions.remove_remains()
        assert (await client.parts.invitations.get(made.invitation.id)).email is None


async def test_remains_are_looked_for_among_deleted_accounts_only(
    embedded: dict[str, Any], open_client: Opener
) -> None:
    """A table of millions of users is not read each hour."""

    class Explainer(ForwardingDatabase):
        """A database that answers with the plan of a statement."""

        async def fetch_all(self, sql: str, *parameters: object) -> list[Row]:
            plan = await self.database.fetch_all(f"EXPLAIN QUERY PLAN {sql}", *parameters)
            return [{"id": row["detail"]} for row in plan]

    async with open_client(embedded) as client:
        plan = await deletions.list_with_remains(Explainer(client.parts.database), after="", limit=1)
    assert "SEARCH users USING INDEX users_deleted (id>?)" in plan
