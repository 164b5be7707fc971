"""What `GET /metrics` tells an operator: the figures of the domain, the same whichever worker is asked."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from httpx2 import AsyncClient, Response
from prometheus_client.parser import text_string_to_metric_families

from service import VERSION
from tests.conftest import SECRET, Opener
from tests.people import COSTLY_HASH, MovableClock, Person, sign_up
from tests.servers import RedisServer, keyturn, wait_until

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(answer: Response) -> Figures:
    """Every sample by its name and its labels."""
    assert 200 == answer.status_code
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def figure(answer: Response, name: str, **labels: str) -> float:
    return read(answer).get((name, frozenset(labels.items())), 0)


class Gained:
    """What the figures gained since it was made: they are of the whole process, and so of all tests."""

    def __init__(self, client: AsyncClient, before: Response) -> None:
        self._client = client
        self._before = before

    async def __call__(self, name: str, **labels: str) -> float:
        now = await self._client.get("/metrics")
        return figure(now, name, **labels) - figure(self._before, name, **labels)


@pytest.fixture
async def gained(client: AsyncClient, alice: Person) -> Gained:
    return Gained(client, await client.get("/metrics"))


async def test_both_turns_of_the_key_are_counted(alice: Person, gained: Gained) -> None:
    """A wrong code, a right one of a clock that is fast, that one again, and the one that was shown before it."""
    await alice.log_in(alice.wrong_code())
    assert 200 == (await alice.log_in(alice.code(1))).status_code
    assert 401 == (await alice.log_in(alice.code(1))).status_code
    assert 401 == (await alice.log_in(alice.code())).status_code
    assert 4 == await gained("keyturn_logins_total", outcome="second_factor_required")
    assert 1 == await gained("keyturn_codes_total", outcome="accepted", offset="1")
    assert 1 == await gained("keyturn_codes_total", outcome="claimed", offset="")
    assert 1 == await gained("keyturn_codes_total", outcome="no_match", offset="")
    assert 1 == await gained("keyturn_codes_total", outcome="consumed", offset="")
    assert 1 == await gained("keyturn_events_total", event="login.admitted")


async def test_codes_are_counted_with_their_step_offset(alice: Person, gained: Gained, clock: MovableClock) -> None:
    """An authenticator that is one step slow, and one whose clock is far off: both are seen as what they are."""
    clock.next_step()
    assert 200 == (await alice.log_in(alice.code(-1))).status_code
    assert "code_out_of_step" == (await alice.log_in(alice.code(6))).json()["code"]
    assert 1 == await gained("keyturn_codes_total", outcome="accepted", offset="-1")
    assert 1 == await gained("keyturn_codes_total", outcome="out_of_step", offset="6")


async def test_refused_passwords_and_waits_are_counted(alice: Person, gained: Gained) -> None:
    """Five wrong passwords, and the sixth, which was not looked at; which limit refused it is said."""
    for _ in range(6):
        await alice.give_password("not the password")
    assert 5 == await gained("keyturn_logins_total", outcome="invalid_credentials")
    assert 1 == await gained("keyturn_logins_total", outcome="waiting")
    assert 1 == await gained("keyturn_limits_hit_total", limit="password")
    assert 5 == await gained("keyturn_hash_seconds_count")
    assert 5 == await gained("keyturn_hash_wait_seconds_count")


async def test_a_factor_that_waits_is_counted(alice: Person, gained: Gained) -> None:
    """Five wrong codes, then a wait: the next one is not looked at."""
    for _ in range(6):
        await alice.log_in(alice.wrong_code())
    assert 5 == await gained("keyturn_codes_total", outcome="no_match", offset="")
    assert 1 == await gained("keyturn_codes_total", outcome="waiting", offset="")


async def test_refreshes_are_counted_by_outcome(
    client: AsyncClient, alice: Person, gained: Gained, clock: MovableClock
) -> None:
    """Rotated, repeated within the grace, copied (which ended the session), and no refresh token at all."""
    first = (await alice.log_in()).json()["refresh_token"]

    async def refresh(token: str) -> Response:
        return await client.post("/token", data={"grant_type": "refresh_token", "refresh_token": token})

    assert 200 == (await refresh(first)).status_code
    second = (await refresh(first)).json()["refresh_token"]
    assert 200 == (await refresh(second)).status_code
    clock.advance(seconds=11)
    assert 400 == (await refresh(first)).status_code
    assert 400 == (await refresh("ktr_nothing")).status_code
    assert 400 == (await refresh(second)).status_code
    assert 2 == await gained("keyturn_refreshes_total", outcome="rotated")
    assert 1 == await gained("keyturn_refreshes_total", outcome="repeated")
    assert 1 == await gained("keyturn_refreshes_total", outcome="reused")
    assert 2 == await gained("keyturn_refreshes_total", outcome="refused")


async def test_recovery_codes_are_counted(client: AsyncClient, clock: MovableClock) -> None:
    """One that was used and one that does not exist."""
    bob = await sign_up(client, clock, "bob")
    codes = (await bob.confirm()).json()["recovery_codes"]
    gained = Gained(client, await client.get("/metrics"))
    for code in (codes[0], codes[0]):
        await client.post("/login-2fa", json={"mfa_token": await bob.pending(), "recovery_code": code})
    assert 1 == await gained("keyturn_recovery_codes_total", outcome="accepted")
    assert 1 == await gained("keyturn_recovery_codes_total", outcome="refused")


async def test_a_full_hashing_queue_is_counted(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """What the queue has no room for is refused and seen; afterwards nobody waits."""
    async with open_client({**world, "hash_concurrency": 1, "hash_queue": 0}) as client:
        await sign_up(client, clock, mfa=False)
        gained = Gained(client, await client.get("/metrics"))
        body = {"username": "alice", "password": "not the password"}
        passwords = client.app.state.parts.passwords  # type: ignore[attr-defined]
        hashing = asyncio.create_task(passwords.verify("somebody's", COSTLY_HASH))
        await asyncio.sleep(0)
        answers = await asyncio.gather(*(client.post("/login", json=body) for _ in range(8)))
        assert not hashing.done()
        await hashing
        shed = sum(answer.status_code == 503 for answer in answers)
        assert 8 == shed
        assert shed == await gained("keyturn_hash_refused_total")
        assert shed == await gained("keyturn_logins_total", outcome="busy")
        assert 0 == figure(await client.get("/metrics"), "keyturn_hash_queue")


async def test_answers_are_counted_by_declared_route(client: AsyncClient, alice: Person, gained: Gained) -> None:
    """A path with a name in it counts as the route; what nobody declared counts as none, whatever it was."""
    await client.get("/qrcode/alice")
    await client.get("/qrcode/bob")
    await client.get("/no/such/place")
    await client.get("/verify")
    await client.request("BREW", "/me")
    assert 2 == await gained("keyturn_requests_total", route="/qrcode/{username}", method="GET", status="401")
    assert 1 == await gained("keyturn_requests_total", route="none", method="GET", status="404")
    assert 1 == await gained("keyturn_requests_total", route="/verify", method="GET", status="401")
    assert 1 == await gained("keyturn_request_seconds_count", route="/verify")
    figures = await client.get("/metrics")
    assert 1 == figure(figures, "keyturn_build_info", version=VERSION)
    values = {value for _, labels in read(figures) for _, value in labels}
    assert not {"alice", "bob", "/no/such/place", "BREW"} & values


async def test_a_redis_that_is_away_is_seen(
    production: dict[str, Any], open_client: Opener, clock: MovableClock, tmp_path: Path
) -> None:
    """The breaker opens, which is one error and one worker; when Redis is back it closes."""
    server = RedisServer(tmp_path)
    server.start()
    try:
        async with open_client({**production, "redis_url": server.url}) as client:
            await sign_up(client, clock, mfa=False)
            gained = Gained(client, await client.get("/metrics"))
            server.kill()
            body = {"username": "alice", "password": "not the password"}
            assert 401 == (await client.post("/login", json=body)).status_code
            assert await gained("keyturn_store_errors_total", store="redis") >= 1
            assert 1 == figure(await client.get("/metrics"), "keyturn_redis_breaker_open")
            server.start()
            async with asyncio.timeout(10):
                while figure(await client.get("/metrics"), "keyturn_redis_breaker_open"):
                    await client.post("/login", json=body)
            assert 0 == figure(await client.get("/metrics"), "keyturn_redis_breaker_open")
    finally:
        server.kill()


@pytest.fixture
def served(production: dict[str, Any]) -> Iterator[str]:
    environment = {
        "KEYTURN_DATABASE_URL": production["database_url"],
        "KEYTURN_REDIS_URL": production["redis_url"],
        "KEYTURN_MASTER_SECRETS": SECRET,
    }
    with keyturn(environment, "--workers", "2") as running:
        yield running.url


def test_several_workers_tell_one_sum(served: str) -> None:
    """Whichever worker is asked, every answer of all of them is in it; and a worker that dies takes nothing along."""

    def ask(path: str) -> Response:
        return httpx2.get(f"{served}{path}", timeout=5)  # a connection of its own: any worker's

    def answered() -> float:
        return figure(ask("/metrics"), "keyturn_requests_total", route="/me", method="GET", status="401")

    for _ in range(40):
        assert 401 == ask("/me").status_code
    assert {40.0} == {answered() for _ in range(20)}
    workers = {int(file.name.split("_")[-1][:-3]) for file in metrics_folder(served).glob("counter_*.db")}
    assert 2 == len(workers)
    os.kill(workers.pop(), signal.SIGKILL)
    wait_until(lambda: ask("/livez").raise_for_status())
    assert 40 == answered()


def metrics_folder(url: str) -> Path:
    """Where the workers of the service that listens there keep their figures."""
    port = url.rpartition(":")[2]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes().split(b"\0")
            children = (process / "task" / process.name / "children").read_text().split()
        except OSError:
            continue
        if port.encode() in arguments and len(children) > 1:
            for child in children:
                environment = (Path("/proc") / child / "environ").read_bytes().split(b"\0")
                for line in environment:
                    if line.startswith(b"PROMETHEUS_MULTIPROC_DIR="):
                        return Path(line.partition(b"=")[2].decode())
    raise AssertionError("no worker shares its figures")
