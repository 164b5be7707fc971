"""The history of their account that users see. SQLite and PostgreSQL."""

import asyncio
import logging
from typing import Any

import pytest
from httpx2 import AsyncClient

from service.origin import OPERATOR, Act
from tests.harness.clients import Client
from tests.harness.people import PASSWORD, MovableClock, Person, sign_up
from tests.harness.sessions import bearer, claims


async def see(client: AsyncClient, access: str) -> list[dict[str, Any]]:
    answer = await client.get("/events", headers=bearer(access))
    assert 200 == answer.status_code, answer.text
    events: list[dict[str, Any]] = answer.json()["events"]
    return events


def names(events: list[dict[str, Any]]) -> list[str]:
    return [event["event"] for event in events]


async def test_a_user_sees_the_events_of_the_account(client: AsyncClient, clock: MovableClock) -> None:
    """The newest event is first, with time and address, and without secrets."""
    alice = await sign_up(client, clock)
    await alice.confirm()
    clock.next_step()
    access = (await alice.log_in()).json()["access_token"]
    events = await see(client, access)
    assert ["login.admitted", "login.admitted", "mfa.enabled", "signup"] == names(events)
    assert {
        "event": "login.admitted",
        "occurred_at": int(clock().timestamp()),
        "details": {"sid": claims(access)["sid"], "amr": "pwd otp mfa", "address": "203.0.113.7"},
    } == events[0]
    assert not {alice.secret, PASSWORD, access} & {str(detail) for e in events for detail in e["details"].values()}


async def test_users_see_only_their_own_events(client: AsyncClient, alice: Person, clock: MovableClock) -> None:
    """It takes a live session."""
    bob = await sign_up(client, clock, "bob", mfa=False)
    access = (await bob.give_password()).json()["access_token"]
    assert ["login.admitted", "signup"] == names(await see(client, access))
    await client.post("/logout", headers=bearer(access))
    assert 401 == (await client.get("/events", headers=bearer(access))).status_code
    access = (await bob.give_password()).json()["access_token"]
    assert "session.ended" == names(await see(client, access))[1]


async def test_wrong_codes_after_a_correct_password_are_an_event(
    client: AsyncClient, alice: Person, clock: MovableClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The third in a row and every third after it: somebody knows the password. The log has a warning too."""
    caplog.set_level(logging.WARNING, "keyturn")
    for _ in range(2):
        await alice.log_in(alice.wrong_code())
    access = (await alice.log_in()).json()["access_token"]
    assert "code.refused_repeatedly" not in names(await see(client, access)), "two wrong codes, then a correct one"
    clock.next_step()
    for _ in range(3):
        await alice.log_in(alice.wrong_code())
    (raised,) = [e for e in await see(client, access) if e["event"] == "code.refused_repeatedly"]
    assert {"failures": 3, "address": "203.0.113.7"} == raised["details"]
    assert [record.getMessage() for record in caplog.records if record.name == "keyturn"] == [raised["event"]]
    for wait in (0, 31, 31, 61):
        clock.advance(seconds=wait)
        await alice.log_in(alice.wrong_code())
    assert 2 == names(await see(client, access)).count("code.refused_repeatedly")


async def test_refused_codes_of_a_deleted_user_are_no_event(
    client: Client, alice: Person, clock: MovableClock
) -> None:
    """The deletion may come between the code and the event: `user.deleted` stays the last one."""
    user = await client.parts.administration.delete(alice.username, by=OPERATOR)
    await client.parts.events.record_refusal(user.id, 3, Act(OPERATOR, clock()))
    (last, *_) = await client.parts.events.list_latest(user.id)
    assert "user.deleted" == last.event


async def test_wrong_passwords_are_no_event(client: AsyncClient, alice: Person, clock: MovableClock) -> None:
    """An attacker must not fill the database, nor hide important events."""
    access = (await alice.log_in()).json()["access_token"]
    before = names(await see(client, access))
    for _ in range(5):
        await alice.give_password("not the password")
    assert before == names(await see(client, access))


async def test_disabling_with_wrong_codes_counts_too(client: AsyncClient, alice: Person, clock: MovableClock) -> None:
    """The password was correct in these requests too; guesses of recovery codes count as well."""
    access = (await alice.log_in()).json()["access_token"]
    clock.next_step()
    for _ in range(3):
        await alice.disable(alice.wrong_code())
    assert "code.refused_repeatedly" == names(await see(client, access))[0]
    for _ in range(3):
        body = {"mfa_token": await alice.pending(), "recovery_code": "ABCD-EFGH-IJKL-MNOP"}
        await client.post("/login-2fa", json=body)
    assert 2 == names(await see(client, access)).count("code.refused_repeatedly")


async def test_parallel_wrong_codes_raise_one_event(client: AsyncClient, alice: Person, clock: MovableClock) -> None:
    """Three wrong codes at the same moment are three in a row: each counts."""
    access = (await alice.log_in()).json()["access_token"]
    clock.next_step()
    pendings = [await alice.pending() for _ in range(3)]
    wrong = alice.wrong_code()
    await asyncio.gather(*(alice.give_code(wrong, pending) for pending in pendings))
    assert 1 == names(await see(client, access)).count("code.refused_repeatedly")


async def test_actions_of_operators_are_events(client: Client, alice: Person, clock: MovableClock) -> None:
    """Disabling, enabling and roles are recorded."""
    administration = client.parts.administration
    await administration.set_disabled("alice", disabled=True, by=OPERATOR)
    await administration.set_disabled("alice", disabled=False, by=OPERATOR)
    await administration.set_roles("alice", add="admin", by=OPERATOR)
    access = (await alice.log_in()).json()["access_token"]
    assert ["user.roles_changed", "user.enabled", "user.disabled"] == names(await see(client, access))[1:4]


async def test_a_reused_refresh_token_is_an_event(client: AsyncClient, alice: Person, clock: MovableClock) -> None:
    """The session ended because of it, and its owner can see why."""
    tokens = (await alice.log_in()).json()
    stale = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    await client.post("/token", data=stale)
    clock.advance(seconds=11)
    await client.post("/token", data=stale)
    clock.next_step()
    access = (await alice.log_in()).json()["access_token"]
    assert "session.refresh_reused" == names(await see(client, access))[1]


async def test_a_hundred_are_shown_and_ninety_days_are_kept(client: Client, clock: MovableClock) -> None:
    """The service deletes older events by itself, a thousand at a time."""
    bob = await sign_up(client, clock, "bob", mfa=False)
    for _ in range(105):
        access = (await bob.give_password()).json()["access_token"]
    assert 100 == len(await see(client, access))
    parts = client.parts
    clock.advance(days=89)
    assert 0 == await parts.events.sweep(clock())
    access = (await bob.give_password()).json()["access_token"]
    clock.advance(days=2)
    assert 106 == await parts.events.sweep(clock())
    access = (await bob.give_password()).json()["access_token"]
    assert 2 == len(await see(client, access))
