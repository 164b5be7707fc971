"""How long a new password must be: eight characters beside a second factor, fifteen alone, wherever one is set."""

from typing import Any

import pytest

from service.errors import WeakPassword
from service.origin import OPERATOR
from service.users.mfa_policy import MfaPolicy
from service.users.normalisation import normalise
from service.users.password_policy import PasswordPolicy
from tests.harness.clients import Client, Opener
from tests.harness.commands import Here, Invocation
from tests.harness.people import PASSWORD, MovableClock, Person, sign_up
from tests.harness.sessions import bearer, change_password

SEVEN, EIGHT = "x7$kQ2w", "x7$kQ2w!"
FOURTEEN, FIFTEEN = "an owl, a kite", "an owl, a kite!"
ALONE = "The password needs at least 15 characters."
SHORT_ALONE = f"{ALONE} With a second factor, 8 are enough."
BESIDE = "The password needs at least 8 characters."
RESULTS = [(SEVEN, ALONE), (EIGHT, SHORT_ALONE), (FOURTEEN, SHORT_ALONE), (FIFTEEN, None)]
"""Passwords without a second factor, and the reason why each is refused."""


async def reason_of(policy: PasswordPolicy, password: str, *, mfa: bool, roles: tuple[str, ...] = ()) -> str | None:
    try:
        await policy.check(password, username="alice", has_second_factor=mfa, roles=roles)
    except WeakPassword as refusal:
        return refusal.reason
    return None


@pytest.mark.parametrize(
    ("mfa", "required_of", "roles", "is_alone"),
    [
        (False, (), (), True),
        (True, (), (), False),
        (False, ("everyone",), (), False),
        (False, ("admin",), (), True),
        (False, ("admin",), ("editor",), True),
        (False, ("admin",), ("editor", "admin"), False),
    ],
)
async def test_a_second_factor_or_its_requirement_makes_eight_characters_enough(
    mfa: bool, required_of: tuple[str, ...], roles: tuple[str, ...], is_alone: bool
) -> None:
    """The second factor is one that the user has or must have by the policy: everyone, or one of the user's roles."""
    policy = PasswordPolicy(MfaPolicy(required_of), 8, alone=15)
    assert (ALONE if is_alone else BESIDE) == await reason_of(policy, SEVEN, mfa=mfa, roles=roles)
    for password in (EIGHT, FOURTEEN):
        assert (SHORT_ALONE if is_alone else None) == await reason_of(policy, password, mfa=mfa, roles=roles)
    assert await reason_of(policy, FIFTEEN, mfa=mfa, roles=roles) is None


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("\u00e9" * 14, SHORT_ALONE),  # 28 bytes
        ("e\u0301" * 14, SHORT_ALONE),  # 28 code points as typed, fourteen in the normal form
        ("\U0001f511" * 14, SHORT_ALONE),  # 56 bytes, and 28 units of UTF-16
        ("\u5bc6" * 15, None),
        ("\ufdfa", None),  # one code point as typed, eighteen in the normal form
        ("\u5bc6" * 3, ALONE),  # nine bytes
    ],
)
async def test_the_length_counts_code_points_of_the_normal_form(typed: str, reason: str | None) -> None:
    """It counts neither bytes nor the code points as they were typed."""
    policy = PasswordPolicy(MfaPolicy(), 8, alone=15)
    assert reason == await reason_of(policy, normalise(typed), mfa=False)


async def test_a_reason_that_a_second_factor_does_not_remove_comes_first() -> None:
    """A common password of eight characters is refused as common: no second factor would make it acceptable."""
    policy = PasswordPolicy(MfaPolicy(), 8, alone=15)
    assert "This is a commonly used password." == await reason_of(policy, "iloveyou", mfa=False)
    assert "The password must not be the username." == await reason_of(
        PasswordPolicy(MfaPolicy(), 5, alone=15), "Alice", mfa=False
    )


async def attempt(client: Client, username: str, password: str, *, mfa: bool) -> str | None:
    """Sign up and return the detail of the refusal."""
    body = {"username": username, "password": password, "enable_mfa": mfa}
    answer = await client.post("/signup", json=body)
    if answer.status_code == 201:
        return None
    assert (422, "weak_password") == (answer.status_code, answer.json()["code"])
    assert password not in answer.text
    return str(answer.json()["detail"])


async def test_sign_up_needs_fifteen_characters_or_a_second_factor(client: Client) -> None:
    """Seven are too few in any case; eight to fourteen are enough with `enable_mfa`."""
    for number, (password, reason) in enumerate(RESULTS):
        assert reason == await attempt(client, f"alone{number}", password, mfa=False)
        beside = BESIDE if password == SEVEN else None
        assert beside == await attempt(client, f"beside{number}", password, mfa=True)


async def test_where_everyone_needs_a_second_factor_eight_characters_are_enough(
    world: dict[str, Any], open_client: Opener
) -> None:
    """The first login begins the enrolment. A policy on a role does not reach a new user, which has no roles."""
    async with open_client({**world, "require_mfa": ("everyone",)}) as client:
        assert BESIDE == await attempt(client, "alice", SEVEN, mfa=False)
        assert await attempt(client, "alice", EIGHT, mfa=False) is None
    async with open_client({**world, "require_mfa": ("admin",)}) as client:
        assert SHORT_ALONE == await attempt(client, "bob", FOURTEEN, mfa=False)


