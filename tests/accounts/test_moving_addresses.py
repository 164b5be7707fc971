"""E-mail addresses and languages in the files of accounts: `keyturn users export` and `import`."""

import asyncio
import json
from typing import Any

import pytest

from service.accounts.import_files import RejectedLine, read_lines
from service.accounts.import_records import read_record
from service.users import users
from tests.harness.addresses import reset_link, set_address
from tests.harness.clients import Client, Opener
from tests.harness.import_files import ANY_HASH, export_lines, import_lines, record
from tests.harness.people import PASSWORD, MovableClock, Person, secret_in, sign_up
from tests.harness.sessions import bearer

ADDRESS = "Ann@Example.com"
TAKEN = "the username, the email or the sub is taken: the account that has it is unchanged"


async def addresses_of(client: Client) -> dict[str, str]:
    """Return which account each address and each username with an `@` names."""
    rows = await client.parts.database.fetch_all("SELECT address, user_id FROM addresses")
    return {row["address"]: row["user_id"] for row in rows}


async def test_an_imported_address_is_a_confirmed_one(client: Client, clock: MovableClock) -> None:
    """Its user logs in with it, and gets links to reset the password, in their language."""
    assert (1, []) == await import_lines(client, clock, [record("ann", email=ADDRESS, locale="de", sub="1")])
    assert (await Person(client, clock, "ann@example.com").give_password()).status_code == 200
    user = await users.find(client.parts.database, "ann")
    assert user is not None
    assert (user.email, user.locale) == (ADDRESS, "de")
    assert (await client.post("/password-reset", json={"username": ADDRESS})).status_code == 202
    rows = await client.parts.database.fetch_all("SELECT recipient FROM outbox WHERE kind = 'password_reset'")
    assert ["1"] == [row["recipient"] for row in rows]


async def test_an_address_moves_along(
    world: dict[str, Any], open_client: Opener, clock: MovableClock, tmp_path: Any
) -> None:
    """An address that is not confirmed does not: its user requests it again."""
    async with open_client(world) as client:
        await set_address(client, await sign_up(client, clock, "alice", mfa=False))
        bob = {
            "username": "bob",
            "password": PASSWORD,
            "enable_mfa": False,
            "email": "bob@example.com",
            "locale": "fr",
        }
        assert (await client.post("/signup", json=bob)).status_code == 201
        lines = await export_lines(client, with_secrets=False)
    moved = {members["username"]: members for members in map(json.loads, lines)}
    assert (moved["alice"]["email"], moved["bob"].get("email"), moved["bob"]["locale"]) == (
        "alice@example.com", None, "fr",
    )  # fmt: skip
    async with open_client({"data_dir": tmp_path / "another"}) as client:
        assert (2, []) == await import_lines(client, clock, lines)
        before = await addresses_of(client)
        imported, refused = await import_lines(client, clock, lines)
        assert (0, {TAKEN}) == (imported, {entry.reason for entry in refused})
        assert {"alice@example.com": moved["alice"]["sub"]} == before == await addresses_of(client)
        assert sorted(lines) == sorted(await export_lines(client, with_secrets=False))


async def test_a_password_that_was_reset_starts_no_recovery_elsewhere(
    world: dict[str, Any], open_client: Opener, clock: MovableClock, tmp_path: Any
) -> None:
    """Law 17: a mailbox never replaces both factors. A login with the second factor ends this there as well."""
    async with open_client(world) as client:
        alice = await sign_up(client, clock, "alice", mfa=False)
        token = await set_address(client, alice)
        began = await client.post("/enable-mfa", json={"password": PASSWORD}, headers=bearer(token))
        alice.secret, alice.mfa_token = secret_in(began.json()["provisioning_uri"]), began.json()["mfa_token"]
        await alice.confirm()
        new = {"token": await reset_link(client), "new_password": "another correct horse"}
        assert (await client.post("/password-reset/confirm", json=new)).status_code == 204
        lines = await export_lines(client, with_secrets=True)
    alice.password = "another correct horse"
    async with open_client({"data_dir": tmp_path / "another", "recovery_delay": "72h"}) as client:
        assert (1, []) == await import_lines(client, clock, lines)
        alice.client = client
        for expected in (False, True):
            body = {"username": "alice", "password": alice.password}
            assert (await client.post("/recovery", json=body)).status_code == 202
            assert expected == ((await client.parts.administration.show("alice")).recovery_due_at is not None)
            clock.next_step()
            assert (await alice.log_in()).status_code == 200


