"""The operator's commands on accounts, as users and services see their effects. SQLite and PostgreSQL."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from service.accounts.administration import AccountFilter, Administration
from service.accounts.moving import export_users, import_users
from service.components import Components, open_components
from service.errors import ConfigurationError, NotFound, WeakPassword
from service.origin import OPERATOR
from service.settings import Settings
from service.storage.migrations import migrate
from service.users.passwords import CHEAPEST
from tests.harness.backups import guard_parts
from tests.harness.clients import Client, Opener
from tests.harness.databases import PATIENT
from tests.harness.people import PASSWORD, MovableClock, Person, sign_up
from tests.harness.relying_services import add_client, basic
from tests.harness.servers import REPOSITORY
from tests.harness.sessions import bearer, refresh

NEW = "a passphrase by telephone"


def parts_of(client: Client) -> Components:
    parts: Components = client.parts
    return parts


def acts_of(client: Client) -> Administration:
    return parts_of(client).administration


async def code_of(request: Any) -> str:
    return str((await request).json()["code"])


async def rows(client: Client, table: str, sub: str, column: str = "user_id") -> int:
    row = await parts_of(client).database.fetch_one(f"SELECT COUNT(*) AS n FROM {table} WHERE {column} = $1", sub)
    return 0 if row is None else int(row["n"])


async def settle(client: Client) -> None:
    """Do what the service does every 0.4 s: read which sessions have ended."""
    await parts_of(client).housekeeping.read_ended()


@pytest.fixture
async def tokens(alice: Person, clock: MovableClock) -> dict[str, Any]:
    answer: dict[str, Any] = (
        await alice.client.post(
            "/login-2fa", json={"mfa_token": await alice.pending(), "otp": alice.code(), "remember_device": True}
        )
    ).json()
    clock.next_step()
    return answer


async def test_a_new_password_ends_everything_that_the_old_one_opened(
    client: Client, alice: Person, tokens: dict[str, Any], clock: MovableClock
) -> None:
    """Sessions, pending tokens and the old password end; the second factor stays; the event names the operator."""
    pending = await alice.pending()
    changed = await acts_of(client).set_password("Alice", NEW, by=OPERATOR)
    assert "alice" == changed.username
    assert 401 == (await client.get("/me", headers=bearer(tokens["access_token"]))).status_code
    assert 400 == (await refresh(client, tokens["refresh_token"])).status_code
    await settle(client)
    assert 401 == (await client.get("/verify", headers=bearer(tokens["access_token"]))).status_code
    assert "invalid_token" == await code_of(alice.give_code(mfa_token=pending))
    assert "invalid_credentials" == await code_of(alice.give_password())
    alice.password = NEW
    admitted = (await alice.log_in()).json()
    events = (await client.get("/events", headers=bearer(admitted["access_token"]))).json()["events"]
    assert {"event": "password.changed", "details": {"by": "operator"}} == {
        name: events[1][name] for name in ("event", "details")
    }


async def test_a_new_password_cancels_a_recovery_and_enables_no_account(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """The requester of the recovery knew the old password; a disabled account stays disabled."""
    async with open_client({**world, "recovery_delay": "1h"}) as client:
        alice = await sign_up(client, clock)
        await alice.confirm()
        await client.post("/recovery", json={"username": "alice", "password": PASSWORD})
        assert (await acts_of(client).show("alice")).recovery_due_at is not None
        await parts_of(client).administration.set_disabled("alice", disabled=True, by=OPERATOR)
        await acts_of(client).set_password("alice", NEW, by=OPERATOR)
        assert (await acts_of(client).show("alice")).recovery_due_at is None
        assert "invalid_credentials" == await code_of(alice.give_password(NEW))


async def test_the_policy_applies_to_operators_too(client: Client, alice: Person) -> None:
    """A weak password is refused and changes nothing, and a misspelt name creates no account."""
    for weak in ("short", "password1", "alice"):
        with pytest.raises(WeakPassword):
            await acts_of(client).set_password("alice", weak, by=OPERATOR)
    assert 200 == (await alice.give_password()).status_code
    for nobody in ("bob", "", "alice2", "é", "a\x00b", "sub:alice", "\udcff"):
        with pytest.raises(NotFound):
            await acts_of(client).set_password(nobody, NEW, by=OPERATOR)


async def test_a_command_that_changes_nothing_records_nothing(
    client: Client, alice: Person, tokens: dict[str, Any], clock: MovableClock
) -> None:
    """A role that the account has or lacks already, and enabling or disabling twice. Its pending tokens stay."""
    acts = acts_of(client)
    await acts.set_roles("alice", add="admin", by=OPERATOR)
    pending, before = await alice.pending(), await acts.show("alice")
    await acts.set_roles("alice", add="admin", by=OPERATOR)
    await acts.set_roles("alice", remove="staff", by=OPERATOR)
    await acts.set_disabled("alice", disabled=False, by=OPERATOR)
    events = await client.parts.events.list_latest((await acts.get("alice")).id)
    assert 1 == [entry.event for entry in events].count("user.roles_changed")
    assert "user.enabled" not in {entry.event for entry in events}
    assert before == await acts.show("alice")
    assert 200 == (await alice.give_code(mfa_token=pending)).status_code
    for _ in range(2):
        await acts.set_disabled("alice", disabled=True, by=OPERATOR)
    events = await client.parts.events.list_latest((await acts.get("alice")).id)
    assert 1 == [entry.event for entry in events].count("user.disabled")


async def test_a_deleted_account_is_refused_everywhere_at_once(
    client: Client, alice: Person, tokens: dict[str, Any], clock: MovableClock
) -> None:
    """Its tokens of every kind, its password and its codes are refused as if the user had never existed."""
    service = basic("billing", await add_client(client, clock, "billing"))
    pending, sub = await alice.pending(), (await acts_of(client).get("alice")).id
    codes = (await client.post("/recovery-codes", headers=bearer(tokens["access_token"]))).json()["recovery_codes"]
    assert "alice" == (await acts_of(client).delete(sub, by=OPERATOR)).username
    for token in (tokens["access_token"], tokens["refresh_token"]):
        answer = await client.post("/introspect", data={"token": token}, headers=service)
        assert {"active": False} == answer.json()
    assert 400 == (await refresh(client, tokens["refresh_token"])).status_code
    for method, path in (("GET", "/me"), ("GET", "/sessions"), ("GET", "/events"), ("POST", "/step-up")):
        assert 401 == (await client.request(method, path, headers=bearer(tokens["access_token"]))).status_code, path
    await settle(client)
    assert 401 == (await client.get("/verify", headers=bearer(tokens["access_token"]))).status_code
    for body in ({"otp": alice.code()}, {"recovery_code": codes[0]}):
        answer = await client.post("/login-2fa", json={"mfa_token": pending, **body})
        assert (401, "invalid_token") == (answer.status_code, answer.json()["code"])
    assert 401 == (await client.get("/qrcode/alice", headers=bearer(pending))).status_code
    login = {"username": "alice", "password": PASSWORD}
    unknown = await client.post("/login", json={**login, "username": "nobody"})
    for body in (login, {**login, "device_token": tokens["device_token"]}):
        answer = await client.post("/login", json=body)
        assert (unknown.status_code, unknown.json()) == (answer.status_code, answer.json())
    assert "invalid_credentials" == await code_of(alice.disable())


async def test_a_deleted_account_leaves_its_names_and_nothing_else(
    client: Client, alice: Person, tokens: dict[str, Any], clock: MovableClock
) -> None:
    """No hash, role, factor or recovery code is left; the username and the `sub` stay reserved for ever."""
    parts = parts_of(client)
    await parts.administration.set_roles("alice", add="admin", by=OPERATOR)
    sub = (await acts_of(client).delete("alice", by=OPERATOR)).id
    row = await parts.database.fetch_one("SELECT * FROM users WHERE id = $1", sub)
    assert row is not None
    assert ("alice", "", "") == (row["username"], row["password_hash"], row["roles"])
    assert row["deleted_at"] == row["disabled_at"] == int(clock().timestamp())
    assert row["recovery_due_at"] is None
    assert [0, 0] == [await rows(client, table, sub) for table in ("totp_authenticators", "recovery_codes")]
    assert 0 == await rows(client, "recovery_budgets", sub, "id")
    live = await parts.database.fetch_one(
        "SELECT COUNT(*) AS n FROM sessions WHERE user_id = $1 AND ended_at IS NULL", sub
    )
    assert live is not None
    assert 0 == live["n"]
    event = await parts.database.fetch_one(
        "SELECT event FROM events WHERE user_id = $1 ORDER BY id DESC LIMIT 1", sub
    )
    assert event is not None
    assert "user.deleted" == event["event"]

    taken = await client.post("/signup", json={"username": "ALICE", "password": PASSWORD})
    assert (409, "username_taken") == (taken.status_code, taken.json()["code"])
    line = '{{"username": "{}", "password_hash": "{}", "sub": "{}"}}'
    known = "$2b$04$abcdefghijklmnopqrstuuIDlKXbhzwe.6XKrTDR1.G9jrbTyhYAe"
    lines = [line.format("alice", known, "another-sub-of-alice"), line.format("bob", known, sub)]
    progress = [entry async for entry in import_users(parts.database, parts.second_factors.totp, lines, parts.clock)]
    assert (0, 2) == (progress[-1].imported, sum(len(entry.refused) for entry in progress))


async def test_no_command_finds_a_deleted_account(client: Client, alice: Person) -> None:
    """Lists, exports, roles, enabling, resets and a second deletion report that the user does not exist."""
    parts, acts = parts_of(client), acts_of(client)
    await sign_up(client, parts.clock, "bob", mfa=False)
    sub = (await acts.delete("alice", by=OPERATOR)).id
    assert ["bob"] == [account.username for account in (await parts.administration.list_page(AccountFilter())).items]
    assert ["bob"] == [one.username async for one in acts.list_matching(AccountFilter())]
    exported = [line async for line in export_users(parts.database, parts.second_factors.totp, with_secrets=True)]
    assert (1, True) == (len(exported), '"bob"' in str(exported[0]))
    for refused in (
        parts.administration.set_roles("alice", add="admin", by=OPERATOR),
        parts.administration.set_disabled("alice", disabled=False, by=OPERATOR),
        parts.administration.set_disabled("alice", disabled=True, by=OPERATOR),
        parts.administration.reset_mfa("alice", by=OPERATOR),
        acts.set_password("alice", NEW, by=OPERATOR),
        acts.show("alice"),
        acts.show(sub),
        acts.delete("alice", by=OPERATOR),
        acts.delete(f"sub:{sub}", by=OPERATOR),
    ):
        with pytest.raises(NotFound):
            await refused
    assert await acts.deleted_at("Alice") == await acts.deleted_at(sub) is not None
    assert await acts.deleted_at("bob") is None
    assert 1 == (await guard_parts(parts, parts.clock)).users


async def test_a_deleted_account_cannot_be_enabled_by_any_statement(client: Client, alice: Person) -> None:
    """The schema forbids it, even if a later command forgets to check."""
    sub = (await acts_of(client).delete("alice", by=OPERATOR)).id
    with pytest.raises(Exception, match=r"(?i)check"):
        await parts_of(client).database.write_one(
            "UPDATE users SET disabled_at = NULL WHERE id = $1 RETURNING id", sub
        )


async def test_a_login_and_a_deletion_at_once(client: Client, clock: MovableClock) -> None:
    """In either order, no session outlives the deletion."""
    for number in range(8):
        person = await sign_up(client, clock, f"person{number}", mfa=False)
        sub = (await acts_of(client).get(person.username)).id
        answer, _ = await asyncio.gather(person.give_password(), acts_of(client).delete(person.username, by=OPERATOR))
        assert answer.status_code in {200, 401}
        if answer.status_code == 200:
            access = answer.json()["access_token"]
            assert 401 == (await client.get("/me", headers=bearer(access))).status_code
        assert "invalid_credentials" == await code_of(person.give_password())
        assert 0 == len((await parts_of(client).administration.list_page(AccountFilter())).items), sub


async def test_an_account_goes_by_its_username_or_its_sub(client: Client, clock: MovableClock) -> None:
    """A username that equals another user's `sub` is refused as ambiguous, or a command could hit the wrong user."""
    parts, acts = parts_of(client), acts_of(client)
    line = '{"username": "victim", "password_hash": "%s", "sub": "c0ffee00-1234-5678"}'
    known = "$2b$04$abcdefghijklmnopqrstuuIDlKXbhzwe.6XKrTDR1.G9jrbTyhYAe"
    async for _ in import_users(parts.database, parts.second_factors.totp, [line % known], parts.clock):
        pass
    assert "victim" == (await acts.get("c0ffee00-1234-5678")).username
    await sign_up(client, clock, "c0ffee00-1234-5678", mfa=False)
    with pytest.raises(ConfigurationError, match="sub:c0ffee00-1234-5678"):
        await acts.delete("c0ffee00-1234-5678", by=OPERATOR)
    assert "victim" == (await acts.get("sub:c0ffee00-1234-5678")).username
    assert "victim" == (await acts.get(" Victim ")).username


