"""The metrics of `GET /metrics`: domain figures that are the same whichever worker answers."""

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
from tests.harness.clients import SECRET, Opener
from tests.harness.people import COSTLY_HASH, MovableClock, Person, sign_up
from tests.harness.servers import RedisServer, keyturn, wait_until

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(answer: Response) -> Figures:
    """Return every sample by its name and labels."""
    assert 200 == answer.status_code
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def figure(answer: Response, name: str, **labels: str) -> float:
    return read(answer).get((name, frozenset(labels.items())), 0)


class Increase:
    """The increase of figures since its creation: the figures belong to the process, which runs all tests."""

    def __init__(self, client: AsyncClient, before: Response) -> None:
        self._client = client
        self._before = before

    async def __call__(self, name: str, **labels: str) -> float:
        now = await self._client.get("/metrics")
        return figure(now, name, **labels) - figure(self._before, name, **labels)


@pytest.fixture
async def gained(client: AsyncClient, alice: Person) -> Increase:
    return Increase(client, await client.get("/metrics"))


async def test_passwords_and_codes_are_counted(alice: Person, gained: Increase) -> None:
    """The logins use a wrong code, a correct one of a fast clock, that code again, and the code before it."""
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


async def test_codes_are_counted_with_their_step_offset(alice: Person, gained: Increase, clock: MovableClock) -> None:
    """A code of an authenticator one step behind, and a code of a clock that is far off, are counted as such."""
    clock.next_step()
    assert 200 == (await alice.log_in(alice.code(-1))).status_code
    assert "code_out_of_step" == (await alice.log_in(alice.code(6))).json()["code"]
    assert 1 == await gained("keyturn_codes_total", outcome="accepted", offset="-1")
    assert 1 == await gained("keyturn_codes_total", outcome="out_of_step", offset="6")


async def test_refused_passwords_and_waits_are_counted(alice: Person, gained: Increase) -> None:
    """Five wrong passwords are counted, and the sixth as unchecked, with the limit that refused it."""
    for _ in range(6):
        await alice.give_password("not the password")
    assert 5 == await gained("keyturn_logins_total", outcome="invalid_credentials")
    assert 1 == await gained("keyturn_logins_total", outcome="waiting")
    assert 1 == await gained("keyturn_limits_hit_total", limit="password")
    assert 5 == await gained("keyturn_hash_seconds_count")
    assert 5 == await gained("keyturn_hash_wait_seconds_count")


async def test_a_throttled_authenticator_is_counted(alice: Person, gained: Increase) -> None:
    """After five wrong codes the next one is not checked, and counts as waiting."""
    for _ in range(6):
        await alice.log_in(alice.wrong_code())
    assert 5 == await gained("keyturn_codes_total", outcome="no_match", offset="")
    assert 1 == await gained("keyturn_codes_total", outcome="waiting", offset="")


async def test_refreshes_are_counted_by_outcome(
    client: AsyncClient, alice: Person, gained: Increase, clock: MovableClock
) -> None:
    """The outcomes are rotated, repeated within the grace period, reused (which ends the session), and refused."""
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
    """One use succeeds, and its repetition is refused."""
    bob = await sign_up(client, clock, "bob")
    codes = (await bob.confirm()).json()["recovery_codes"]
    gained = Increase(client, await client.get("/metrics"))
    for code in (codes[0], codes[0]):
        await client.post("/login-2fa", json={"mfa_token": await bob.pending(), "recovery_code": code})
    assert 1 == await gained("keyturn_recovery_codes_total", outcome="accepted")
    assert 1 == await gained("keyturn_recovery_codes_total", outcome="refused")


async def test_a_full_hashing_queue_is_counted(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """Requests beyond the queue's capacity are refused and counted; afterwards the queue is empty."""
    async with open_client({**world, "hash_concurrency": 1, "hash_queue": 0}) as client:
        await sign_up(client, clock, mfa=False)
        gained = Increase(client, await client.get("/metrics"))
        body = {"username": "alice", "password": "not the password"}
        passwords = client.parts.passwords
        hashing = asyncio.create_task(passwords.verify("somebody's", COSTLY_HASH))
        await asyncio.sleep(0)
        answers = await asyncio.gather(*(client.post("/login", json=body) for _ in range(8)))
        assert not hashing.done()
        await hashing
        rejected = sum(answer.status_code == 503 for answer in answers)
        assert 8 == rejected
        assert rejected == await gained("keyturn_hash_refused_total")
        assert rejected == await gained("keyturn_logins_total", outcome="busy")
        assert 0 == figure(await client.get("/metrics"), "keyturn_hash_queue")


async def test_answers_are_counted_by_declared_route(client: AsyncClient, alice: Person, gained: Increase) -> None:
    """A path with a parameter counts as its route; a path or method outside the document counts as `none`."""
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


async def test_an_unreachable_redis_is_counted(
    production: dict[str, Any], open_client: Opener, clock: MovableClock, tmp_path: Path
) -> None:
    """The breaker opens, which counts one error and one worker; when Redis is back, it closes."""
    server = RedisServer(tmp_path)
    server.start()
    try:
        async with open_client({**production, "redis_url": server.url}) as client:
            await sign_up(client, clock, mfa=False)
            gained = Increase(client, await client.get("/metrics"))
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
def served(production: dict[str, Any], tmp_path: Path) -> Iterator[str]:
    """The URL of a service whose two workers are ready: the service ends if one dies before."""
    log = tmp_path / "log"

    def both_are_ready() -> None:
        assert 2 == log.read_text().count(" is ready.")

    environment = {
        "KEYTURN_DATABASE_URL": production["database_url"],
        "KEYTURN_REDIS_URL": production["redis_url"],
        "KEYTURN_MASTER_SECRETS": SECRET,
    }
    with keyturn(environment, "--workers", "2", log=log) as running:
        wait_until(both_are_ready)
        yield running.url


def test_several_workers_report_one_sum(served: str) -> None:
    """Any worker answers with the figures of all, and those of a worker that dies are kept."""

    def fetch(path: str) -> Response:
        return httpx2.get(f"{served}{path}", timeout=5)  # on a new connection, which any worker may accept

    def count_answers() -> float:
        return figure(fetch("/metrics"), "keyturn_requests_total", route="/me", method="GET", status="401")

    for _ in range(40):
        assert 401 == fetch("/me").status_code
    assert {40.0} == {count_answers() for _ in range(20)}
    workers = {int(file.name.split("_")[-1][:-3]) for file in metrics_folder(served).glob("counter_*.db")}
    assert 2 == len(workers)
    os.kill(workers.pop(), signal.SIGKILL)
    wait_until(lambda: fetch("/livez").raise_for_status())
    assert 40 == count_answers()


def metrics_folder(url: str) -> Path:
    """Return the folder in which the workers of the service at that port keep their figures."""
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
    raise AssertionError("no worker has a metrics folder")
