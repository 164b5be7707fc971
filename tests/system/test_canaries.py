"""The canary search finds a secret in every place and in every encoding that it covers."""

import base64
import logging
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from httpx2 import AsyncClient

from service.components import Components
from service.settings import Settings
from service.telemetry import metrics
from service.telemetry.event_names import EventName, LogName
from service.telemetry.log import emit
from tests.harness.canaries import TABLES, Watch, secrets_of
from tests.harness.clients import Client
from tests.harness.mail import open_post
from tests.harness.people import PASSWORD, MovableClock, sign_up


@pytest.fixture
def watch(client: Client) -> Watch:
    """The watch of the fixture's client. What these tests plant is removed before the final search."""
    own = Watch()
    own.canaries, own.names = client.watch.canaries, client.watch.names
    client.watch.canaries = set()
    own.attach(client)
    return own


@pytest.fixture
def parts(client: Client) -> Components:
    return client.parts


async def test_secrets_of_requests_and_answers_are_canaries(
    client: AsyncClient, watch: Watch, parts: Components, clock: MovableClock
) -> None:
    """Passwords, codes, seeds, recovery codes and tokens of every kind are canaries, and a normal run leaks none."""
    alice = await sign_up(client, clock)
    code = alice.code()
    admitted = (await alice.give_code(code, alice.mfa_token)).json()
    given = {PASSWORD, code, alice.secret, alice.mfa_token, admitted["access_token"], admitted["refresh_token"]}
    assert given | set(admitted["recovery_codes"]) <= watch.canaries
    await watch.search(parts)


async def test_links_and_invitations_are_canaries(client: Client, watch: Watch, parts: Components) -> None:
    """The token that a client sends, and the link that an answer shows."""
    links = {name: f"ktl_{name * 6}" for name in ("token", "invitation", "shown")}
    await client.post("/email/confirm", json={"token": links["token"]})
    await client.post("/signup", json={"username": "alice", "password": PASSWORD, "invitation": links["invitation"]})
    body = {
        "invited": {"link": f"http://localhost/account#invitation={links['shown']}"},
        "client_secret": "kts_secret",
    }
    app = httpx2.MockTransport(lambda _request: httpx2.Response(201, json=body))
    async with httpx2.AsyncClient(transport=app, base_url="http://localhost") as echo:
        watch.attach(echo)
        await echo.post("/admin/users", json={})
    assert {*links.values(), "kts_secret"} <= watch.canaries
    await watch.search(parts)


def test_secrets_of_the_settings_are_canaries() -> None:
    """Each of them, and the password of the mail server without the rest of its URL."""
    settings = Settings(
        smtp_url="smtps://mailer:a%20mail%20password@mail.example.com",
        mail_from="noreply@example.com",
        master_secrets=f"{'ab' * 32},{'cd' * 32}",
        attack_proof="a proof of at least 32 characters",
    )
    expected = {"a mail password", "ab" * 32, "cd" * 32, "a proof of at least 32 characters"}
    assert expected <= secrets_of(settings)


async def test_a_link_in_the_outbox_is_noticed(embedded: dict[str, Any], clock: MovableClock) -> None:
    """A message that waits has no token, whatever the mail server answered; a row that had one would be found."""
    settings = {"smtp_url": "smtp://mailer:a%20mail%20password@127.0.0.1:9", "mail_from": "noreply@example.com"}
    async with open_post(embedded, clock, **settings) as post:
        user_id = await post.add_user("alice")
        await post.record(EventName.PASSWORD_RESET_REQUESTED, user_id)
        await post.deliver(post.deliverer())
        assert ["password_reset"] == await post.due()
        (token,) = post.watch.canaries
        await post.watch.search(post.parts)
        async with post.parts.database.begin() as transaction:
            await transaction.execute("UPDATE outbox SET kind = $1", token)
        with pytest.raises(AssertionError, match="the database contains"):
            await post.watch.search(post.parts)
        async with post.parts.database.begin() as transaction:
            await transaction.execute("DELETE FROM outbox WHERE kind = $1", token)


@pytest.mark.parametrize(
    "written", [str, lambda text: text.encode().hex(), lambda text: base64.b64encode(text.encode()).decode(), quote]
)
async def test_a_secret_in_the_log_is_noticed(watch: Watch, parts: Components, written: Any) -> None:
    """It is found verbatim, in hex, in base64, and quoted."""
    watch.canaries = {"a secret of somebody's"}
    watch.begin()
    try:
        emit(LogName.REDIS_AWAY, said=written("a secret of somebody's"))
    finally:
        watch.end()
    with pytest.raises(AssertionError, match="the log contains"):
        await watch.search(parts)


async def test_a_secret_in_a_traceback_is_noticed(watch: Watch, parts: Components) -> None:
    """The log keeps the type and place of an exception, and never its text."""
    watch.canaries = {"a secret of somebody's"}
    watch.begin()
    try:
        logging.getLogger("keyturn").error("defect", exc_info=RuntimeError("a secret of somebody's"))
    finally:
        watch.end()
    await watch.search(parts)


async def test_a_secret_in_the_database_is_noticed(watch: Watch, parts: Components, client: AsyncClient) -> None:
    """It is found in any table; a seed also as the bytes that it encodes."""
    watch.canaries = {"KRUGKIDROVUWG2ZAMJZG653OEBTG66BA"}
    async with parts.database.begin() as transaction:
        await transaction.execute(
            "INSERT INTO users (id, username, password_hash, created_at) VALUES ('1', 'x', $1, 0)",
            base64.b32decode("KRUGKIDROVUWG2ZAMJZG653OEBTG66BA").hex(),
        )
    with pytest.raises(AssertionError, match="the database contains"):
        await watch.search(parts)


async def test_a_secret_in_an_error_a_span_or_the_metrics_is_noticed(watch: Watch, parts: Components) -> None:
    """An answer that repeats the request, an attribute of a span, and a label are searched."""
    app = httpx2.MockTransport(lambda request: httpx2.Response(422, content=request.content))
    async with httpx2.AsyncClient(transport=app, base_url="http://localhost") as echo:
        watch.attach(echo)
        await echo.post("/login", json={"username": "alice", "password": "a secret of somebody's"})
    with pytest.raises(AssertionError, match="an error contains"):
        await watch.search(parts)
    watch.canaries = {"another secret of theirs"}
    with watch.tracing.span("another secret of theirs"):
        pass
    with pytest.raises(AssertionError, match="a span contains"):
        await watch.search(parts)
    watch.canaries = {"a label that is a secret"}
    metrics.EVENTS.labels("a label that is a secret").inc()
    with pytest.raises(AssertionError, match="the metrics contains"):
        await watch.search(parts)
    metrics.EVENTS.remove("a label that is a secret")


async def test_a_secret_in_redis_is_noticed(watch: Watch, parts: Components, clock: MovableClock) -> None:
    """It is found in the service's keys, where Redis is used."""
    watch.canaries = {"a secret of somebody's"}
    await parts.ephemeral.claim("a secret of somebody's", ttl=timedelta(seconds=60), now=clock())
    if parts.settings.resolved_redis_url is None:
        await watch.search(parts)
        return
    with pytest.raises(AssertionError, match="Redis contains"):
        await watch.search(parts)


async def test_every_table_is_searched(parts: Components) -> None:
    """A new table must be added to the list."""
    sql = (
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        if parts.settings.database_url is None
        else "SELECT CAST(table_name AS TEXT) AS name FROM information_schema.tables"
        " WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
    )
    there = {row["name"] for row in await parts.database.fetch_all(sql)}
    assert set(TABLES) == there - {"alembic_version"}
