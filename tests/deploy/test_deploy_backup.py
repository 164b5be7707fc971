"""Backups under load, and restoring them: the commands of the guide, verbatim."""

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.storage.migrations import migrate
from tests.harness.clients import SECRET
from tests.harness.documents import blocks
from tests.harness.people import Person, real_clock, sign_up
from tests.harness.servers import REPOSITORY, PostgreSQLServer, clean_environment, find_program, keyturn, wait_until
from tests.harness.sessions import refresh

GUIDE = REPOSITORY / "docs" / "guides" / "back-up-and-restore.md"
BACKUP = REPOSITORY / "deploy" / "backup.sh"


def commands(kind: str) -> list[str]:
    """Return the examples for a database, in order."""
    found = [block.text for block in blocks(GUIDE, "sh") if block.title.lower() in {kind, "either"}]
    assert 4 == len(found)
    return found


@dataclass
class Place:
    """A database that Keyturn serves from, and the setup of an operator's shell for it."""

    kind: str
    folder: Path
    settings: dict[str, str]
    shell: dict[str, str]
    replaced: dict[str, str]

    def run(self, script: str, **variables: str) -> str:
        for documented, here in self.replaced.items():
            script = script.replace(documented, here)
        done = subprocess.run(
            ["bash", "-euc", script], cwd=REPOSITORY, env={**self.shell, **self.settings, **variables},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert 0 == done.returncode, done.stderr
        return done.stdout.strip()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    backups = tmp_path / "backups"
    tools = [str(Path(sys.executable).parent)]
    replaced = {"/var/backups/keyturn": str(backups), "/data": str(tmp_path / "data")}
    settings = {"KEYTURN_DATA_DIR": str(tmp_path / "data")}
    shell = clean_environment()
    if request.param == "postgresql":
        server: PostgreSQLServer = request.getfixturevalue("postgresql_server")
        name = server.new_database("migrated")
        settings |= {"KEYTURN_DATABASE_URL": server.url(name), "KEYTURN_MASTER_SECRETS": SECRET}
        replaced |= {"=postgresql.databases": "=127.0.0.1", "PGDATABASE=keyturn": f"PGDATABASE={name}"}
        replaced |= {"keyturn_restored": f"{name}_restored", "--username=postgres": "--username=keyturn"}
        shell |= {"PGPORT": str(server.port), "PGHOST": "127.0.0.1", "PGUSER": "keyturn"}
        tools.append(str(Path(find_program("pg_dump", "/usr/lib/postgresql/*/bin")).parent))
    shell["PATH"] = os.pathsep.join([*tools, shell["PATH"]])
    return Place(request.param, tmp_path, settings, shell, replaced)


@contextlib.contextmanager
def signing_up(url: str) -> Iterator[list[str]]:
    """Sign up users, one after the other, until the block ends; yield the list of those with an answer."""
    ends = threading.Event()
    names: list[str] = []

    def go_on() -> None:
        with httpx2.Client(base_url=url, timeout=10) as client:
            while not ends.is_set():
                name = f"somebody{len(names)}"
                person = {"username": name, "password": "correct horse battery staple"}
                assert 201 == client.post("/signup", json=person).status_code
                names.append(name)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield names
    finally:
        ends.set()
        thread.join()


async def test_a_backup_under_load_is_complete_and_revives_nothing(place: Place) -> None:
    """It has every user acknowledged before it began. After the guard, old sessions have ended, and users log in."""
    making_folder, backing_up, restoring, guarding = commands(place.kind)
    place.run(making_folder)
    settings = {**place.settings, "KEYTURN_LIMIT_SIGNUP": "off"}
    with keyturn(settings) as served:
        async with httpx2.AsyncClient(base_url=served.url, timeout=10) as client:
            alice = await sign_up(client, real_clock)
            refresh_token = (await alice.confirm_early()).json()["refresh_token"]
            with signing_up(served.url) as names:
                wait_until(lambda: names[2])  # the load is running
                before = len(names)
                backup = place.run(backing_up)
                assert "600" == place.run(f"stat -c %a {backup}")
            assert before < len(names)
            await refresh(client, refresh_token)

    place.run(restoring, BACKUP=backup)
    if place.kind == "postgresql":
        place.settings["KEYTURN_DATABASE_URL"] += "_restored"
    assert re.match(r"\d+ users: 1 sessions ended, 10 recovery codes voided", place.run(guarding))
    with keyturn(place.settings) as served:
        async with httpx2.AsyncClient(base_url=served.url, timeout=10) as client:
            returned = Person(client, real_clock, "alice", secret=alice.secret)
            assert 400 == (await refresh(client, refresh_token)).status_code
            assert 401 == (await returned.log_in(alice.code())).status_code
            assert 200 == (await returned.give_password()).status_code
            for name in names[:before]:
                assert 200 == (await Person(client, real_clock, name).give_password()).status_code


def test_a_backup_is_not_stored_beside_the_master_secret(tmp_path: Path) -> None:
    """Together they reveal every second factor, so the command refuses and leaves nothing there."""
    migrate(f"sqlite:///{tmp_path / 'keyturn.sqlite3'}")
    (tmp_path / "master-secret").write_text(SECRET)
    before = set(tmp_path.iterdir())
    done = refused(tmp_path, tmp_path / "keyturn.sqlite3")
    assert (1, before) == (done.returncode, set(tmp_path.iterdir()))
    assert "has the master secret" in done.stderr


def test_a_failed_backup_leaves_no_file(tmp_path: Path, embedded: dict[str, Any]) -> None:
    """A missing or broken database gives an error and no file."""
    broken = tmp_path / "broken.sqlite3"
    migrate(f"sqlite:///{broken}")
    content = bytearray(broken.read_bytes())
    content[4096 * 3 : 4096 * 6] = b"\x55" * (4096 * 3)
    broken.write_bytes(content)
    backups = tmp_path / "backups"
    backups.mkdir()
    for source in (tmp_path / "missing.sqlite3", broken):
        assert 0 != refused(backups, source).returncode
        assert [] == list(backups.iterdir())
    assert not (tmp_path / "missing.sqlite3").exists()


def refused(folder: Path, source: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([str(BACKUP), str(folder), str(source)], capture_output=True, text=True, check=False)
