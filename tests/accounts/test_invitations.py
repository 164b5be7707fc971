"""Sign-up by invitation: `KEYTURN_SIGNUP=invited`, and invitations that carry an address and roles."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from service.accounts.invitations import NewInvitation
from service.errors import InvalidRequest, NotFound
from service.origin import OPERATOR, Act
from service.users import users
from tests.harness.clients import Client, Opener
from tests.harness.commands import DONE, MISUSED, REFUSED, Here
from tests.harness.people import PASSWORD, MovableClock, Person, sign_up
from tests.harness.sessions import bearer, claims

ADDRESS = "alice@example.com"


@pytest.fixture
async def invited(world: dict[str, Any], open_client: Opener) -> AsyncIterator[Client]:
    """A client of a service where sign-up is by invitation."""
    async with open_client({**world, "signup": "invited"}) as client:
        yield client


async def invite(client: Client, **more: Any) -> NewInvitation:
    return await client.parts.invitations.create(Act(OPERATOR, client.clock()), **more)


async def attempt(client: Client, invitation: str | None, username: str = "alice", **more: Any) -> tuple[int, str]:
    body = {"username": username, "password": PASSWORD, **more}
    answer = await client.post("/signup", json=body if invitation is None else {**body, "invitation": invitation})
    return answer.status_code, answer.json().get("code", "")


async def test_without_an_invitation_sign_up_is_closed(invited: Client) -> None:
    """With one an account is made, and the invitation is used up."""
    assert await attempt(invited, None) == (403, "signup_closed")
    made = await invite(invited)
    assert await attempt(invited, made.token) == (201, "")
    assert await attempt(invited, made.token, "bobby") == (403, "invalid_invitation")
    used = await invited.parts.invitations.get(made.invitation.id)
    alice = await users.find(invited.parts.database, "alice")
    assert alice is not None
    assert used.used_by == alice.id


async def test_an_address_that_no_message_can_confirm_is_refused(world: dict[str, Any], open_client: Opener) -> None:
    """Without messages only the address of the invitation itself is accepted; a refusal leaves the invitation."""
    async with open_client({**world, "signup": "invited", "messages": "off"}) as client:
        made = await invite(client)
        assert await attempt(client, made.token, email=ADDRESS) == (422, "invalid_request")
        assert await attempt(client, made.token) == (201, "")
        to_address = await invite(client, email=ADDRESS)
        assert await attempt(client, to_address.token, "bobby", email=ADDRESS) == (201, "")


async def test_of_twenty_sign_ups_with_one_invitation_one_succeeds(invited: Client) -> None:
    """The others leave no account."""
    made = await invite(invited)
    answers = await asyncio.gather(*(attempt(invited, made.token, f"user{n:02}") for n in range(20)))
    assert sorted(answers) == [(201, "")] + [(403, "invalid_invitation")] * 19
    rows = await invited.parts.database.fetch_all("SELECT id FROM users")
    assert len(rows) == 1


async def test_an_invitation_to_an_address_confirms_it(invited: Client) -> None:
    """The account gets the roles, and a login by the address works at once."""
    made = await invite(invited, email=ADDRESS, roles=("cashier", "auditor"), locale="de")
    assert await attempt(invited, made.token, email="eve@example.com") == (403, "invalid_invitation")
    assert await attempt(invited, made.token, email="ALICE@example.com") == (201, "")
    answer = await invited.post("/login", json={"username": ADDRESS, "password": PASSWORD})
    assert claims(answer.json()["access_token"])["roles"] == ["auditor", "cashier"]
    alice = await users.find(invited.parts.database, "alice")
    assert alice is not None
    assert (alice.email, alice.locale) == (ADDRESS, "de")


async def test_an_address_that_names_another_account_refuses_the_sign_up_and_keeps_the_invitation(
    invited: Client, clock: MovableClock
) -> None:
    """The invitation works once the address is free."""
    first = await invite(invited, email=ADDRESS)
    assert await attempt(invited, first.token, "first") == (201, "")
    made = await invite(invited, email=ADDRESS)
    assert await attempt(invited, made.token, "second") == (409, "email_taken")
    await invited.parts.administration.delete("first", by=OPERATOR)
    assert await attempt(invited, made.token, "second") == (201, "")


@pytest.mark.parametrize("text", ["ktl_", "x", "ktl_" + "A" * 100, "\u00e9"])
async def test_any_other_text_is_an_invalid_invitation(invited: Client, text: str) -> None:
    assert await attempt(invited, text) == (403, "invalid_invitation")


async def test_an_invitation_expires_and_is_revoked(invited: Client, clock: MovableClock) -> None:
    """A revoked one cannot be revoked again, nor a used one."""
    short, revoked, used = (
        await invite(invited, lifetime=timedelta(hours=1)),
        await invite(invited),
        await invite(invited),
    )
    act = Act(OPERATOR, clock())
    await invited.parts.invitations.revoke(revoked.invitation.id, act)
    assert await attempt(invited, revoked.token) == (403, "invalid_invitation")
    assert await attempt(invited, used.token) == (201, "")
    for invitation in (revoked, used):
        with pytest.raises(NotFound):
            await invited.parts.invitations.revoke(invitation.invitation.id, act)
    clock.advance(seconds=3600)
    assert await attempt(invited, short.token, "bobby") == (403, "invalid_invitation")


@pytest.mark.parametrize(
    "wrong", [{"lifetime": timedelta(seconds=299)}, {"lifetime": timedelta(days=91)}, {"roles": ("Admin",)}]
)
async def test_an_invitation_that_cannot_be_is_refused(invited: Client, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        await invite(invited, **wrong)


async def test_where_sign_up_is_open_an_invitation_is_optional_but_never_ignored(
    client: Client, clock: MovableClock
) -> None:
    """One that is not valid refuses the sign-up, so that nobody gets an account without its roles unnoticed."""
    assert await attempt(client, "ktl_AAAA") == (403, "invalid_invitation")
    await sign_up(client, clock, "bobby", mfa=False)
    made = await invite(client, roles=("cashier",))
    assert await attempt(client, made.token) == (201, "")


async def test_a_role_of_the_policy_makes_eight_characters_enough(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """The first login begins the enrolment."""
    async with open_client({**world, "signup": "invited", "require_mfa": ("admin",)}) as client:
        made = await invite(client, roles=("admin",))
        assert await attempt(client, made.token, password="eightchr") == (201, "")
        answer = await Person(client, clock, "alice", "eightchr").give_password()
        assert answer.json()["mfa_required"] is True


async def test_invitations_are_events_with_their_actor(invited: Client) -> None:
    """An operator's act says so; the events are about no user."""
    made = await invite(invited, roles=("cashier",))
    await invited.parts.invitations.revoke(made.invitation.id, Act(OPERATOR, invited.clock()))
    rows = await invited.parts.database.fetch_all("SELECT event, user_id, details FROM events ORDER BY id")
    assert [(row["event"], row["user_id"]) for row in rows] == [
        ("invitation.created", None),
        ("invitation.revoked", None),
    ]
    assert all('"by": "operator"' in row["details"] and made.invitation.id in row["details"] for row in rows)
    assert all(made.token not in row["details"] for row in rows)