@pytest.mark.parametrize(
    "line",
    [
        record("other", email="ann@EXAMPLE.com"),
        record("ann@example.com"),
        record("other", email="eve@example.com"),
        record("new@example.com", email="eve@example.com", sub="billing-02"),
        record("other", email="new@example.com", sub="1"),
        record("eve@example.com", email="new@example.com", sub="2"),
        record("ann", email="new@example.com", sub="billing-02"),
    ],
)
async def test_an_address_that_names_an_account_is_refused(client: Client, clock: MovableClock, line: str) -> None:
    """So is one that is a username. Nothing of the refused line stays, and a line after it may have what it left."""
    first = [record("ann", email=ADDRESS, sub="1"), record("eve@example.com", sub="2")]
    assert (2, []) == await import_lines(client, clock, first)
    before = await addresses_of(client)
    imported, (refused,) = await import_lines(client, clock, [line])
    assert (0, TAKEN) == (imported, refused.reason)
    assert before == await addresses_of(client)
    left = record("later", email="new@example.com", sub="billing-02")
    assert (1, []) == await import_lines(client, clock, [left])


async def test_one_address_in_two_lines_is_of_the_first(client: Client, clock: MovableClock) -> None:
    """The address may be the account's own username, in any case."""
    lines = [
        record("ann@example.com", email=ADDRESS),
        record("bob", email="b@example.com"),
        record("eve", email=ADDRESS),
    ]
    imported, refused = await import_lines(client, clock, lines)
    assert (2, [RejectedLine(3, TAKEN)]) == (imported, refused)
    assert {"ann@example.com", "b@example.com"} == set(await addresses_of(client))


async def test_two_imports_of_one_file_at_once(client: Client, clock: MovableClock) -> None:
    """Each account is imported once, with its address."""
    lines = [record(f"user{n}", email=f"user{n}@example.com", sub=str(n)) for n in range(30)]
    both = await asyncio.gather(*(import_lines(client, clock, lines) for _ in range(2)))
    assert 30 == sum(imported for imported, _ in both)
    assert {f"user{n}@example.com": str(n) for n in range(30)} == await addresses_of(client)


def test_addresses_and_languages_in_csv() -> None:
    """An empty cell is an absent field."""
    rows = ["username;password_hash;email;locale", f"ann;{ANY_HASH};{ADDRESS};de", f"bob;{ANY_HASH};;"]
    (_, ann), (_, bob) = (entry for entry in read_lines(rows) if not isinstance(entry, RejectedLine))
    assert (ann.email, ann.locale, bob.email, bob.locale) == (ADDRESS, "de", None, None)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"email": "ann"}, "email: An e-mail address is like"),
        ({"email": "ann@localhost"}, "email: An e-mail address is like"),
        ({"email": "ann@example.com\r\nBcc: eve@example.com"}, "email: An e-mail address is like"),
        ({"email": ""}, "email: An e-mail address is like"),
        ({"email": ["ann@example.com"]}, "email: Input should be a valid string"),
        ({"email": "a" * 120 + "@example.com"}, "email: An e-mail address is like"),
        ({"locale": "Deutsch!"}, "locale: Write a language as its tag"),
        ({"locale": "de\n"}, "locale: Write a language as its tag"),
    ],
)
def test_an_invalid_address_or_language_is_refused(fields: dict[str, Any], reason: str) -> None:
    """The reason does not quote it."""
    with pytest.raises(ValueError, match=reason) as refusal:
        read_record(record(**fields))
    assert "eve" not in str(refusal.value)
