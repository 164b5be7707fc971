"""Delivery of events: signed, at least once, in order, through failures of the receiver and of the service."""

import base64
import hashlib
import hmac
import json
import runpy
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.accounts.administration import AccountFilter
from service.components import open_components
from service.environment import read_settings
from service.errors import ConfigurationError
from service.messages.delivery import BATCH_SIZE, MAX_RETRY_WAIT_SECONDS, Delivery
from service.messages.webhook import Webhook
from service.origin import OPERATOR, Act
from service.secret_texts import read_webhook_secret
from service.settings import Settings
from service.telemetry.event_names import EventName
from service.users.passwords import CHEAPEST
from tests.harness import npm
from tests.harness.databases import PATIENT
from tests.harness.people import PASSWORD, MovableClock, real_clock
from tests.harness.servers import REPOSITORY, clean_environment, keyturn, make_schema, wait_until
from tests.harness.webhooks import KEY, SECRET, Outbox, receiving, without_background

pytestmark = pytest.mark.heavy

read_event = runpy.run_path(str(REPOSITORY / "examples" / "webhook_receiver.py"))["read_event"]


# --- single steps ---


async def test_an_event_is_posted_and_signed(outbox: Outbox, clock: MovableClock) -> None:
    """By Standard Webhooks, the holder of the secret can verify the sender and the time."""
    await outbox.sign_up("alice")
    assert 1 == await outbox.deliver(outbox.deliverer())
    ((headers, body),) = outbox.receiver.received
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert f"v1,{expected}" == headers["webhook-signature"]
    assert str(int(clock().timestamp())) == headers["webhook-timestamp"]
    # Event numbers repeat after a restore; with the time of the event they identify another message.
    assert headers["webhook-id"].startswith(f"evt_{int(clock().timestamp())}_")
    assert "application/json" == headers["content-type"]
    event = json.loads(body)
    assert ("signup", "2026-11-22T12:00:05Z", "alice") == (
        event["type"],
        event["timestamp"],
        event["data"]["username"],
    )
    assert {"sub", "username", "mfa"} == set(event["data"])


async def test_other_receivers_verify_the_signature(world: dict[str, Any], tmp_path: Path) -> None:
    """The example and npm's `standardwebhooks` accept it, and refuse another secret or another body."""
    npm.install(tmp_path, "standardwebhooks@1")
    with receiving() as receiver:
        now = MovableClock(real_clock())  # the receivers read their own clocks
        async with without_background({**world, "webhook_url": receiver.url}, now) as parts:
            outbox = Outbox(parts, receiver, now)
            await outbox.sign_up("alice")
            assert 1 == await outbox.deliver(outbox.deliverer())
    ((headers, body),) = receiver.received
    assert "signup" == read_event(headers, body, SECRET)["type"]
    for other_body, other_secret in ((body + b" ", SECRET), (body, f"whsec_{base64.b64encode(b'x' * 32).decode()}")):
        with pytest.raises(ValueError, match="not signed"):
            read_event(headers, other_body, other_secret)
    given = {"SECRET": SECRET, "HEADERS": json.dumps(headers), "BODY": body.decode()}
    assert "signup false" == npm.run(tmp_path, STANDARD_WEBHOOKS, {**clean_environment(), **given})


STANDARD_WEBHOOKS = """
import { Webhook } from "standardwebhooks";

const { SECRET, HEADERS, BODY } = process.env;
const event = new Webhook(SECRET).verify(BODY, JSON.parse(HEADERS));
let forged = true;
try { new Webhook(SECRET).verify(BODY + " ", JSON.parse(HEADERS)); } catch { forged = false; }
console.log(event.type, forged);
"""


async def test_a_delivered_event_is_not_delivered_again(outbox: Outbox) -> None:
    """This holds for later rounds, for another replica, and after a restart."""
    await outbox.sign_up("alice")
    assert 1 == await outbox.deliver(outbox.deliverer())
    outbox.clock.advance(seconds=3600)
    assert 0 == await outbox.deliver(outbox.deliverer())
    assert 1 == len(outbox.receiver.received)


