"""Replacing the master secret: list the new one first, seal everything again, remove the old one."""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from service.accounts.administration import AccountFilter
from service.factors.recovery_codes import count_users_without_key
from service.operations.resealing import SEALED_COLUMNS, ResealResult, reseal
from tests.harness.clients import Client, Opener
from tests.harness.people import MovableClock, Person, sign_up
from tests.harness.sessions import refresh

OLD, NEW = secrets.token_hex(32), secrets.token_hex(32)
OpenWith = Callable[[str], AbstractAsyncContextManager[Client]]


@pytest.fixture
def with_secrets(world: dict[str, Any], open_client: Opener) -> OpenWith:
    """The same service, started again with other master secrets."""

    @asynccontextmanager
    async def starting(master_secrets: str) -> AsyncIterator[Client]:
        async with open_client({**world, "master_secrets": master_secrets}) as client:
            yield client

    return starting


async def reseal_all(client: Client) -> list[ResealResult]:
    parts = client.parts
    return [await reseal(parts.database, parts.sealer, column) for column in SEALED_COLUMNS]


async def test_replacing_the_master_secret_interrupts_nothing(with_secrets: OpenWith, clock: MovableClock) -> None:
    """Codes, recovery codes, sessions and tokens stay valid; all sealed values open with the new secret alone."""
    async with with_secrets(OLD) as client:
        alice = await sign_up(client, clock)
        confirmed = (await alice.confirm()).json()
        clock.next_step()
        kids = {jwk["kid"] for jwk in (await client.get("/.well-known/jwks.json")).json()["keys"]}
    async with with_secrets(f"{NEW},{OLD}") as client:
        alice.client = client
        pending = await alice.pending()
        assert [(1, 0), (1, 0), (1, 0)] == [(result.changed, result.broken) for result in await reseal_all(client)]
        assert [(0, 0), (0, 0), (0, 0)] == [(result.changed, result.broken) for result in await reseal_all(client)]
        renewed = (await refresh(client, confirmed["refresh_token"])).json()
    async with with_secrets(NEW) as client:
        alice.client = client
        assert kids == {jwk["kid"] for jwk in (await client.get("/.well-known/jwks.json")).json()["keys"]}
        assert 200 == (await alice.give_code(mfa_token=pending)).status_code
        assert 200 == (await refresh(client, renewed["refresh_token"])).status_code
        body = {"mfa_token": await alice.pending(), "recovery_code": confirmed["recovery_codes"][0]}
        assert 9 == (await client.post("/login-2fa", json=body)).json()["recovery_codes_left"]


async def test_a_value_that_no_secret_opens_is_counted_and_kept(with_secrets: OpenWith, clock: MovableClock) -> None:
    """One damaged row does not stop the others."""
    async with with_secrets(OLD) as client:
        for name in ("alice", "bob", "carol"):
            person: Person = await sign_up(client, clock, name)
            await person.confirm()
        parts = client.parts
        async with parts.database.begin() as transaction:
            await transaction.execute(
                "UPDATE totp_authenticators SET secret = $1"
                " WHERE user_id = (SELECT id FROM users WHERE username = $2)",
                b"\x01damaged", "bob",
            )  # fmt: skip
    async with with_secrets(f"{NEW},{OLD}") as client:
        factors, codes, keys = await reseal_all(client)
        assert ResealResult("totp_authenticators", changed=2, broken=1) == factors
        assert ResealResult("recovery_budgets", changed=3, broken=0) == codes
        assert ResealResult("signing_keys", changed=1, broken=0) == keys


async def test_more_rows_than_a_page_are_resealed(with_secrets: OpenWith, clock: MovableClock) -> None:
    """Rows are read five hundred at a time, and none is missed."""
    async with with_secrets(OLD) as client:
        parts = client.parts
        for number in range(520):
            await parts.sign_up.sign_up(f"user{number}", "a long passphrase", enable_mfa=True, caller=None)
    async with with_secrets(f"{NEW},{OLD}") as client:
        assert ResealResult("totp_authenticators", changed=520, broken=0) == (await reseal_all(client))[0]


async def test_recovery_codes_without_a_sealed_key_are_accepted(with_secrets: OpenWith, clock: MovableClock) -> None:
    """In a database of schema 0001 the master secret itself keys their digests, and they remain valid."""
    import hmac

    async with with_secrets(f"{NEW},{OLD}") as client:
        alice = await sign_up(client, clock)
        confirmed = (await alice.confirm()).json()
        parts = client.parts
        user = (await parts.administration.list_page(AccountFilter())).items[0].sub
        code = confirmed["recovery_codes"][0].replace("-", "")
        digest = hmac.digest(parts.sealer.derive("recovery_codes")[1], f"{user}:{code}".encode(), "sha256")
        async with parts.database.begin() as transaction:
            await transaction.execute("UPDATE recovery_budgets SET sealed_key = NULL")
            await transaction.execute("DELETE FROM recovery_codes WHERE user_id <> $1 OR used_at IS NULL", user)
            await transaction.execute(
                "INSERT INTO recovery_codes (user_id, digest, created_at) VALUES ($1, $2, 0)", user, digest
            )
        assert 1 == await count_users_without_key(parts.database), "the operator has to keep the old secret"
        body = {"mfa_token": await alice.pending(), "recovery_code": code}
        assert 0 == (await client.post("/login-2fa", json=body)).json()["recovery_codes_left"]
        assert 0 == await count_users_without_key(parts.database), "no such code is left"
        body["mfa_token"] = await alice.pending()
        assert "invalid_code" == (await client.post("/login-2fa", json=body)).json()["code"]
