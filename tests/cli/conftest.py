"""A service that runs beside the commands, on the same database and at the same time."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.harness.clients import Client, Opener
from tests.harness.people import MovableClock, real_clock


@pytest.fixture
def clock() -> MovableClock:
    """The time of the commands."""
    return MovableClock(real_clock())


@pytest.fixture
async def client(tmp_path: Path, open_client: Opener) -> AsyncIterator[Client]:
    """A client of a service that runs on the same database as the commands."""
    async with open_client({"data_dir": tmp_path / "data"}) as opened:
        yield opened
