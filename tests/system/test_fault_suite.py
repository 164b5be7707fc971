"""The fault suite: its checker finds every planted violation, and its quick part finds none.

`make faults` runs all of it, for longer, and also checks times, which no test does.
"""

import asyncio
import json
from typing import Any

import pytest

from tests.faults import checker
from tests.faults.faults import FAULTS, QUICK
from tests.faults.guesses import most_codes, most_passwords
from tests.faults.history import Exchange
from tests.faults.run import run
from tests.faults.table import write
from tests.faults.world import opened_world
from tests.harness.people import PASSWORD
from tests.harness.servers import REPOSITORY

pytestmark = pytest.mark.heavy

SENT = (
    "secret", "step", "sid", "sids", "refresh_token", "enable_mfa", "password", "new_password", "link", "disables",
    "restores", "to", "message",
)  # fmt: skip


class Record:
    """A hand-written history: each exchange follows the one before it."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self._moment = 0.0

    def add(self, act: str, status: int | None = 200, /, *, person: str = "alice", **facts: Any) -> "Record":
        self._moment += 1
        sent = {name: facts.pop(name) for name in SENT if name in facts}
        rest = {"phase": "fault", "request_id": "one", "echoed_id": "one", **facts}
        self.exchanges.append(
            Exchange(person, act, sent, sent_at=self._moment, answered_at=self._moment + 0.5, status=status, **rest)
        )
        return self


def login(*, is_required: bool, is_confirmed: bool = True) -> dict[str, Any]:
    return {"mfa_required": is_required, "mfa_confirmed": is_confirmed}


def test_a_code_accepted_twice_is_found() -> None:
    """It is found whatever the endpoints are; the same step of two users is no violation."""
    record = Record().add("/login-2fa", secret="s", step=7).add("/login-2fa", secret="other", step=7)
    assert [] == checker.no_code_is_accepted_twice(record.exchanges)
    record.add("/disable-mfa", secret="s", step=7, sids=())
    assert ["alice: step 7 was accepted 2 times"] == checker.no_code_is_accepted_twice(record.exchanges)


def test_an_older_code_accepted_later_is_found() -> None:
    """Steps increase; refused codes do not count."""
    record = Record().add("/login-2fa", secret="s", step=7).add("/login-2fa", 401, secret="s", step=6)
    assert [] == checker.accepted_steps_increase(record.exchanges)
    record.add("/login-2fa", secret="s", step=6)
    assert 1 == len(checker.accepted_steps_increase(record.exchanges))


def test_two_successors_of_one_refresh_token_are_found() -> None:
    """The same successor again is allowed: it is the repetition of a lost answer."""
    record = Record()
    record.add("/token", refresh_token="r1", body={"refresh_token": "r2"})
    record.add("/token", refresh_token="r1", body={"refresh_token": "r2"})
    assert [] == checker.a_refresh_token_has_one_successor(record.exchanges)
    record.add("/token", refresh_token="r1", body={"refresh_token": "another"})
    assert 1 == len(checker.a_refresh_token_has_one_successor(record.exchanges))


def test_an_answer_to_somebody_else_is_found() -> None:
    """It is found by the id of the request, and by the username in the answer."""
    assert [] == checker.every_answer_is_to_its_own_request(Record().add("/me", body={"username": "alice"}).exchanges)
    crossed = Record().add("/me", echoed_id="two").add("/me", body={"username": "bob"})
    assert 2 == len(checker.every_answer_is_to_its_own_request(crossed.exchanges))


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (Record().add("/signup", 201).add("/login", 401), ["alice: the account is lost"]),
        (Record().add("/signup", 503).add("/login", 401), []),
        (Record().add("/signup", None).add("/login", body=login(is_required=False)).add("/login", 401),
         ["alice: the account is lost"]),
        (Record().add("/signup", 201, enable_mfa=True).add("/login-2fa").add("/login", body=login(is_required=False)),
         ["alice: the enrolment is lost: the password alone gave tokens"]),
        (Record().add("/signup", 201, enable_mfa=True).add("/login-2fa")
         .add("/login", body=login(is_required=True, is_confirmed=False)),
         ["alice: its second factor is unconfirmed, and must be confirmed"]),
        (Record().add("/signup", 201, enable_mfa=True).add("/login-2fa", None)
         .add("/login", body=login(is_required=True, is_confirmed=False))
         .add("/login", body=login(is_required=True)), []),
        (Record().add("/signup", 201, enable_mfa=True).add("/login-2fa").add("/disable-mfa", sids=())
         .add("/login", body=login(is_required=True)), ["alice: its second factor is confirmed, and must be off"]),
        (Record().add("/signup", 201, enable_mfa=True).add("/login-2fa").add("/disable-mfa", 503, sids=())
         .add("/login", body=login(is_required=True)).add("/login", body=login(is_required=False)), []),
        (Record().add("/revoke", sid="1").add("/token", 400, sid="1"), []),
        (Record().add("/revoke", sid="1").add("/token", sid="1"),
         ["alice: /token: a session that has ended is still accepted"]),
        (Record().add("/revoke", 503, sid="1").add("/token", sid="1"), []),
        (Record().add("/logout", 204, sid="1").add("/introspect", sid="1", body={"active": True}),
         ["alice: /introspect: a session that has ended is still accepted"]),
        (Record().add("/disable-mfa", sids=("1",)).add("/me", sid="1"),
         ["alice: /me: a session that has ended is still accepted"]),
    ],
)  # fmt: skip
def test_lost_acknowledged_changes_are_found(record: Record, found: list[str]) -> None:
    """After a cut or a 503 a change may or may not have taken effect, and either may be visible later."""
    assert found == checker.nothing_acknowledged_is_lost(record.exchanges)


NEW = "a new password"


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (Record().add("/signup", 201).add("/password-reset/confirm", 204, new_password=NEW, sids=("1",))
         .add("/login", password=NEW, body=login(is_required=False)).add("/login", 401, password=PASSWORD), []),
        (Record().add("/signup", 201).add("/password-reset/confirm", 204, new_password=NEW, sids=())
         .add("/login", password=PASSWORD, body=login(is_required=False)),
         ["alice: a password from before an acknowledged reset is accepted"]),
        (Record().add("/signup", 201).add("/password-reset/confirm", 204, new_password=NEW, sids=())
         .add("/login", 401, password=NEW), ["alice: the account is lost"]),
        (Record().add("/signup", 201).add("/password-reset/confirm", None, new_password=NEW, sids=())
         .add("/login", 401, password=PASSWORD).add("/login", password=NEW, body=login(is_required=False)), []),
        (Record().add("/signup", 201).add("/password-reset/confirm", 204, new_password=NEW, sids=("1",))
         .add("/token", sid="1", refresh_token="r", body={"refresh_token": "s"}),
         ["alice: /token: a session that has ended is still accepted"]),
        (Record().add("/signup", 201, enable_mfa=True).add("/login-2fa")
         .add("/password-reset/confirm", 204, new_password=NEW, sids=())
         .add("/login", password=NEW, body=login(is_required=False)),
         ["alice: the enrolment is lost: the password alone gave tokens"]),
        (Record().add("/signup", 201).add("DELETE /me", 202, sids=()).add("/login", 401)
         .add("/me/restore", restores=True).add("/login-2fa", restores=True)
         .add("/login", body=login(is_required=True)), []),
        (Record().add("/signup", 201).add("DELETE /me", 202, sids=()).add("/login", body=login(is_required=False)),
         ["alice: /login: a user who is disabled or being deleted has access"]),
        (Record().add("/signup", 201).add("DELETE /me", None, sids=()).add("/login", 401), []),
        (Record().add("/signup", 201).add("/admin/users/{sub}", disables=True, sids=()).add("/me"),
         ["alice: /me: a user who is disabled or being deleted has access"]),
        (Record().add("/signup", 201).add("/admin/users/{sub}", disables=True, sids=())
         .add("/admin/users/{sub}", disables=False, sids=()).add("/login", 401), ["alice: the account is lost"]),
    ],
)  # fmt: skip
def test_lost_resets_and_deletions_are_found(record: Record, found: list[str]) -> None:
    """An acknowledged reset replaces the password, and nobody has access to an account that is disabled."""
    assert found == checker.nothing_acknowledged_is_lost(record.exchanges)


def test_a_link_used_twice_is_found() -> None:
    """A second use that is refused is none."""
    record = Record().add("/email/confirm", 204, link="l").add("/email/confirm", 401, link="l")
    assert [] == checker.a_link_is_used_once(record.exchanges)
    record.add("/email/confirm", 204, link="l")
    assert ["alice: a link was used 2 times at /email/confirm"] == checker.a_link_is_used_once(record.exchanges)


def test_a_lost_message_is_found() -> None:
    """A request that was refused, or not answered, may cause one or none."""
    record = Record().add("/password-reset", 202, to="a@b", message="reset").add("/password-reset", 503, to="a@b",
                                                                                message="reset")  # fmt: skip
    assert [] == checker.no_message_is_lost(record.exchanges, lambda _to, _kind: ["token"])
    lost = ["1 of 1 messages reset to a@b are lost"]
    assert lost == checker.no_message_is_lost(record.exchanges, lambda _to, _kind: [])


def test_undocumented_late_and_missing_answers_are_found() -> None:
    """The OpenAPI document, the law's seconds plus the allowance, and a missing status decide."""
    document = json.loads((REPOSITORY / "openapi.json").read_text("utf-8"))
    fine = Record().add("/login", 401, code="invalid_credentials").add("/token", 503, code="temporarily_unavailable")
    assert [] == checker.every_answer_is_documented(fine.exchanges, document)
    odd = Record().add("/login", 500, code="internal_error").add("/login", 401, code="oops")
    assert ["/login: 500 is not documented", "/login: the code oops is not documented"] == (
        checker.every_answer_is_documented(odd.exchanges, document)
    )
    assert [] == checker.every_answer_is_in_time(fine.exchanges, within=0.4, allowance=0.2)
    assert 2 == len(checker.every_answer_is_in_time(fine.exchanges, within=0.4, allowance=0.05))
    cut = Record().add("/me", None).add("/me", None, is_refused=True)
    assert ["/me: no answer"] == checker.no_request_is_cut(cut.exchanges)


