"""A running service under its own URL, as other programs find it: issuer, registered clients, commands."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests.harness.commands import run
from tests.harness.databases import PATIENT_SECONDS
from tests.harness.people import PASSWORD
from tests.harness.ports import free_port
from tests.harness.servers import clean_environment, keyturn


@dataclass
class Issuer:
    """A running Keyturn under its own URL, with a user and a registered client."""

    url: str
    secret: str
    settings: Mapping[str, str]

    def log_in(self) -> dict[str, Any]:
        answer = httpx2.post(
            f"{self.url}/login", json={"username": "bob", "password": PASSWORD}, timeout=PATIENT_SECONDS
        )
        assert 200 == answer.status_code, answer.text
        tokens: dict[str, Any] = answer.json()
        return tokens

    def environment(self, **more: str) -> dict[str, str]:
        return {**clean_environment(), "ISSUER": self.url, "SECRET": self.secret, **more}


@contextlib.contextmanager
def issuing(data: Path, **settings: str) -> Iterator[Issuer]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {"KEYTURN_DATA_DIR": str(data), "KEYTURN_ISSUER": url, **settings}
    with keyturn(environment, port=port):
        httpx2.post(f"{url}/signup", json={"username": "bob", "password": PASSWORD}, timeout=PATIENT_SECONDS)
        yield Issuer(url, add_client(environment, "billing", "read", "write"), environment)


def add_client(environment: Mapping[str, str], client_id: str, *scopes: str) -> str:
    """Register a client and return its secret."""
    return command(
        environment, "clients", "add", client_id, *(word for scope in scopes for word in ("--scope", scope))
    )


def command(environment: Mapping[str, str], *arguments: str, given: str = "") -> str:
    """Run a command of the service to its end, which must succeed, and return its output."""
    done = run(*arguments, given=given.encode(), environment=environment)
    assert 0 == done.status, done.err
    return done.out.strip()


def python(environment: Mapping[str, str], *arguments: str) -> str:
    """Run Python and return its output."""
    run = subprocess.run(
        [sys.executable, *arguments], env={**clean_environment(), **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert 0 == run.returncode, run.stderr
    return run.stdout.strip()
