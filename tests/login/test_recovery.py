"""Delayed recovery, which removes a lost second factor and can be cancelled, with both kinds of stores."""

import asyncio
from typing import Any

import pytest
from httpx2 import AsyncClient, Response

from service.origin import OPERATOR
from tests.harness.clients import Client, Opener
from tests.harness.people import PASSWORD, MovableClock, Person, secret_in, sign_up
from tests.harness.sessions import bearer, ended_at
from tests.harness.webhooks import WEBHOOK

DELAY = 72 * 3600


@pytest.fixture
def world(world: dict[str, Any]) -> dict[str, Any]:
    """Both kinds of stores, with the delay that an operator without a webhook must set."""
    return {**world, "recovery_delay": "72h"}


async def request_recovery(client: AsyncClient, username: str = "alice", password: str = PASSWORD) -> Response:
    return await client.post("/recovery", json={"username": username, "password": password})


async def events_of(client: AsyncClient, access: str) -> list[str]:
    return [event["event"] for event in (await client.get("/events", headers=bearer(access))).json()["events"]]


@pytest.fixture
async def tokens(alice: Person, clock: MovableClock) -> dict[str, Any]:
    """The tokens of a login of Alice; the next code is shown."""
    answer: dict[str, Any] = (await alice.log_in()).json()
    clock.next_step()
    return answer


async def test_the_answer_is_the_same_for_every_request(
    client: AsyncClient, alice: Person, clock: MovableClock
) -> None:
    """It does not depend on the user, the password or the second factor, so that it reveals nothing."""
    await sign_up(client, clock, "bob", mfa=False)
    answers = [
        await request_recovery(client),
        await request_recovery(client, password="not the password"),
        await request_recovery(client, "nobody"),
        await request_recovery(client, "bob"),
        await request_recovery(client),
    ]
    assert {202} == {answer.status_code for answer in answers}
    assert 1 == len({answer.text for answer in answers})
    assert DELAY == answers[0].json()["delay"]


async def test_after_the_delay_the_password_leads_to_a_new_enrolment(
    client: AsyncClient, alice: Person, clock: MovableClock
) -> None:
    """Law 1: a password alone yields no more than a pending token. Old codes are void, and a new QR code is shown."""
    await request_recovery(client)
    clock.advance(seconds=DELAY - 1)
    assert (await alice.give_password()).json()["mfa_confirmed"], "one second before the delay ends"
    clock.advance(seconds=1)
    answer = (await alice.give_password()).json()
    assert (True, False) == (answer["mfa_required"], answer["mfa_confirmed"])
    assert "access_token" not in answer
    assert "invalid_code" == (await alice.give_code(mfa_token=answer["mfa_token"])).json()["code"], (
        "a code of the lost authenticator"
    )
    as_json = {**bearer(answer["mfa_token"]), "Accept": "application/json"}
    alice.secret = secret_in((await client.get("/qrcode/alice", headers=as_json)).json()["provisioning_uri"])
    confirmed = await alice.give_code(mfa_token=answer["mfa_token"])
    assert 10 == len(confirmed.json()["recovery_codes"])
    assert ["login.admitted", "mfa.enabled", "recovery.carried_out", "recovery.started"] == (
        await events_of(client, confirmed.json()["access_token"])
    )[:4]


async def test_a_completed_recovery_ends_every_session(
    client: AsyncClient, alice: Person, tokens: dict[str, Any], clock: MovableClock
) -> None:
    """It works like the reset by an operator; recovery codes are void, too."""
    await request_recovery(client)
    clock.advance(seconds=DELAY)
    refreshed = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    tokens = (await client.post("/token", data=refreshed)).json()
    await alice.give_password()
    assert 401 == (await client.get("/me", headers=bearer(tokens["access_token"]))).status_code
    refreshed["refresh_token"] = tokens["refresh_token"]
    assert 400 == (await client.post("/token", data=refreshed)).status_code


async def test_sessions_end_at_the_time_of_completion(
    client: Client, alice: Person, tokens: dict[str, Any], clock: MovableClock
) -> None:
    """That is after the password was hashed: /verify finds sessions that ended in the last seconds."""
    await request_recovery(client)
    clock.advance(seconds=DELAY)
    before, clock.creeps = clock.now, 12
    await alice.give_password()
    elapsed = 2 * 12  # the clock is read for the password, and after its hash
    # A task in the background may have read the clock, too.
    assert before.timestamp() + elapsed <= await ended_at(client, tokens) <= clock.now.timestamp()


