"""Concurrent requests with the same code open one session: real processes on real stores."""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.clock import unix_seconds
from service.components import open_components
from service.factors.totp_authenticators import MatchedCode
from service.origin import Caller
from service.secret_texts import read_master_secret
from service.sessions import sessions
from service.sessions.sessions import Lifetimes
from service.settings import Settings
from service.storage.sealing import Sealer
from service.tokens.pending import PendingCodec
from service.users import users
from service.users.passwords import CHEAPEST
from tests.harness.bursts import Answer, burst
from tests.harness.clients import SECRET
from tests.harness.databases import PATIENT
from tests.harness.people import Person, real_clock, sign_up
from tests.harness.rounds import rounds
from tests.harness.servers import PostgreSQLServer, RedisServer, keyturn, make_schema

pytestmark = pytest.mark.heavy

ROUNDS = rounds(1, long=4, everything=20)
AT_ONCE = 200


ONE_DAY = Lifetimes(timedelta(days=1), timedelta(days=1))


_numbers = itertools.count()


def new_username() -> str:
    """Return a username that no test has used: the tests of one deployment share its accounts."""
    return f"user{next(_numbers)}"


class Deployment:
    """The URLs of one deployment, and as many pending tokens as a test needs.
    The tokens are written with the master secret that the test knows: two hundred password hashes a round would test
    nothing more. Each is what `/login` would have issued for one more tab, phone or stolen laptop.
    """

    def __init__(self, *urls: str) -> None:
        self.urls = urls
        self._tokens = PendingCodec(
            issuer="http://localhost:8000",
            ttl=timedelta(seconds=300),
            keys=Sealer([read_master_secret(SECRET)]).derive("mfa_pending"),
        )

    @contextlib.asynccontextmanager
    async def person(self, name: str, *, confirmed: bool = True) -> AsyncIterator[Person]:
        async with httpx2.AsyncClient(base_url=self.urls[0], timeout=10) as client:
            person = await sign_up(client, real_clock, name)
            if confirmed:
                await person.confirm_early()
            yield person

    async def pending(self, person: Person, count: int) -> list[str]:
        now = real_clock()
        own = self._tokens.read(await person.pending(), now=now)
        return [
            self._tokens.write_for_login(sub=own.sub, credential_version=own.credential_version, now=now)
            for _ in range(count)
        ]

    async def give_code(self, tokens: list[str], otp: str) -> list[Answer | None]:
        """Send every token with the same code at once, spread over the replicas."""
        return await burst(
            [
                (self.urls[n % len(self.urls)], "/login-2fa", {"mfa_token": token, "otp": otp})
                for n, token in enumerate(tokens)
            ]
        )


@pytest.fixture(scope="module")
def unlimited() -> dict[str, str]:
    """Turn off the limits of passwords and signup: they would refuse the requests of the test."""
    names = ("SIGNUP", "LOGIN", "LOGIN_ADDRESS", "LOGIN_USERNAME")
    return {"KEYTURN_MASTER_SECRETS": SECRET} | {f"KEYTURN_LIMIT_{name}": "off" for name in names}


@pytest.fixture(scope="module")
def embedded_service(tmp_path_factory: pytest.TempPathFactory, unlimited: dict[str, str]) -> Iterator[Deployment]:
    """(a) One process on SQLite, without Redis."""
    with keyturn({**unlimited, "KEYTURN_DATA_DIR": str(tmp_path_factory.mktemp("embedded"))}) as served:
        yield Deployment(served.url)


@pytest.fixture(scope="module")
def four_workers(
    redis_server: RedisServer, postgresql_server: PostgreSQLServer, unlimited: dict[str, str]
) -> Iterator[Deployment]:
    """(b) Four workers on PostgreSQL and Redis."""
    redis_server.flush()
    url = postgresql_server.url(postgresql_server.new_database("migrated"))
    stores = {"KEYTURN_DATABASE_URL": url, "KEYTURN_REDIS_URL": redis_server.url}
    with keyturn({**unlimited, **stores}, "--workers", "4") as served:
        yield Deployment(served.url)


@pytest.fixture(scope="module")
def two_processes_on_one_file(
    tmp_path_factory: pytest.TempPathFactory, unlimited: dict[str, str]
) -> Iterator[Deployment]:
    """(c) Two server processes on one SQLite file, each with an ephemeral store of its own."""
    environment = {**unlimited, "KEYTURN_DATA_DIR": str(tmp_path_factory.mktemp("shared"))}
    with keyturn(environment) as one, keyturn(environment) as two:
        yield Deployment(one.url, two.url)