@pytest.mark.parametrize("status", [301, 400, 410, 429, 500, 503])
async def test_a_refused_delivery_is_retried_after_growing_waits(outbox: Outbox, status: int) -> None:
    """The waits are 2, 4, 8 ... seconds, five minutes at most; redirects are not followed."""
    await outbox.sign_up("alice")
    webhook, outbox.receiver.status = outbox.deliverer(), status
    assert 0 == await outbox.deliver(webhook)
    waits = [2, 4, 8, 16, 32, 64, 128, 256, MAX_RETRY_WAIT_SECONDS, MAX_RETRY_WAIT_SECONDS]
    for wait in waits:
        outbox.clock.advance(seconds=wait - 1)
        assert (await due_in(outbox)) == 1
        outbox.clock.advance(seconds=1)
        assert 0 == await outbox.deliver(webhook)
    outbox.receiver.status = 200
    outbox.clock.advance(seconds=MAX_RETRY_WAIT_SECONDS)
    assert 1 == await outbox.deliver(webhook)


async def due_in(outbox: Outbox) -> int:
    row = await outbox.parts.database.fetch_one("SELECT MIN(due_at) AS due_at FROM outbox")
    assert row is not None
    return int(row["due_at"] - outbox.clock().timestamp())


async def test_the_events_of_a_user_keep_their_order(outbox: Outbox) -> None:
    """While one is refused, the later ones wait behind it; those of other users are delivered."""
    await outbox.sign_up("alice")
    webhook, outbox.receiver.status = outbox.deliverer(), 500
    await outbox.deliver(webhook)
    outbox.receiver.status = 204
    await outbox.parts.administration.set_disabled("alice", disabled=True, by=OPERATOR)
    await outbox.sign_up("bob")
    assert 1 == await outbox.deliver(webhook)
    assert ["bob"] == [event["data"]["username"] for event in outbox.receiver.accepted]
    outbox.clock.advance(seconds=2)
    assert 2 == await outbox.deliver(webhook)
    assert ["signup", "signup", "user.disabled"] == [event["type"] for event in outbox.receiver.accepted]


async def test_an_event_waits_until_those_before_it_are_known(outbox: Outbox) -> None:
    """A number is assigned before its transaction commits, so an event is held for a second after it is read."""
    await outbox.sign_up("alice")
    webhook = outbox.deliverer()
    assert 0 == await webhook.deliver(outbox.clock())
    outbox.ticks.now += 0.9
    assert 0 == await webhook.deliver(outbox.clock())
    outbox.ticks.now += 0.1
    assert 1 == await webhook.deliver(outbox.clock())


async def test_an_event_waits_for_a_slow_transaction_with_a_lower_number(
    production: dict[str, Any], clock: MovableClock
) -> None:
    """Such as one of a replica far from the database: the receiver gets its event first."""
    with receiving() as receiver:
        async with without_background({**production, "webhook_url": receiver.url}, clock) as parts:
            outbox = Outbox(parts, receiver, clock)
            webhook = outbox.deliverer()
            await outbox.sign_up("carol")
            assert 1 == await outbox.deliver(webhook)
            async with parts.database.begin() as transaction:
                act = Act(OPERATOR, clock())
                await parts.events.record(transaction, EventName.CLIENT_REMOVED, None, act, client_id="slow")
                await outbox.sign_up("alice")
                assert 0 == await outbox.deliver(webhook)
                assert 0 == await outbox.deliver(webhook)
            assert 2 == await outbox.deliver(webhook)
            assert {"client.removed", "signup"} == {event["type"] for event in receiver.accepted[1:]}


