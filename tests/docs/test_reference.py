"""`docs/reference/` is generated from the code, and its tables name exactly what exists."""

import ast
from typing import Any

import pytest
from httpx2 import AsyncClient

from service.settings import PREFIX, Settings
from service.web.problems import STATUS, WIRE
from tests.harness.deletions import request_deletion, restore
from tests.harness.devices import log_in, remember
from tests.harness.people import MovableClock, Person
from tests.reference import cli, errors, events, log, metrics, settings, tokens
from tests.reference.calls import SERVICE, defects, modules, reports
from tests.reference.pages import FOLDER, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_current(name: str) -> None:
    """A change of the code changes its page: `make reference` writes it."""
    assert PAGES[name]() == (FOLDER / name).read_text("utf-8"), f"docs/reference/{name} is old: run `make reference`"


def test_every_setting_has_a_row() -> None:
    """The row has a default, the allowed values and a description."""
    rows = settings.rows()
    assert [f"`{PREFIX}{name.upper()}`" for name in Settings.model_fields] == [row[0] for row in rows]
    assert [] == [row for row in rows if not all(row)]


def test_every_code_has_a_row_and_advice() -> None:
    """No other code has one."""
    codes = {(status, error.code) for error, status in STATUS.items()}
    codes |= {(status, code) for status, (code, _) in WIRE.items()}
    listed = [(status, code) for status, code, _ in errors.codes() + errors.oauth_codes()]
    assert codes == set(listed)
    assert len(listed) == len(set(listed)), "each code has one sentence"
    assert set(errors.ADVICE) == {code for _, code, _ in errors.codes()}
    assert set(errors.OAUTH_ADVICE) == {code for _, code, _ in errors.oauth_codes()}


def test_every_recorded_event_is_explained() -> None:
    """The tables explain when it is recorded and what its details mean, for the calls in the code and no others."""
    assert set(events.WHEN) - events.NOT_RECORDED_YET == {report.name for report in events.recorded()}
    assert set(events.DETAILS) == {name for report in events.recorded() for name in report.details} - {"sub"}


def test_every_line_of_the_log_is_explained() -> None:
    """The tables have the events that are not recorded, the defects, and the fields of every line."""
    assert set(log.WHEN) == {report.name for report in reports().values() if report.is_logged} - set(events.WHEN)
    assert set(log.DEFECTS) == set(defects())
    assert set(log.FIELDS) == log.fields()


def test_every_report_is_in_the_tables() -> None:
    """`emit` and `warn` are called by name, or passed to `partial`; only `record` chooses between the two."""
    for module in modules():
        called = [call.func for call in ast.walk(module.tree) if isinstance(call, ast.Call)]
        handed = [
            call.args[0]
            for call in ast.walk(module.tree)
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "partial"
        ]
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Name) and node.id in {"emit", "warn"} and node not in [*called, *handed]:
                assert "messages/events" == module.name, f"{SERVICE / module.name}.py:{node.lineno}"


def test_every_metric_is_explained() -> None:
    """It has a sentence, and each of its labels has its values."""
    found = metrics.described()
    assert [] == [metric.name for metric in found if not metric.text.endswith(".")]
    assert set(metrics.LABELS) == {(metric.name, label) for metric in found for label in metric.labels}


def test_every_command_and_argument_is_explained() -> None:
    """Its help explains it."""
    commands = list(cli.commands())
    assert {"keyturn serve", "keyturn users role add", "keyturn attack"} <= {command.prog for command in commands}
    for command in commands:
        assert (command.description or "").endswith("."), command.prog
        assert all(cli.meaning(action) for action in command._actions), command.prog


async def test_real_tokens_have_the_claims_of_the_page(
    client: AsyncClient, alice: Person, clock: MovableClock
) -> None:
    """The tokens are those that a login on a known device, a step-up and an enrolment issue."""
    expected = {kind.name: (kind.type, set(kind.claims)) for kind in tokens.kinds()}
    known = await remember(alice)
    clock.next_step()
    login = (await log_in(alice, device_token=known)).json()
    found: dict[str, Any] = {"pending token of a login": login["mfa_token"]}
    admitted = (await alice.log_in()).json()
    found["access token"] = admitted["access_token"]
    headers = {"Authorization": f"Bearer {admitted['access_token']}"}
    found["pending token of a step-up"] = (await client.post("/step-up", headers=headers)).json()["mfa_token"]
    another = await client.post("/enable-mfa", headers=headers, json={"password": alice.password, "name": "Tablet"})
    found["pending token of another authenticator"] = another.json()["mfa_token"]
    await request_deletion(client, admitted["access_token"], alice.password)
    found["pending token of a restore"] = (await restore(client)).json()["mfa_token"]
    for name, token in found.items():
        kind, claims = tokens.decoded(token)
        assert expected.pop(name) == (kind, set(claims)), name
    assert {"access token of a client"} == set(expected)
    assert set(tokens.CLAIMS) == {claim for kind in tokens.kinds() for claim in kind.claims}
