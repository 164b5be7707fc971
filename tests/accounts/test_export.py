"""The export of an account by its user: `GET /me/export`."""

from typing import Any

from service.accounts.exports import Exports
from service.origin import OPERATOR, Act
from tests.harness.addresses import ADDRESS, set_address
from tests.harness.clients import Client, Opener
from tests.harness.people import PASSWORD, MovableClock, Person, sign_up
from tests.harness.sessions import bearer, claims


async def export(client: Client, token: str) -> Any:
    return await client.get("/me/export", headers=bearer(token))


async def test_an_export_needs_a_fresh_second_factor(client: Client, alice: Person, clock: MovableClock) -> None:
    assert (await client.get("/me/export")).status_code == 401
    token = (await alice.log_in()).json()["access_token"]
    assert (await export(client, token)).status_code == 200
    clock.advance(seconds=301)
    stale = await export(client, token)
    assert (stale.status_code, stale.json()["code"]) == (401, "insufficient_user_authentication")
    assert 'acr_values="aal2"' in stale.headers["www-authenticate"]


async def test_a_user_without_a_second_factor_needs_a_recent_login(client: Client, clock: MovableClock) -> None:
    """A refresh is no login."""
    person = await sign_up(client, clock, "alice", mfa=False)
    login = (await person.give_password()).json()
    clock.advance(seconds=300)
    assert (await export(client, login["access_token"])).status_code == 200
    clock.advance(seconds=1)
    body = {"grant_type": "refresh_token", "refresh_token": login["refresh_token"]}
    refreshed = (await client.post("/token", data=body)).json()["access_token"]
    for token in (login["access_token"], refreshed):
        stale = await export(client, token)
        assert (stale.status_code, stale.json()["code"]) == (401, "insufficient_user_authentication")
        assert "acr_values" not in stale.headers["www-authenticate"]


async def test_an_export_is_a_download_that_nobody_caches(client: Client, alice: Person) -> None:
    answer = await export(client, (await alice.log_in()).json()["access_token"])
    assert answer.headers["content-disposition"] == 'attachment; filename="account.json"'
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"


async def test_an_export_has_what_is_stored(world: dict[str, Any], open_client: Opener, clock: MovableClock) -> None:
    async with open_client({**world, "signup": "invited"}) as client:
        made = await client.parts.invitations.create(
            Act(OPERATOR, clock()), email=ADDRESS, locale="de", roles=("tester",)
        )
        body = {"username": "alice", "password": PASSWORD, "invitation": made.token}
        assert (await client.post("/signup", json=body)).status_code == 201
        ended = (await Person(client, clock, "alice").give_password()).json()["access_token"]
        assert (await client.post("/logout", headers=bearer(ended))).status_code == 204
        token = (await Person(client, clock, "alice").give_password()).json()["access_token"]
        document = (await export(client, token)).json()
        assert document["exported_at"] == int(clock().timestamp())
        account = document["account"]
        assert (account["sub"], account["username"], account["email"], account["roles"], account["locale"]) == (
            claims(token)["sub"], "alice", ADDRESS, ["tester"], "de",
        )  # fmt: skip
        assert document["invitation"]["id"] == made.invitation.id
        found = {session["sid"]: session["ended_reason"] for session in document["sessions"]}
        assert found == {claims(ended)["sid"]: "logout", claims(token)["sid"]: None}
        names = [event["event"] for event in document["events"]]
        assert (names[0], names[-1]) == ("signup", "login.admitted")
        assert document["authenticators"] == []


async def test_an_export_has_no_secret(client: Client, clock: MovableClock) -> None:
    """Neither a hash nor a secret, a code or a token; the canaries of the test client look at the answer too."""
    person = await sign_up(client, clock)
    confirmed = (await person.confirm()).json()
    answer = await export(client, confirmed["access_token"])
    document = answer.json()
    assert document["recovery_codes_left"] == 10
    assert [factor["name"] for factor in document["authenticators"]] == ["Authenticator"]
    row = await client.parts.database.fetch_one("SELECT password_hash FROM users WHERE username = 'alice'")
    assert row is not None
    secrets = [
        person.secret, PASSWORD, row["password_hash"], confirmed["access_token"], confirmed["refresh_token"],
        *confirmed["recovery_codes"],
    ]  # fmt: skip
    for secret in secrets:
        assert secret not in answer.text
    assert "argon2" not in answer.text


async def test_an_export_has_every_page(client: Client, clock: MovableClock) -> None:
    """It has every event and every session, however many pages they take, and those of nobody else."""
    bob = await sign_up(client, clock, "bobby", mfa=False)
    person = await sign_up(client, clock, "alice", mfa=False)
    token = await set_address(client, person)
    for _ in range(7):
        await person.give_password()
        await bob.give_password()
    document = (await export(client, token)).json()
    assert len(document["sessions"]) == len({session["sid"] for session in document["sessions"]}) == 8
    assert [event["event"] for event in document["events"]].count("login.admitted") == 8
    parts = client.parts
    exports = Exports(clock=clock, database=parts.database, events=parts.events, rows_per_read=3)
    in_pages = await exports.read(await parts.bearer_auth.authenticate(token))
    assert [session["sid"] for session in document["sessions"]] == [session.id async for session in in_pages.sessions]
    assert [event["event"] for event in document["events"]] == [event.event async for event in in_pages.events]