async def test_a_list_has_pages(invited: Client) -> None:
    """Each invitation is on one page."""
    made = {(await invite(invited)).invitation.id for _ in range(7)}
    seen: list[str] = []
    cursor = None
    for size in (3, 3, 1):
        page = await invited.parts.invitations.list_page(limit=3, cursor=cursor)
        assert len(page.items) == size
        seen += [invitation.id for invitation in page.items]
        cursor = page.next_cursor
    assert cursor is None
    assert sorted(seen) == sorted(made)
    with pytest.raises(InvalidRequest):
        await invited.parts.invitations.list_page(cursor="x")


def test_an_operator_invites_lists_and_revokes(here: Here) -> None:
    """The link is shown once, on standard output; the list has no token."""
    invited = here("users", "invite", "Alice@example.com", "--role", "cashier", "--expires", "2d", "--locale", "de")
    assert invited.status == DONE, invited.err
    assert invited.out.startswith("http://localhost:8000/account#invitation=ktl_")
    listed = here("users", "invitations")
    assert "Alice@example.com cashier" in listed.out
    assert "ktl_" not in listed.out
    invitation_id = listed.out.splitlines()[1].split()[0]
    assert here("users", "revoke-invitation", invitation_id).status == DONE
    assert here("users", "revoke-invitation", invitation_id).status == REFUSED
    assert len(here("users", "invitations").out.splitlines()) == 1


def test_an_operator_is_told_that_sign_up_is_closed(here: Here) -> None:
    """The invitation is made all the same: sign-up may be opened to invited users later."""
    invited = Here({**here.environment, "KEYTURN_SIGNUP": "closed"})("users", "invite")
    assert invited.status == DONE
    assert "KEYTURN_SIGNUP is closed" in invited.err
    assert "KEYTURN_SIGNUP" not in here("users", "invite").err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nobody",), "name@example.com"),
        (("--expires", "7"), "needs the unit"),
        (("--expires", "1s"), "--expires: This must be 5 minutes to 90 days"),
        ((f"--expires=-{'9' * 20}d",), "5 minutes to 90 days"),
        (("--expires", "91d"), "5 minutes to 90 days"),
        (("--expires", f"{'9' * 5000}d"), "5 minutes to 90 days"),
        (("--role", "Admin"), "--role: "),
        (("--locale", ""), "--locale: Write a language as its tag, such as de or pt-BR"),
        (("--locale", "de_DE.UTF-8"), "--locale: Write"),
        (("--locale", "a" * 36), "--locale: Write"),
        (("--locale", "\udcff"), "--locale: Write"),
    ],
)
def test_a_mistake_in_an_invitation_is_named(here: Here, arguments: tuple[str, ...], sentence: str) -> None:
    refused = here("users", "invite", *arguments)
    assert refused.status == MISUSED
    assert sentence in refused.err


async def test_the_invited_user_sees_their_own_account_only(invited: Client) -> None:
    """The events of the invitation are not the user's."""
    made = await invite(invited)
    await attempt(invited, made.token)
    token = (await invited.post("/login", json={"username": "alice", "password": PASSWORD})).json()["access_token"]
    events = (await invited.get("/events", headers=bearer(token))).json()["events"]
    assert {event["event"] for event in events} == {"signup", "login.admitted"}


async def test_an_old_invitation_is_deleted(invited: Client, clock: MovableClock) -> None:
    """It stays in the list for 30 days after it expired."""
    made = await invite(invited)
    clock.advance(days=36)
    await invited.parts.housekeeping.sweep_invitations()
    assert (await invited.parts.invitations.get(made.invitation.id)).id == made.invitation.id
    clock.advance(days=1, seconds=1)
    await invited.parts.housekeeping.sweep_invitations()
    with pytest.raises(NotFound):
        await invited.parts.invitations.get(made.invitation.id)
