"""`keyturn restore-guard` revokes what a restored backup would make valid again, with both kinds of stores."""

from pathlib import Path
from typing import Any

from httpx2 import AsyncClient

from service.components import open_components
from service.factors.restored import max_accepted_ahead
from service.factors.totp import PERIOD
from service.messages.events import newest_event
from service.operations.restoring import Choices, revoke_restored_state
from service.settings import Settings
from service.storage.database import Row, Transaction
from service.users.passwords import CHEAPEST
from tests.harness.addresses import confirmation, request_address, set_address
from tests.harness.backups import PLAIN, Backup, Start, guard, guard_parts
from tests.harness.clients import Opener
from tests.harness.commands import run
from tests.harness.databases import PATIENT, ForwardingDatabase, ForwardingTransaction
from tests.harness.deletions import event_names, restore, scheduled
from tests.harness.people import MovableClock, sign_up
from tests.harness.sessions import refresh

WAIT = PERIOD * (max_accepted_ahead(1) + 1)
"""Seconds after which an authenticator shows only codes that cannot have been used before the restore."""


async def test_a_code_used_after_the_backup_is_refused_after_the_restore(
    backup: Backup, start: Start, clock: MovableClock
) -> None:
    """Every other code shown so far is refused, too; the next one of the same authenticator is accepted."""
    async with start() as client:
        alice = await sign_up(client, clock)
        await alice.confirm()
    backup.take()
    clock.next_step()
    async with start() as alice.client:
        code = alice.code(1)
        assert 200 == (await alice.log_in(code)).status_code
    backup.restore()
    async with start() as alice.client:
        await guard(alice.client, clock)
        assert "invalid_code" == (await alice.log_in(code)).json()["code"]
        assert "invalid_code" == (await alice.log_in(alice.code())).json()["code"]
        clock.advance(seconds=WAIT)
        assert 200 == (await alice.log_in()).status_code


async def test_codes_of_a_clock_found_ahead_after_the_backup_are_refused(
    backup: Backup, start: Start, clock: MovableClock
) -> None:
    """The backup lacks that fact: the codes are refused at once, as a re-aligning pair, and at their own time."""
    ahead = 8
    async with start() as client:
        alice = await sign_up(client, clock)
        await alice.confirm()
    backup.take()
    clock.next_step()
    async with start() as alice.client:
        reported, realigning, another = alice.code(ahead), alice.code(ahead + 1), alice.code(ahead + 2)
        assert "code_out_of_step" == (await alice.log_in(reported)).json()["code"]
        assert [200, 200] == [(await alice.log_in(code)).status_code for code in (realigning, another)]
    backup.restore()
    async with start() as alice.client:
        await guard(alice.client, clock)
        for steps in (0, ahead + 1):
            clock.advance(seconds=PERIOD * steps)
            for code in (realigning, another):
                assert "invalid_code" == (await alice.log_in(code)).json()["code"]


async def test_a_session_ended_after_the_backup_stays_ended(
    backup: Backup, start: Start, clock: MovableClock
) -> None:
    """So do its refresh and access tokens, a pending token, and the device token of the user."""
    async with start() as client:
        alice = await sign_up(client, clock)
        await alice.confirm()
        clock.next_step()
        body = {"mfa_token": await alice.pending(), "otp": alice.code(), "remember_device": True}
        admitted = (await client.post("/login-2fa", json=body)).json()
        pending = await alice.pending()
        bearer = {"Authorization": f"Bearer {admitted['access_token']}"}
    backup.take()
    async with start() as alice.client:
        assert 204 == (await alice.client.post("/logout?everywhere=true", headers=bearer)).status_code
    backup.restore()
    async with start() as client:
        alice.client = client
        report = await guard(client, clock)
        assert (1, 2) == (report.users, report.sessions)
        assert 401 == (await client.get("/me", headers=bearer)).status_code
        assert 401 == (await client.get("/verify", headers=bearer)).status_code
        assert 400 == (await refresh(client, admitted["refresh_token"])).status_code
        assert "invalid_token" == (await alice.give_code(mfa_token=pending)).json()["code"]
        clock.advance(seconds=WAIT)
        body = {"username": "alice", "password": alice.password, "device_token": admitted["device_token"]}
        assert (await client.post("/login", json=body)).json()["mfa_required"]


