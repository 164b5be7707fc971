"""What commands write of the log: warnings and errors, on standard error, in the format of the setting."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.commands import DONE, Here, Invocation
from tests.harness.people import PASSWORD
from tests.harness.ports import free_port
from tests.harness.servers import REPOSITORY, clean_environment

COMMAND = """
import logging
from service.cli.parts import read_command_settings
from service.telemetry.event_names import LogName
from service.telemetry.log import emit, warn

read_command_settings()
emit(LogName.SIGNUP_REFUSED, reason="username_taken")
warn(LogName.REDIS_AWAY, cause="refused")
warn(LogName.DATABASE_UNREACHABLE, reason="refused")
logging.getLogger("asyncio").error("Task exception was never retrieved", exc_info=ValueError("hunter2"))
print('{"username": "alice"}')
"""
"""A command in which everything happens that is logged, or left out."""


def written(log_format: str, folder: Path) -> list[str]:
    """Run the command, check that only its result is on standard output, and return the lines of the log."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND],
        env={**clean_environment(), "KEYTURN_DATA_DIR": str(folder), "KEYTURN_LOG_FORMAT": log_format},
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert {"username": "alice"} == json.loads(done.stdout)
    return done.stderr.splitlines()


def test_a_command_writes_warnings_and_errors_as_json(tmp_path: Path) -> None:
    """Lines of other libraries too, without the text of an exception; no decision, and no `database.unreachable`."""
    first, second = map(json.loads, written("json", tmp_path))
    assert ("warning", "redis.away", "refused") == (first["level"], first["event"], first["cause"])
    assert ("error", "Task exception was never retrieved") == (second["level"], second["event"])
    assert "hunter2" not in json.dumps(second)


def test_a_command_writes_them_for_a_terminal(tmp_path: Path) -> None:
    first, second, *_ = written("console", tmp_path)
    assert re.fullmatch(r"\d\d:\d\d:\d\d warning redis\.away cause=refused", first)
    assert re.fullmatch(r"\d\d:\d\d:\d\d error   Task exception was never retrieved", second)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_standard_output_has_the_result_only(here: Here, log_format: str) -> None:
    """The line about a list of leaked passwords that does not answer comes between two results that are parsed."""
    away = {"KEYTURN_BREACHED_PASSWORDS": f"http://127.0.0.1:{free_port()}", "KEYTURN_LOG_FORMAT": log_format}
    added, shown = here.run_all(
        Invocation(("users", "add", "alice"), PASSWORD, away),
        Invocation(("users", "show", "alice", "--json"), "", away),
    )
    assert (DONE, "alice can log in.\n") == (added.status, added.out)
    line, sentence = added.err.splitlines()
    assert sentence.startswith("keyturn: KEYTURN_BREACHED_PASSWORDS did not answer")
    assert ("password.not_checked reason=refused" in line) == (log_format == "console")
    assert line.startswith("{") == (log_format == "json")
    assert (DONE, "") == (shown.status, shown.err)
    assert "alice" == json.loads(shown.out)["username"]
