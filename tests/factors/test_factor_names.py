"""Users rename their authenticators, which changes nothing about access. SQLite and PostgreSQL."""

from typing import Any

import pytest
from httpx2 import AsyncClient, Response

from service.errors import InvalidToken
from service.origin import OPERATOR, Caller
from tests.harness.clients import PEER, Client
from tests.harness.people import PASSWORD, MovableClock, Person, sign_up
from tests.harness.sessions import bearer


@pytest.fixture
async def tokens(alice: Person, clock: MovableClock) -> dict[str, Any]:
    """The tokens of a login with both factors."""
    answer: dict[str, Any] = (await alice.log_in()).json()
    clock.next_step()
    return answer


async def list_factors(client: AsyncClient, access: str) -> list[dict[str, Any]]:
    answer = await client.get("/factors", headers=bearer(access))
    listed: list[dict[str, Any]] = answer.json()["factors"]
    return listed


async def rename(client: AsyncClient, access: str, factor_id: str, name: str) -> Response:
    return await client.patch(f"/factors/{factor_id}", json={"name": name}, headers=bearer(access))


def code_of(answer: Response) -> str:
    return str(answer.json().get("code", answer.status_code))


async def due_kinds(client: Client) -> list[str]:
    assert client.parts.settings.message_transport is not None
    return [row["kind"] for row in await client.parts.database.fetch_all("SELECT kind FROM outbox ORDER BY id")]


async def test_an_authenticator_is_renamed(client: AsyncClient, alice: Person, tokens: dict[str, Any]) -> None:
    """The answer is the authenticator as in the list; another one keeps its name, and so does one to be confirmed."""
    access = tokens["access_token"]
    addition = {"password": PASSWORD, "name": "Tablet"}
    assert 200 == (await client.post("/enable-mfa", json=addition, headers=bearer(access))).status_code
    phone, tablet = sorted(await list_factors(client, access), key=lambda factor: factor["confirmed_at"] is None)
    answer = await rename(client, access, phone["id"], "Téléphone 📱")
    assert (200, {**phone, "name": "Téléphone 📱"}) == (answer.status_code, answer.json())
    assert 200 == (await rename(client, access, phone["id"], "Téléphone 📱")).status_code, "sent again"
    assert {"Téléphone 📱", "Tablet"} == {factor["name"] for factor in await list_factors(client, access)}
    assert "Old tablet" == (await rename(client, access, tablet["id"], "Old tablet")).json()["name"]
    assert {"Téléphone 📱", "Old tablet"} == {factor["name"] for factor in await list_factors(client, access)}


async def test_a_new_name_changes_nothing_about_access(
    client: Client, alice: Person, tokens: dict[str, Any], clock: MovableClock
) -> None:
    """Other sessions, pending tokens and codes stay valid, and no message goes to the user."""
    access = tokens["access_token"]
    other, pending = (await alice.log_in()).json(), await alice.pending()
    clock.next_step()
    (phone,) = await list_factors(client, access)
    before = await due_kinds(client)
    assert 200 == (await rename(client, access, phone["id"], "Old phone")).status_code
    assert before == await due_kinds(client)
    assert 200 == (await client.get("/me", headers=bearer(other["access_token"]))).status_code
    assert 200 == (await alice.give_code(mfa_token=pending)).status_code


async def test_the_event_has_the_new_name(client: AsyncClient, tokens: dict[str, Any]) -> None:
    """The user sees which authenticator it was, from which session and from which address.

    The same name once more changes nothing, and is no event.
    """
    access = tokens["access_token"]
    (phone,) = await list_factors(client, access)
    for _ in range(2):
        assert "Old phone" == (await rename(client, access, phone["id"], "Old phone")).json()["name"]
    events = (await client.get("/events", headers=bearer(access))).json()["events"]
    (details,) = [event["details"] for event in events if event["event"] == "factor.renamed"]
    sid = (await client.get("/me", headers=bearer(access))).json()["sid"]
    assert {"factor": phone["id"], "name": "Old phone", "sid": sid, "address": PEER} == details


async def test_users_rename_only_their_own_authenticators(
    client: AsyncClient, alice: Person, tokens: dict[str, Any], clock: MovableClock
) -> None:
    """Another user's, an unknown and an invalid id have one answer; an old proof is not enough."""
    bob = await sign_up(client, clock, "bob")
    bobs = (await bob.confirm()).json()["access_token"]
    (factor,) = await list_factors(client, bobs)
    for unknown in (factor["id"], "0" * 22, "'; DROP TABLE factors; --", "a%00b", "%ED%A0%80"):
        assert "not_found" == code_of(await rename(client, tokens["access_token"], unknown, "Mine"))
    assert [factor] == await list_factors(client, bobs)
    clock.advance(seconds=301)
    assert "insufficient_user_authentication" == code_of(await rename(client, bobs, factor["id"], "Late"))
    assert [factor] == await list_factors(client, bobs)


async def test_without_a_second_factor_nothing_is_renamed(client: AsyncClient, clock: MovableClock) -> None:
    """An authenticator that is not confirmed proves nothing, and the password alone is not enough."""
    carol = await sign_up(client, clock, "carol", mfa=False)
    access = (await carol.give_password()).json()["access_token"]
    await client.post("/enable-mfa", json={"password": PASSWORD}, headers=bearer(access))
    (unconfirmed,) = await list_factors(client, access)
    assert "insufficient_user_authentication" == code_of(await rename(client, access, unconfirmed["id"], "Phone"))


async def test_an_authenticator_must_have_a_name(client: AsyncClient, tokens: dict[str, Any]) -> None:
    """The names are those with which another authenticator is added."""
    access = tokens["access_token"]
    (phone,) = await list_factors(client, access)
    for name in ("", "x" * 65, "bell\x07", "\u202egnp.exe", " ", "\u200b"):
        assert "invalid_request" == code_of(await rename(client, access, phone["id"], name)), name
    bodies: tuple[dict[str, Any], ...] = ({}, {"name": None}, {"name": 1}, {"name": "Phone", "type": "totp"})
    for body in bodies:
        answer = await client.patch(f"/factors/{phone['id']}", json=body, headers=bearer(access))
        assert "invalid_request" == code_of(answer), body
    assert [phone] == await list_factors(client, access)


async def test_an_account_that_was_disabled_meanwhile(client: Client, tokens: dict[str, Any]) -> None:
    """The account is checked again where the name is written, after the token was checked."""
    access = await client.parts.bearer_auth.authenticate_recent(tokens["access_token"])
    (phone,) = await client.parts.own_factors.list_factors(access)
    await client.parts.administration.set_disabled("alice", disabled=True, by=OPERATOR)
    with pytest.raises(InvalidToken):
        await client.parts.own_factors.rename_factor(access, phone.id, "Late", Caller(PEER))
    assert [phone] == await client.parts.own_factors.list_factors(access)
