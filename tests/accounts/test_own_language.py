"""`PATCH /me`: users change the language of the messages to them."""

import pytest

from tests.harness.clients import Client
from tests.harness.deletions import event_names
from tests.harness.people import MovableClock, Person, sign_up
from tests.harness.sessions import bearer


@pytest.fixture
async def carol(client: Client, clock: MovableClock) -> tuple[Person, dict[str, str]]:
    """A user without a second factor, and the header of a session that is not fresh."""
    person = await sign_up(client, clock, "carol", mfa=False)
    token = (await person.give_password()).json()["access_token"]
    clock.advance(seconds=400)
    return person, bearer(token)


async def test_a_user_changes_the_language_of_messages(client: Client, carol: tuple[Person, dict[str, str]]) -> None:
    """The answer is that of `GET /me`. One that has no templates is stored; null means that of the service."""
    _, session = carol
    for locale in ("de", "pt-BR", None):
        changed = await client.patch("/me", json={"locale": locale}, headers=session)
        assert (changed.status_code, changed.json()["locale"]) == (200, locale)
        assert changed.json() == (await client.get("/me", headers=session)).json()
        assert changed.headers["cache-control"] == "no-store"


async def test_the_event_is_the_users_own(client: Client, carol: tuple[Person, dict[str, str]]) -> None:
    """It has the language and no `by`. The same language again is no event."""
    _, session = carol
    for locale in (None, "fr", "fr", None, None):
        assert (await client.patch("/me", json={"locale": locale}, headers=session)).status_code == 200
    events = (await client.get("/events", headers=session)).json()["events"]
    assert [event["details"] for event in events if event["event"] == "user.locale_changed"] == [
        {"locale": ""},
        {"locale": "fr"},
    ]


async def test_what_is_no_language_changes_nothing(client: Client, carol: tuple[Person, dict[str, str]]) -> None:
    """As at sign-up. A body without the field is refused, and so is any other field of the account."""
    _, session = carol
    assert (await client.patch("/me", json={"locale": "es"}, headers=session)).status_code == 200
    for wrong in ("", "german!", "de_CH", "x" * 65, 1, ["de"], "de\r\nBcc: eve@example.com", "\uff44\uff45"):
        answer = await client.patch("/me", json={"locale": wrong}, headers=session)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), wrong
    for body in ({}, {"locale": "de", "roles": ["admin"]}, {"username": "root"}, {"locale": "de", "email": None}):
        answer = await client.patch("/me", json=body, headers=session)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), body
    assert (await client.get("/me", headers=session)).json()["locale"] == "es"


async def test_only_the_own_account_changes(
    client: Client, clock: MovableClock, carol: tuple[Person, dict[str, str]]
) -> None:
    """An ended session changes nothing."""
    dave = await sign_up(client, clock, "dave", mfa=False)
    other = bearer((await dave.give_password()).json()["access_token"])
    assert (await client.patch("/me", json={"locale": "fr"}, headers=other)).status_code == 200
    _, session = carol
    assert (await client.get("/me", headers=session)).json()["locale"] is None
    assert (await client.post("/logout", headers=session)).status_code == 204
    answer = await client.patch("/me", json={"locale": "de"}, headers=session)
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
    account = await client.parts.administration.get("carol")
    assert account.locale is None
    assert "user.locale_changed" not in await event_names(client, account.id)
