"""The answers of the service while its stores are unavailable. Law 7: no fail-open, no hang.

This module has stores of its own, so that it may freeze and kill them.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from httpx2 import AsyncClient, Response

from service.storage.migrations import migrate
from service.storage.timeouts import STORE_TIMEOUTS
from tests.harness.clients import SECRET, Opener
from tests.harness.people import PASSWORD, MovableClock, Person, sign_up
from tests.harness.servers import PostgreSQLServer, RedisServer, wait_until

pytestmark = pytest.mark.alone

PATIENCE = 5
"""Seconds after which a test reports a hang; `make bench` measures the actual times."""


@dataclass
class Stores:
    redis: RedisServer
    postgresql: PostgreSQLServer


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    both = Stores(
        RedisServer(tmp_path_factory.mktemp("redis")), PostgreSQLServer(tmp_path_factory.mktemp("postgresql"))
    )
    both.redis.start()
    both.postgresql.start()
    yield both
    both.redis.stop()
    both.postgresql.stop()


@pytest.fixture
async def fragile(stores: Stores, open_client: Opener) -> AsyncIterator[AsyncClient]:
    """A client of a service on stores that may fail."""
    stores.redis.flush()
    url = stores.postgresql.url(stores.postgresql.new_database())
    await asyncio.to_thread(migrate, url)
    settings: dict[str, Any] = {"database_url": url, "redis_url": stores.redis.url, "master_secrets": SECRET}
    async with open_client(settings, timeouts=STORE_TIMEOUTS) as client:
        yield client


@pytest.fixture
async def alice_there(fragile: AsyncClient, clock: MovableClock) -> Person:
    alice = await sign_up(fragile, clock)
    await alice.confirm()
    clock.next_step()
    return alice


async def soon(request: Awaitable[Response]) -> Response:
    return await asyncio.wait_for(request, PATIENCE)


async def test_without_redis_users_log_in_and_codes_are_accepted_once(
    stores: Stores, fragile: AsyncClient, alice_there: Person, clock: MovableClock
) -> None:
    """With Redis stopped both steps of a login work, a replay does not, and readiness reports a degraded state."""
    stores.redis.freeze()
    try:
        code = alice_there.code()
        assert 200 == (await soon(alice_there.log_in(code))).status_code
        assert "invalid_code" == (await soon(alice_there.log_in(code))).json()["code"]
        ready = await soon(fragile.get("/readyz"))
        assert (200, "degraded", "down") == (ready.status_code, ready.json()["status"], ready.json()["redis"])
        clock.next_step()
        assert 200 == (await soon(alice_there.disable())).status_code
    finally:
        stores.redis.thaw()


async def test_without_redis_passwords_have_a_quarter_of_the_rate_limit(
    stores: Stores, fragile: AsyncClient, alice_there: Person
) -> None:
    """One failure per username and address is free instead of five; the limit is never off."""
    stores.redis.freeze()
    try:
        wrong = [
            await soon(fragile.post("/login", json={"username": "alice", "password": "not the password"}))
            for _ in range(4)
        ]
    finally:
        stores.redis.thaw()
    assert [401, 429, 429, 429] == [answer.status_code for answer in wrong]


async def test_redis_killed_and_back(stores: Stores, fragile: AsyncClient, alice_there: Person) -> None:
    """A Redis that restarted empty is used again, without a restart of the service."""
    stores.redis.kill()
    try:
        assert "degraded" == (await soon(fragile.get("/readyz"))).json()["status"]
        assert 200 == (await soon(alice_there.give_password())).status_code
    finally:
        stores.redis.start()
    assert "ready" == (await soon(fragile.get("/readyz"))).json()["status"]


async def test_a_flushed_redis_weakens_nothing(stores: Stores, alice_there: Person, clock: MovableClock) -> None:
    """All claims are gone, but a used code stays used, and the factor's budget stays spent."""
    code = alice_there.code()
    assert 200 == (await alice_there.log_in(code)).status_code
    stores.redis.flush()
    assert "invalid_code" == (await alice_there.log_in(code)).json()["code"]
    for _ in range(4):
        await alice_there.log_in(alice_there.wrong_code())
        stores.redis.flush()
    assert 429 == (await alice_there.log_in(alice_there.code(1))).status_code


