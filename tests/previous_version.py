"""Write `tests/data/schema_NNNN.sql` and `.json`: a database of this version, and what its users hold.

    .venv/bin/python -m tests.previous_version

Run it on the last commit before a migration. The files stay as that commit wrote them: `test_previous_version.py`
migrates the rows and serves them, so that what the previous version gave to its users goes on working. The secrets
are of this file and of the users in it.
"""

import asyncio
import base64
import contextlib
import json
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from passlib.hash import bcrypt

from service.accounts.moving import import_users
from service.app import create_app
from service.components import opened
from service.origin import OPERATOR
from service.settings import Settings
from service.storage.database import SCHEMA
from service.storage.migrations import migrate
from service.users.passwords import CHEAPEST
from tests.harness.canaries import Watch
from tests.harness.clients import Client
from tests.harness.databases import PATIENT
from tests.harness.people import PASSWORD, MovableClock, Person, secret_in, sign_up
from tests.harness.servers import REPOSITORY
from tests.harness.sessions import bearer
from tests.harness.webhooks import SECRET as WEBHOOK_SECRET
from tests.harness.webhooks import Receiver, receiving

FOLDER = REPOSITORY / "tests" / "data"
MASTER_SECRET = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
TABLES = ("users", "totp_authenticators", "recovery_codes", "recovery_budgets", "sessions", "signing_keys", "clients",
          "subjects", "events", "outbox", "addresses", "invitations")  # fmt: skip
SETTLE_SECONDS = 1.1
"""Seconds after which every event that was read is delivered: `SETTLE_SECONDS` of the service, and some more."""
IMPORTED_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@dataclass
class Account:
    """What one user holds."""

    username: str
    password: str = PASSWORD
    secrets: tuple[str, ...] = ()
    """The secrets of the authenticators."""
    recovery_codes: tuple[str, ...] = ()
    refresh_token: str | None = None
    device_token: str | None = None
    mfa_token: str | None = None


def settings_of(url: str, **more: Any) -> dict[str, Any]:
    """Return the settings with which both versions serve; `url` is that of the webhook."""
    return {
        "master_secrets": MASTER_SECRET, "webhook_url": url, "webhook_secret": WEBHOOK_SECRET,
        "remember_device_days": 30, "access_ttl": 3600, "mfa_pending_ttl": 900, **more,
    }  # fmt: skip


async def deliver_all(parts: Any) -> None:
    """Run rounds of deliveries until one delivers nothing, although every event has settled."""
    await parts.housekeeping.deliver()
    await asyncio.sleep(SETTLE_SECONDS)
    while await parts.housekeeping.deliver():
        pass


