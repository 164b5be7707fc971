"""Users of another system, and import and export in this process."""

import json
from collections.abc import Iterable
from typing import Any

from passlib.hash import argon2

from service.accounts.import_files import RejectedLine
from service.accounts.moving import export_users, import_users
from tests.harness.clients import Client
from tests.harness.people import PASSWORD, MovableClock

ANY_HASH = argon2.using(type="ID", memory_cost=8, rounds=1, parallelism=1, salt=b"of all test runs").hash(PASSWORD)


async def import_lines(
    client: Client, clock: MovableClock, lines: Iterable[str], *, allow_weak: bool = False
) -> tuple[int, list[RejectedLine]]:
    parts = client.parts
    imported, refused = 0, list[RejectedLine]()
    async for progress in import_users(
        parts.database, parts.second_factors.totp, lines, clock, allow_weak=allow_weak
    ):
        imported, refused = progress.imported, [*refused, *progress.refused]
    return imported, refused


async def export_lines(client: Client, *, with_secrets: bool) -> list[str]:
    parts = client.parts
    lines = [
        line async for line in export_users(parts.database, parts.second_factors.totp, with_secrets=with_secrets)
    ]
    assert all(isinstance(line, str) for line in lines)
    return [str(line) for line in lines]


def record(username: str = "alice", password_hash: str = ANY_HASH, **more: Any) -> str:
    return json.dumps({"username": username, "password_hash": password_hash, **more})
