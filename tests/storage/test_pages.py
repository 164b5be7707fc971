"""Pages of long lists: each row once, cursors that nobody can forge, and lists that say where they end."""

import asyncio
import base64
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from service.accounts.administration import MAX_PAGE_SIZE, ROWS_PER_PAGE, AccountFilter
from service.cli import main
from service.components import Components, open_components
from service.errors import InvalidRequest
from service.origin import OPERATOR, Caller
from service.sessions import sessions
from service.sessions.sessions import MAX_LISTED_SESSIONS, PASSWORD, Lifetimes
from service.settings import Settings
from service.storage.database import Database
from service.storage.page import Cursors
from service.storage.sealing import Sealer
from service.users import listing, user_roles, users
from service.users.mfa_policy import MfaPolicy
from service.users.passwords import CHEAPEST
from tests.harness.databases import PATIENT
from tests.harness.people import MovableClock, real_clock
from tests.harness.servers import make_schema

SEALER = Sealer([b"1" * 32])
ACCOUNTS = Cursors(SEALER, "accounts")
NAMES = sorted(
    [*(f"user{number:02}" for number in range(20)), "a.b", "a@example.com", "ab-c", "ab~x@example.com", "zoe"]
)


@pytest.fixture
async def parts(world: dict[str, Any], clock: MovableClock) -> AsyncIterator[Components]:
    """A service with 25 accounts; every tenth has the role `cashier`."""
    settings = Settings(**world)
    if settings.database_url is None:
        make_schema(settings)
    async with open_components(settings, clock, hash_cost=CHEAPEST, timeouts=PATIENT) as opened:
        async with opened.database.begin() as transaction:
            for number, name in enumerate(NAMES):
                user = await users.add(transaction, name, "", clock())
                assert user is not None
                if number % 10 == 0:
                    await user_roles.change_roles(transaction, user, add="cashier", remove=None)
        yield opened


async def pages(
    parts: Components, chosen: AccountFilter, limit: int, *, rows_per_page: int = ROWS_PER_PAGE
) -> list[list[str]]:
    """Return the usernames of every page."""
    found, cursor = [], None
    while True:
        page = await parts.administration.list_page(chosen, limit=limit, cursor=cursor, rows_per_page=rows_per_page)
        found.append([account.username for account in page.items])
        cursor = page.next_cursor
        if cursor is None:
            return found


async def test_the_pages_are_the_list(parts: Components) -> None:
    """For every limit, each account is on one page, in order; only the last page has no successor."""
    for limit in (1, 2, 7, 24, 25, 26, MAX_PAGE_SIZE):
        found = await pages(parts, AccountFilter(), limit)
        assert [NAMES[start : start + limit] for start in range(0, 25, limit)] == found


@pytest.mark.parametrize(
    "prefix", ["user", "user1", "a", "ab", "ab~", "zoe", "zoe2", "\x7f", "\0", "\u00e9", "%", "_"]
)
async def test_a_prefix_is_the_beginning_of_a_username(parts: Components, prefix: str) -> None:
    """It is no pattern, and text that no username has matches none."""
    found = await pages(parts, AccountFilter(prefix=prefix), 3)
    assert [name for name in NAMES if name.startswith(prefix)] == [name for page in found for name in page]


async def test_a_search_reads_only_what_begins_with_the_prefix(embedded: dict[str, Any]) -> None:
    """On SQLite too, whose index serves one lower bound: not the users before the prefix, nor those behind it."""

    class Recording:
        async def fetch_all(self, sql: str, *parameters: object) -> list[Any]:
            self.statement, self.parameters = sql, {str(n): value for n, value in enumerate(parameters, 1)}
            return []

    settings, recording, steps = Settings(**embedded), Recording(), 0
    make_schema(settings)

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    with closing(sqlite3.connect(settings.sqlite_file)) as file:
        row = "INSERT INTO users (id, username, password_hash, created_at) VALUES ($1, $1, '', 0)"
        file.executemany(row, ({"1": f"user{number:04}"} for number in range(4000)))
        for after in ("", "user2003"):
            await listing.list_after(cast("Database", recording), after, prefix="user200", limit=100)
            file.set_progress_handler(count, 100)
            found = file.execute(recording.statement, recording.parameters).fetchall()
            file.set_progress_handler(None, 100)
            assert [f"user{number}" for number in range(2004 if after else 2000, 2010)] == [row[0] for row in found]
    assert steps < 20, "each is a hundred instructions, and a user takes at least five"


