"""KEYTURN_REQUIRE_MFA: the operator defines which users must have a second factor."""

import asyncio
from typing import Any

import pytest

from service.environment import read_settings
from service.errors import ConfigurationError
from service.origin import OPERATOR
from service.roles import check_roles
from tests.harness.clients import Opener
from tests.harness.enrolment import enrol
from tests.harness.people import MovableClock, sign_up
from tests.harness.sessions import bearer


async def test_everyone_must_enrol(world: dict[str, Any], open_client: Opener, clock: MovableClock) -> None:
    """The password alone yields a token for enrolling only; after that, logins work as without the policy."""
    async with open_client({**world, "require_mfa": "everyone"}) as client:
        bob = await sign_up(client, clock, "bob", mfa=False)
        for path in ("/me", "/sessions", "/verify"):
            token = (await bob.give_password()).json()["mfa_token"]
            assert 401 == (await client.get(path, headers=bearer(token))).status_code
        tokens = await enrol(client, bob)
        assert 10 == len(tokens["recovery_codes"])
        assert 200 == (await client.get("/me", headers=bearer(tokens["access_token"]))).status_code
        clock.next_step()
        assert (await bob.give_password()).json()["mfa_confirmed"] is True
        assert 200 == (await bob.log_in()).status_code


async def test_only_named_roles_must_enrol(world: dict[str, Any], open_client: Opener, clock: MovableClock) -> None:
    """The policy applies from the next login after the role was added."""
    async with open_client({**world, "require_mfa": "admin, staff"}) as client:
        bob = await sign_up(client, clock, "bob", mfa=False)
        assert (await bob.give_password()).json()["mfa_required"] is False
        parts = client.parts
        await parts.administration.set_roles("bob", add="staff", by=OPERATOR)
        await enrol(client, bob)


async def test_a_removed_second_factor_is_required_again_at_the_next_login(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """This holds after the user disables it, and after the operator resets it."""
    async with open_client({**world, "require_mfa": "everyone"}) as client:
        bob = await sign_up(client, clock, "bob", mfa=False)
        await enrol(client, bob)
        clock.next_step()
        assert 200 == (await bob.disable()).status_code
        await enrol(client, bob)
        parts = client.parts
        await parts.administration.reset_mfa("bob", by=OPERATOR)
        await enrol(client, bob)


async def test_two_first_logins_at_once_show_one_secret(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """The code of any of the tabs confirms, and a later login does not change the secret."""
    async with open_client({**world, "require_mfa": "everyone"}) as client:
        bob = await sign_up(client, clock, "bob", mfa=False)
        answers = await asyncio.gather(*(bob.give_password() for _ in range(3)))
        tokens = [answer.json()["mfa_token"] for answer in answers] + [await bob.pending()]
        shown = [
            (await client.get("/qrcode/bob", headers=bearer(token) | {"Accept": "application/json"})).json()["secret"]
            for token in tokens
        ]
        assert 1 == len(set(shown))
        bob.secret = shown[0]
        assert 200 == (await bob.give_code(mfa_token=tokens[2])).status_code


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("off", ()),
        ("OFF", ()),
        ("everyone", ("everyone",)),
        ("Everyone", ("everyone",)),
        ("admin", ("admin",)),
        ("admin,staff ops", ("admin", "staff", "ops")),
        ("staff admin staff", ("staff", "admin")),
        ("everyone-else on-call no-reply officer", ("everyone-else", "on-call", "no-reply", "officer")),
    ],
)
def test_the_policy_is_written_as_words(written: str, read: tuple[str, ...]) -> None:
    """It is `off`, `everyone`, or a list of roles."""
    assert read == read_settings({"KEYTURN_REQUIRE_MFA": written}).require_mfa


@pytest.mark.parametrize("written", ["off, admin", "everyone admin", "Admin!", "x" * 65, ","])
def test_the_service_does_not_start_with_an_invalid_policy(written: str) -> None:
    """A misread policy would admit users without a second factor."""
    with pytest.raises(ConfigurationError, match="KEYTURN_REQUIRE_MFA"):
        read_settings({"KEYTURN_REQUIRE_MFA": written})


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *((word, "everyone") for word in ("on", "ON", "true", "True", "yes", "y", "1", "all", "any", "everybody")),
        *((word, "everyone") for word in ("required", "require", "always", "enabled", "mandatory", "*", "evryone")),
        *((word, "off") for word in ("no", "No", "none", "None", "false", "0", "never", "disabled", "nobody")),
        ("admin,all", "everyone"),
        ("none admin", "off"),
    ],
)
def test_a_word_for_all_or_none_is_no_role(written: str, meant: str) -> None:
    """As the name of a role that no user has, `true` would demand a second factor of nobody."""
    with pytest.raises(ConfigurationError) as refused:
        read_settings({"KEYTURN_REQUIRE_MFA": written})
    assert str(refused.value).startswith(f"KEYTURN_REQUIRE_MFA: write {meant} in place of ")
    assert "\n" not in str(refused.value)


def test_everyone_is_not_a_role() -> None:
    """A user with a role of this name would make the policy look as if it applied to all."""
    with pytest.raises(ValueError, match="stands for all users"):
        check_roles(("everyone",))
