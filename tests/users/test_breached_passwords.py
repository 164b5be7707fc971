"""A new password is compared with a list of leaked passwords, in a file or by a service that answers ranges."""

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.errors import BreachedPassword, UsernameTaken
from service.origin import OPERATOR
from service.settings import Settings
from service.telemetry import metrics
from service.users.breached.check import DEADLINE_SECONDS, BreachedPasswords, open_breached_passwords
from service.users.breached.list_building import build_list
from service.users.breached.list_file import ListFile
from service.users.breached.range_service import MAX_ANSWER_BYTES, RangeService
from service.users.breached.source import Unanswered
from service.users.normalisation import normalise
from tests.harness.clients import Client, Opener
from tests.harness.commands import Here, Invocation
from tests.harness.databases import PATIENT_SECONDS
from tests.harness.examinations import examine, findings_with
from tests.harness.people import PASSWORD, MovableClock, sign_up
from tests.harness.ports import free_port
from tests.harness.ranges import Ranges, answering, sha1
from tests.harness.servers import keyturn, make_schema
from tests.harness.sessions import bearer, change_password

LEAKED = "leaked horse battery staple"
OTHER = "an entirely new passphrase"
SENTENCE = "This password is in a list of leaked passwords. Choose another one."


@pytest.fixture
def ranges() -> Iterator[Ranges]:
    with answering([LEAKED]) as running:
        yield running


@pytest.fixture
def list_file(tmp_path: Path) -> Path:
    plain, output = tmp_path / "leaked.txt", tmp_path / "leaked.list"
    plain.write_text(f"{LEAKED}\nanother one\n")
    build_list([plain], output, is_plain=True, min_count=1, made_at=0)
    return output


@pytest.fixture(params=["service", "file"])
def leaky(request: pytest.FixtureRequest, world: dict[str, Any]) -> dict[str, Any]:
    """Settings with a list that has one password: a service, then a file."""
    source = request.getfixturevalue("ranges").url if request.param == "service" else None
    return {**world, "breached_passwords": source or request.getfixturevalue("list_file")}


def failures() -> float:
    return checks("failed")


def checks(outcome: str) -> float:
    for line in metrics.render().decode().splitlines():
        if line.startswith(f'keyturn_breached_checks_total{{outcome="{outcome}"}}'):
            return float(line.rpartition(" ")[2])
    raise AssertionError


