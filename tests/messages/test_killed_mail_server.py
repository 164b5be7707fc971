"""A mail server that is killed within a transaction: nothing is lost, nothing is late, and nobody waits for it."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import httpx2
import pytest

from service.telemetry.event_names import EventName
from tests.harness.log_records import details_of
from tests.harness.mail import SENDER, MailServer, Post, open_post, receiving_mail
from tests.harness.people import PASSWORD, MovableClock
from tests.harness.servers import keyturn, wait_until

DyingAt = Literal["recipient", "content", "answer"]
everywhere = pytest.mark.parametrize("dies_at", ["recipient", "content", "answer"])

NAMES = ("alice", "bob", "carol")


@asynccontextmanager
async def posting(world: dict[str, Any], clock: MovableClock, server: MailServer) -> AsyncIterator[Post]:
    url = f"smtp://127.0.0.1:{server.port}"
    async with open_post(world, clock, smtp_url=url, mail_from=SENDER) as post:
        yield post


@everywhere
async def test_every_message_arrives_once_the_server_lives_again(
    world: dict[str, Any], clock: MovableClock, caplog: pytest.LogCaptureFixture, dies_at: DyingAt
) -> None:
    """A letter that the server kept without an answer comes again, as the same letter; no other comes twice."""
    caplog.set_level(logging.INFO, logger="keyturn")
    with receiving_mail() as server:
        async with posting(world, clock, server) as post:
            for name in NAMES:
                user = await post.add_user(name)
                await post.record(EventName.PASSWORD_RESET_REQUESTED, user)
                await post.record(EventName.FACTOR_ADDED, user)
            delivery = post.deliverer()
            server.dies_at = dies_at
            for wait in (2, 4, 8):
                assert 0 == await post.deliver(delivery)
                clock.advance(seconds=wait)
            kept = len(server.letters)
            server.dies_at = None
            clock.advance(seconds=60)
            assert 6 == await post.deliver_all(delivery)
            assert [] == await post.due()
    refused = [details_of(record) for record in caplog.records if record.getMessage() == "message.refused"]
    assert {"disconnected"} == {line["reason"] for line in refused}
    assert (kept > 0) == (dies_at == "answer")
    ids = [letter["Message-ID"] for letter in server.letters]
    assert (6, 6) == (len(set(ids)), len(ids[kept:]))
    for name in NAMES:
        subjects = [letter["Subject"] for letter in server.letters[kept:] if letter["To"].startswith(name)]
        assert ["Set a new password", "An authenticator was added to your account"] == subjects
    for letter in server.letters[:kept]:
        assert letter.as_bytes() in {later.as_bytes() for later in server.letters[kept:]}


@everywhere
async def test_no_message_arrives_after_its_token_has_expired(
    world: dict[str, Any], clock: MovableClock, dies_at: DyingAt
) -> None:
    """It is dropped, also where the server may have kept it; a notice has no token, and arrives."""
    with receiving_mail() as server:
        async with posting(world, clock, server) as post:
            alice = await post.add_user("alice")
            await post.record(EventName.PASSWORD_RESET_REQUESTED, alice)
            await post.record(EventName.FACTOR_ADDED, alice)
            delivery = post.deliverer()
            server.dies_at = dies_at
            assert 0 == await post.deliver(delivery)
            kept = len(server.letters)
            clock.advance(seconds=3600)
            server.dies_at = None
            assert 2 == await post.deliver_all(delivery)
            assert [] == await post.due()
    later = [letter["Subject"] for letter in server.letters[kept:]]
    assert ["An authenticator was added to your account"] == later


@pytest.mark.heavy
@everywhere
def test_a_mail_server_that_dies_delays_no_login(tmp_path: Path, dies_at: DyingAt) -> None:
    """Users sign up and log in while every transaction breaks off; then the message arrives."""
    with receiving_mail() as server:
        environment = {
            "KEYTURN_DATA_DIR": str(tmp_path / "data"),
            "KEYTURN_SMTP_URL": f"smtp://127.0.0.1:{server.port}",
            "KEYTURN_MAIL_FROM": SENDER,
        }
        server.dies_at = dies_at
        with keyturn(environment) as served, httpx2.Client(base_url=served.url, timeout=4) as client:
            alice = {"username": "alice", "password": PASSWORD}
            assert 201 == client.post("/signup", json={**alice, "email": "alice@example.net"}).status_code
            wait_until(lambda: check(server.attempts >= 1), seconds=60)
            for _ in range(5):
                assert 200 == client.post("/login", json=alice).status_code
            server.dies_at = None
            kept = len(server.recipients)
            wait_until(lambda: check(["alice@example.net"] == server.recipients[kept:]), seconds=60)


def check(is_so: bool) -> None:
    assert is_so
