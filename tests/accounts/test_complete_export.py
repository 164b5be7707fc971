"""The export of an account has every column of every table that has data of users, or this file says why not."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from service.messages import outbox
from service.messages.kinds import MessageKind
from service.origin import OPERATOR, Act
from service.storage.database import Row
from service.users import invitations
from tests.harness.addresses import ADDRESS, access_token, request_address
from tests.harness.clients import Client, Opener
from tests.harness.enrolment import recover
from tests.harness.people import PASSWORD, MovableClock, Person, secret_in, sign_up
from tests.harness.sessions import bearer, claims, refresh


@dataclass(frozen=True)
class Left:
    """Why a column is not in the export."""

    out_because: str


@dataclass(frozen=True)
class Shown:
    """The member of the export that has the value of a column, and how its form differs."""

    name: str
    write: Callable[[Any], Any] = lambda value: value


SECRET = "is a secret, or the form of one that the database can compare"
NUMBER = "is the number of the row, and says nothing about the user"
COPY = "is a copy of the `sub` or of the credential version of the account"
ENABLED = "is null: an account that is disabled or deleted has no export"
EVENT_NUMBER = "is the number of the event, whose name the export has"

BUDGET = {
    "failures": Shown("budget.failures"),
    "waits_until": Shown("budget.waits_until"),
    "recent_failures": Shown(
        "budget.recent_failures", lambda times: [int(times[at : at + 10]) for at in range(0, len(times), 10)]
    ),
}

COLUMNS: dict[str, dict[str, Shown | Left]] = {
    "users": {
        "id": Shown("sub"),
        "username": Shown("username"),
        "password_hash": Left(SECRET),
        "epoch": Shown("credential_version"),
        "roles": Shown("roles", str.split),
        "created_at": Shown("created_at"),
        "disabled_at": Left(ENABLED),
        "deleted_at": Left(ENABLED),
        "recovery_due_at": Shown("recovery_due_at"),
        "email": Shown("email"),
        "new_email": Shown("new_email"),
        "new_email_at": Shown("new_email_at"),
        "locale": Shown("locale"),
        "password_reset_at": Shown("password_reset_at"),
        "deletion_due_at": Shown("deletion_due_at"),
        "deletion_requested_at": Shown("deletion_requested_at"),
        "claims": Shown("claims", json.loads),
    },
    "totp_authenticators": {
        "id": Shown("id"),
        "user_id": Left(COPY),
        "epoch": Left(COPY),
        "secret": Left(SECRET),
        "created_at": Shown("created_at"),
        "confirmed_at": Shown("confirmed_at"),
        "last_step": Shown("last_step"),
        **BUDGET,
        "name": Shown("name"),
        "last_used_at": Shown("last_used_at"),
        "offset_steps": Shown("offset_steps"),
        "drift_steps": Shown("offset_seconds", lambda steps: steps * 30),
        "told_at": Shown("out_of_step_reported_at"),
        "is_weak": Shown("weak_secret", bool),
    },
    "recovery_codes": {
        "user_id": Left(COPY),
        "digest": Left(SECRET),
        "created_at": Shown("created_at"),
        "used_at": Shown("used_at"),
    },
    "recovery_budgets": {"id": Left(COPY), "sealed_key": Left(SECRET), **BUDGET},
    "sessions": {
        "id": Shown("sid"),
        "user_id": Left(COPY),
        "pending_jti": Left("is the number of a token that was used, and says nothing about the user"),
        "amr": Shown("amr", str.split),
        "acr": Shown("acr"),
        "auth_time": Shown("auth_time"),
        "created_at": Shown("created_at"),
        "last_used_at": Shown("last_used_at"),
        "expires_at": Shown("expires_at"),
        "ends_at": Shown("ends_at"),
        "generation": Shown("generation"),
        "replaced_at": Shown("replaced_at"),
        "raised": Shown("step_ups"),
        "ended_at": Shown("ended_at"),
        "ended_reason": Shown("ended_reason"),
        "address": Shown("address"),
        "user_agent": Shown("user_agent"),
    },
    "events": {
        "id": Left(NUMBER),
        "user_id": Left(COPY),
        "event": Shown("event"),
        "occurred_at": Shown("occurred_at"),
        "details": Shown("details", json.loads),
        "due_at": Left("is empty: a trigger moves it into the outbox"),
        "attempts": Left("is 0: a trigger moves it into the outbox"),
    },
    "outbox": {
        "id": Left(NUMBER),
        "kind": Shown("kind"),
        "recipient": Left(COPY),
        "transport": Shown("transport"),
        "event_id": Left(EVENT_NUMBER),
        "created_at": Shown("created_at"),
        "due_at": Shown("due_at"),
        "attempts": Shown("attempts"),
        "address": Shown("address"),
    },
    "invitations": {
        "id": Shown("id"),
        "email": Shown("email"),
        "locale": Shown("locale"),
        "roles": Shown("roles", str.split),
        "created_at": Shown("created_at"),
        "created_by": Shown("created_by"),
        "expires_at": Shown("expires_at"),
        "used_at": Shown("used_at"),
        "used_by": Left(COPY),
    },
    "addresses": {
        "address": Left("is the username or the confirmed address in lower case, which the export has"),
        "user_id": Left(COPY),
    },
    "subjects": {"id": Left(COPY)},
}
"""The tables that have data of users."""

OTHER_TABLES = {
    "signing_keys": "keys of the service",
    "clients": "registered clients, which are programs",
    "deliverer": "the leases by which one replica delivers",
    "alembic_version": "the revision of the schema",
    "sqlite_sequence": "the numbers of rows, which SQLite keeps",
}

ROWS = {
    "users": "users WHERE id = $1",
    "totp_authenticators": "totp_authenticators WHERE user_id = $1",
    "recovery_codes": "recovery_codes WHERE user_id = $1",
    "recovery_budgets": "recovery_budgets WHERE id = $1",
    "sessions": "sessions WHERE user_id = $1",
    "events": "events WHERE user_id = $1",
    "outbox": "outbox WHERE recipient = $1 AND transport = 'webhook'",
    "invitations": "invitations WHERE used_by = $1",
}
"""The rows of a user. Mail is delivered while the test runs, and there is no webhook."""


COLUMNS_OF = {
    "embedded": "SELECT m.name AS table_name, c.name AS column_name"
    " FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'",
    "production": "SELECT c.table_name, c.column_name FROM information_schema.columns c"
    " JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name"
    " WHERE c.table_schema = current_schema() AND t.table_type = 'BASE TABLE'",
}
"""Statements that list the columns of SQLite, and of PostgreSQL."""


async def test_every_column_is_exported_or_left_out_for_a_reason(client: Client, world: dict[str, Any]) -> None:
    """Who adds a table or a column decides whether the export of the account has it."""
    stores = "production" if "database_url" in world else "embedded"
    found: dict[str, set[str]] = {}
    for row in await client.parts.database.fetch_all(COLUMNS_OF[stores]):
        if row["table_name"] not in OTHER_TABLES:
            found.setdefault(row["table_name"], set()).add(row["column_name"])
    assert found == {name: set(columns) for name, columns in COLUMNS.items()}


def members(document: Any, table: str) -> list[Any]:
    """Return what the export has for the rows of this table."""
    members_of = {
        "users": [document["account"]],
        "totp_authenticators": document["authenticators"],
        "recovery_codes": document["recovery_code_times"],
        "recovery_budgets": [{"budget": document["recovery_budget"]}],
        "outbox": [item for item in document["deliveries"] if item["transport"] == "webhook"],
        "invitations": [document["invitation"]],
    }
    return list(members_of.get(table) or document[table])


def shown(row: Row, table: str) -> dict[str, Any]:
    """Return the members that the export has for this row."""
    columns = COLUMNS[table].items()
    return {to.name: to.write(row[column]) for column, to in columns if isinstance(to, Shown)}


def look_up(item: Any, name: str) -> Any:
    for part in name.split("."):
        item = item[part]
    return item


async def sign_up_invited(client: Client, clock: MovableClock) -> Person:
    made = await client.parts.invitations.create(
        Act(OPERATOR, clock()), email=ADDRESS, locale="de", roles=("tester",)
    )
    body = {"username": "alice", "password": PASSWORD, "enable_mfa": True, "invitation": made.token}
    answer = await client.post("/signup", json=body)
    assert 201 == answer.status_code
    return Person(client, clock, "alice", secret=secret_in(answer.json()["provisioning_uri"]))


async def fill(client: Client, clock: MovableClock) -> str:
    """Make an account that has something in each column; return an access token."""
    person = await sign_up_invited(client, clock)
    confirmed = (await person.log_in()).json()
    clock.next_step()
    rotated = (await refresh(client, confirmed["refresh_token"])).json()
    pending = await client.post("/step-up", headers=bearer(rotated["access_token"]))
    assert 200 == (await person.give_code(mfa_token=pending.json()["mfa_token"])).status_code
    assert 200 == (await recover(person, confirmed["recovery_codes"][0])).status_code
    clock.next_step()
    token = str((await person.log_in()).json()["access_token"])
    assert 204 == (await client.post("/logout", headers=bearer(rotated["access_token"]))).status_code
    for _ in range(5):
        assert 401 == (await person.give_code(person.wrong_code())).status_code
        assert 401 == (await recover(person, "AAAA-AAAA-AAAA-AAAA")).status_code
    assert 202 == (await request_address(client, token, "other@example.com")).status_code
    assert 202 == (await client.post("/recovery", json={"username": "alice", "password": PASSWORD})).status_code
    return token


async def add_what_other_versions_and_operators_leave(client: Client, sub: str) -> None:
    """Set claims, what a reset of the password and an older version leave, and what waits for a webhook."""
    async with client.parts.database.begin() as transaction:
        await transaction.execute(
            "UPDATE users SET claims = $1, password_reset_at = 1, deletion_due_at = 2, deletion_requested_at = 3"
            " WHERE id = $2",
            '{"tenant": "acme"}', sub,
        )  # fmt: skip
        await transaction.execute(
            "UPDATE totp_authenticators SET is_weak = 1, offset_steps = 12, drift_steps = 13, told_at = 4"
        )
        newest = await transaction.fetch_one("SELECT MAX(id) AS id FROM events WHERE user_id = $1", sub)
        assert newest is not None
        for put in (
            partial(outbox.put_event, recipient=sub),
            partial(outbox.put_message, kind=MessageKind.NEW_DEVICE, subject=sub),
        ):
            await put(transaction, newest["id"], transport=outbox.WEBHOOK, now=client.clock())
        await transaction.execute("UPDATE outbox SET attempts = 5 WHERE transport = $1", outbox.WEBHOOK)


async def test_an_export_has_the_value_of_every_column(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """The values are those of the rows, and no column of the test account is empty that the export could have."""
    async with open_client({**world, "signup": "invited", "recovery_delay": "72h"}) as client:
        token = await fill(client, clock)
        sub = claims(token)["sub"]
        await add_what_other_versions_and_operators_leave(client, sub)
        answer = await client.get("/me/export", headers=bearer(token))
        assert answer.status_code == 200
        document = answer.json()
        for table, condition in ROWS.items():
            rows = await client.parts.database.fetch_all(f"SELECT * FROM {condition}", sub)
            stored = [shown(row, table) for row in rows]
            names = [to.name for to in COLUMNS[table].values() if isinstance(to, Shown)]
            exported = [{name: look_up(item, name) for name in names} for item in members(document, table)]
            assert sorted(stored, key=repr) == sorted(exported, key=repr), table
            assert [name for name in names if not any(item[name] for item in exported)] == [], table


async def test_an_export_has_the_message_of_the_invitation_until_it_is_sent(
    client: Client, clock: MovableClock
) -> None:
    """It has the address of the user, and the invitation is its recipient."""
    person = await sign_up(client, clock, "alice", mfa=False)
    token = await access_token(person)
    act = Act(OPERATOR, clock())
    made = await client.parts.invitations.create(act, email=ADDRESS, locale=None, roles=())
    async with client.parts.database.begin() as transaction:
        await invitations.consume(transaction, made.invitation.id, user_id=claims(token)["sub"], now=clock())
        row = await transaction.fetch_one("SELECT MAX(id) AS id FROM events WHERE event = 'invitation.created'")
        assert row is not None
        await outbox.put_message(
            transaction, row["id"], MessageKind.INVITATION,
            subject=made.invitation.id, transport=outbox.WEBHOOK, now=clock(),
        )  # fmt: skip
    document = (await client.get("/me/export", headers=bearer(token))).json()
    waiting = [item for item in document["deliveries"] if item["transport"] == "webhook"]
    assert [(item["kind"], item["address"]) for item in waiting] == [("invitation", ADDRESS)]