async def test_an_event_of_a_replica_with_a_fast_clock_is_delivered_at_once(outbox: Outbox) -> None:
    """Its time is in the future of the others. A refused one waits for its time, as always."""
    outbox.clock.advance(seconds=90)
    await outbox.sign_up("alice")
    outbox.clock.advance(seconds=-90)
    outbox.receiver.status = 500
    webhook = outbox.deliverer()
    assert 0 == await outbox.deliver(webhook)
    outbox.receiver.status = 204
    assert 0 == await outbox.deliver(webhook)
    outbox.clock.advance(seconds=2)
    assert 1 == await outbox.deliver(webhook)


async def test_only_one_replica_delivers(outbox: Outbox) -> None:
    """Another replica takes over after ten seconds of silence, or once the first has stopped in order."""
    await outbox.sign_up("alice")
    one, other = outbox.deliverer(), outbox.deliverer()
    assert 1 == await outbox.deliver(one)
    await outbox.sign_up("bob")
    assert 0 == await outbox.deliver(other)
    assert 1 == await outbox.deliver(one)
    await outbox.sign_up("carol")
    outbox.clock.advance(seconds=10)
    assert 1 == await outbox.deliver(other)
    await other.close()
    await outbox.sign_up("dave")
    assert 1 == await outbox.deliver(one)
    await one.close()


async def test_an_event_of_a_failed_transaction_is_not_delivered(outbox: Outbox) -> None:
    """An event is recorded in the transaction that it describes."""
    await outbox.sign_up("alice")
    with pytest.raises(Exception, match="taken"):
        await outbox.sign_up("alice")
    alice = (await outbox.parts.administration.list_page(AccountFilter())).items[0].sub

    act = Act.of_user(alice, outbox.clock())

    async def fail_halfway() -> None:
        async with outbox.parts.database.begin() as transaction:
            await outbox.parts.events.record(transaction, EventName.PASSWORD_CHANGED, alice, act)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_halfway()
    assert 1 == await outbox.deliver(outbox.deliverer())
    assert ["signup"] == [event["type"] for event in outbox.receiver.accepted]


async def test_an_unreachable_receiver_costs_a_wait_only(outbox: Outbox) -> None:
    """The event is delivered once the receiver answers."""
    await outbox.sign_up("alice")
    webhook = Webhook(url="http://127.0.0.1:9/", key=KEY)
    unreachable = Delivery(outbox.parts.database, webhook, ticks=outbox.ticks)
    assert 0 == await outbox.deliver(unreachable)
    await unreachable.close()
    outbox.clock.advance(seconds=2)
    assert 1 == await outbox.deliver(outbox.deliverer())


async def test_a_receiver_that_refuses_everything_is_paused(outbox: Outbox) -> None:
    """The pauses are two seconds, four, eight, a minute at most; its first 2xx ends them."""
    names = [f"person{n}" for n in range(BATCH_SIZE * 3)]
    await outbox.sign_up(*names)
    webhook, outbox.receiver.status = outbox.deliverer(), 503
    await outbox.deliver(webhook)
    assert BATCH_SIZE == await count_tried(outbox)
    outbox.clock.advance(seconds=1)
    await outbox.deliver(webhook)
    assert BATCH_SIZE == await count_tried(outbox)
    outbox.clock.advance(seconds=1)
    await outbox.deliver(webhook)
    assert BATCH_SIZE < await count_tried(outbox)
    outbox.receiver.status = 204
    outbox.clock.advance(seconds=60)
    for _ in range(3):
        await outbox.deliver(webhook)
    assert len(names) == len(outbox.receiver.accepted)


async def count_tried(outbox: Outbox) -> int:
    row = await outbox.parts.database.fetch_one("SELECT SUM(attempts) AS tried FROM outbox")
    assert row is not None
    return int(row["tried"])


async def test_without_a_webhook_nothing_is_due(world: dict[str, Any], clock: MovableClock) -> None:
    """A URL set later does not get past events."""
    settings = Settings(**world)
    if settings.database_url is None:
        make_schema(settings)
    async with open_components(settings, clock, hash_cost=CHEAPEST, timeouts=PATIENT) as parts:
        await parts.sign_up.sign_up("alice", PASSWORD, enable_mfa=False, caller=None)
        assert [] == await parts.database.fetch_all("SELECT id FROM outbox")


