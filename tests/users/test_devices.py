"""Known devices: rate limits of their own, and optionally a replacement of the code. SQLite and PostgreSQL."""

from collections.abc import Callable
from typing import Any

import pytest
from httpx2 import AsyncClient

from service.origin import OPERATOR
from tests.harness.clients import Client, Opener
from tests.harness.devices import log_in, remember
from tests.harness.people import PASSWORD, MovableClock, Person, sign_up
from tests.harness.sessions import bearer, claims

DAY = 86400


async def test_a_device_is_remembered_when_asked(client: AsyncClient, alice: Person, clock: MovableClock) -> None:
    """Either step returns a token, for users with a second factor or without, and never unless asked."""
    assert "device_token" not in (await alice.log_in()).json()
    clock.next_step()
    assert (await remember(alice)).startswith("ktd_")
    bob = await sign_up(client, clock, "bob", mfa=False)
    assert "device_token" not in (await log_in(bob)).json()
    assert "device_token" in (await log_in(bob, remember_device=True)).json()
    assert "device_token" not in (await log_in(alice, remember_device=True)).json(), "the first step admits no user"


async def test_failures_of_others_do_not_slow_a_known_device(alice: Person) -> None:
    """After five failures of others at the same address, an unknown device waits and the known device does not."""
    token = await remember(alice)
    for _ in range(5):
        await alice.give_password("not the password")
    assert 429 == (await alice.give_password()).status_code
    assert 200 == (await log_in(alice, device_token=token)).status_code


async def test_a_device_has_a_rate_limit_too(alice: Person) -> None:
    """An attacker with a stolen device token guesses no faster than others."""
    token = await remember(alice)
    guesses = [await log_in(alice, **{"password": "not the password", "device_token": token}) for _ in range(6)]
    assert [401] * 5 + [429] == [answer.status_code for answer in guesses]
    assert 429 == (await log_in(alice, device_token=token)).status_code
    assert 200 == (await alice.give_password()).status_code, "no other client waits for it"


async def test_a_device_token_belongs_to_one_user(client: AsyncClient, alice: Person, clock: MovableClock) -> None:
    """With another username it is ignored."""
    token = await remember(alice)
    bob = await sign_up(client, clock, "bob", mfa=False)
    for _ in range(5):
        await log_in(bob, password="not the password", device_token=token)
    assert 429 == (await log_in(bob, device_token=token)).status_code
    assert 200 == (await log_in(alice, device_token=token)).status_code


Change = Callable[[AsyncClient, Person, str, MovableClock], Any]


async def new_password(client: AsyncClient, alice: Person, access: str, _clock: MovableClock) -> None:
    body = {"current_password": PASSWORD, "new_password": "an entirely new passphrase"}
    await client.post("/password", json=body, headers=bearer(access))
    alice.password = "an entirely new passphrase"


async def logout_everywhere(client: AsyncClient, _alice: Person, access: str, _clock: MovableClock) -> None:
    await client.post("/logout?everywhere=true", headers=bearer(access))


async def reset_by_the_operator(client: Client, _alice: Person, _access: str, _clock: MovableClock) -> None:
    await client.parts.administration.reset_mfa("alice", by=OPERATOR)


async def ninety_days(_client: AsyncClient, _alice: Person, _access: str, clock: MovableClock) -> None:
    clock.advance(days=90)


@pytest.mark.parametrize("change", [new_password, logout_everywhere, reset_by_the_operator, ninety_days])
async def test_revoked_device_tokens(client: AsyncClient, alice: Person, clock: MovableClock, change: Change) -> None:
    """A revoked token is ignored: the login continues as from an unknown device, without an error."""
    token = await remember(alice)
    clock.next_step()
    access = (await alice.log_in()).json()["access_token"]
    await change(client, alice, access, clock)
    for _ in range(5):
        await alice.give_password("not the password")
    assert 429 == (await log_in(alice, device_token=token)).status_code


@pytest.mark.parametrize("garbage", ["x", "ktd_", "ktd_AAAA", "ktd_" + "A" * 400, "e30.e30.", "\u00e9"])
async def test_an_invalid_token_is_ignored(alice: Person, garbage: str) -> None:
    """A browser may send anything; the password decides."""
    assert 200 == (await log_in(alice, device_token=garbage)).status_code
    token = await remember(alice)
    assert 200 == (await log_in(alice, device_token=token[:-2] + "AA")).status_code