async def change(client: Client, access: str, current: str, new: str) -> str | None:
    answer = await change_password(client, access, current, new)
    return None if answer.status_code == 204 else str(answer.json()["detail"])


async def test_a_user_without_a_second_factor_changes_to_fifteen_characters(
    client: Client, clock: MovableClock
) -> None:
    """A shorter one is refused before the current password is checked, and changes nothing."""
    bob = await sign_up(client, clock, "bob", mfa=False)
    access = (await bob.give_password()).json()["access_token"]
    for password, reason in RESULTS[:-1]:
        assert reason == await change(client, access, "not the password", password)
    assert 200 == (await bob.give_password()).status_code
    assert await change(client, access, PASSWORD, FIFTEEN) is None
    assert 200 == (await bob.give_password(FIFTEEN)).status_code


async def test_a_second_factor_counts_from_the_beginning_of_its_enrolment(
    client: Client, clock: MovableClock
) -> None:
    """From then on the password alone opens no session."""
    bob = await sign_up(client, clock, "bob", mfa=False)
    access = (await bob.give_password()).json()["access_token"]
    begun = await client.post("/enable-mfa", json={"password": PASSWORD}, headers=bearer(access))
    assert 200 == begun.status_code
    assert BESIDE == await change(client, access, PASSWORD, SEVEN)
    assert await change(client, access, PASSWORD, EIGHT) is None


async def test_a_short_password_keeps_nobody_from_turning_the_second_factor_off(
    client: Client, alice: Person, clock: MovableClock
) -> None:
    """`/disable-mfa` accepts it, and so does `/login`; the next change of the password needs fifteen characters."""
    access = (await alice.log_in()).json()["access_token"]
    assert BESIDE == await change(client, access, PASSWORD, SEVEN)
    assert await change(client, access, PASSWORD, EIGHT) is None
    alice.password = EIGHT
    clock.next_step()
    assert 200 == (await alice.disable()).status_code
    access = (await alice.give_password()).json()["access_token"]
    assert SHORT_ALONE == await change(client, access, EIGHT, FOURTEEN)
    assert await change(client, access, EIGHT, FIFTEEN) is None


async def test_a_role_with_the_policy_makes_eight_characters_enough(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """The roles that the user has now decide."""
    async with open_client({**world, "require_mfa": ("admin",)}) as client:
        await sign_up(client, clock, "bob", mfa=False)
        acts = client.parts.administration
        with pytest.raises(WeakPassword) as refusal:
            await acts.set_password("bob", FOURTEEN, by=OPERATOR)
        assert SHORT_ALONE == refusal.value.reason
        await acts.set_roles("bob", add="admin", by=OPERATOR)
        await acts.set_password("bob", EIGHT, by=OPERATOR)
        await acts.set_roles("bob", remove="admin", by=OPERATOR)
        with pytest.raises(WeakPassword):
            await acts.set_password("bob", FOURTEEN, by=OPERATOR)


async def test_an_operator_sets_eight_characters_beside_a_second_factor(client: Client, alice: Person) -> None:
    """Seven are refused."""
    with pytest.raises(WeakPassword) as refusal:
        await client.parts.administration.set_password("alice", SEVEN, by=OPERATOR)
    assert BESIDE == refusal.value.reason
    await client.parts.administration.set_password("alice", EIGHT, by=OPERATOR)


async def test_both_lengths_are_settings(world: dict[str, Any], open_client: Opener) -> None:
    """With 8 for both, the rule of version 0.1.0 holds: eight characters, with a second factor or not."""
    async with open_client({**world, "password_min_length_alone": 8}) as client:
        assert BESIDE == await attempt(client, "alice", SEVEN, mfa=False)
        assert await attempt(client, "alice", EIGHT, mfa=False) is None
    async with open_client({**world, "password_min_length": 16}) as client:
        longer = "The password needs at least 16 characters."
        assert longer == await attempt(client, "bob", FIFTEEN, mfa=False)
        assert longer == await attempt(client, "bob", FIFTEEN, mfa=True)
        assert await attempt(client, "bob", FIFTEEN + "!", mfa=False) is None


def test_users_add_and_set_password_apply_the_lengths(here: Here) -> None:
    """`--mfa` makes eight characters enough, and so does the second factor of the account."""
    add, change = ("users", "add"), ("users", "set-password")
    policy = {"KEYTURN_REQUIRE_MFA": "everyone"}
    outputs = here.run_all(
        Invocation((*add, "alone"), FOURTEEN),
        Invocation((*add, "alone"), FIFTEEN),
        Invocation((*add, "--mfa", "beside"), SEVEN),
        Invocation((*add, "--mfa", "beside"), EIGHT),
        Invocation((*change, "alone"), EIGHT),
        Invocation((*change, "beside"), FOURTEEN),
        Invocation((*add, "required"), EIGHT, policy),
        Invocation((*change, "alone"), EIGHT, policy),
    )
    assert [1, 0, 1, 0, 1, 0, 0, 0] == [output.status for output in outputs]
    assert outputs[0].err.endswith(f"{SHORT_ALONE}\n")
    assert outputs[2].err.endswith(f"{BESIDE}\n")
    assert outputs[4].err.endswith(f"{SHORT_ALONE}\n")