@pytest.fixture(scope="module")
def two_replicas_without_redis(
    postgresql_server: PostgreSQLServer, unlimited: dict[str, str]
) -> Iterator[Deployment]:
    """(c) Two server processes on one PostgreSQL, without Redis."""
    url = postgresql_server.url(postgresql_server.new_database("migrated"))
    environment = {**unlimited, "KEYTURN_DATABASE_URL": url}
    with keyturn(environment) as one, keyturn(environment) as two:
        yield Deployment(one.url, two.url)


@pytest.fixture(
    scope="module",
    params=["embedded_service", "four_workers", "two_processes_on_one_file", "two_replicas_without_redis"],
)
def deployment(request: pytest.FixtureRequest) -> Deployment:
    found: Deployment = request.getfixturevalue(request.param)
    return found


@pytest.mark.rounds
async def test_two_hundred_identical_codes_open_one_session(deployment: Deployment) -> None:
    """In each round exactly one of two hundred requests succeeds, and the code is invalid afterwards."""
    for _ in range(ROUNDS):
        async with deployment.person(new_username()) as person:
            tokens = await deployment.pending(person, AT_ONCE)
            code = person.code()
            answers = await deployment.give_code(tokens, code)
            statuses = Counter(None if answer is None else answer.status for answer in answers)
            assert 1 == statuses[200], statuses
            assert {200, 401, 429} >= set(statuses), statuses
            again = await deployment.give_code(await deployment.pending(person, 3), code)
            assert all(answer is not None and answer.status in {401, 429} for answer in again)


@pytest.mark.rounds
async def test_one_pending_token_sent_two_hundred_times_opens_one_session(deployment: Deployment) -> None:
    """All requests have the same token and the same code, and run at once."""
    for _ in range(rounds(1, long=3, everything=5)):
        async with deployment.person(new_username()) as person:
            (token,) = await deployment.pending(person, 1)
            answers = await deployment.give_code([token] * AT_ONCE, person.code())
            assert 1 == sum(answer is not None and answer.status == 200 for answer in answers)


@pytest.mark.rounds
async def test_one_pending_token_and_two_valid_codes_open_one_session(deployment: Deployment) -> None:
    """The codes of two steps arrive at once under one pending token, which admits at most once."""
    for _ in range(rounds(1, long=4, everything=10)):
        async with deployment.person(new_username()) as person:
            (token,) = await deployment.pending(person, 1)
            requests: list[tuple[str, str, dict[str, object]]] = [
                (
                    deployment.urls[n % len(deployment.urls)],
                    "/login-2fa",
                    {"mfa_token": token, "otp": person.code(n % 2)},
                )
                for n in range(4)
            ]
            statuses = Counter(None if answer is None else answer.status for answer in await burst(requests))
            assert 1 == statuses[200], statuses
            assert {200, 401, 429} >= set(statuses), statuses


@pytest.mark.rounds
async def test_one_recovery_code_sent_two_hundred_times_opens_one_session(deployment: Deployment) -> None:
    """In each round one of two hundred requests succeeds, and none afterwards."""
    for _ in range(rounds(1, long=6, everything=50)):
        async with httpx2.AsyncClient(base_url=deployment.urls[0], timeout=10) as client:
            person = await sign_up(client, real_clock, new_username())
            recovery_code = (await person.confirm()).json()["recovery_codes"][0]
            tokens = await deployment.pending(person, AT_ONCE + 1)

            def request(n: int, token: str, code: str = recovery_code) -> tuple[str, str, dict[str, object]]:
                body: dict[str, object] = {"mfa_token": token, "recovery_code": code}
                return deployment.urls[n % len(deployment.urls)], "/login-2fa", body

            answers = await burst([request(n, token) for n, token in enumerate(tokens[:AT_ONCE])])
            statuses = Counter(None if answer is None else answer.status for answer in answers)
            assert 1 == statuses[200], statuses
            assert {200, 401, 429} >= set(statuses), statuses
            (again,) = await burst([request(0, tokens[AT_ONCE])])
            assert again is not None
            assert again.status in {401, 429}


@pytest.mark.rounds
async def test_a_code_and_a_recovery_code_under_one_token_open_one_session(deployment: Deployment) -> None:
    """Both are valid and arrive at once; a pending token is accepted once."""
    for _ in range(rounds(1, long=6, everything=20)):
        async with httpx2.AsyncClient(base_url=deployment.urls[0], timeout=10) as client:
            person = await sign_up(client, real_clock, new_username())
            first = await person.confirm()
            (token,) = await deployment.pending(person, 1)
            bodies: list[dict[str, object]] = [
                {"mfa_token": token, "otp": person.code(1)},  # by the real clock: the next step may have begun
                {"mfa_token": token, "recovery_code": first.json()["recovery_codes"][0]},
            ]
            answers = await burst(
                [(deployment.urls[n % len(deployment.urls)], "/login-2fa", body) for n, body in enumerate(bodies * 2)]
            )
            assert 1 == sum(answer is not None and answer.status == 200 for answer in answers)