async def test_a_device_replaces_no_code_by_default(alice: Person, clock: MovableClock) -> None:
    """The operator can allow it; the default is off."""
    token = await remember(alice)
    assert (await log_in(alice, device_token=token)).json()["mfa_required"]


@pytest.fixture
async def trusting(world: dict[str, Any], open_client: Opener, clock: MovableClock) -> Any:
    """A user of a service whose operator lets known devices replace the code for thirty days."""
    async with open_client({**world, "remember_device_days": 30}) as client:
        alice = await sign_up(client, clock)
        await alice.confirm()
        clock.next_step()
        yield alice


async def test_a_device_can_replace_the_second_factor(trusting: Person, clock: MovableClock) -> None:
    """For the configured days after a code on that device; the token claims no code, and `acr` stays `aal1`."""
    token = await remember(trusting)
    clock.advance(seconds=30 * DAY - 1)
    answer = (await log_in(trusting, device_token=token)).json()
    assert not answer["mfa_required"]
    token_claims = claims(answer["access_token"])
    assert (["pwd"], "aal1") == (token_claims["amr"], token_claims["acr"])
    clock.advance(seconds=1)
    assert (await log_in(trusting, device_token=token)).json()["mfa_required"]


async def test_logins_without_a_code_do_not_extend_the_period(trusting: Person, clock: MovableClock) -> None:
    """A token of a login without a code keeps the time of the last code."""
    token = await remember(trusting)
    clock.advance(days=29)
    token = (await log_in(trusting, device_token=token, remember_device=True)).json()["device_token"]
    clock.advance(days=2)
    assert (await log_in(trusting, device_token=token)).json()["mfa_required"]


async def test_without_the_device_the_code_is_required(trusting: Person, clock: MovableClock) -> None:
    """With the device and a wrong password the login fails."""
    token = await remember(trusting)
    assert (await log_in(trusting)).json()["mfa_required"]
    assert 401 == (await log_in(trusting, device_token=token, password="not the password")).status_code


async def test_a_device_replaces_the_code_of_one_user(trusting: Person, clock: MovableClock) -> None:
    """The token of another user replaces no code, even if that user proved a second factor recently."""
    bob = await sign_up(trusting.client, clock, "bob")
    await bob.confirm()
    clock.next_step()
    token = await remember(bob)
    assert not (await log_in(bob, device_token=token)).json()["mfa_required"]
    assert (await log_in(trusting, device_token=token)).json()["mfa_required"]


async def test_a_device_does_not_change_factors(trusting: Person, clock: MovableClock) -> None:
    """Operations that need a fresh second factor do not accept a device; a step-up helps."""
    token = await remember(trusting)
    clock.next_step()
    access = (await log_in(trusting, device_token=token)).json()["access_token"]
    refused = await trusting.client.post("/recovery-codes", headers=bearer(access))
    assert "insufficient_user_authentication" == refused.json()["code"]
    step_up = (await trusting.client.post("/step-up", headers=bearer(access))).json()
    raised = await trusting.give_code(mfa_token=step_up["mfa_token"])
    assert "aal2" == claims(raised.json()["access_token"])["acr"]


async def test_a_device_token_from_before_the_enrolment(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """It never proved a second factor, and the enrolment revoked it."""
    async with open_client({**world, "remember_device_days": 30}) as client:
        bob = await sign_up(client, clock, "bob", mfa=False)
        answer = (await log_in(bob, remember_device=True)).json()
        await client.post("/enable-mfa", json={"password": PASSWORD}, headers=bearer(answer["access_token"]))
        assert (await log_in(bob, device_token=answer["device_token"])).json()["mfa_required"]


async def test_a_removed_factor_revokes_its_devices(trusting: Person, clock: MovableClock) -> None:
    """After disabling and enrolling again the old token replaces no code."""
    token = await remember(trusting)
    clock.next_step()
    await trusting.disable()
    access = (await log_in(trusting)).json()["access_token"]
    enrolment = await trusting.client.post("/enable-mfa", json={"password": PASSWORD}, headers=bearer(access))
    assert 200 == enrolment.status_code
    assert (await log_in(trusting, device_token=token)).json()["mfa_required"]
