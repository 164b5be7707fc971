"""A database of the previous version is migrated and served: what its users and its webhook had goes on.

`tests/data` has the rows, written by the last commit before the migration (`previous_version.py` says how).
"""

import asyncio
import base64
import functools
import json
import re
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service import VERSION
from service.messages.delivery import Delivery
from service.messages.webhook import Webhook
from service.origin import OPERATOR
from service.settings import Settings
from service.storage.database import SCHEMA
from service.storage.migrations import migrate
from tests.harness.clients import Client
from tests.harness.people import MovableClock, Person
from tests.harness.servers import PostgreSQLServer, RedisServer
from tests.harness.sessions import bearer
from tests.harness.webhooks import KEY, Receiver, Ticks, receiving
from tests.previous_version import FOLDER, Account, serving, settings_of

pytestmark = pytest.mark.heavy

BEFORE = "0006"
ROWS = (FOLDER / f"schema_{BEFORE}.sql").read_text("utf-8")
HELD = json.loads((FOLDER / f"schema_{BEFORE}.json").read_text("utf-8"))


@dataclass
class World:
    """A database of the previous version, and how to run statements on it as that version did."""

    settings: dict[str, Any]
    run: Callable[[str], None]
    postgresql: PostgreSQLServer | None = None
    name: str = ""

    async def migrate(self) -> None:
        await asyncio.to_thread(
            migrate, Settings(**settings_of("http://127.0.0.1:9/", **self.settings)).resolved_database_url
        )