async def test_a_page_of_a_rare_match_may_be_empty(parts: Components) -> None:
    """A page reads a bounded number of rows; the cursor leads on, and no match is lost."""
    cashiers = [NAMES[0], NAMES[10], NAMES[20]]
    found = await pages(parts, AccountFilter(role="cashier"), 2, rows_per_page=4)
    assert [] in found
    assert cashiers == [name for page in found for name in page]
    matching = parts.administration.list_matching(AccountFilter(role="cashier"), rows_per_page=4)
    assert cashiers == [account.username async for account in matching]
    assert 7 == len(found), "25 rows, four for each page"


async def test_rows_that_come_and_go_move_no_other_row(parts: Components) -> None:
    """The account that the cursor names may be deleted: the next page begins after its username all the same."""
    first = await parts.administration.list_page(AccountFilter(), limit=10)
    await parts.administration.delete(NAMES[9], by=OPERATOR)
    await parts.administration.delete(NAMES[0], by=OPERATOR)
    async with parts.database.begin() as transaction:
        await users.add(transaction, "aaa", "", parts.clock())
    second = await parts.administration.list_page(AccountFilter(), limit=10, cursor=first.next_cursor)
    assert NAMES[10:20] == [account.username for account in second.items]


async def test_a_page_of_a_frequent_match_has_at_most_its_limit(parts: Components) -> None:
    """More rows are read than fit on the page: the cursor names the last one that is on it."""
    found = await pages(parts, AccountFilter(mfa="off"), 4)
    assert [NAMES[start : start + 4] for start in range(0, 25, 4)] == found


@pytest.mark.parametrize("limit", [0, -1, MAX_PAGE_SIZE + 1])
async def test_a_page_has_a_limit(parts: Components, limit: int) -> None:
    """It is 1 to 200."""
    with pytest.raises(InvalidRequest) as refused:
        await parts.administration.list_page(AccountFilter(), limit=limit)
    assert (("limit", "This must be 1 to 200"),) == refused.value.fields


async def test_a_cursor_is_refused_with_other_filters(parts: Components) -> None:
    """Otherwise a page would begin at a place that these filters never reached."""
    cursor = (await parts.administration.list_page(AccountFilter(prefix="user"), limit=1)).next_cursor
    for chosen in (AccountFilter(), AccountFilter(prefix="use"), AccountFilter(prefix="user", only_disabled=True)):
        with pytest.raises(InvalidRequest):
            await parts.administration.list_page(chosen, limit=1, cursor=cursor)


# --- cursors ---


@pytest.mark.parametrize("key", ["alice", "", "x" * 300, "\u00e9\u20ac"])
def test_a_cursor_gives_its_key_back(key: str) -> None:
    """It also does so after a rotation of the master secret."""
    cursor = ACCOUNTS.write(key, filters="f")
    assert key == ACCOUNTS.read(cursor, filters="f")
    assert key == Cursors(Sealer([b"2" * 32, b"1" * 32]), "accounts").read(cursor, filters="f")


def test_a_cursor_shows_nothing() -> None:
    """It stands in URLs, and so in the logs of proxies."""
    cursor = ACCOUNTS.write("alice@example.com", filters="f")
    assert b"alice" not in base64.urlsafe_b64decode(cursor + "==")
    assert cursor != ACCOUNTS.write("alice@example.com", filters="f")


