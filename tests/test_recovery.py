"""Lost everything: a reset of the second factor that takes its time, and can be called off. In both worlds."""

import asyncio
from typing import Any

import pytest
from httpx2 import AsyncClient, Response

from tests.conftest import Opener
from tests.people import PASSWORD, MovableClock, Person, secret_in, sign_up
from tests.test_sessions import bearer, ended_at

DELAY = 72 * 3600


@pytest.fixture
def world(world: dict[str, Any]) -> dict[str, Any]:
    """Both worlds, with the recovery that an operator without a webhook must ask for."""
    return {**world, "recovery_delay": "72h"}


async def ask(client: AsyncClient, username: str = "alice", password: str = PASSWORD) -> Response:
    return await client.post("/recovery", json={"username": username, "password": password})


async def events_of(client: AsyncClient, access: str) -> list[str]:
    return [event["event"] for event in (await client.get("/events", headers=bearer(access))).json()["events"]]


@pytest.fixture
async def tokens(alice: Person, clock: MovableClock) -> dict[str, Any]:
    """Alice is logged in somewhere, and the next code is shown."""
    answer: dict[str, Any] = (await alice.log_in()).json()
    clock.next_step()
    return answer


async def test_the_answer_is_the_same_for_everybody(client: AsyncClient, alice: Person, clock: MovableClock) -> None:
    """Whoever there is, whatever the password, with a second factor or without: nobody learns anything."""
    await sign_up(client, clock, "bob", mfa=False)
    answers = [
        await ask(client),
        await ask(client, password="not the password"),
        await ask(client, "nobody"),
        await ask(client, "bob"),
        await ask(client),
    ]
    assert {202} == {answer.status_code for answer in answers}
    assert 1 == len({answer.text for answer in answers})
    assert DELAY == answers[0].json()["delay"]


async def test_after_the_delay_the_password_leads_to_a_new_enrolment(
    client: AsyncClient, alice: Person, clock: MovableClock
) -> None:
    """And to nothing more (law 1: a password alone yields no more than a pending token): the old codes are void, the
    QR code of a new factor waits."""
    await ask(client)
    clock.advance(seconds=DELAY - 1)
    assert (await alice.give_password()).json()["mfa_confirmed"], "not yet"
    clock.advance(seconds=1)
    answer = (await alice.give_password()).json()
    assert (True, False) == (answer["mfa_required"], answer["mfa_confirmed"])
    assert "access_token" not in answer
    assert "invalid_code" == (await alice.give_code(mfa_token=answer["mfa_token"])).json()["code"], "the lost phone"
    as_json = {**bearer(answer["mfa_token"]), "Accept": "application/json"}
    alice.secret = secret_in((await client.get("/qrcode/alice", headers=as_json)).json()["provisioning_uri"])
    confirmed = await alice.give_code(mfa_token=answer["mfa_token"])
    assert 10 == len(confirmed.json()["recovery_codes"])
    assert ["login.admitted", "mfa.enabled", "recovery.carried_out", "recovery.started"] == (
        await events_of(client, confirmed.json()["access_token"])
    )[:4]


async def test_carrying_it_out_ends_every_session(
    client: AsyncClient, alice: Person, tokens: dict[str, Any], clock: MovableClock
) -> None:
    """Like the operator's reset; and recovery codes are void."""
    await ask(client)
    clock.advance(seconds=DELAY)
    refreshed = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    tokens = (await client.post("/token", data=refreshed)).json()
    await alice.give_password()
    assert 401 == (await client.get("/me", headers=bearer(tokens["access_token"]))).status_code
    refreshed["refresh_token"] = tokens["refresh_token"]
    assert 400 == (await client.post("/token", data=refreshed)).status_code


async def test_it_ends_them_when_it_is_carried_out(
    client: AsyncClient, alice: Person, tokens: dict[str, Any], clock: MovableClock
) -> None:
    """Not before the password's hash had its turn: /verify looks for what ended in the last seconds."""
    await ask(client)
    clock.advance(seconds=DELAY)
    before, clock.creeps = clock.now, 12
    await alice.give_password()
    late = 2 * 12  # the clock is looked at for the password, and after its hash
    assert before.timestamp() + late == await ended_at(client, tokens) == clock.now.timestamp()


async def test_the_owner_is_told_and_calls_it_off(
    client: AsyncClient, alice: Person, tokens: dict[str, Any], clock: MovableClock
) -> None:
    """`/me` and `/events` say it; `DELETE /recovery` ends it, and again is no mistake."""
    await ask(client)
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


async def test_any_second_factor_calls_it_off(client: AsyncClient, clock: MovableClock) -> None:
    """A code at login, a recovery code, a step-up: whoever has one has not lost everything."""
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
        await ask(client)
        me = await client.get("/me", headers=bearer(tokens["access_token"]))
        assert me.json()["recovery_due_at"] is not None, way
        await way()
        me = await client.get("/me", headers=bearer(tokens["access_token"]))
        assert me.json()["recovery_due_at"] is None, way


async def test_a_password_change_calls_it_off(
    client: AsyncClient, alice: Person, tokens: dict[str, Any], clock: MovableClock
) -> None:
    """Who asked knew the old one."""
    await ask(client)
    body = {"current_password": PASSWORD, "new_password": "an entirely new passphrase"}
    assert 204 == (await client.post("/password", json=body, headers=bearer(tokens["access_token"]))).status_code
    clock.advance(seconds=DELAY)
    assert (await alice.give_password("an entirely new passphrase")).json()["mfa_confirmed"]