async def test_every_statement_on_users_says_whether_it_sees_deleted_accounts() -> None:
    """Each names the predicate, requires enabled users, uses a row just found, or is listed with a reason."""
    may_see = {
        "SELECT 1 AS one FROM users WHERE username = $1": "the username stays reserved",
        "SELECT 1 AS one FROM users WHERE id = $1": "the sub stays reserved, for clients too",
        "SELECT deleted_at FROM users": "searches for deleted accounts",
        "JOIN users u ON u.id = e.user_id": "the webhook reports the deletion",
        "JOIN users u ON u.id = f.user_id": "joins factors, and a deleted account has none",
        "users LEFT JOIN totp_authenticators f": "disabled_at IS NULL is in the next line",
        "FROM users WHERE users.id = sessions.user_id) AS": "columns of a session that was found to be live",
        "FROM users WHERE users.id = sessions.user_id AND ({named})": "the sessions of a deleted account have ended",
        "SET recovery_due_at = NULL WHERE id = $1": "a deleted account has no recovery",
        "SET password_hash = $1 WHERE id = $2 AND password_hash = $3": "the deleted hash equals no other",
        "UPDATE users SET disabled_at = $1, deletion_requested_at = NULL": "the row is locked",
        "AND {RESTORABLE}": "a deleted account has no deletion_due_at",
        "WHERE {_IS_DUE}": "it contains NOT_DELETED",
        "AND {_ENABLED}": "it is disabled_at IS NULL",
        "SET roles = $1, locale = $2 WHERE id = $3": "the account is new",
        "SET password_reset_at = NULL WHERE id = $1": "a login is admitted, and the row is locked",
        "address <> (SELECT username FROM users WHERE id = $1)": "part of deleting the account",
        "users.id = $2 AND users.username = $1": "the username stays reserved",
        "SET email = $1 WHERE id = $2": "the row is locked",
        "WHERE id = $1 AND new_email = $2 AND new_email_at = $3": "a deleted account has no new_email",
        "SET email = NULL, new_email = NULL, new_email_at = NULL WHERE id = $1": "the row is locked",
        "UPDATE users SET claims = $1 WHERE id = $2": "the row is locked, or the account is new",
        "UPDATE users SET roles = $1 WHERE id = $2": "the row is locked",
        "UPDATE users SET locale = $1 WHERE id = $2": "the row is locked",
        "SELECT id FROM users WHERE {_HAS_REMAINS}": "it looks for deleted accounts",
        "UPDATE users SET {EMPTIED} WHERE id = $1": "it empties the rows of deleted accounts",
        "UPDATE users SET epoch = CASE WHEN": "another credential version opens nothing",
        "SELECT users.epoch FROM users WHERE users.id = totp_authenticators.user_id": "a deleted account has none",
    }
    seen: set[str] = set()
    for file in (REPOSITORY / "service").rglob("*.py"):
        if "migrations" in file.parts:
            continue  # they see every row of the schema before them
        source = re.sub(r'"\s*\n\s*f?"', "", file.read_text("utf-8"))
        for line in source.splitlines():
            if re.search(r"(FROM|UPDATE|JOIN) users\b", line) is None or line.lstrip().startswith("#"):
                continue
            reasons = [statement for statement in may_see if statement in line]
            seen.update(reasons)
            is_guarded = "NOT_DELETED" in line or "disabled_at IS NULL" in line
            assert is_guarded or reasons, f"{file.name}: {line.strip()}"
    assert seen == set(may_see), "a reason is left without its statement"


async def test_a_database_of_the_version_before_is_migrated(tmp_path: Path) -> None:
    """No account in it is deleted."""
    settings = Settings(data_dir=tmp_path / "data")
    settings.make_data_dir()
    migrate(settings.resolved_database_url, to="0003")
    import sqlite3

    with sqlite3.connect(settings.sqlite_file) as database:
        database.execute("INSERT INTO users (id, username, password_hash, created_at) VALUES ('1', 'alice', 'x', 0)")
    migrate(settings.resolved_database_url)
    async with open_components(settings, hash_cost=CHEAPEST, timeouts=PATIENT) as parts:
        assert "1" == (await parts.administration.get("alice")).id