GOOD = ACCOUNTS.write("alice", filters="f")
RAW = base64.urlsafe_b64decode(GOOD + "=" * (-len(GOOD) % 4))


OTHERS: dict[str, str] = {
    "empty": "",
    "a space": " ",
    "a name": "alice",
    "an offset": "100",
    "zero": "0",
    "padding": "====",
    "NUL": "\0",
    "not ASCII": "\u00e9",
    "a lone surrogate": "\ud800",
    "long": "x" * 100_000,
    "cut off": GOOD[:-2],
    "longer": GOOD + "AAAA",
    **{
        f"bit of byte {n}": base64.urlsafe_b64encode(RAW[:n] + bytes([RAW[n] ^ 1]) + RAW[n + 1 :]).decode()
        for n in range(len(RAW))
    },
    "another list": Cursors(SEALER, "events").write("alice", filters="f"),
    "another master secret": Cursors(Sealer([b"2" * 32]), "accounts").write("alice", filters="f"),
    "other filters": ACCOUNTS.write("alice", filters=""),
    "another purpose": base64.urlsafe_b64encode(
        SEALER.seal(b"alice", purpose="device", table="accounts", row="f")
    ).decode(),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_text_is_no_cursor(name: str) -> None:
    """The error says what to do, and does not repeat the text."""
    cursor = OTHERS[name]
    with pytest.raises(InvalidRequest) as refused:
        ACCOUNTS.read(cursor, filters="f")
    ((field, message),) = refused.value.fields
    assert "cursor" == field
    assert "Begin again without a cursor" in message
    assert len(cursor) < 10 or cursor not in message + str(refused.value)


def test_a_cursor_belongs_to_its_list() -> None:
    """Another list refuses it, even with the same filters."""
    with pytest.raises(InvalidRequest):
        Cursors(SEALER, "events").read(GOOD, filters="f")


# --- sessions ---


def test_a_list_of_sessions_says_that_it_is_not_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The 500 that were used last are listed; the command says that there may be more, and an end ends all."""
    settings = Settings(data_dir=tmp_path)
    make_schema(settings)
    lifetimes = Lifetimes(timedelta(days=30), timedelta(days=7))

    async def open_sessions(count: int) -> int:
        async with open_components(settings, real_clock, hash_cost=CHEAPEST, timeouts=PATIENT) as parts:
            user = await users.find(parts.database, "alice")
            async with parts.database.begin() as transaction:
                user = user or await users.add(transaction, "alice", "", real_clock())
                assert user is not None
                for _ in range(count):
                    await sessions.open_session(
                        transaction, user, amr=PASSWORD, caller=Caller("203.0.113.7"), lifetimes=lifetimes,
                        now=real_clock(),
                    )  # fmt: skip
            policy = MfaPolicy((), accepts_known_devices=False)
            return len(await sessions.list_live(parts.database, user.id, policy=policy, now=real_clock()))

    monkeypatch.setenv("KEYTURN_DATA_DIR", str(tmp_path))
    assert MAX_LISTED_SESSIONS - 1 == asyncio.run(open_sessions(MAX_LISTED_SESSIONS - 1))
    assert 0 == main(["users", "show", "alice"])
    assert f"sessions        {MAX_LISTED_SESSIONS - 1}\n" in capsys.readouterr().out
    assert MAX_LISTED_SESSIONS == asyncio.run(open_sessions(2))
    assert 0 == main(["users", "show", "alice"])
    assert f"sessions        {MAX_LISTED_SESSIONS}, or more: these were used last\n" in capsys.readouterr().out

    async def end_all() -> int:
        async with open_components(settings, real_clock, hash_cost=CHEAPEST, timeouts=PATIENT) as parts:
            user = await parts.administration.get("alice")
            async with parts.database.begin() as transaction:
                return await sessions.end_all(transaction, user.id, reason="disabled", now=real_clock())

    assert MAX_LISTED_SESSIONS + 1 == asyncio.run(end_all())
