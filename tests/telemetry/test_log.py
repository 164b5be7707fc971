"""Events state the true reason, answers do not, and neither holds a secret.

Law 8: no answer reveals who exists. Law 15: logs, metrics, traces, errors and outbox rows hold no secret.
"""

import json
import logging
from typing import Any

import pytest
from httpx2 import AsyncClient

from service.telemetry.log import ConsoleLines, JsonLines, request_id
from tests.harness.people import PASSWORD, MovableClock, Person, sign_up


def events(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    return [
        (record.getMessage(), getattr(record, "details", {})) for record in caplog.records if record.name == "keyturn"
    ]


async def test_every_refusal_has_its_true_reason_in_the_log(
    client: AsyncClient, alice: Person, caplog: pytest.LogCaptureFixture
) -> None:
    """The log tells the operator the reason that the answers do not reveal."""
    caplog.set_level(logging.INFO, "keyturn")
    await client.post("/login", json={"username": "nobody", "password": PASSWORD})
    await alice.give_password("not the password")
    await alice.log_in(alice.wrong_code())
    await alice.log_in()
    await alice.log_in()
    reasons = [details["reason"] for _, details in events(caplog) if "reason" in details]
    assert ["unknown_user", "wrong_password", "no_match", "claimed"] == reasons


async def test_no_secret_is_ever_logged(
    client: AsyncClient, clock: MovableClock, caplog: pytest.LogCaptureFixture
) -> None:
    """No line of any logger at any level holds a password, code, seed, token or recovery code."""
    caplog.set_level(logging.DEBUG)
    alice = await sign_up(client, clock)
    confirmed = (await alice.confirm()).json()
    clock.next_step()
    pending = await alice.pending()
    code, wrong = alice.code(), alice.wrong_code()
    await alice.give_code(wrong, pending)
    admitted = (await alice.give_code(code, pending)).json()
    recovery = {"mfa_token": await alice.pending(), "recovery_code": confirmed["recovery_codes"][0]}
    await client.post("/login-2fa", json=recovery)
    await client.post("/enable-mfa", json={"password": PASSWORD}, headers={"Authorization": "Bearer " + pending})
    await alice.give_password("another password that is wrong")
    secrets = [PASSWORD, "another password that is wrong", alice.secret, alice.mfa_token, pending, code, wrong]
    secrets += [admitted["access_token"], *confirmed["recovery_codes"], recovery["mfa_token"]]
    lines = "\n".join(JsonLines().format(record) + str(record.__dict__) for record in caplog.records)
    assert "login.admitted" in lines
    for secret in secrets:
        assert secret not in lines


def test_a_line_is_json_with_the_request_id_and_no_exception_text() -> None:
    """An exception's message may quote a secret; its type and traceback are enough."""
    token = request_id.set("req-12345678")
    try:
        int("hunter2")
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
        record = logging.LogRecord("keyturn", logging.ERROR, __file__, 1, "internal_error", None, info)
    finally:
        line = json.loads(JsonLines().format(record))
        request_id.reset(token)
    assert ("internal_error", "error", "req-12345678") == (line["event"], line["level"], line["request_id"])
    assert "ERROR" == line["severity"]  # the field and the names that Google Cloud Logging parses
    assert "ValueError" in line["traceback"]
    assert "hunter2" not in json.dumps(line)


async def test_answers_carry_the_request_id(client: AsyncClient) -> None:
    """A harmless id of the caller is kept, and any other is replaced by a new one."""
    harmless = await client.get("/livez", headers={"X-Request-Id": "gateway-0123456789"})
    assert "gateway-0123456789" == harmless.headers["x-request-id"]
    odd = await client.get("/livez", headers={"X-Request-Id": "a b\tc"})
    assert 16 == len(odd.headers["x-request-id"])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("alice", "alice"),
        (7, "7"),
        ("x sub=admin", '"x sub=admin"'),
        ('a"b', '"a\\"b"'),
        ("one\u2028two", '"one\\u2028two"'),
        ("\u202egnp", '"\\u202egnp"'),
        ("é", "é"),
        ("é è", '"é è"'),
    ],
)
def test_a_value_on_the_console_cannot_imitate_other_details(value: object, shown: str) -> None:
    """What a user has chosen is quoted if it has white space, `=` or anything invisible."""
    record = logging.makeLogRecord({"msg": "factor.added", "details": {"name": value}})
    assert ConsoleLines().format(record).endswith(f"factor.added name={shown}")
