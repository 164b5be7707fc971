"""Backups of the database, restored, and the restore guard after them."""

import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.clock import Clock
from service.components import Components
from service.operations.restoring import Choices, RestoreReport, revoke_restored_state
from tests.harness.clients import Client
from tests.harness.servers import find_program

PROGRAMS = "/usr/lib/postgresql/*/bin"
PLAIN = Choices()
"""The guard without options."""


@dataclass
class Backup:
    """Copies of the database, made as docs/guides/back-up-and-restore.md describes."""

    world: dict[str, Any]
    file: Path

    def take(self) -> None:
        if "database_url" in self.world:
            self._run("pg_dump", "-Fc", "-f", str(self.file), self.world["database_url"])
        else:  # these tests stop the service before the backup
            shutil.copy(self.world["data_dir"] / "keyturn.sqlite3", self.file)

    def restore(self) -> None:
        if "database_url" in self.world:
            self._run("pg_restore", "--clean", "--if-exists", "-d", self.world["database_url"], str(self.file))
        else:
            for leftover in self.world["data_dir"].glob("keyturn.sqlite3*"):
                leftover.unlink()
            shutil.copy(self.file, self.world["data_dir"] / "keyturn.sqlite3")

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run([find_program(program, PROGRAMS), *arguments], check=True, capture_output=True)


Start = Callable[[], AbstractAsyncContextManager[Client]]
"""Opens the service on the database of the test."""


async def guard(client: Client, clock: Clock, choices: Choices = PLAIN) -> RestoreReport:
    return await guard_parts(client.parts, clock, choices)


async def guard_parts(parts: Components, clock: Clock, choices: Choices = PLAIN) -> RestoreReport:
    return await revoke_restored_state(
        parts.database,
        parts.keys,
        parts.events,
        clock(),
        skew_steps=1,
        choices=choices,
        deletions=parts.deletions,
    )
