"""Two hundred uses of one link at once, on real processes: exactly one succeeds.

Law 16: derive, do not store; consume with one statement.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from service.clock import unix_seconds
from service.components import Components, open_components
from service.origin import OPERATOR, Act
from service.settings import Settings
from service.tokens.links import EmailConfirmation, PasswordReset
from service.users import emails, users
from service.users.passwords import CHEAPEST
from service.users.users import User
from tests.harness.bursts import burst
from tests.harness.clients import SECRET
from tests.harness.databases import PATIENT
from tests.harness.people import PASSWORD, Person, real_clock, sign_up
from tests.harness.rounds import rounds
from tests.harness.servers import PostgreSQLServer, RedisServer, keyturn, make_schema
from tests.harness.sessions import bearer

pytestmark = [pytest.mark.heavy, pytest.mark.rounds]

ROUNDS = rounds(1, long=5, everything=20)
AT_ONCE = 200
UNLIMITED = {
    "KEYTURN_MASTER_SECRETS": SECRET,
    "KEYTURN_HASH_QUEUE": "4096",
    **{f"KEYTURN_LIMIT_{name}": "off" for name in ("SIGNUP", "LOGIN", "LOGIN_ADDRESS", "LOGIN_USERNAME")},
}


@dataclass(frozen=True)
class Replicas:
    """The URLs of a deployment, and the settings with which a test opens its components."""

    urls: tuple[str, ...]
    settings: Settings

    async def spend(self, path: str, bodies: list[dict[str, object]]) -> Counter[int]:
        """Send all bodies at once, spread over the replicas, and count the statuses of the answers.

        On a busy machine the database may be late for some, which are answered 503: those are sent again, at once.
        """
        requests = [(self.urls[n % len(self.urls)], path, body) for n, body in enumerate(bodies)]
        counted: Counter[int] = Counter()
        for _ in range(10):
            answers = await burst(requests, seconds=240)
            statuses = [0 if answer is None else answer.status for answer in answers]
            counted.update(status for status in statuses if status != 503)
            requests = [request for request, status in zip(requests, statuses, strict=True) if status == 503]
            if not requests:
                break
        return counted


@pytest.fixture(scope="module", params=["embedded", "two replicas"])
def replicas(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    folder: Path = tmp_path_factory.mktemp("links")
    with ExitStack() as stack:
        if request.param == "embedded":
            settings = Settings(data_dir=folder, master_secrets=SECRET)
            make_schema(settings)
            environment, count = {"KEYTURN_DATA_DIR": str(folder)}, 1
        else:
            redis: RedisServer = request.getfixturevalue("redis_server")
            postgresql: PostgreSQLServer = request.getfixturevalue("postgresql_server")
            redis.flush()
            url = postgresql.url(postgresql.new_database("migrated"))
            settings = Settings(data_dir=folder, database_url=url, redis_url=redis.url, master_secrets=SECRET)
            environment, count = (
                {"KEYTURN_DATA_DIR": str(folder), "KEYTURN_DATABASE_URL": url, "KEYTURN_REDIS_URL": redis.url},
                2,
            )
        served = [stack.enter_context(keyturn({**UNLIMITED, **environment})) for _ in range(count)]
        yield Replicas(tuple(replica.url for replica in served), settings)


async def add_user(replicas: Replicas, parts: Components, name: str) -> tuple[Person, User]:
    async with httpx2.AsyncClient(base_url=replicas.urls[0], timeout=10) as client:
        person = await sign_up(client, real_clock, name, mfa=False)
    user = await users.find(parts.database, name)
    assert user is not None
    return person, user


def _times(now: datetime) -> tuple[int, int]:
    return unix_seconds(now), unix_seconds(now + timedelta(hours=1))


async def test_one_reset_succeeds_and_no_session_of_the_former_password_survives(replicas: Replicas) -> None:
    """Logins with the former password run at the same time."""
    async with open_components(replicas.settings, hash_cost=CHEAPEST, timeouts=PATIENT) as parts:
        for n in range(ROUNDS):
            person, user = await add_user(replicas, parts, f"reset{n}")
            issued_at, expires_at = _times(real_clock())
            link = PasswordReset(issued_at, expires_at, sub=user.id, credential_version=user.credential_version)
            token = parts.links.write(link)
            bodies: list[dict[str, object]] = [
                {"token": token, "new_password": f"new passphrase {m:03}"} for m in range(AT_ONCE)
            ]
            login: dict[str, object] = {"username": person.username, "password": PASSWORD}
            statuses, opened = await asyncio.gather(
                replicas.spend("/password-reset/confirm", bodies),
                burst([(replicas.urls[m % len(replicas.urls)], "/login", login) for m in range(20)], seconds=60),
            )
            assert statuses == Counter({204: 1, 401: AT_ONCE - 1})
            async with httpx2.AsyncClient(base_url=replicas.urls[0], timeout=10) as client:
                for answer in opened:
                    assert answer is not None
                    if answer.status == 200:
                        me = await client.get("/me", headers=bearer(answer.body["access_token"]))
                        assert me.status_code == 401


async def test_one_confirmation_of_an_address_succeeds(replicas: Replicas) -> None:
    async with open_components(replicas.settings, hash_cost=CHEAPEST, timeouts=PATIENT) as parts:
        for n in range(ROUNDS):
            _, user = await add_user(replicas, parts, f"confirms{n}")
            now, address = real_clock(), f"confirms{n}@example.com"
            async with parts.database.begin() as transaction:
                assert await emails.request(transaction, user, address, now)
            issued_at, expires_at = _times(now)
            token = parts.links.write(EmailConfirmation(issued_at, expires_at, sub=user.id, address=address))
            statuses = await replicas.spend("/email/confirm", [{"token": token}] * AT_ONCE)
            assert statuses == Counter({204: 1, 401: AT_ONCE - 1})


async def test_one_sign_up_with_an_invitation_succeeds(replicas: Replicas) -> None:
    """The others leave no account."""
    async with open_components(replicas.settings, hash_cost=CHEAPEST, timeouts=PATIENT) as parts:
        for n in range(ROUNDS):
            made = await parts.invitations.create(Act(OPERATOR, real_clock()))
            bodies: list[dict[str, object]] = [
                {"username": f"invited{n}-{m:03}", "password": PASSWORD, "invitation": made.token}
                for m in range(AT_ONCE)
            ]
            statuses = await replicas.spend("/signup", bodies)
            assert statuses == Counter({201: 1, 403: AT_ONCE - 1})
            row = await parts.database.fetch_one(
                "SELECT COUNT(*) AS n FROM users WHERE username >= $1 AND username < $2",
                f"invited{n}-", f"invited{n}.",
            )  # fmt: skip
            assert row is not None
            assert row["n"] == 1