async def test_the_user_sees_and_cancels_a_recovery(
    client: AsyncClient, alice: Person, tokens: dict[str, Any], clock: MovableClock
) -> None:
    """`/me` and `/events` show it; `DELETE /recovery` cancels it, and may be repeated."""
    await request_recovery(client)
    access = bearer(tokens["access_token"])
    due_at = (await client.get("/me", headers=access)).json()["recovery_due_at"]
    assert int(clock().timestamp()) + DELAY == due_at
    assert "recovery.started" == (await events_of(client, tokens["access_token"]))[0]
    for _ in range(2):
        assert 204 == (await client.delete("/recovery", headers=access)).status_code
    assert (await client.get("/me", headers=access)).json()["recovery_due_at"] is None
    assert 1 == (await events_of(client, tokens["access_token"])).count("recovery.cancelled")
    clock.advance(seconds=DELAY)
    assert (await alice.give_password()).json()["mfa_confirmed"]


async def test_any_second_factor_cancels_a_recovery(client: AsyncClient, clock: MovableClock) -> None:
    """A code at login, a recovery code or a step-up proves that the second factor is not lost."""
    alice = await sign_up(client, clock)
    tokens = (await alice.confirm()).json()

    async def by_code() -> None:
        await alice.log_in()

    async def by_recovery_code() -> None:
        body = {"mfa_token": await alice.pending(), "recovery_code": tokens["recovery_codes"][0]}
        await client.post("/login-2fa", json=body)

    async def by_step_up() -> None:
        headers = bearer(tokens["access_token"])
        await alice.give_code(mfa_token=(await client.post("/step-up", headers=headers)).json()["mfa_token"])

    for way in (by_code, by_recovery_code, by_step_up):
        clock.next_step()
        await request_recovery(client)
        me = await client.get("/me", headers=bearer(tokens["access_token"]))
        assert me.json()["recovery_due_at"] is not None, way
        await way()
        me = await client.get("/me", headers=bearer(tokens["access_token"]))
        assert me.json()["recovery_due_at"] is None, way


async def test_a_password_change_cancels_a_recovery(
    client: AsyncClient, alice: Person, tokens: dict[str, Any], clock: MovableClock
) -> None:
    """The recovery was requested with the old password."""
    await request_recovery(client)
    body = {"current_password": PASSWORD, "new_password": "an entirely new passphrase"}
    assert 204 == (await client.post("/password", json=body, headers=bearer(tokens["access_token"]))).status_code
    clock.advance(seconds=DELAY)
    assert (await alice.give_password("an entirely new passphrase")).json()["mfa_confirmed"]


async def test_a_repeated_request_does_not_restart_the_delay(
    client: AsyncClient, alice: Person, clock: MovableClock
) -> None:
    """The due time stays, but a recovery not completed within a week is void and may be requested again."""
    await request_recovery(client)
    clock.advance(seconds=DELAY - 10)
    await request_recovery(client)
    clock.advance(seconds=7 * 86400 + 10)
    assert (await alice.give_password()).json()["mfa_confirmed"], "the recovery is void after a week"
    await request_recovery(client)
    clock.advance(seconds=DELAY - 1)
    assert (await alice.give_password()).json()["mfa_confirmed"]
    clock.advance(seconds=1)
    assert not (await alice.give_password()).json()["mfa_confirmed"]


async def test_a_recovery_that_is_void_is_not_shown_and_not_cancelled(
    client: Client, alice: Person, clock: MovableClock
) -> None:
    """From a week after it was due on, the user, the operator and a login with a code find none."""
    await request_recovery(client)
    clock.advance(seconds=DELAY + 7 * 86400 - 1)
    assert (await client.parts.administration.show("alice")).recovery_due_at is not None
    clock.advance(seconds=1)
    assert (await client.parts.administration.show("alice")).recovery_due_at is None
    access = (await alice.log_in()).json()["access_token"]
    assert (await client.get("/me", headers=bearer(access))).json()["recovery_due_at"] is None
    assert (await client.delete("/recovery", headers=bearer(access))).status_code == 204
    assert "recovery.cancelled" not in await events_of(client, access)


async def test_a_request_is_charged_like_a_login(client: AsyncClient, alice: Person) -> None:
    """Wrong passwords count towards the same limit; beyond it every request gets the same answer."""
    for _ in range(5):
        assert 202 == (await request_recovery(client, password="not the password")).status_code
    assert 429 == (await request_recovery(client)).status_code
    assert 429 == (await alice.give_password()).status_code


