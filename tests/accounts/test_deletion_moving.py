"""A scheduled deletion in the files of accounts: `keyturn users export` and `import`."""

import json
from typing import Any

from service.users import users
from tests.harness.clients import Client, Opener
from tests.harness.deletions import restore, scheduled
from tests.harness.import_files import ANY_HASH, export_lines, import_lines, record
from tests.harness.people import MovableClock, sign_up


async def test_a_scheduled_deletion_moves_along(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """The account is due in the other system too, and its user takes that back there."""
    async with open_client(world) as client:
        user = await scheduled(client, await sign_up(client, clock, "alice", mfa=False))
        (line,) = await export_lines(client, with_secrets=False)
        moved = json.loads(line)
        assert (moved["disabled"], moved["deletion_due_at"]) == (False, user.deletion_due_at)
        moved |= {"username": "moved", "sub": "moved-1"}
        assert (1, []) == await import_lines(client, clock, [json.dumps(moved)])
        found = await users.find(client.parts.database, "moved")
        assert found is not None
        assert (found.is_disabled, found.deletion_due_at) == (True, user.deletion_due_at)
        assert (await restore(client, "moved")).status_code == 200


async def test_an_import_takes_a_time_in_csv_and_refuses_another_value(client: Client, clock: MovableClock) -> None:
    """Of an account that an operator disabled too, the user does not take the deletion back."""
    header = "username;password_hash;disabled;deletion_due_at"
    lines = [header, f"alice;{ANY_HASH};true;4102444800", f"bobby;{ANY_HASH};;soon"]
    imported, refused = await import_lines(client, clock, lines)
    assert (imported, len(refused)) == (1, 1)
    assert (await restore(client, "alice")).status_code == 401
    _, refused = await import_lines(client, clock, [record("carol", ANY_HASH, deletion_due_at=-1)])
    assert len(refused) == 1