async def make_accounts(client: Client, clock: MovableClock, receiver: Receiver) -> list[Account]:
    """Make a user of each kind, with the events of the last of them still due after one, two or no attempts."""
    parts = client.parts
    made: dict[str, Account] = {}

    async def add(username: str, *, mfa: bool) -> Person:
        person = await sign_up(client, clock, username, mfa=mfa)
        made[username] = Account(username, secrets=(person.secret,) if mfa else ())
        return person

    alone = await add("alone", mfa=False)
    made["alone"].refresh_token = (await alone.give_password()).json()["refresh_token"]
    enrolling = await add("enrolling", mfa=True)
    made["enrolling"].mfa_token = enrolling.mfa_token

    careful = await add("careful", mfa=True)
    confirmed = (await careful.confirm()).json()
    access, codes = confirmed["access_token"], confirmed["recovery_codes"]
    clock.next_step()
    addition = (
        await client.post("/enable-mfa", json={"password": PASSWORD, "name": "Tablet"}, headers=bearer(access))
    ).json()
    tablet = Person(client, clock, "careful", secret=secret_in(addition["provisioning_uri"]))
    assert 200 == (await tablet.give_code(mfa_token=addition["mfa_token"])).status_code
    clock.next_step()
    used = {"mfa_token": await careful.pending(), "recovery_code": codes[0]}
    assert 200 == (await client.post("/login-2fa", json=used)).status_code
    body = {"mfa_token": await careful.pending(), "otp": careful.code(), "remember_device": True}
    admitted = (await client.post("/login-2fa", json=body)).json()
    made["careful"] = Account(
        "careful", PASSWORD, (careful.secret, tablet.secret), tuple(codes),
        admitted["refresh_token"], admitted["device_token"],
    )  # fmt: skip

    lines = [
        json.dumps({"username": "imported", "password_hash": bcrypt.using(rounds=4).hash(PASSWORD)}),
        json.dumps(
            {
                "username": "moved",
                "password_hash": bcrypt.using(rounds=4).hash(PASSWORD),
                "totp_secret": IMPORTED_SECRET,
                "roles": ["staff"],
            }
        ),
    ]
    assert [2] == [
        progress.imported async for progress in import_users(parts.database, parts.second_factors.totp, lines, clock)
    ]
    made["imported"], made["moved"] = Account("imported"), Account("moved", secrets=(IMPORTED_SECRET,))

    lost = await add("lost", mfa=True)
    await lost.confirm()
    await deliver_all(parts)
    assert receiver.received

    receiver.status = 503
    clock.next_step()
    assert 202 == (await client.post("/recovery", json={"username": "lost", "password": PASSWORD})).status_code
    for _ in range(3):
        await careful.log_in(careful.wrong_code())
    await deliver_all(parts)  # a first attempt for one event of each user
    await add("disabled", mfa=True)
    await parts.administration.set_disabled("disabled", disabled=True, by=OPERATOR)
    clock.advance(seconds=2)
    await deliver_all(parts)  # a second attempt for some, the first for others
    await add("deleted", mfa=False)
    await parts.administration.delete("deleted", by=OPERATOR)
    clock.next_step()
    assert 200 == (await careful.give_password()).status_code
    assert 200 == (await careful.log_in()).status_code
    assert 200 == (await alone.give_password()).status_code
    return list(made.values())


@contextlib.asynccontextmanager
async def serving(settings: Settings, clock: MovableClock) -> AsyncIterator[Client]:
    """Open a service in this process without its background tasks."""
    app = create_app(settings, clock, hash_cost=CHEAPEST, timeouts=PATIENT)
    async with opened(app.state.parts), Client(app, clock, Watch()) as client:
        yield client


def dump(file: Path) -> str:
    """Return an INSERT statement for each row."""
    lines = []
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        for table in TABLES:
            cursor = database.execute(f"SELECT * FROM {table} ORDER BY rowid")
            names = ", ".join(column[0] for column in cursor.description)
            for row in cursor:
                values = ", ".join(database.execute("SELECT quote(?)", (value,)).fetchone()[0] for value in row)
                lines.append(f"INSERT INTO {table} ({names}) VALUES ({values});")
    return "\n".join(lines) + "\n"


async def make() -> tuple[str, dict[str, Any]]:
    """Return the rows as statements, and what users hold and the webhook is due to get."""
    clock = MovableClock()
    with tempfile.TemporaryDirectory() as folder, receiving() as receiver:
        settings = Settings(**settings_of(receiver.url, data_dir=Path(folder) / "data"))
        settings.make_data_dir()
        await asyncio.to_thread(migrate, settings.resolved_database_url)
        async with serving(settings, clock) as client:
            accounts = await make_accounts(client, clock, receiver)
            rows = dump(settings.sqlite_file)
            made_at = int(clock().timestamp())
            receiver.received.clear()
            receiver.status = 204
            clock.advance(seconds=10)
            delivered_at = int(clock().timestamp())
            await deliver_all(client.parts)
            deliveries = [
                {
                    "id": headers["webhook-id"],
                    "signature": headers["webhook-signature"],
                    "body": base64.b64encode(body).decode(),
                }
                for headers, body in receiver.received
            ]
    held = {
        "made_at": made_at,
        "delivered_at": delivered_at,
        "accounts": [asdict(account) for account in accounts],
        "deliveries": deliveries,
    }
    return rows, held


def main() -> None:
    rows, held = asyncio.run(make())
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"schema_{SCHEMA}.sql").write_text(rows, "utf-8")
    (FOLDER / f"schema_{SCHEMA}.json").write_text(json.dumps(held, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