def test_a_load_without_successes_is_a_violation() -> None:
    """Each act must have succeeded before and after the fault."""
    record = Record()
    for phase in ("calm", "after"):
        for act in checker.ACTS:
            record.add(act, phase=phase)
    assert [] == checker.everything_was_tried(record.exchanges)
    assert 1 == len(checker.everything_was_tried(record.exchanges[1:]))


def test_the_bounds_of_guesses_while_each_replica_counts_alone() -> None:
    """One guess is free; the next ones are admitted after 1, 2, 4, 8 seconds."""
    assert [2, 4, 6, 10] == [most_passwords(seconds, replicas=2) for seconds in (0.5, 1.5, 5, 30)]
    assert [5, 5, 6, 7] == [most_codes(seconds) for seconds in (5, 28, 30, 90)]


async def test_the_quick_faults_violate_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Redis, PostgreSQL and the service killed, a rolling restart: nothing lost, crossed or accepted twice."""
    outcomes = []
    async with opened_world(tmp_path_factory.mktemp("faults")) as world:
        for fault in FAULTS:
            if fault.name in QUICK:
                outcome = await run(world, fault, seconds=2, calm=1)
                assert [] == outcome.violations, f"{fault.name}: {outcome.violations[:5]}"
                outcomes.append(outcome)
        log = world.read_log()
    assert len(QUICK) == len(outcomes)
    assert "Traceback" not in log
    assert '"level": "error"' not in log
    file = tmp_path_factory.mktemp("docs") / "faults.md"
    await asyncio.to_thread(write, outcomes, file, people=8)
    written = await asyncio.to_thread(file.read_text)
    assert all(fault in written for fault in QUICK)
    assert "503 store_unavailable" in written