async def test_asking_again_does_not_begin_anew(client: AsyncClient, alice: Person, clock: MovableClock) -> None:
    """Neither sooner nor later; but one that nobody came for within a week is void, and may be asked for again."""
    await ask(client)
    clock.advance(seconds=DELAY - 10)
    await ask(client)
    clock.advance(seconds=7 * 86400 + 10)
    assert (await alice.give_password()).json()["mfa_confirmed"], "a week too late"
    await ask(client)
    clock.advance(seconds=DELAY - 1)
    assert (await alice.give_password()).json()["mfa_confirmed"]
    clock.advance(seconds=1)
    assert not (await alice.give_password()).json()["mfa_confirmed"]


async def test_asking_costs_what_a_login_costs(client: AsyncClient, alice: Person) -> None:
    """Wrong passwords pay from the same budget; beyond it everybody hears the same."""
    for _ in range(5):
        assert 202 == (await ask(client, password="not the password")).status_code
    assert 429 == (await ask(client)).status_code
    assert 429 == (await alice.give_password()).status_code


async def test_many_logins_carry_it_out_once(client: AsyncClient, alice: Person, clock: MovableClock) -> None:
    """Of ten at once each may go on to enrol, with one and the same new secret."""
    await ask(client)
    clock.advance(seconds=DELAY)
    answers = await asyncio.gather(*(alice.give_password() for _ in range(10)))
    tokens = [answer.json()["mfa_token"] for answer in answers if "mfa_token" in answer.json()]
    shown = [
        await client.get("/qrcode/alice", headers={**bearer(token), "Accept": "application/json"}) for token in tokens
    ]
    secrets = {answer.json()["secret"] for answer in shown if answer.status_code == 200}
    assert 1 == len(secrets)


async def test_a_login_and_a_carrying_out_at_once(client: AsyncClient, alice: Person, clock: MovableClock) -> None:
    """The owner's code or the reset: one of the two happens, never a session of the old factor after the reset."""
    for round_ in range(10):
        await ask(client)
        clock.advance(seconds=DELAY)
        if not (await alice.give_password()).json().get("mfa_confirmed"):
            break
        pending = await alice.pending()
        admitted, _ = await asyncio.gather(alice.give_code(mfa_token=pending), alice.give_password())
        assert admitted.status_code in {200, 401}, round_


async def test_operators_switch_it_off(world: dict[str, Any], open_client: Opener, clock: MovableClock) -> None:
    """Then only they help; what was asked for before is not carried out."""
    async with open_client(world) as client:
        alice = await sign_up(client, clock)
        await alice.confirm()
        await ask(client)
    async with open_client({**world, "recovery_delay": "off"}) as client:
        alice.client = client
        clock.advance(seconds=DELAY)
        assert (404, "not_found") == ((answer := await ask(client)).status_code, answer.json()["code"])
        assert (await alice.give_password()).json()["mfa_confirmed"]


async def test_an_operators_reset_is_at_once(client: AsyncClient, alice: Person, tokens: dict[str, Any]) -> None:
    """`keyturn users reset-mfa`: the password alone is enough from now on, and every session has ended."""
    await client.app.state.parts.accounts.reset_mfa("alice")  # type: ignore[attr-defined]
    assert 401 == (await client.get("/me", headers=bearer(tokens["access_token"]))).status_code
    answer = (await alice.give_password()).json()
    assert not answer["mfa_required"]
    assert "mfa.reset" in await events_of(client, answer["access_token"])


WEBHOOK = {"webhook_url": "http://127.0.0.1:9/", "webhook_secret": "whsec_" + "a" * 43 + "="}
NOTICE = "An event is sent to the operator's webhook"

ANSWERS: list[tuple[dict[str, Any], int, bool]] = [
    ({}, 0, False),
    ({"recovery_delay": "off"}, 0, False),
    ({"recovery_delay": "off", **WEBHOOK}, 0, False),
    ({"recovery_delay": "1h"}, 3600, False),
    ({"recovery_delay": "1h", **WEBHOOK}, 3600, True),
    (WEBHOOK, DELAY, True),
]
"""Settings; the delay in seconds, 0 for none; whether the answer says that an event is sent."""


@pytest.mark.parametrize(("settings", "delay", "has_notice"), ANSWERS)
async def test_recovery_is_off_where_no_owner_could_be_told(
    embedded: dict[str, Any], open_client: Opener, settings: dict[str, Any], delay: int, has_notice: bool
) -> None:
    """Unless a webhook is configured or the operator sets the delay; the answer promises only what happens."""
    async with open_client({**embedded, **settings}) as client:
        await sign_up(client, client.app.state.parts.clock, "alice")  # type: ignore[attr-defined]
        answer = await ask(client)
        if not delay:
            assert (404, "not_found") == (answer.status_code, answer.json()["code"])
            return
        assert (202, delay) == (answer.status_code, answer.json()["delay"])
        assert has_notice == (NOTICE in answer.json()["message"])
        assert "told" not in answer.json()["message"]


async def test_without_a_webhook_the_password_alone_never_leads_to_a_new_second_factor(
    embedded: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """Nor does a recovery that an earlier version started: the settings of the moment decide."""
    async with open_client({**embedded, "recovery_delay": "3s"}) as client:
        alice = await sign_up(client, clock)
        await alice.confirm()
        assert 202 == (await ask(client)).status_code
    async with open_client(embedded) as client:
        alice.client = client
        clock.advance(seconds=4)
        assert (await alice.give_password()).json()["mfa_confirmed"]
