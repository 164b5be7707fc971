"""E-mail addresses: their syntax, and that one names one account."""

from pathlib import Path

import pytest

from service.origin import OPERATOR
from service.storage.database import Database
from service.users import addresses, users
from tests.harness.clients import Opener
from tests.harness.people import MovableClock, sign_up

ACCEPTED = [
    "a@b.cd",
    "Name.Sur+tag@Example.COM",
    "o'neil@mail.example.co.uk",
    "x@xn--bcher-kva.example",
    f"{'a' * 64}@example.com",
    " alice@example.com\n",
    "\u200balice@example.com",
]
REFUSED = [
    "",
    "alice",
    "@example.com",
    "alice@",
    "alice@localhost",
    "alice@example..com",
    "alice@-example.com",
    "alice@example.com.",
    ".alice@example.com",
    "alice.@example.com",
    "a..b@example.com",
    "a@b@example.com",
    '"a b"@example.com',
    "alice@[192.0.2.1]",
    "ali ce@example.com",
    "alice@example.com\r\nBcc: eve@example.com",
    "alice@example.com\x00",
    "\u0430lice@example.com",
    "alice@b\u00fccher.example",
    "Alice <alice@example.com>",
    "alice@example.com,eve@example.com",
    "a/b@example.com",
    "{a}@example.com",
    f"{'a' * 65}@example.com",
    f"a@{'b' * 63}.{'c' * 63}.com",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_an_address_is_accepted_without_white_space_around_it(text: str) -> None:
    """The case stays: only the comparison ignores it."""
    assert addresses.check_address(text) == text.strip(" \n\u200b")


@pytest.mark.parametrize("text", REFUSED)
def test_any_other_text_is_refused(text: str) -> None:
    """Quoted local parts, address literals, other alphabets, several addresses and line breaks are no address."""
    with pytest.raises(ValueError, match=r"name@example\.com"):
        addresses.check_address(text)


async def _claim(database: Database, address: str, user_id: str) -> bool:
    async with database.begin() as transaction:
        return await addresses.claim(transaction, address, user_id)


async def _release(database: Database, address: str, user_id: str) -> None:
    async with database.begin() as transaction:
        await addresses.release(transaction, address, user_id)


async def test_one_address_names_one_account_whatever_its_case(
    world: dict[str, object], open_client: Opener, clock: MovableClock
) -> None:
    """The first claim wins, the same account may claim again, and a released address is free."""
    async with open_client(world) as client:
        database = client.parts.database
        for name in ("alice", "bobby"):
            await sign_up(client, clock, name)
        alice, bob = [await users.find(database, name) for name in ("alice", "bobby")]
        assert alice is not None
        assert bob is not None
        assert await _claim(database, "Alice@Example.com", alice.id)
        assert await _claim(database, "alice@example.com", alice.id)
        assert not await _claim(database, "ALICE@example.com", bob.id)
        found = await users.find(database, "alice@example.com")
        assert found is not None
        assert found.id == alice.id
        await _release(database, "alice@EXAMPLE.com", bob.id)
        assert await users.find(database, "alice@example.com") is not None
        await _release(database, "alice@EXAMPLE.com", alice.id)
        assert await users.find(database, "alice@example.com") is None
        assert await _claim(database, "alice@example.com", bob.id)


async def test_a_username_that_is_an_address_cannot_be_claimed_or_released_by_another_account(
    world: dict[str, object], open_client: Opener, clock: MovableClock
) -> None:
    """A username and a confirmed address never name two accounts."""
    async with open_client(world) as client:
        database = client.parts.database
        await sign_up(client, clock, "alice@example.com")
        await sign_up(client, clock, "bobby")
        alice, bob = [await users.find(database, name) for name in ("alice@example.com", "bobby")]
        assert alice is not None
        assert bob is not None
        assert not await _claim(database, "Alice@example.com", bob.id)
        assert await _claim(database, "Alice@example.com", alice.id)
        await _release(database, "alice@example.com", alice.id)
        assert await users.find(database, "alice@example.com") is not None


async def test_a_confirmed_address_cannot_become_the_username_of_another_account(
    world: dict[str, object], open_client: Opener, clock: MovableClock
) -> None:
    """Sign-up answers as for a username that is taken."""
    async with open_client(world) as client:
        await sign_up(client, clock, "alice")
        alice = await users.find(client.parts.database, "alice")
        assert alice is not None
        assert await _claim(client.parts.database, "alice@example.com", alice.id)
        answer = await client.post(
            "/signup", json={"username": "Alice@example.com", "password": "correct horse battery"}
        )
        assert answer.status_code == 409
        assert answer.json()["code"] == "username_taken"


async def test_a_login_takes_a_confirmed_address_and_shares_the_rate_limit_of_the_username(
    world: dict[str, object], open_client: Opener, clock: MovableClock
) -> None:
    """An attacker who knows both names of an account has no more attempts than one who knows one of them."""
    async with open_client(world) as client:
        alice = await sign_up(client, clock, "alice", mfa=False)
        found = await users.find(client.parts.database, "alice")
        assert found is not None
        assert await _claim(client.parts.database, "alice@example.com", found.id)
        answer = await client.post("/login", json={"username": "Alice@Example.com", "password": alice.password})
        assert answer.status_code == 200
        statuses = []
        for name in ("alice", "alice@example.com") * 4:
            answer = await client.post("/login", json={"username": name, "password": "wrong password"})
            statuses.append(answer.status_code)
        assert statuses == [401] * 5 + [429] * 3


async def test_an_unknown_name_costs_as_many_reads_as_a_known_one(
    world: dict[str, object], open_client: Opener, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the duration of the refusal could tell which addresses have an account."""
    async with open_client(world) as client:
        database = client.parts.database
        fetch_one, reads = database.fetch_one, 0

        async def counted(sql: str, *parameters: object) -> object:
            nonlocal reads
            reads += " FROM users " in sql
            return await fetch_one(sql, *parameters)

        monkeypatch.setattr(database, "fetch_one", counted)
        disable = ("/disable-mfa", {"token": "000000"})
        for n, (path, more) in enumerate((("/login", {}), ("/login", {"device_token": "invalid"}), disable)):
            username = (await sign_up(client, clock, f"alice{n}", mfa=False)).username
            found = await users.find(database, username)
            assert found is not None
            assert await _claim(database, f"{username}@example.com", found.id)
            counts = []
            for name in (username, f"nobody{n}", f"{username}@example.com", f"nobody{n}@example.com"):
                before = reads
                answer = await client.post(path, json={"username": name, "password": "wrong password", **more})
                assert answer.status_code == 401
                counts.append(reads - before)
            assert counts == [1] * 4


async def test_a_deleted_account_keeps_its_username_and_frees_its_address(
    world: dict[str, object], open_client: Opener, clock: MovableClock, tmp_path: Path
) -> None:
    """A username that is an address stays reserved."""
    async with open_client(world) as client:
        database = client.parts.database
        for name in ("alice@example.com", "bobby"):
            await sign_up(client, clock, name)
        alice, bob = [await users.find(database, name) for name in ("alice@example.com", "bobby")]
        assert alice is not None
        assert bob is not None
        assert await _claim(database, "other@example.com", alice.id)
        await client.parts.administration.delete("alice@example.com", by=OPERATOR)
        assert await _claim(database, "other@example.com", bob.id)
        assert not await _claim(database, "alice@example.com", bob.id)
