"""`KEYTURN_SIGNUP=closed`: no account is created over HTTP, but operators still create accounts."""

from pathlib import Path
from typing import Any

import pytest
from httpx2 import AsyncClient

from service.accounts.administration import AccountFilter
from service.environment import read_settings
from service.errors import ConfigurationError
from tests.harness.clients import Opener
from tests.harness.commands import run
from tests.harness.people import PASSWORD, MovableClock, Person, sign_up

JSON = {"Content-Type": "application/json"}
GOOD = f'{{"username": "mallory", "password": "{PASSWORD}"}}'.encode()

REQUESTS: list[tuple[bytes, dict[str, str]]] = [
    (GOOD, JSON),
    (GOOD.replace(b"mallory", b"alice"), JSON),
    (GOOD.replace(b"mallory", b"m"), JSON),
    (GOOD.replace(PASSWORD.encode(), b"password1"), JSON),
    (b"{}", JSON),
    (b"no JSON", JSON),
    (b"x" * 20_000, JSON),
    (b"", {}),
    (b"username=mallory", {"Content-Type": "application/x-www-form-urlencoded"}),
    (GOOD, {**JSON, "Authorization": "Bearer a.b.c"}),
]
"""A free username, a taken one, a malformed one, a weak password, and invalid bodies."""


async def post(client: AsyncClient, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
    answer = await client.post("/signup", content=body, headers=headers)
    return answer.status_code, answer.text


async def test_every_sign_up_gets_the_same_refusal(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """The refusal precedes reading the body and every limit, whatever the request contains; no account is created."""
    async with open_client(world) as client:
        await sign_up(client, clock, "alice", mfa=False)
    async with open_client({**world, "signup": "closed"}) as client:
        answers = [await post(client, body, headers) for body, headers in REQUESTS * 3]
        assert {403} == {status for status, _ in answers}
        assert 1 == len({text for _, text in answers})
        assert "signup_closed" == (await client.post("/signup", json={})).json()["code"]
        accounts = (await client.parts.administration.list_page(AccountFilter())).items
        assert ["alice"] == [account.username for account in accounts]
        assert 405 == (await client.get("/signup")).status_code
        assert 200 == (await Person(client, clock, "alice").give_password()).status_code, "other requests work"


def test_an_operator_adds_accounts_while_sign_up_is_closed(tmp_path: Path) -> None:
    """`keyturn users add` does not depend on the setting."""
    environment = {"KEYTURN_DATA_DIR": str(tmp_path / "data"), "KEYTURN_SIGNUP": "closed"}
    assert 0 == run("migrate", environment=environment).status
    added = run("users", "add", "alice", given=PASSWORD.encode(), environment=environment)
    assert (0, "alice can log in.\n") == (added.status, added.out)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("off", "KEYTURN_SIGNUP: it must be 'open', 'invited' or 'closed'"),
        ("Closed", "KEYTURN_SIGNUP: it must be 'open', 'invited' or 'closed'"),
    ],
)
def test_other_values_are_refused_with_what_to_write(value: str, sentence: str) -> None:
    """The value is compared as it is written."""
    with pytest.raises(ConfigurationError) as refused:
        read_settings({"KEYTURN_SIGNUP": value})
    assert f"{sentence}." == str(refused.value)
