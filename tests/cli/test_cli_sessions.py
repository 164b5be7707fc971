"""`keyturn users sessions` and `end-sessions`: sessions of the users of a running service."""

import json

import pytest

from tests.harness.addresses import access_token
from tests.harness.clients import Client
from tests.harness.commands import DONE, MISUSED, REFUSED, CommandOutput, Here, Invocation
from tests.harness.import_files import ANY_HASH
from tests.harness.people import MovableClock, sign_up
from tests.harness.sessions import bearer, claims, is_live

NOBODY = CommandOutput(REFUSED, "", "keyturn: there is no such user.\n")
NO_SESSION = CommandOutput(REFUSED, "", "keyturn: the user has no such session, or it has ended.\n")


async def test_sessions_are_listed_as_users_see_them(here: Here, client: Client, clock: MovableClock) -> None:
    """The last used comes first; JSON has the fields of the API, one session per line."""
    alice = await sign_up(client, clock, "alice", mfa=False)
    first = await access_token(alice)
    clock.advance(seconds=2)
    second = await access_token(alice)
    text, lines, shown = here.run_all(
        Invocation(("users", "sessions", "ALICE")),
        Invocation(("users", "sessions", "alice", "--json")),
        Invocation(("users", "show", "alice", "--json")),
    )
    own = (await client.get("/sessions", headers=bearer(second))).json()["sessions"]
    assert [True, False] == [session.pop("current") for session in own]
    listed = [json.loads(line) for line in lines.out.splitlines()]
    assert own == listed == json.loads(shown.out)["sessions"]
    header, *rows = text.out.splitlines()
    assert ["SID", "SINCE", "LAST", "USED", "EXPIRES", "AMR", "ADDRESS", "USER-AGENT"] == header.split()
    assert [claims(second)["sid"], claims(first)["sid"]] == [row.split()[0] for row in rows]
    assert all(own[0]["address"] in row for row in rows)
    assert [(DONE, "")] * 2 == [(output.status, output.err) for output in (text, lines)]


async def test_sessions_are_ended(here: Here, client: Client, clock: MovableClock) -> None:
    """One, then all, which revokes pending tokens; a session of another user is not found, nor one that has ended."""
    alice, bob = await sign_up(client, clock, "alice"), await sign_up(client, clock, "bob", mfa=False)
    first = (await alice.confirm()).json()["access_token"]
    clock.next_step()
    second = (await alice.log_in()).json()["access_token"]
    other, pending = await access_token(bob), await alice.pending()
    sid = claims(first)["sid"]
    wrong = [claims(other)["sid"], "0" * 22, "-", "", "\udcff"]
    refused = here.run_all(*(Invocation(("users", "end-sessions", "alice", f"--sid={text}")) for text in wrong))
    assert [NO_SESSION] * len(wrong) == refused
    one, again = here.run_all(*[Invocation(("users", "end-sessions", "alice", f"--sid={sid}"))] * 2)
    assert (CommandOutput(DONE, "One session of alice has ended.\n", ""), NO_SESSION) == (one, again)
    assert [False, True, True] == [await is_live(client, token) for token in (first, second, other)]
    every, none, listed = here.run_all(
        Invocation(("users", "end-sessions", "Alice")),
        Invocation(("users", "end-sessions", "alice")),
        Invocation(("users", "sessions", "alice")),
    )
    assert CommandOutput(DONE, "Every session of alice has ended.\n", "") == every == none
    assert 1 == len(listed.out.splitlines())
    assert [False, True] == [await is_live(client, token) for token in (second, other)]
    clock.next_step()
    assert 401 == (await alice.give_code(mfa_token=pending)).status_code
    rows = await client.parts.database.fetch_all(
        "SELECT details FROM events WHERE event = 'session.ended' ORDER BY id"
    )
    ended = [json.loads(row["details"]) for row in rows]
    assert {("operator", "ended_by_administrator")} == {(one["by"], one["reason"]) for one in ended}
    assert [(sid, None), (None, 1), (None, 0)] == [(one.get("sid"), one.get("sessions")) for one in ended]


@pytest.mark.parametrize("act", ["sessions", "end-sessions"])
def test_an_account_that_a_name_does_not_give_is_refused(here: Here, act: str) -> None:
    """There is none, it was deleted, or two accounts have the name."""
    people = [{"username": name, "password_hash": ANY_HASH} for name in ("bob", "zoe")]
    people.append({"username": "carol", "password_hash": ANY_HASH, "sub": "bob"})
    *_, unknown, deleted, two, second = here.run_all(
        Invocation(("users", "import", "-"), "\n".join(map(json.dumps, people))),
        Invocation(("users", "delete", "zoe", "--yes")),
        *(Invocation(("users", act, name)) for name in ("nobody", "zoe", "bob", "sub:bob")),
    )
    assert [NOBODY] * 2 == [unknown, deleted]
    assert (MISUSED, "") == (two.status, two.out)
    assert "bob is the username of one account and the sub of another" in two.err
    assert DONE == second.status
