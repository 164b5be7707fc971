"""Services whose database is backed up and restored."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.harness.backups import Backup
from tests.harness.clients import SECRET, Client, Opener


@pytest.fixture
def backup(world: dict[str, Any], tmp_path: Path) -> Backup:
    world.setdefault("master_secrets", SECRET)
    return Backup(world, tmp_path / "backup")


@pytest.fixture
def start(world: dict[str, Any], open_client: Opener) -> Callable[[], AbstractAsyncContextManager[Client]]:
    return lambda: open_client({**world, "remember_device_days": 30, "recovery_delay": "72h"})