async def test_a_session_from_after_the_backup_is_invalid(backup: Backup, start: Start, clock: MovableClock) -> None:
    """Its tokens were signed by a key that is revoked: nothing else separates them from valid tokens."""
    async with start() as client:
        alice = await sign_up(client, clock)
        await alice.confirm()
        kids = {jwk["kid"] for jwk in (await client.get("/.well-known/jwks.json")).json()["keys"]}
    backup.take()
    clock.next_step()
    async with start() as alice.client:
        admitted = (await alice.log_in()).json()
    backup.restore()
    bearer = {"Authorization": f"Bearer {admitted['access_token']}"}
    async with start() as client:
        assert 204 == (await client.get("/verify", headers=bearer)).status_code  # the guard has to change this
        assert 1 == (await guard(client, clock)).signing_keys
        assert 401 == (await client.get("/verify", headers=bearer)).status_code
        assert 400 == (await refresh(client, admitted["refresh_token"])).status_code
        assert kids.isdisjoint(jwk["kid"] for jwk in (await client.get("/.well-known/jwks.json")).json()["keys"])


async def test_tokens_of_credential_versions_after_the_backup_are_invalid(
    backup: Backup, start: Start, clock: MovableClock
) -> None:
    """A device token issued after three changes is not valid again after as many changes of the restored account."""
    async with start() as client:
        alice = await sign_up(client, clock)
        await alice.confirm()
    backup.take()
    clock.next_step()

    async def change(client: AsyncClient) -> None:
        bearer = {"Authorization": f"Bearer {(await alice.log_in()).json()['access_token']}"}
        assert 204 == (await client.post("/logout?everywhere=true", headers=bearer)).status_code
        clock.next_step()

    async with start() as client:
        alice.client = client
        for _ in range(3):
            await change(client)
        body = {"mfa_token": await alice.pending(), "otp": alice.code(), "remember_device": True}
        token = (await client.post("/login-2fa", json=body)).json()["device_token"]
    backup.restore()
    async with start() as client:
        alice.client = client
        await guard(client, clock)
        clock.advance(seconds=WAIT)
        for _ in range(4):
            await change(client)
            body = {"username": "alice", "password": alice.password, "device_token": token}
            assert (await client.post("/login", json=body)).json()["mfa_required"]


async def test_a_recovery_code_used_after_the_backup_is_refused(
    backup: Backup, start: Start, clock: MovableClock
) -> None:
    """The backup does not know which codes were used: all are revoked, unless the operator keeps them."""
    async with start() as client:
        alice = await sign_up(client, clock)
        codes = (await alice.confirm()).json()["recovery_codes"]
    backup.take()

    async def use(code: str) -> int:
        body = {"mfa_token": await alice.pending(), "recovery_code": code}
        return (await alice.client.post("/login-2fa", json=body)).status_code

    async with start() as alice.client:
        assert 200 == await use(codes[0])
    backup.restore()
    async with start() as alice.client:
        assert 10 == (await guard(alice.client, clock)).recovery_codes
        assert [401, 401] == [await use(codes[0]), await use(codes[1])]
    backup.restore()
    async with start() as alice.client:
        assert 0 == (await guard(alice.client, clock, Choices(keeps_recovery_codes=True))).recovery_codes
        assert 200 == await use(codes[1])


async def test_a_recovery_cancelled_after_the_backup_stays_cancelled(
    backup: Backup, start: Start, clock: MovableClock
) -> None:
    """Otherwise the password alone would remove the second factor after a restore."""
    async with start() as client:
        alice = await sign_up(client, clock)
        await alice.confirm()
        body = {"username": "alice", "password": alice.password}
        assert 202 == (await client.post("/recovery", json=body)).status_code
    backup.take()
    clock.next_step()
    async with start() as alice.client:
        assert 200 == (await alice.log_in()).status_code  # this cancels the recovery
    backup.restore()
    async with start() as alice.client:
        await guard(alice.client, clock)
        clock.advance(days=3, seconds=WAIT)
        assert (await alice.give_password()).json()["mfa_confirmed"]


