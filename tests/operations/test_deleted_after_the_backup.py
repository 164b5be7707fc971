"""`keyturn restore-guard` for accounts that were deleted, and invitations that were used, after the backup."""

import asyncio
import json
import logging
import re
import subprocess
from pathlib import Path

import pytest

from service.operations.restoring import Choices
from service.origin import OPERATOR, Act
from service.telemetry.log import JsonLines
from service.users import users
from service.users.deletions import RemovedAccounts
from tests.harness.backups import Backup, Start, guard
from tests.harness.clients import Client, Opener
from tests.harness.commands import DONE, MISUSED, Here, Invocation, run
from tests.harness.deletions import DELAY, event_names, scheduled
from tests.harness.people import PASSWORD, MovableClock, sign_up
from tests.harness.servers import REPOSITORY, find_program
from tests.harness.webhooks import Outbox

GUIDE = REPOSITORY / "docs" / "guides" / "back-up-and-restore.md"


async def sub_of(client: Client, username: str = "alice") -> str:
    user = await users.find(client.parts.database, username)
    assert user is not None
    return user.id


async def use(client: Client, invitation: str, username: str) -> int:
    body = {"username": username, "password": "a long passphrase", "invitation": invitation}
    return (await client.post("/signup", json=body)).status_code


async def add_invitations(client: Client, clock: MovableClock, count: int, *, expired: int = 0) -> None:
    """Add invitations that are valid for a minute, and expired ones: faster than by as many requests."""
    numbers = f"WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count + expired}) "
    expires_at = f"CASE WHEN n > {count} THEN 0 ELSE 60 END + {int(clock().timestamp())}"
    async with client.parts.database.begin() as transaction:
        await transaction.execute(
            "INSERT INTO invitations (id, roles, created_at, created_by, expires_at)"
            f" {numbers} SELECT 'i' || n, '', 0, 'it', {expires_at} FROM n"
        )


def run_in(folder: Path, command: str, log: str) -> str:
    """Run a command of the guide, which reads keyturn.log."""
    find_program("jq")
    (folder / "keyturn.log").write_text(log + "\n", "utf-8")
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=folder, capture_output=True, text=True, check=True
    ).stdout


async def test_an_account_deleted_after_the_backup_is_deleted_again(
    backup: Backup, start: Start, clock: MovableClock
) -> None:
    """It is as if it had never been back: no login, the username reserved, and `user.deleted` as its last event."""
    async with start() as client:
        alice = await sign_up(client, clock)
        await alice.confirm()
        await sign_up(client, clock, "bobby", mfa=False)
        sub = await sub_of(client)
    backup.take()
    async with start() as client:
        await client.parts.administration.delete("alice", by=OPERATOR)
    backup.restore()
    async with start() as alice.client:
        report = await guard(alice.client, clock, Choices(deleted=[sub]))
        assert report.listed == RemovedAccounts(removed=1, deleted_before=0, absent=0)
        assert (report.users, report.deleted) == (1, 0)
        assert (await alice.give_password()).status_code == 401
        again = {"username": "alice", "password": "a long passphrase"}
        assert (await alice.client.post("/signup", json=again)).json()["code"] == "username_taken"
        (last, *_) = await alice.client.parts.events.list_latest(sub)
        assert (last.event, last.details) == ("user.deleted", {"by": "operator"})
        stored = await alice.client.parts.database.fetch_one(
            "SELECT COUNT(*) AS n FROM totp_authenticators WHERE user_id = $1", sub
        )
        assert stored is not None
        assert stored["n"] == 0


async def test_the_list_may_name_accounts_that_the_backup_lacks(start: Start, clock: MovableClock) -> None:
    """It is counted what became of each; a second run, and a `sub` that is there twice, change nothing."""
    async with start() as client:
        for name in ("alice", "bobby", "carol"):
            await sign_up(client, clock, name, mfa=False)
        alice, bobby = await sub_of(client), await sub_of(client, "bobby")
        await client.parts.administration.delete("bobby", by=OPERATOR)
        choices = Choices(deleted=[alice, bobby, "made-later", alice])
        assert (await guard(client, clock, choices)).listed == RemovedAccounts(1, 1, 1)
        assert (await guard(client, clock, choices)).listed == RemovedAccounts(0, 2, 1)
        assert (await event_names(client, alice)).count("user.deleted") == 1
        assert (await guard(client, clock)).listed is None
        assert (await client.post("/login", json={"username": "carol", "password": PASSWORD})).status_code == 200


async def test_a_listed_account_whose_deletion_was_due_is_deleted_once(start: Start, clock: MovableClock) -> None:
    """The report counts it in the list, and not among those that were due."""
    async with start() as client:
        user = await scheduled(client, await sign_up(client, clock, mfa=False))
        clock.advance(seconds=DELAY - 1)
        report = await guard(client, clock, Choices(deleted=[user.id]))
        assert (report.listed, report.deleted) == (RemovedAccounts(1, 0, 0), 0)
        assert (await event_names(client, user.id)).count("user.deleted") == 1