# --- settings ---


@pytest.mark.parametrize(
    "environment",
    [
        {"KEYTURN_WEBHOOK_URL": "https://hooks.example.com/keyturn"},
        {"KEYTURN_WEBHOOK_URL": "hooks.example.com", "KEYTURN_WEBHOOK_SECRET": SECRET},
        {"KEYTURN_WEBHOOK_URL": "ftp://hooks.example.com/", "KEYTURN_WEBHOOK_SECRET": SECRET},
        {"KEYTURN_WEBHOOK_URL": "https://user:pass@hooks.example.com/", "KEYTURN_WEBHOOK_SECRET": SECRET},
        {"KEYTURN_WEBHOOK_SECRET": "whsec_c2hvcnQ="},
        {"KEYTURN_WEBHOOK_SECRET": "not base64 at all"},
    ],
)
def test_an_invalid_webhook_setting_stops_the_start(environment: dict[str, str]) -> None:
    """The sentence names the setting and not its value."""
    with pytest.raises(ConfigurationError, match="KEYTURN_WEBHOOK_") as refused:
        read_settings(environment)
    assert not any(value in str(refused.value) for value in environment.values())


def test_a_secret_is_read_with_and_without_its_prefix() -> None:
    """Standard Webhooks writes the prefix `whsec_`."""
    assert KEY == read_webhook_secret(SECRET) == read_webhook_secret(SECRET.removeprefix("whsec_"))


# --- real processes ---


def test_a_missing_receiver_and_a_killed_service_lose_no_event(tmp_path: Path) -> None:
    """Logins go on meanwhile; afterwards every event has arrived, in order for each user."""
    with receiving() as receiver:
        environment = {
            "KEYTURN_DATA_DIR": str(tmp_path / "data"),
            "KEYTURN_WEBHOOK_URL": receiver.url,
            "KEYTURN_WEBHOOK_SECRET": SECRET,
            "KEYTURN_LIMIT_SIGNUP": "off",
        }
        expected: dict[str, list[str]] = defaultdict(list)
        for round_ in range(4):
            receiver.status = 503 if round_ % 2 else 204
            with keyturn(environment) as served, httpx2.Client(base_url=served.url, timeout=10) as client:
                for person in range(5):
                    credentials = {"username": f"user{round_}-{person}", "password": PASSWORD}
                    assert 201 == client.post("/signup", json=credentials).status_code
                    expected[credentials["username"]].append("signup")
                    for _ in range(2):
                        assert 200 == client.post("/login", json=credentials).status_code
                        expected[credentials["username"]].append("login.admitted")
                served.process.kill()
        receiver.status = 204
        with keyturn(environment):

            def all_arrived() -> None:
                arrived: dict[str, list[str]] = defaultdict(list)
                for event in receiver.accepted:
                    arrived[event["data"]["username"]].append(event["type"])
                assert expected == arrived

            wait_until(all_arrived, seconds=60)


def test_a_slow_receiver_delays_no_login(tmp_path: Path) -> None:
    """It holds every delivery open, and logins are answered nevertheless."""
    with receiving() as receiver:
        environment = {
            "KEYTURN_DATA_DIR": str(tmp_path / "data"),
            "KEYTURN_WEBHOOK_URL": receiver.url,
            "KEYTURN_WEBHOOK_SECRET": SECRET,
        }
        receiver.may_answer.clear()
        with keyturn(environment) as served, httpx2.Client(base_url=served.url, timeout=4) as client:
            credentials = {"username": "alice", "password": PASSWORD}
            assert 201 == client.post("/signup", json=credentials).status_code
            for _ in range(20):
                assert 200 == client.post("/login", json=credentials).status_code
            receiver.may_answer.set()
            wait_until(lambda: check(len(receiver.accepted) == 21), seconds=60)


def check(is_so: bool) -> None:
    assert is_so