async def test_an_address_refused_after_the_backup_cannot_be_confirmed(
    backup: Backup, start: Start, clock: MovableClock
) -> None:
    """Its link is valid for a day, and the reader of the former address refused it after the backup."""
    async with start() as client:
        alice = await sign_up(client, clock, mfa=False)
        token = await set_address(client, alice)
        assert 202 == (await request_address(client, token, "eve@example.com")).status_code
        link = await confirmation(client, alice.username, "eve@example.com")
    backup.take()
    backup.restore()
    async with start() as client:
        await guard(client, clock)
        assert 401 == (await client.post("/email/confirm", json={"token": link})).status_code


async def test_an_enrolment_beside_a_confirmed_authenticator_is_removed(
    backup: Backup, start: Start, clock: MovableClock
) -> None:
    """A first enrolment that was never confirmed is kept, for its user."""
    async with start() as client:
        alice = await sign_up(client, clock)
        admitted = (await alice.confirm()).json()
        bearer = {"Authorization": f"Bearer {admitted['access_token']}"}
        body = {"password": alice.password, "name": "Tablet"}
        assert 200 == (await client.post("/enable-mfa", json=body, headers=bearer)).status_code
        await sign_up(client, clock, "bob")
        await guard(client, clock)
        clock.advance(seconds=WAIT)
        bearer = {"Authorization": f"Bearer {(await alice.log_in()).json()['access_token']}"}
        assert 1 == len((await client.get("/factors", headers=bearer)).json()["factors"])
        login = await client.post("/login", json={"username": "bob", "password": alice.password})
        assert login.json()["mfa_required"]
        assert not login.json()["mfa_confirmed"]


async def test_more_users_than_a_page_are_guarded_twice(
    world: dict[str, Any], start: Start, clock: MovableClock
) -> None:
    """No user is missed, and a second run does no harm."""
    async with start() as client:
        parts = client.parts
        numbers = "WITH RECURSIVE n (n) AS (SELECT 100 UNION ALL SELECT n + 1 FROM n WHERE n < 549) "
        async with parts.database.begin() as transaction:
            # One statement takes a fraction of the time of 450 sign-ups.
            await transaction.execute(
                f"INSERT INTO users (id, username, password_hash, created_at) {numbers}"
                "SELECT 'user' || n, 'user' || n, '', 0 FROM n"
            )
        reported: list[int] = []
        report = await revoke_restored_state(
            parts.database,
            parts.keys,
            parts.events,
            clock(),
            skew_steps=1,
            choices=PLAIN,
            deletions=parts.deletions,
            report_progress=reported.append,
        )
        assert (450, [200, 400, 450]) == (report.users, reported)
        again = await guard(client, clock)
        assert (450, 0) == (again.users, again.sessions)
        epochs = await parts.database.fetch_all("SELECT MIN(epoch) AS least, MAX(epoch) AS most FROM users")
        moment = int(clock().timestamp())
        assert (moment + 1, moment + 1) == (epochs[0]["least"], epochs[0]["most"])


async def test_accounts_that_are_due_are_deleted(backup: Backup, start: Start, clock: MovableClock) -> None:
    """One that was not due in the backup and is due at the restore; one that is due later stays scheduled."""
    async with start() as client:
        early = await scheduled(client, await sign_up(client, clock, "early", mfa=False))
        clock.advance(days=2)
        late = await scheduled(client, await sign_up(client, clock, "later", mfa=False))
    backup.take()
    clock.advance(days=13)
    backup.restore()
    # Without a service, as operators run it: the tasks in the background would delete the account as well.
    async with open_components(Settings(**backup.world), clock, hash_cost=CHEAPEST, timeouts=PATIENT) as parts:
        report = await guard_parts(parts, clock)
        assert (report.deleted, report.users) == (1, 1)
    async with start() as client:
        assert (await event_names(client, early.id))[0] == "user.deleted"
        assert (await restore(client, "early")).status_code == 401
        assert (await restore(client, late.username)).status_code == 200
        assert 0 == (await guard(client, clock)).deleted