@pytest.mark.parametrize("fault", ["frozen", "killed"])
async def test_without_sql_no_login_works_and_every_answer_says_so(
    fault: str, stores: Stores, fragile: AsyncClient, alice_there: Person, clock: MovableClock
) -> None:
    """It is 503 with Retry-After wherever SQL is needed; the process is live, not ready, and serves its keys."""
    tokens = (await alice_there.log_in()).json()
    clock.next_step()
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    pending = await alice_there.pending()
    keys = (await fragile.get("/.well-known/jwks.json")).json()
    clock.advance(seconds=60)  # longer than replicas cache the key set
    if fault == "frozen":
        stores.postgresql.freeze()
    else:
        stores.postgresql.kill()
    try:
        bob = {"username": "bob", "password": PASSWORD}
        requests: dict[str, Callable[[], Awaitable[Response]]] = {
            "login": alice_there.give_password,
            "login-2fa": lambda: alice_there.give_code(mfa_token=pending),
            "signup": lambda: fragile.post("/signup", json=bob),
            "disable-mfa": alice_there.disable,
            "qrcode": lambda: fragile.get("/qrcode/alice", headers={"Authorization": f"Bearer {pending}"}),
            "me": lambda: fragile.get("/me", headers=bearer),
        }
        for name, send in requests.items():
            answer = await soon(send())
            assert (503, "store_unavailable") == (answer.status_code, answer.json()["code"]), name
            assert int(answer.headers["retry-after"]) >= 1
        form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
        answer = await soon(fragile.post("/token", data=form))
        assert (503, "temporarily_unavailable") == (answer.status_code, answer.json()["error"])
        assert int(answer.headers["retry-after"]) >= 1
        assert 200 == (await soon(fragile.get("/livez"))).status_code
        assert 204 == (await soon(fragile.get("/verify", headers=bearer))).status_code
        ready = await soon(fragile.get("/readyz"))
        assert (503, "unavailable") == (ready.status_code, ready.json()["status"])
        assert keys == (await soon(fragile.get("/.well-known/jwks.json"))).json()
    finally:
        if fault == "frozen":
            stores.postgresql.thaw()
        else:
            stores.postgresql.start()
    wait_until(lambda: stores.postgresql.run("SELECT 1"))
    clock.next_step()
    assert 200 == (await soon(fragile.post("/token", data=form))).status_code
    assert 200 == (await soon(alice_there.log_in(alice_there.code()))).status_code


async def test_a_service_may_start_before_its_database(
    stores: Stores, open_client: Opener, clock: MovableClock
) -> None:
    """It reports that it is not ready, and serves as soon as the database is available."""
    url = stores.postgresql.url(stores.postgresql.new_database())
    await asyncio.to_thread(migrate, url)
    stores.postgresql.kill()
    try:
        async with open_client({"database_url": url, "master_secrets": SECRET}, timeouts=STORE_TIMEOUTS) as client:
            assert 503 == (await soon(client.get("/readyz"))).status_code
            stores.postgresql.start()
            assert 200 == (await soon(client.get("/readyz"))).status_code
            await sign_up(client, clock)
    finally:
        if stores.postgresql.child is None or stores.postgresql.child.poll() is not None:
            stores.postgresql.start()


async def test_an_outage_charges_no_attempt(
    stores: Stores, fragile: AsyncClient, alice_there: Person, clock: MovableClock
) -> None:
    """After retries during the outage of the database the budgets are unchanged, because nothing was checked."""
    pending = await alice_there.pending()
    stores.postgresql.kill()
    try:
        for _ in range(8):
            assert 503 == (await soon(alice_there.give_password())).status_code
            assert 503 == (await soon(alice_there.give_code(mfa_token=pending))).status_code
    finally:
        stores.postgresql.start()
    assert 200 == (await soon(alice_there.give_code(mfa_token=pending))).status_code
    assert 200 == (await soon(alice_there.give_password())).status_code
