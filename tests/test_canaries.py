"""The canaries: a secret in any of the places is noticed, however it is written there."""

import base64
import logging
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from httpx2 import AsyncClient

from service import metrics
from service.components import Components
from service.log import emit
from tests.canaries import TABLES, Watch
from tests.people import PASSWORD, MovableClock, sign_up


@pytest.fixture
def watch(client: AsyncClient) -> Watch:
    """Of the fixture's client; what these tests put somewhere is theirs, and is not looked for when they end."""
    (hook,) = client.event_hooks["request"]
    watch: Watch = hook.__self__  # type: ignore[attr-defined]
    own = Watch()
    own.canaries, own.names = watch.canaries, watch.names
    watch.canaries = set()
    own.attach(client)
    return own


@pytest.fixture
def parts(client: AsyncClient) -> Components:
    found: Components = client.app.state.parts  # type: ignore[attr-defined]
    return found


async def test_what_people_give_and_get_are_canaries(
    client: AsyncClient, watch: Watch, parts: Components, clock: MovableClock
) -> None:
    """Passwords, codes, seeds, recovery codes and every kind of token; and none of them sings by itself."""
    alice = await sign_up(client, clock)
    code = alice.code()
    admitted = (await alice.give_code(code, alice.mfa_token)).json()
    given = {PASSWORD, code, alice.secret, alice.mfa_token, admitted["access_token"], admitted["refresh_token"]}
    assert given | set(admitted["recovery_codes"]) <= watch.canaries
    await watch.look_around(parts)


@pytest.mark.parametrize(
    "written", [str, lambda text: text.encode().hex(), lambda text: base64.b64encode(text.encode()).decode(), quote]
)
async def test_a_secret_in_the_log_is_noticed(watch: Watch, parts: Components, written: Any) -> None:
    """As it is, in hex, in base64, quoted."""
    watch.canaries = {"a secret of somebody's"}
    watch.begin()
    try:
        emit("oops", said=written("a secret of somebody's"))
    finally:
        watch.end()
    with pytest.raises(AssertionError, match="the log has"):
        await watch.look_around(parts)


async def test_a_secret_in_a_traceback_is_noticed(watch: Watch, parts: Components) -> None:
    """The log keeps an exception's kind and place, and never its text."""
    watch.canaries = {"a secret of somebody's"}
    watch.begin()
    try:
        logging.getLogger("keyturn").error("defect", exc_info=RuntimeError("a secret of somebody's"))
    finally:
        watch.end()
    await watch.look_around(parts)


async def test_a_secret_in_the_database_is_noticed(watch: Watch, parts: Components, client: AsyncClient) -> None:
    """In any table; a seed also as the bytes that it stands for."""
    watch.canaries = {"JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"}
    async with parts.database.begin() as transaction:
        await transaction.execute(
            "INSERT INTO users (id, username, password_hash, created_at) VALUES ('1', 'x', $1, 0)",
            base64.b32decode("JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP").hex(),
        )
    with pytest.raises(AssertionError, match="the database has"):
        await watch.look_around(parts)


async def test_a_secret_in_an_error_a_span_or_the_metrics_is_noticed(watch: Watch, parts: Components) -> None:
    """An answer that repeats what was sent; a span's attribute; a label."""
    app = httpx2.MockTransport(lambda request: httpx2.Response(422, content=request.content))
    async with httpx2.AsyncClient(transport=app, base_url="http://localhost") as echo:
        watch.attach(echo)
        await echo.post("/login", json={"username": "alice", "password": "a secret of somebody's"})
    with pytest.raises(AssertionError, match="an error has"):
        await watch.look_around(parts)
    watch.canaries = {"another secret of theirs"}
    with watch.tracing.span("another secret of theirs"):
        pass
    with pytest.raises(AssertionError, match="a span has"):
        await watch.look_around(parts)
    watch.canaries = {"a label that is a secret"}
    metrics.count("a label that is a secret", {})
    with pytest.raises(AssertionError, match="the metrics has"):
        await watch.look_around(parts)
    metrics.EVENTS.remove("a label that is a secret")


async def test_a_secret_in_redis_is_noticed(watch: Watch, parts: Components, clock: MovableClock) -> None:
    """In a key of ours, where there is a Redis."""
    watch.canaries = {"a secret of somebody's"}
    await parts.ephemeral.claim("a secret of somebody's", ttl=timedelta(seconds=60), now=clock())
    if parts.settings.resolved_redis_url is None:
        await watch.look_around(parts)
        return
    with pytest.raises(AssertionError, match="Redis has"):
        await watch.look_around(parts)


async def test_every_table_is_looked_through(parts: Components) -> None:
    """A new one must be added to the list."""
    sql = (
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        if parts.settings.database_url is None
        else "SELECT CAST(table_name AS TEXT) AS name FROM information_schema.tables WHERE table_schema = 'public'"
    )
    there = {row["name"] for row in await parts.database.fetch_all(sql)}
    assert set(TABLES) == there - {"alembic_version"}