async def test_a_user_with_many_sessions_is_guarded(world: dict[str, Any], start: Start, clock: MovableClock) -> None:
    """All of the sessions of a program that logs in often end, in several transactions."""
    async with start() as client:
        parts = client.parts
        numbers = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 3500) "
        alice = await parts.sign_up.sign_up("alice", "a long passphrase", enable_mfa=False, caller=None)
        async with parts.database.begin() as transaction:
            # By logins, thousands of sessions would take minutes.
            await transaction.execute(
                "INSERT INTO sessions (id, user_id, amr, acr, auth_time, created_at, last_used_at, expires_at,"
                f" address, user_agent) {numbers} SELECT 's' || n, $2, 'pwd', 'aal1', 0, 0, 0, $1, '', '' FROM n",
                int(clock().timestamp()) + 3600, alice.user.id,
            )  # fmt: skip
        changed: list[int] = []

        class CountedTransaction(ForwardingTransaction):
            async def execute(self, sql: str, *parameters: object) -> int:
                changed.append(await super().execute(sql, *parameters))
                return changed[-1]

        class RowCounter(ForwardingDatabase):
            """A database that records how many rows each statement of the guard changes."""

            def wrap(self, transaction: Transaction) -> Transaction:
                return CountedTransaction(transaction)

        guarded = await revoke_restored_state(
            RowCounter(parts.database),
            parts.keys,
            parts.events,
            clock(),
            skew_steps=1,
            choices=PLAIN,
            deletions=parts.deletions,
        )
        assert 3500 == guarded.sessions
        assert 1000 >= max(changed)
        left = await parts.database.fetch_one("SELECT COUNT(*) AS live FROM sessions WHERE ended_at IS NULL")
        assert left is not None
        assert 0 == left["live"]


async def test_the_newest_event_is_found_by_an_index(production: dict[str, Any], open_client: Opener) -> None:
    """Reading six million events takes longer than a read may: the guard would fail at its start."""
    async with open_client(production) as client:
        database = client.parts.database
        alice = await client.parts.sign_up.sign_up("alice", "a long passphrase", enable_mfa=False, caller=None)
        async with database.begin() as transaction:
            # By logins, thousands of events would take minutes.
            await transaction.execute(
                "INSERT INTO events (user_id, event, occurred_at, details)"
                " SELECT $1, 'login.admitted', n, '{}' FROM generate_series(1, 5000) n",
                alice.user.id,
            )
        assert 5000 == await newest_event(database)

        class Explainer(ForwardingDatabase):
            """A database that answers with the plan of a statement."""

            async def fetch_one(self, sql: str, *parameters: object) -> Row | None:
                plan = [row["QUERY PLAN"] for row in await self.fetch_all(f"EXPLAIN {sql}", *parameters)]
                return {"occurred_at": "\n".join(plan)}

        assert "Seq Scan" not in str(await newest_event(Explainer(database)))


async def test_the_command_reports_its_work_and_what_is_lost(tmp_path: Path, open_client: Opener) -> None:
    """It names the time of the newest event in the backup, from which on the operator has to check."""
    async with open_client({"data_dir": tmp_path / "data"}) as client:
        alice = await sign_up(client, MovableClock())
        await alice.give_code(alice.code(), alice.mfa_token)
    result = run("restore-guard", environment={"KEYTURN_DATA_DIR": str(tmp_path / "data")})
    assert 0 == result.status
    lines = result.out.splitlines()
    assert (
        "1 users: 1 sessions ended, 10 recovery codes voided, 0 invitations revoked, 1 signing keys revoked."
        == lines[0]
    )
    assert lines[1].startswith("The backup's newest event is of 2026-11-22T12:00:05Z.")
    lost = " ".join(lines[2:4])
    assert (
        "passwords, confirmed e-mail addresses, disabled and deleted accounts, roles, static claims, languages, "
        "authenticators and clients are as they were then." == lost
    )
    assert "POST /recovery-codes" in lines[-1]


def test_the_command_requires_a_database(tmp_path: Path) -> None:
    """It makes none: guarding an empty database would protect nothing."""
    result = run("restore-guard", environment={"KEYTURN_DATA_DIR": str(tmp_path / "nowhere")})
    assert 2 == result.status
    assert "There is no database" in result.err