async def test_a_leaked_password_is_refused_wherever_one_is_set(
    leaky: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """Sign-up, the change of a password and the operator's command refuse it; another one is accepted."""
    async with open_client(leaky) as client:
        for mfa in (False, True):
            body = {"username": "bob", "password": LEAKED, "enable_mfa": mfa}
            refused = await client.post("/signup", json=body)
            assert (422, "breached_password", SENTENCE) == (
                refused.status_code,
                refused.json()["code"],
                refused.json()["title"],
            )
            assert LEAKED not in refused.text
        bob = await sign_up(client, clock, "bob", mfa=False)
        access = (await bob.give_password()).json()["access_token"]
        refused = await change_password(client, access, PASSWORD, LEAKED)
        assert (422, "breached_password") == (refused.status_code, refused.json()["code"])
        with pytest.raises(BreachedPassword):
            await client.parts.administration.set_password("bob", LEAKED, by=OPERATOR)
        with pytest.raises(BreachedPassword):
            await client.parts.sign_up.sign_up("carol", LEAKED, enable_mfa=False, caller=None)
        assert 200 == (await bob.give_password()).status_code
        assert 204 == (await change_password(client, access, PASSWORD, OTHER)).status_code


async def test_a_login_asks_for_no_range(
    world: dict[str, Any], open_client: Opener, clock: MovableClock, ranges: Ranges
) -> None:
    """Neither do other operations that prove a password. Users whose password leaked later can log in."""
    async with open_client(world) as client:
        alice = await sign_up(client, clock, "alice", password=LEAKED)
        bob = await sign_up(client, clock, "bob", mfa=False, password=LEAKED)
    async with open_client({**world, "breached_passwords": ranges.url, "recovery_delay": "1h"}) as client:
        alice.client = bob.client = client
        await alice.confirm()
        clock.next_step()
        assert 200 == (await alice.log_in()).status_code
        access = (await bob.give_password()).json()["access_token"]
        assert 401 == (await bob.give_password("not the password")).status_code
        assert (
            200 == (await client.post("/enable-mfa", json={"password": LEAKED}, headers=bearer(access))).status_code
        )
        assert 202 == (await client.post("/recovery", json={"username": "alice", "password": LEAKED})).status_code
        clock.next_step()
        assert 200 == (await alice.disable(password=LEAKED)).status_code
    assert [] == ranges.asked


async def test_only_five_digits_of_the_hash_leave(
    world: dict[str, Any], open_client: Opener, ranges: Ranges, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the password nor the rest of its hash is in the request, and no line of the log has the five digits."""
    caplog.set_level(logging.INFO, "keyturn")
    async with open_client({**world, "breached_passwords": ranges.url}) as client:
        assert 201 == (await client.post("/signup", json={"username": "bob", "password": OTHER})).status_code
        ranges.status = 500
        assert 201 == (await client.post("/signup", json={"username": "carol", "password": OTHER})).status_code
        shown = metrics.render(client.parts.database_metrics).decode()
    digest = sha1(OTHER)
    assert [f"/range/{digest[:5]}"] * 2 == ranges.asked
    assert {"true"} == {headers["add-padding"] for headers in ranges.seen}
    sent = json.dumps(ranges.seen).upper()
    lines = "\n".join(
        f"{record.getMessage()} {vars(record)}" for record in caplog.records if "keyturn" in record.name
    )
    for text in (sent, lines.upper(), shown.upper()):
        assert OTHER.upper() not in text
        assert digest[5:12] not in text
    assert digest[:5] not in lines.upper()
    assert digest[:5] not in shown.upper()


def test_the_log_of_a_server_has_no_digits_of_a_hash(tmp_path: Path, ranges: Ranges) -> None:
    """The lines of the HTTP client, which have the URL, are not in it."""
    environment = {"KEYTURN_DATA_DIR": str(tmp_path / "data"), "KEYTURN_BREACHED_PASSWORDS": ranges.url}
    log = tmp_path / "log"
    with keyturn(environment, log=log) as served:
        for username, password, status in (("bob", LEAKED, 422), ("carol", OTHER, 201)):
            body = {"username": username, "password": password}
            assert status == httpx2.post(f"{served.url}/signup", json=body, timeout=20).status_code
        ranges.status = 404
        answer = httpx2.post(
            f"{served.url}/signup", json={"username": "dora", "password": OTHER}, timeout=PATIENT_SECONDS
        )
        assert 201 == answer.status_code
    text = log.read_text()
    assert '"event": "password.not_checked", "request_id": ' in text
    assert '"reason": "status"' in text
    assert "/range" not in text
    for password in (LEAKED, OTHER):
        assert sha1(password)[:5] not in text.upper()


async def reason_of(ranges: Ranges, url: str = "") -> str:
    """Ask for a range as the check does, and return why there is no answer."""
    service = RangeService(url or ranges.url, timeout=DEADLINE_SECONDS)
    try:
        with pytest.raises(Unanswered) as failure:
            await service.has(bytes.fromhex(sha1(OTHER)))
    finally:
        await service.close()
    return failure.value.reason


async def test_a_hit_has_a_count_and_padding_has_none(ranges: Ranges) -> None:
    """A count of 0 is padding. The digits of an answer may be in lower case, and its lines end with CR LF or LF."""
    service = RangeService(ranges.url + "/", timeout=DEADLINE_SECONDS)
    digest = bytes.fromhex(sha1(OTHER))
    suffix = sha1(OTHER)[5:]
    for body, found in (
        (b"", False),
        (f"{suffix}:0".encode(), False),
        (f"{suffix}:1".encode(), True),
        (f"{suffix.lower()}:1\n".encode(), True),
        (f"{'0' * 35}:1\r\n{suffix}:999999999999999999\r\n\r\n".encode(), True),
        (f"\ufeff{suffix}:1".encode(), True),
        (f"{'0' * 35}:7".encode(), False),
    ):
        ranges.body = body
        assert found == await service.has(digest), body
    assert [f"/range/{sha1(OTHER)[:5]}"] * 7 == ranges.asked
    await service.close()


@pytest.mark.parametrize(
    ("reason", "answer"),
    [
        ("status", {"status": 500}),
        ("status", {"status": 404}),
        ("status", {"status": 301, "headers": {"Location": "https://example.com/"}}),
        ("too_large", {"body": f"{'0' * 35}:1\n".encode() * (MAX_ANSWER_BYTES // 38 + 2)}),
        ("malformed", {"body": b"<html>Log in to the network</html>"}),
        ("malformed", {"body": f"{'0' * 35}:1\n{'0' * 34}:1".encode()}),
        ("malformed", {"body": f"{'0' * 35}:-1".encode()}),
        ("malformed", {"body": b"\xff\xfe0\x00"}),
        ("malformed", {"headers": {"Content-Encoding": "gzip"}}),
        ("disconnected", {"body": b"0", "headers": {"Content-Length": "100"}}),
    ],
)
async def test_any_other_answer_is_no_answer(ranges: Ranges, reason: str, answer: dict[str, Any]) -> None:
    """Each has a reason, and none is taken for a miss."""
    for name, value in answer.items():
        setattr(ranges, name, value)
    assert reason == await reason_of(ranges)


async def test_a_service_that_cannot_be_reached_is_no_answer(ranges: Ranges) -> None:
    assert "refused" == await reason_of(ranges, f"http://127.0.0.1:{free_port()}/range")
    assert "unknown_host" == await reason_of(ranges, "http://ranges.invalid/range")
    assert "tls" == await reason_of(ranges, ranges.url.replace("http:", "https:"))


async def test_without_an_answer_within_a_second_the_password_is_accepted(
    world: dict[str, Any], open_client: Opener, clock: MovableClock, ranges: Ranges, caplog: pytest.LogCaptureFixture
) -> None:
    """The refusal is skipped, counted, and logged once without anything of the password."""
    caplog.set_level(logging.INFO, "keyturn")
    async with open_client({**world, "breached_passwords": ranges.url}) as client:
        before = failures()
        ranges.may_answer.clear()
        begun = time.perf_counter()
        bob = await sign_up(client, clock, "bob", mfa=False, password=LEAKED)
        assert DEADLINE_SECONDS <= time.perf_counter() - begun < DEADLINE_SECONDS + 5
        ranges.may_answer.set()
        assert 1 == failures() - before
        (line,) = [record for record in caplog.records if record.getMessage() == "password.not_checked"]
        assert ("WARNING", {"reason": "timeout"}) == (line.levelname, vars(line)["details"])
        assert 200 == (await bob.give_password(LEAKED)).status_code


async def test_a_service_that_sends_byte_by_byte_has_a_second_in_all(ranges: Ranges) -> None:
    """The deadline is that of the check, and not of each read."""

    class Trickle(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            async def bytes_one_by_one() -> Any:
                for _ in range(80):
                    yield b"0"
                    await asyncio.sleep(0.1)

            return httpx2.Response(200, content=bytes_one_by_one())

    check = BreachedPasswords(RangeService(ranges.url, timeout=DEADLINE_SECONDS, transport=Trickle()))
    before, begun = failures(), time.perf_counter()
    await check.check(LEAKED)
    assert time.perf_counter() - begun < DEADLINE_SECONDS + 5
    assert 1 == failures() - before
    await check.close()


async def test_the_outcomes_are_counted(ranges: Ranges) -> None:
    """A hit, a miss and a failure each count once."""
    check = open_breached_passwords(ranges.url)
    assert check is not None
    before = {outcome: checks(outcome) for outcome in ("found", "not_found", "failed")}
    with pytest.raises(BreachedPassword):
        await check.check(LEAKED)
    await check.check(OTHER)
    ranges.status = 503
    await check.check(LEAKED)
    assert dict.fromkeys(before, 1.0) == {name: checks(name) - count for name, count in before.items()}
    await check.close()


async def test_the_password_as_it_was_typed_counts_too(tmp_path: Path) -> None:
    """A list has passwords in the form in which they leaked, and the normal form is what the user could also type."""
    plain, output = tmp_path / "plain", tmp_path / "list"
    plain.write_text("\uff43orrect horse battery\nwrong horse battery\n", "utf-8")
    build_list([plain], output, is_plain=True, min_count=1, made_at=0)
    check = open_breached_passwords(output)
    assert check is not None
    for typed in ("\uff43orrect horse battery", "wrong horse battery", "\uff57rong horse battery"):
        with pytest.raises(BreachedPassword):
            await check.check(normalise(typed))
    await check.check(normalise("correct horse battery"))
    await check.close()


async def test_the_refusal_does_not_depend_on_the_username(
    leaky: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """A leaked password gets the same answer for a username that is taken and one that is free."""
    async with open_client(leaky) as client:
        await sign_up(client, clock, "alice", mfa=False)
        answers = [
            await client.post("/signup", json={"username": name, "password": LEAKED}) for name in ("alice", "bob")
        ]
        assert answers[0].json() == answers[1].json()
        with pytest.raises(UsernameTaken):
            await client.parts.sign_up.sign_up("alice", OTHER, enable_mfa=False, caller=None)


async def test_limits_and_the_current_password_come_before_the_check(
    world: dict[str, Any], open_client: Opener, clock: MovableClock, ranges: Ranges
) -> None:
    """A caller who has to wait, a weak password and a wrong current password cause no request."""
    async with open_client({**world, "breached_passwords": ranges.url, "limit_signup": "1/1h"}) as client:
        bob = await sign_up(client, clock, "bob", mfa=False)
        access = (await bob.give_password()).json()["access_token"]
        assert 1 == len(ranges.asked)
        assert 429 == (await client.post("/signup", json={"username": "eve", "password": OTHER})).status_code
        assert 422 == (await client.post("/signup", json={"username": "eve", "password": "short"})).status_code
        assert 422 == (await change_password(client, access, PASSWORD, "short")).status_code
        assert 401 == (await change_password(client, access, "not the password", OTHER)).status_code
        assert 1 == len(ranges.asked)


async def test_off_asks_nothing(client: Client, clock: MovableClock) -> None:
    """It is the default."""
    before = {outcome: checks(outcome) for outcome in ("found", "not_found", "failed")}
    await sign_up(client, clock, "bob", mfa=False, password=LEAKED)
    assert before == {outcome: checks(outcome) for outcome in before}
    assert open_breached_passwords(None) is None


def test_the_commands_refuse_a_leaked_password(here: Here, list_file: Path) -> None:
    """`users add` and `users set-password` end with the sentence and status 1."""
    setting = {"KEYTURN_BREACHED_PASSWORDS": str(list_file)}
    added, refused, changed = here.run_all(
        Invocation(("users", "add", "bob"), OTHER, setting),
        Invocation(("users", "add", "carol", "--mfa"), LEAKED, setting),
        Invocation(("users", "set-password", "bob"), LEAKED, setting),
    )
    assert 0 == added.status
    for output in (refused, changed):
        assert (1, "", f"keyturn: {SENTENCE}\n") == (output.status, output.out, output.err)


def test_the_commands_report_a_list_that_does_not_answer(here: Here, list_file: Path) -> None:
    """The password is accepted, as over HTTP. A line of the log has the reason, and a sentence says what it means."""
    away = {"KEYTURN_BREACHED_PASSWORDS": f"http://127.0.0.1:{free_port()}"}
    silent = {"KEYTURN_BREACHED_PASSWORDS": str(list_file)}
    added, changed, checked = here.run_all(
        Invocation(("users", "add", "bob"), OTHER, away),
        Invocation(("users", "set-password", "bob"), LEAKED, away),
        Invocation(("users", "set-password", "bob"), OTHER, silent),
    )
    sentence = (
        "keyturn: KEYTURN_BREACHED_PASSWORDS did not answer: the password was accepted without a comparison with "
        "leaked passwords."
    )
    assert (0, "bob can log in.\n") == (added.status, added.out)
    for output in (added, changed):
        line, *others = output.err.splitlines()
        assert [sentence] == others
        assert ("password.not_checked", "refused") == tuple(json.loads(line)[key] for key in ("event", "reason"))
    assert (0, "") == (checked.status, checked.err)


# --- the file while the service runs


async def test_an_open_list_stays_the_same_when_another_one_takes_its_place(tmp_path: Path, list_file: Path) -> None:
    """The new file counts from the next start."""
    check = open_breached_passwords(list_file)
    assert check is not None
    plain = tmp_path / "new.txt"
    plain.write_text(OTHER)
    build_list([plain], list_file, is_plain=True, min_count=1, made_at=0)
    with pytest.raises(BreachedPassword):
        await check.check(LEAKED)
    await check.check(OTHER)
    await check.close()
    fresh = open_breached_passwords(list_file)
    assert fresh is not None
    with pytest.raises(BreachedPassword):
        await fresh.check(OTHER)
    await fresh.close()


async def test_a_list_that_is_truncated_in_use_fails_open(list_file: Path) -> None:
    """The process lives on, and the failure is counted."""
    check = open_breached_passwords(list_file)
    assert check is not None
    with list_file.open("r+b") as file:
        file.truncate(40)
    before = failures()
    await check.check(LEAKED)
    assert 1 == failures() - before
    await check.close()


async def test_a_search_takes_less_than_a_millisecond(tmp_path: Path) -> None:
    """In a list of 300,000 passwords, on average; each doubling of the list adds one read of eight bytes."""
    digests = sorted(hashlib.sha1(str(number).encode(), usedforsecurity=False).digest() for number in range(300_000))
    lines, output = tmp_path / "lines", tmp_path / "list"
    lines.write_text("".join(f"{digest.hex()}:1\n" for digest in digests))
    assert 300_000 == build_list([lines], output, is_plain=False, min_count=1, made_at=0)
    found = ListFile.open(output)
    begun = time.process_time()
    assert all([await found.has(digest) for digest in digests[::300]])
    assert time.process_time() - begun < 1.0, "a thousand searches"
    assert not any([await found.has(bytes([*digest[:7], digest[7] ^ 1])) for digest in digests[::300]])
    assert not await found.has(b"\0" * 8)
    assert not await found.has(b"\xff" * 8)
    await found.close()


# --- keyturn doctor


async def test_the_doctor_describes_the_list(tmp_path: Path, list_file: Path, ranges: Ranges) -> None:
    """It reports that there is none, the entries and the age of a file, or whether the service answers."""
    settings = Settings(data_dir=tmp_path / "data")
    make_schema(settings)

    async def finding(source: object) -> tuple[str, str]:
        chosen = settings.model_copy(update={"breached_passwords": source})
        (found,) = findings_with(await examine(chosen, MovableClock()), "leaked")
        return found.verdict, f"{found.what} {found.advice}".strip()

    assert ("ok", "New passwords are not compared with leaked ones (KEYTURN_BREACHED_PASSWORDS is off).") == (
        await finding(None)
    )
    days = int(MovableClock()().timestamp()) // 86400
    assert ("ok", f"The list of leaked passwords has 2 entries and was made {days} days ago.") == (
        await finding(list_file)
    )
    assert ("ok", "The service of leaked passwords at 127.0.0.1 answers in time.") == await finding(ranges.url)
    assert ["/range/00000"] == ranges.asked
    ranges.status = 403
    verdict, what = await finding(ranges.url)
    assert "warning" == verdict
    assert "gives no range within 1 s (status). Is KEYTURN_BREACHED_PASSWORDS the URL" in what
    verdict, what = await finding(f"http://127.0.0.1:{free_port()}")
    assert "(refused). Nothing listens at that address and port. New passwords are accepted without" in what
    ranges.may_answer.clear()
    assert "(timeout)" in (await finding(ranges.url))[1]
    (tmp_path / "damaged").write_bytes(b"password")
    verdict, what = (await examine_wrong(settings, tmp_path / "damaged"))[0]
    assert "wrong" == verdict
    assert "KEYTURN_BREACHED_PASSWORDS" in what


async def examine_wrong(settings: Settings, source: Path) -> list[tuple[str, str]]:
    chosen = settings.model_copy(update={"breached_passwords": source})
    return [(found.verdict, found.what) for found in await examine(chosen) if str(source) in found.what]