async def test_an_invitation_used_after_the_backup_makes_no_second_account(
    backup: Backup, start: Start, clock: MovableClock
) -> None:
    """Nor does one that was revoked. Used ones stay in the list; what expired is not counted."""
    async with start() as client:
        invitations, act = client.parts.invitations, Act(OPERATOR, clock())
        used, unused, revoked = [await invitations.create(act) for _ in range(3)]
        assert await use(client, used.token, "alice") == 201
    backup.take()
    async with start() as client:
        assert await use(client, unused.token, "bobby") == 201
        await client.parts.invitations.revoke(revoked.invitation.id, act)
    backup.restore()
    async with start() as client:
        assert (await guard(client, clock)).invitations == 2
        assert [await use(client, one.token, "carol") for one in (unused, revoked)] == [403, 403]
        (kept,) = (await client.parts.invitations.list_page()).items
        assert kept.id == used.invitation.id
        rows = await client.parts.database.fetch_all(
            "SELECT details FROM events WHERE event = 'invitation.revoked' ORDER BY details"
        )
        expected = [{"invitation": one.invitation.id, "by": "operator"} for one in (unused, revoked)]
        assert sorted((json.loads(row["details"]) for row in rows), key=str) == sorted(expected, key=str)
        made = await client.parts.invitations.create(Act(OPERATOR, clock()))
        assert await use(client, made.token, "carol") == 201
        assert (await guard(client, clock)).invitations == 0


async def test_more_invitations_than_a_transaction_revokes(start: Start, clock: MovableClock) -> None:
    """None is missed; those that expired before stay for their time."""
    async with start() as client:
        await add_invitations(client, clock, 440, expired=10)
        assert (await guard(client, clock)).invitations == 440
        left = await client.parts.database.fetch_one("SELECT COUNT(*) AS n FROM invitations")
        assert left is not None
        assert left["n"] == 10


async def test_two_guards_at_once_leave_no_invitation(start: Start, clock: MovableClock) -> None:
    """When the first one returns, none can be used, whichever of them revoked it; each has one event."""
    async with start() as client:
        await add_invitations(client, clock, 1450)
        guards = [asyncio.create_task(guard(client, clock)) for _ in range(2)]
        await asyncio.wait(guards, return_when=asyncio.FIRST_COMPLETED)
        left = await client.parts.database.fetch_one("SELECT COUNT(*) AS n FROM invitations")
        assert left is not None
        assert left["n"] == 0
        assert sum([report.invitations for report in await asyncio.gather(*guards)]) == 1450


async def test_the_command_of_the_guide_makes_the_list(
    outbox: Outbox, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """It reads the log, in which other programs may write, and bodies that the webhook got."""
    caplog.set_level(logging.INFO)
    parts = outbox.parts
    await outbox.sign_up("alice", "bobby")
    alice = await parts.administration.delete("alice", by=OPERATOR)
    webhook = outbox.deliverer()
    while len(outbox.receiver.accepted) < 3:
        await outbox.deliver(webhook)
    lines = [JsonLines().format(record) for record in caplog.records if record.name == "keyturn"]
    bodies = [json.dumps(body) for body in outbox.receiver.accepted]
    (by_jq,) = re.findall(r"^\$ (jq -Rr .*) > deleted\.txt$", GUIDE.read_text("utf-8"), re.MULTILINE)
    (by_grep,) = re.findall(r"`(grep -h .*)`", GUIDE.read_text("utf-8"))
    for command, text in ((by_jq, [*lines, "another program: 1", "2"]), (by_jq, bodies), (by_grep, lines)):
        assert run_in(tmp_path, command, "\n".join(text)).split() == [alice.id]


async def test_the_command_reads_the_list(tmp_path: Path, open_client: Opener, clock: MovableClock) -> None:
    """From a file or standard input; a byte order mark, CR LF, blank lines and white space are ignored."""
    environment = {"KEYTURN_DATA_DIR": str(tmp_path / "data")}
    async with open_client({"data_dir": tmp_path / "data"}) as client:
        for name in ("alice", "bobby"):
            await sign_up(client, clock, name, mfa=False)
        subs = [await sub_of(client, name) for name in ("alice", "bobby")]
    file = tmp_path / "deleted.txt"
    file.write_bytes(f"\ufeff{subs[0]}\r\n\r\n  never-there \r\n".encode())
    done = run("restore-guard", "--deleted", str(file), environment=environment)
    assert (done.status, done.err) == (DONE, "")
    assert "Accounts that --deleted names: 1 deleted now, 0 deleted before, 1 absent from the backup." in done.out
    assert "passwords, confirmed e-mail addresses, disabled accounts, roles" in done.out
    again = run("restore-guard", "--deleted", "-", given=f"{subs[0]}\n{subs[1]}".encode(), environment=environment)
    assert "Accounts that --deleted names: 1 deleted now, 1 deleted before, 0 absent from the backup." in again.out
    assert "0 users:" in again.out


@pytest.mark.parametrize("line", ['"quoted"', "two words", "a,b", "é", "x" * 256, "\x00"])
def test_a_line_that_is_no_sub_changes_nothing(here: Here, tmp_path: Path, line: str) -> None:
    """The error names the line, and neither repeats it nor begins the work on the lines before it."""
    file = tmp_path / "deleted.txt"
    file.write_text(f"good\n\n{line}\n", "utf-8")
    refused = here("restore-guard", "--deleted", str(file))
    assert (refused.status, refused.out) == (MISUSED, "")
    assert f"line 3 of {file} is no `sub`" in refused.err
    assert line not in refused.err


def test_a_list_that_cannot_be_read_is_named(here: Here, tmp_path: Path) -> None:
    """A missing file, a folder, and a file in UTF-16, as some shells write it."""
    wide = tmp_path / "wide.txt"
    wide.write_bytes("one\n".encode("utf-16"))
    missing, folder, encoded = here.run_all(
        *[Invocation(("restore-guard", "--deleted", str(name))) for name in (tmp_path / "none", tmp_path, wide)]
    )
    assert [one.status for one in (missing, folder, encoded)] == [MISUSED] * 3
    assert f"{tmp_path / 'none'} cannot be read: No such file" in missing.err
    assert f"{tmp_path} cannot be read: Is a directory" in folder.err
    assert f"line 1 of {wide} is no `sub`" in encoded.err