@pytest.mark.rounds
async def test_confirming_and_disabling_at_once_consume_one_code_once(deployment: Deployment) -> None:
    """The same code arrives at /login-2fa and /disable-mfa at once: one of the requests succeeds."""
    for _ in range(rounds(1, long=4, everything=10)):
        async with deployment.person(new_username()) as person:
            (token,) = await deployment.pending(person, 1)
            code = person.code()
            disable = {"username": person.username, "password": person.password, "token": code}
            both: list[tuple[str, str, dict[str, object]]] = [
                (deployment.urls[0], "/login-2fa", {"mfa_token": token, "otp": code}),
                (deployment.urls[-1], "/disable-mfa", dict(disable)),
            ]
            answers = await burst(both)
            assert 1 == sum(answer is not None and answer.status == 200 for answer in answers)


async def test_the_first_code_confirms_once(deployment: Deployment) -> None:
    """One of a hundred identical requests confirms the enrolment."""
    async with deployment.person(new_username(), confirmed=False) as person:
        tokens = await deployment.pending(person, 100)
        answers = await deployment.give_code(tokens, person.code())
        assert 1 == sum(answer is not None and answer.status == 200 for answer in answers)


def flush_repeatedly(server: RedisServer) -> None:
    for _ in range(50):
        server.flush()


@pytest.mark.parametrize("fault", ["flushed", "killed", "stopped", "absent"])
@pytest.mark.rounds
async def test_losing_redis_never_opens_a_second_session(
    fault: str, tmp_path: Path, postgresql_server: PostgreSQLServer, unlimited: dict[str, str]
) -> None:
    """Redis is flushed meanwhile, killed without persistence, stopped, or absent: one 200 in every round."""
    redis = RedisServer(tmp_path)
    if fault != "absent":
        redis.start()
    url = postgresql_server.url(postgresql_server.new_database("migrated"))
    stores = {"KEYTURN_DATABASE_URL": url, "KEYTURN_REDIS_URL": redis.url}
    try:
        workers = rounds(2, long=4, everything=4)
        with keyturn({**unlimited, **stores}, "--workers", str(workers)) as served:
            deployment = Deployment(served.url)
            for number in range(rounds(2, long=3, everything=6)):
                async with deployment.person(new_username()) as person:
                    tokens = await deployment.pending(person, AT_ONCE)
                    if fault == "stopped" and number == 1:
                        redis.freeze()
                    racing = asyncio.create_task(deployment.give_code(tokens, person.code()))
                    if fault == "flushed":
                        await asyncio.to_thread(flush_repeatedly, redis)
                    if fault == "killed" and number == 1:
                        await asyncio.to_thread(redis.kill)
                    answers = await racing
                    statuses = Counter(None if answer is None else answer.status for answer in answers)
                    assert 1 == statuses[200], statuses
                    assert {200, 401, 429} >= set(statuses), statuses
    finally:
        if redis.child is not None:
            redis.kill()


@pytest.mark.rounds
async def test_consuming_is_decided_by_sql_alone(world: dict[str, Any]) -> None:
    """Of 32 callers with the same proof, without limits and claims, one consumes it, in each round."""
    settings = Settings(**world)
    if settings.database_url is None:
        make_schema(settings)
    async with open_components(settings, hash_cost=CHEAPEST, timeouts=PATIENT) as parts:
        now = real_clock()
        signed_up = await parts.sign_up.sign_up("alice", "a long passphrase", enable_mfa=True, caller=None)
        user = await users.find(parts.database, "alice")
        assert user is not None
        assert signed_up.user.id == user.id
        (factor,) = await parts.second_factors.totp.list_usable(user)
        step = unix_seconds(now) // 30

        async def consume(number: int) -> bool:
            async with parts.database.begin() as transaction:
                if not await parts.second_factors.totp.consume(
                    transaction, user, MatchedCode(factor, number, 0, (factor.id,)), now
                ):
                    return False
                opened = await sessions.open_session(
                    transaction, user, amr=("pwd", "otp", "mfa"), caller=Caller("::1"), lifetimes=ONE_DAY, now=now
                )
                return opened is not None

        numbers = rounds(8, long=15, everything=40)
        for number in range(numbers):
            won = await asyncio.gather(*(consume(step + number) for _ in range(32)))
            assert 1 == sum(won)
        assert not await consume(step + numbers - 1)
        assert not await consume(step)