@pytest.fixture(params=["embedded", "production"])
def before(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """The rows of the previous version, in its schema."""
    if request.param == "embedded":
        settings = Settings(data_dir=tmp_path / "data")
        settings.make_data_dir()
        settings.sqlite_file.touch(mode=0o600)
        settings.sqlite_file.write_bytes(file_of_before())

        def run(statements: str) -> None:
            with closing(sqlite3.connect(settings.sqlite_file)) as database:
                database.execute("PRAGMA foreign_keys=ON")
                database.executescript(statements)

        return World({"data_dir": tmp_path / "data"}, run)
    server: PostgreSQLServer = request.getfixturevalue("postgresql_server")
    redis: RedisServer = request.getfixturevalue("redis_server")
    redis.flush()
    name = server.new_database(request.getfixturevalue("postgresql_before"))
    return World(
        {"data_dir": tmp_path / "data", "database_url": server.url(name), "redis_url": redis.url},
        lambda statements: server.run(statements, name),
        server,
        name,
    )


@functools.cache
def file_of_before() -> bytes:
    """Return the SQLite file, made once."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "keyturn.sqlite3"
        migrate(f"sqlite:///{file}", to=BEFORE)
        with closing(sqlite3.connect(file)) as database:
            database.execute("PRAGMA foreign_keys=ON")
            database.executescript(ROWS)
        return file.read_bytes()


@pytest.fixture(scope="module")
def postgresql_before(postgresql_server: PostgreSQLServer) -> str:
    """The name of a database that is copied for each test."""
    name = postgresql_server.new_database()
    migrate(postgresql_server.url(name), to=BEFORE)
    rows = re.sub(r" X'([0-9A-F]+)'", r" '\\x\1'", ROWS)
    rows = re.sub(r"(INSERT INTO events \([^)]*\))", r"\1 OVERRIDING SYSTEM VALUE", rows)
    rows += "SELECT setval(pg_get_serial_sequence('events', 'id'), (SELECT MAX(id) FROM events));"
    postgresql_server.run(rows, name)
    return name


@dataclass
class Served:
    """This version on the migrated database."""

    client: Client
    clock: MovableClock
    receiver: Receiver

    @property
    def parts(self) -> Any:
        return self.client.parts

    def person(self, username: str, secret: int = 0) -> Person:
        account = account_of(username)
        secrets = account.secrets or ("",)
        return Person(self.client, self.clock, username, account.password, secrets[secret])

    async def deliver(self, at: int | None = None) -> list[dict[str, str]]:
        """Deliver what is due at this time; return what arrived, as the file has it."""
        if at is not None:
            self.clock.now = datetime.fromtimestamp(at, UTC)
        ticks = Ticks()
        delivery = Delivery(self.parts.database, Webhook(url=self.receiver.url, key=KEY), ticks=ticks)
        await delivery.deliver(self.clock())
        ticks.now += 1
        while await delivery.deliver(self.clock()):
            pass
        await delivery.close()
        return [
            {
                "id": headers["webhook-id"],
                "signature": headers["webhook-signature"],
                "body": base64.b64encode(body).decode(),
            }
            for headers, body in self.receiver.received
        ]


def sub_of(username: str) -> str:
    (sub,) = re.findall(rf"INSERT INTO users .* VALUES \('([^']+)', '{username}',", ROWS)
    return str(sub)


def account_of(username: str) -> Account:
    (found,) = [account for account in HELD["accounts"] if account["username"] == username]
    return Account(**found)


@asynccontextmanager
async def serve(world: World) -> AsyncIterator[Served]:
    """Serve without background tasks, from the time at which the rows were written."""
    clock = MovableClock(datetime.fromtimestamp(HELD["made_at"], UTC))
    with receiving() as receiver:
        settings = Settings(**settings_of(receiver.url, **world.settings))
        async with serving(settings, clock) as client:
            yield Served(client, clock, receiver)


@pytest.fixture
async def served(before: World) -> AsyncIterator[Served]:
    await before.migrate()
    async with serve(before) as made:
        yield made


def by_user(deliveries: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    """Return the deliveries of each user in their order: those of different users have none."""
    found = defaultdict(list)
    for delivery in deliveries:
        found[json.loads(base64.b64decode(delivery["body"]))["data"]["sub"]].append(delivery)
    return found


# --- users ---


async def test_passwords_and_codes_of_every_kind_of_user_work(served: Served) -> None:
    """Accounts without a second factor, with two authenticators, and imported ones log in; used codes stay used."""
    assert "access_token" in (await served.person("alone").give_password()).json()
    assert "access_token" in (await served.person("imported").give_password()).json()
    assert 401 == (await served.person("careful").log_in()).status_code, "this code was accepted before"
    served.clock.next_step()
    for number in (0, 1):
        assert 200 == (await served.person("careful", number).log_in()).status_code
    assert 200 == (await served.person("moved").log_in()).status_code
    careful, codes = served.person("careful"), account_of("careful").recovery_codes
    for code, status in ((codes[0], 401), (codes[1], 200), (codes[1], 401)):
        body = {"mfa_token": await careful.pending(), "recovery_code": code}
        assert status == (await served.client.post("/login-2fa", json=body)).status_code


async def test_an_enrolment_and_a_recovery_go_on(served: Served) -> None:
    """The pending token confirms the authenticator; the recovery is completed when its delay is over."""
    enrolling = served.person("enrolling")
    assert 200 == (await enrolling.give_code(mfa_token=account_of("enrolling").mfa_token)).status_code
    lost = served.person("lost")
    assert (await lost.give_password()).json()["mfa_confirmed"]
    served.clock.advance(days=3)
    assert not (await lost.give_password()).json()["mfa_confirmed"]


async def test_disabled_and_deleted_accounts_stay_so(served: Served) -> None:
    """A disabled account works again when it is enabled; the name of a deleted one is taken."""
    for username in ("disabled", "deleted"):
        assert 401 == (await served.person(username).give_password()).status_code
    await served.parts.administration.set_disabled("disabled", disabled=False, by=OPERATOR)
    assert 200 == (await served.person("disabled").log_in()).status_code
    body = {"username": "deleted", "password": account_of("deleted").password}
    assert 409 == (await served.client.post("/signup", json=body)).status_code


async def test_refresh_tokens_and_device_tokens_go_on(served: Served) -> None:
    """The session goes on with a new token, and a known device needs no code."""
    for username in ("alone", "careful"):
        body = {"grant_type": "refresh_token", "refresh_token": account_of(username).refresh_token}
        answer = await served.client.post("/token", data=body)
        assert 200 == answer.status_code
        me = await served.client.get("/me", headers=bearer(answer.json()["access_token"]))
        assert username == me.json()["username"]
    careful = account_of("careful")
    body = {"username": "careful", "password": careful.password, "device_token": careful.device_token}
    assert "access_token" in (await served.client.post("/login", json=body)).json()


async def test_users_see_the_events_of_before(served: Served) -> None:
    """The oldest is the sign-up; the newest is the login after the migration, whose number is the next one."""
    served.clock.next_step()
    access = (await served.person("careful").log_in()).json()["access_token"]
    events = (await served.client.get("/events", headers=bearer(access))).json()["events"]
    expected = len(re.findall(rf"INSERT INTO events .* VALUES \(\d+, '{sub_of('careful')}',", ROWS))
    assert ("login.admitted", "signup") == (events[0]["event"], events[-1]["event"])
    assert expected + 1 == len(events)
    newest = await served.parts.database.fetch_one("SELECT MAX(id) AS id FROM events")
    assert ROWS.count("INSERT INTO events") + 1 == newest["id"]


# --- the outbox ---


async def test_every_due_event_is_delivered_as_the_version_before_would_have(served: Served) -> None:
    """Ids, bodies and signatures are equal, in the same order for each user; nothing is missing or sent again."""
    assert by_user(HELD["deliveries"]) == by_user(await served.deliver(at=HELD["delivered_at"]))
    assert len(HELD["deliveries"]) == len(served.receiver.received)
    assert [] == await served.parts.database.fetch_all("SELECT id FROM outbox")


async def test_the_times_and_the_attempts_of_due_events_are_kept(served: Served) -> None:
    """Each waits as long as before, and the next wait is twice as long."""
    due = re.findall(r"INSERT INTO events .* VALUES \((\d+), .*, (\d+), (\d+)\);", ROWS)
    rows = await served.parts.database.fetch_all("SELECT event_id, due_at, attempts FROM outbox ORDER BY id")
    assert [tuple(map(int, row)) for row in due] == [(r["event_id"], r["due_at"], r["attempts"]) for r in rows]
    assert {0, 1, 2} == {row["attempts"] for row in rows}
    left = await served.parts.database.fetch_all("SELECT id FROM events WHERE due_at IS NOT NULL OR attempts > 0")
    assert [] == left


async def test_new_events_wait_behind_those_of_before(served: Served) -> None:
    """The first event of the user was refused twice and is due later, so a login after the migration waits too."""
    served.clock.next_step()
    assert 200 == (await served.person("careful").log_in()).status_code
    arrived = by_user(await served.deliver(at=HELD["delivered_at"] + 30))
    (careful,) = {sub for sub, sent in arrived.items() if len(sent) == 3}
    types = [json.loads(base64.b64decode(delivery["body"]))["type"] for delivery in arrived[careful]]
    assert ["code.refused_repeatedly", "login.admitted", "login.admitted"] == types


async def test_the_backlog_is_measured_as_before(served: Served) -> None:
    """The metric is the age of the oldest event that is not delivered."""
    oldest = min(int(when) for when in re.findall(r"INSERT INTO events .* (\d{10}), '\{.*\}', \d+, \d+\);", ROWS))
    served.clock.advance(seconds=100)
    metrics = served.parts.database_metrics
    await metrics.measure_backlogs(served.clock())
    (sample,) = [m.samples[0].value for m in metrics.collect() if m.name == "keyturn_webhook_waiting_seconds"]
    assert HELD["made_at"] + 100 - oldest == sample


# --- replicas of the previous version, which go on serving ---

RECORD = (
    "INSERT INTO events (user_id, event, occurred_at, details, due_at)"
    " VALUES ('{}', 'login.admitted', {}, '{{}}', {})"
)
"""How schema 0006 records an event that is due."""


async def test_events_of_a_replica_of_before_are_delivered_in_order(before: World) -> None:
    """It writes its columns; its events are in the outbox between those of this version, and nothing is due twice."""
    await before.migrate()
    alone = sub_of("alone")
    async with serve(before) as served:
        await served.deliver(at=HELD["delivered_at"])
        served.receiver.received.clear()
        now = int(served.clock().timestamp())
        for _ in range(2):
            await asyncio.to_thread(before.run, RECORD.format(alone, now, now))
            assert 200 == (await served.person("alone").give_password()).status_code
        left = "SELECT MAX(id) AS newest, MIN(due_at) AS first_due FROM events WHERE due_at IS NOT NULL"
        row = await served.parts.database.fetch_one(left)
        assert (None, None) == (row["newest"], row["first_due"]), "the replica of before delivers nothing"
        arrived = await served.deliver()
        first = ROWS.count("INSERT INTO events") + 1
        assert [f"evt_{now}_{number}" for number in range(first, first + 4)] == [sent["id"] for sent in arrived]
        assert [{}, {"sid", "amr", "address"}] * 2 == [
            set(json.loads(base64.b64decode(sent["body"]))["data"]) - {"sub", "username"} or {} for sent in arrived
        ]


async def test_a_delivery_of_before_that_ends_after_the_migration_harms_nothing(before: World) -> None:
    """Its two statements find their columns. The event may arrive twice, with the same id; none is lost."""
    await before.migrate()
    settle = "UPDATE events SET due_at = NULL WHERE id = 16"
    again = "UPDATE events SET attempts = attempts + 1, due_at = 99 WHERE id = 17 AND due_at IS NOT NULL"
    await asyncio.to_thread(before.run, f"{settle}; {again}")
    async with serve(before) as served:
        assert by_user(HELD["deliveries"]) == by_user(await served.deliver(at=HELD["delivered_at"]))


ON_POSTGRESQL = pytest.mark.parametrize("before", ["production"], indirect=True)


@ON_POSTGRESQL
async def test_a_transaction_that_runs_during_the_migration_loses_no_event(before: World) -> None:
    """The migration waits for it, and then moves its event too. (SQLite has one writer.)"""
    assert before.postgresql is not None
    alone = sub_of("alone")
    connection = await asyncpg.connect(before.postgresql.url(before.name))
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(f"UPDATE users SET epoch = epoch WHERE id = '{alone}'")
    migrating = asyncio.create_task(before.migrate())
    waits = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted"
    observer = await asyncpg.connect(before.postgresql.url(before.name))
    while await observer.fetchval(waits) == 0:
        assert not migrating.done()
    await connection.execute(RECORD.format(alone, HELD["made_at"], HELD["made_at"]))
    await transaction.commit()
    await migrating
    await asyncio.gather(connection.close(), observer.close())
    async with serve(before) as served:
        assert len(HELD["deliveries"]) + 1 == len(await served.deliver(at=HELD["delivered_at"]))


@ON_POSTGRESQL
async def test_a_role_without_rights_on_the_new_table_records_events(before: World) -> None:
    """Where rights are granted table by table, the replicas of before serve until they are granted."""
    assert before.postgresql is not None
    alone = sub_of("alone")
    grants = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public"
    await asyncio.to_thread(before.run, f"CREATE ROLE of_before LOGIN; {grants} TO of_before")
    await before.migrate()
    connection = await asyncpg.connect(before.postgresql.url(before.name, user="of_before"))
    await connection.execute(RECORD.format(alone, HELD["made_at"], HELD["made_at"]))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("SELECT id FROM outbox")
    await connection.close()
    await asyncio.to_thread(before.run, "DROP OWNED BY of_before; DROP ROLE of_before")
    async with serve(before) as served:
        assert len(HELD["deliveries"]) + 1 == len(await served.deliver(at=HELD["delivered_at"]))


OF_BEFORE = (
    "SELECT users.id, f.id AS factor_id FROM users JOIN factors f ON f.user_id = users.id WHERE users.id = $1",
    "UPDATE factors SET failures = failures + 1, waits_until = 0 WHERE user_id = $1 AND waits_until <= 0"
    " RETURNING failures",
    "UPDATE factors SET last_step = last_step + 1, confirmed_at = COALESCE(confirmed_at, 5), failures = 0"
    " WHERE user_id = $1 RETURNING id",
    "DELETE FROM factors WHERE user_id = $1 AND is_weak = 0 RETURNING name, confirmed_at",
    "INSERT INTO factors (id, user_id, epoch, name, secret, created_at) VALUES ('new', $1, 1, 'Tablet', '', 5)"
    " RETURNING last_step, failures, offset_steps, recent_failures",
)
"""Statements of 0.1 on the table that was called `factors`, in an order in which each changes or returns a row."""


@ON_POSTGRESQL
async def test_a_replica_of_before_uses_authenticators_by_their_old_name(before: World) -> None:
    """The view has the rights that the roles had on the table, and the defaults of its columns."""
    assert before.postgresql is not None
    grants = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public"
    await asyncio.to_thread(before.run, f"CREATE ROLE of_before LOGIN; {grants} TO of_before")
    await before.migrate()
    connection = await asyncpg.connect(before.postgresql.url(before.name, user="of_before"))
    answers = [await connection.fetch(statement, sub_of("careful")) for statement in OF_BEFORE]
    await connection.close()
    await asyncio.to_thread(before.run, "DROP OWNED BY of_before; DROP ROLE of_before")
    assert [2, 2, 2, 2, 1] == [len(rows) for rows in answers]
    assert (0, 0, 0, "") == tuple(answers[-1][0])


@ON_POSTGRESQL
async def test_a_role_without_rights_on_authenticators_gets_none_by_the_view(before: World) -> None:
    """A role that may only read the table may only read the view."""
    assert before.postgresql is not None
    await asyncio.to_thread(before.run, "CREATE ROLE reader LOGIN; GRANT SELECT ON factors TO reader")
    await before.migrate()
    connection = await asyncpg.connect(before.postgresql.url(before.name, user="reader"))
    assert await connection.fetch("SELECT id FROM factors")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("UPDATE factors SET last_step = 0")
    await connection.close()
    await asyncio.to_thread(before.run, "DROP OWNED BY reader; DROP ROLE reader")


def test_what_the_version_before_needs_is_dropped_after_one_minor_version() -> None:
    """0.1 needs two columns of `events`, their index, a trigger and the view `factors`; from 0.3 on nothing does."""
    assert VERSION.startswith("0.2."), "add a migration that drops them, and then this test"
    assert SCHEMA >= "0008"
