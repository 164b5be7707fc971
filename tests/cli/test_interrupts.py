"""`keyturn serve` and SIGINT, which a terminal sends for Ctrl-C."""

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.harness.clients import SECRET
from tests.harness.commands import DONE
from tests.harness.servers import keyturn


def test_a_server_of_one_process_is_done_after_sigint(tmp_path: Path) -> None:
    """A server that stops on request has not failed, whichever signal requests it."""
    log = tmp_path / "log"
    with keyturn({"KEYTURN_DATA_DIR": str(tmp_path / "data")}, log=log) as served:
        assert DONE == served.process.stop(by=signal.SIGINT)
    assert "Traceback" not in log.read_text()


@pytest.mark.heavy
def test_a_server_of_several_workers_is_done_after_sigint(production: dict[str, Any], tmp_path: Path) -> None:
    """The exit status is that of one process."""
    secrets, log = tmp_path / "secrets", tmp_path / "log"
    secrets.write_text(SECRET)
    environment = {
        "KEYTURN_DATABASE_URL": production["database_url"],
        "KEYTURN_REDIS_URL": production["redis_url"],
        "KEYTURN_MASTER_SECRETS_FILE": str(secrets),
    }
    with keyturn(environment, "--workers", "2", log=log, ready_within=180) as served:
        assert DONE == served.process.stop(by=signal.SIGINT)
    assert "Traceback" not in log.read_text()
