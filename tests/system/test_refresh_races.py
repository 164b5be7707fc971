"""Refresh tokens under concurrency: one successor, and no session ended by mistake.

Law 11: a session is its refresh family.
"""

import asyncio
import contextlib
import json
import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx2
import pytest

from bench.load import Answer, Connection, connections
from service.sessions import clients
from service.storage.connecting import connect_database
from tests.harness.clients import SECRET, Opener
from tests.harness.databases import PATIENT_SECONDS
from tests.harness.people import MovableClock, real_clock, sign_up
from tests.harness.rounds import rounds
from tests.harness.servers import PostgreSQLServer, RedisServer, keyturn
from tests.harness.sessions import bearer, is_live, refresh

pytestmark = pytest.mark.heavy

LIMITS = {f"KEYTURN_LIMIT_{name}": "off" for name in ("SIGNUP", "LOGIN", "LOGIN_ADDRESS", "LOGIN_USERNAME")}


@pytest.fixture(scope="module", params=["sqlite", "four workers"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running Keyturn: one process on SQLite, or four workers on PostgreSQL."""
    environment = {**LIMITS, "KEYTURN_MASTER_SECRETS": SECRET}
    if request.param == "sqlite":
        with keyturn({**environment, "KEYTURN_DATA_DIR": str(tmp_path_factory.mktemp("data"))}) as served:
            yield served.url
        return
    redis: RedisServer = request.getfixturevalue("redis_server")
    postgresql: PostgreSQLServer = request.getfixturevalue("postgresql_server")
    environment["KEYTURN_DATABASE_URL"] = postgresql.url(postgresql.new_database("migrated"))
    environment["KEYTURN_REDIS_URL"] = redis.url
    with keyturn(environment, "--workers", "4") as served:
        yield served.url


async def session(url: str) -> str:
    """Return the refresh token of a new user who has just logged in."""
    async with httpx2.AsyncClient(base_url=url, timeout=10) as client:
        person = await sign_up(client, real_clock, secrets.token_hex(8), mfa=False)
        return str((await person.give_password()).json()["refresh_token"])


async def send(connection: Connection, token: str) -> Answer:
    body = urlencode({"grant_type": "refresh_token", "refresh_token": token})
    head = "POST /token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    return await connection.send(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())


def successor(answer: Answer) -> str:
    assert 200 == answer.status, answer.body
    return str(json.loads(answer.body)["refresh_token"])


@pytest.mark.rounds
async def test_fifty_concurrent_refreshes_get_one_successor(url: str) -> None:
    """In each round, fifty requests with the last successor get the same answer."""
    token = await session(url)
    async with connections(urlsplit(url).port or 0, 50) as opened:
        for _ in range(rounds(10, long=40, everything=200)):
            answers = await asyncio.gather(*(send(connection, token) for connection in opened))
            (token,) = {successor(answer) for answer in answers}


@pytest.mark.rounds
async def test_two_tabs_never_end_a_session(url: str) -> None:
    """Pairs refresh at the same time, or the second tab after the first has its answer."""
    sessions = [await session(url) for _ in range(10)]

    async def tabs(token: str) -> None:
        async with connections(urlsplit(url).port or 0, 2) as (one, other):
            for pair in range(rounds(20, long=100, everything=1000)):
                if pair % 2:
                    answers = set(await asyncio.gather(send(one, token), send(other, token)))
                else:
                    answers = {await send(one, token), await send(other, token)}
                (token,) = {successor(answer) for answer in answers}

    async with asyncio.TaskGroup() as group:
        for token in sessions:
            group.create_task(tabs(token))


@pytest.mark.rounds
async def test_reuse_ends_the_session_every_time(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """Again and again an attacker uses an old token while the user refreshes: in any order, the session ends."""
    async with open_client({**world, "limit_signup": None}) as client:
        for number in range(rounds(8, long=25, everything=100)):
            person = await sign_up(client, clock, f"person{number}", mfa=False)
            opened = (await person.give_password()).json()
            stolen = opened["refresh_token"]
            current = (await refresh(client, stolen)).json()
            clock.advance(seconds=11)
            both = await asyncio.gather(refresh(client, stolen), refresh(client, current["refresh_token"]))
            assert "invalid_grant" == both[0].json()["error"]
            if both[1].status_code == 200:
                current = both[1].json()
            assert not await is_live(client, current["access_token"])
            assert "invalid_grant" == (await refresh(client, current["refresh_token"])).json()["error"]


@pytest.mark.rounds
async def test_a_session_that_ends_during_a_refresh_stays_ended(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """After a logout among ten refreshes, the tokens that they got are invalid."""
    async with open_client({**world, "limit_signup": None}) as client:
        for number in range(rounds(6, long=20, everything=20)):
            person = await sign_up(client, clock, f"person{number}", mfa=False)
            opened = (await person.give_password()).json()
            access, token = opened["access_token"], opened["refresh_token"]
            answers = await asyncio.gather(
                *(refresh(client, token) for _ in range(5)),
                client.post("/logout", headers=bearer(access)),
                *(refresh(client, token) for _ in range(5)),
            )
            assert 204 == answers[5].status_code
            successes = [answer.json() for answer in answers if answer.status_code == 200]
            for tokens in successes:
                assert not await is_live(client, tokens["access_token"])
                assert "invalid_grant" == (await refresh(client, tokens["refresh_token"])).json()["error"]


async def test_every_replica_learns_of_a_logout(
    redis_server: RedisServer, postgresql_server: PostgreSQLServer
) -> None:
    """At the other replica, introspection and refresh refuse at once, and /verify soon, in each of its workers."""
    database = postgresql_server.url(postgresql_server.new_database("migrated"))
    environment = {
        **LIMITS,
        "KEYTURN_MASTER_SECRETS": SECRET,
        "KEYTURN_DATABASE_URL": database,
        "KEYTURN_REDIS_URL": redis_server.url,
    }
    async with contextlib.AsyncExitStack() as stack:
        one, other = (
            httpx2.AsyncClient(base_url=stack.enter_context(keyturn(environment, "--workers", "2")).url, timeout=10)
            for _ in range(2)
        )
        for client in (one, other):
            await stack.enter_async_context(client)
        connection = connect_database(database, timeout=PATIENT_SECONDS)
        await connection.open()
        async with connection.begin() as transaction:
            secret = await clients.add(transaction, "gateway", (), real_clock())
        await connection.close()
        bob = await sign_up(one, real_clock, "bob", mfa=False)
        opened = (await bob.give_password()).json()
        question = {"token": opened["access_token"], "client_id": "gateway", "client_secret": secret}
        assert (await other.post("/introspect", data=question)).json()["active"]
        assert 204 == (await one.post("/logout", headers=bearer(opened["access_token"]))).status_code
        assert {"active": False} == (await other.post("/introspect", data=question)).json()
        assert "invalid_grant" == (await refresh(other, opened["refresh_token"])).json()["error"]
        async with asyncio.timeout(20):
            for client in (one, other):
                refused = 0
                while refused < 20:  # in a row, each on a new connection, which any worker may accept
                    headers = {**bearer(opened["access_token"]), "Connection": "close"}
                    status = (await client.get("/verify", headers=headers)).status_code
                    refused = refused + 1 if status == 401 else 0