async def test_concurrent_logins_complete_a_recovery_once(
    client: AsyncClient, alice: Person, clock: MovableClock
) -> None:
    """Each of ten logins at once may go on to enrol, with the same new secret."""
    await request_recovery(client)
    clock.advance(seconds=DELAY)
    answers = await asyncio.gather(*(alice.give_password() for _ in range(10)))
    tokens = [answer.json()["mfa_token"] for answer in answers if "mfa_token" in answer.json()]
    shown = [
        await client.get("/qrcode/alice", headers={**bearer(token), "Accept": "application/json"}) for token in tokens
    ]
    secrets = {answer.json()["secret"] for answer in shown if answer.status_code == 200}
    assert 1 == len(secrets)


async def test_a_login_races_with_the_completion_of_a_recovery(
    client: AsyncClient, alice: Person, clock: MovableClock
) -> None:
    """Either the code or the reset succeeds, and no session of the old authenticator opens after the reset."""
    for round_ in range(10):
        await request_recovery(client)
        clock.advance(seconds=DELAY)
        if not (await alice.give_password()).json().get("mfa_confirmed"):
            break
        pending = await alice.pending()
        admitted, _ = await asyncio.gather(alice.give_code(mfa_token=pending), alice.give_password())
        assert admitted.status_code in {200, 401}, round_


async def test_operators_can_turn_recovery_off(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """Then only the operator can reset, and a recovery requested earlier is not completed."""
    async with open_client(world) as client:
        alice = await sign_up(client, clock)
        await alice.confirm()
        await request_recovery(client)
    async with open_client({**world, "recovery_delay": "off"}) as client:
        alice.client = client
        clock.advance(seconds=DELAY)
        assert (404, "not_found") == ((answer := await request_recovery(client)).status_code, answer.json()["code"])
        for _ in range(10):  # no password is checked, and none is charged
            assert 404 == (await request_recovery(client, password="wrong horse")).status_code
        assert (await alice.give_password()).json()["mfa_confirmed"]


async def test_a_reset_by_the_operator_applies_at_once(client: Client, alice: Person, tokens: dict[str, Any]) -> None:
    """After `keyturn users reset-mfa` the password alone is enough, and every session has ended."""
    await client.parts.administration.reset_mfa("alice", by=OPERATOR)
    assert 401 == (await client.get("/me", headers=bearer(tokens["access_token"]))).status_code
    answer = (await alice.give_password()).json()
    assert not answer["mfa_required"]
    assert "mfa.reset" in await events_of(client, answer["access_token"])


NOTICE = "An event is sent to the operator's webhook"

ANSWERS: list[tuple[dict[str, Any], int, bool]] = [
    ({}, 0, False),
    ({"recovery_delay": "off"}, 0, False),
    ({"recovery_delay": "off", **WEBHOOK}, 0, False),
    ({"recovery_delay": "1h"}, 3600, False),
    ({"recovery_delay": "1h", **WEBHOOK}, 3600, True),
    (WEBHOOK, DELAY, True),
]
"""The settings, the delay in seconds (0 for none), and whether the answer announces an event."""


@pytest.mark.parametrize(("settings", "delay", "has_notice"), ANSWERS)
async def test_recovery_is_off_without_a_way_to_notify_the_user(
    embedded: dict[str, Any], open_client: Opener, settings: dict[str, Any], delay: int, has_notice: bool
) -> None:
    """It needs a webhook or a delay set by the operator; the answer promises only what happens."""
    async with open_client({**embedded, **settings}) as client:
        await sign_up(client, client.parts.clock, "alice")
        answer = await request_recovery(client)
        if not delay:
            assert (404, "not_found") == (answer.status_code, answer.json()["code"])
            return
        assert (202, delay) == (answer.status_code, answer.json()["delay"])
        assert has_notice == (NOTICE in answer.json()["message"])
        assert "told" not in answer.json()["message"]


async def test_without_a_webhook_a_started_recovery_is_not_completed(
    embedded: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """A recovery that an earlier version started is not completed: the current settings decide."""
    async with open_client({**embedded, "recovery_delay": "3s"}) as client:
        alice = await sign_up(client, clock)
        await alice.confirm()
        assert 202 == (await request_recovery(client)).status_code
    async with open_client(embedded) as client:
        alice.client = client
        clock.advance(seconds=4)
        assert (await alice.give_password()).json()["mfa_confirmed"]
