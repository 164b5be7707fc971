"""Addresses, languages, links: `keyturn users add`, `show`, `{set,remove}-email`, `set-locale`, `reset-password`."""

import json
import sqlite3
from pathlib import Path

import pytest

from tests.harness.clients import Client
from tests.harness.commands import DONE, MISUSED, REFUSED, CommandOutput, Here, Invocation
from tests.harness.import_files import ANY_HASH
from tests.harness.people import PASSWORD

ADDRESS, NEW = "Alice@example.com", "new@example.com"
NOBODY = CommandOutput(REFUSED, "", "keyturn: there is no such user.\n")
DISABLED = CommandOutput(REFUSED, "", "keyturn: The account is disabled. Enable it first.\n")
SILENT = {"KEYTURN_MESSAGES": "off"}
NEW_PASSWORD = "an entirely new passphrase"


@pytest.fixture
def people(here: Here) -> Here:
    """alice has a confirmed address and a language, bob has neither, erin is disabled, zoe is deleted."""
    alice = {"username": "alice", "password_hash": ANY_HASH, "email": ADDRESS, "locale": "de", "sub": "a"}
    others = [
        {"username": "bob", "password_hash": ANY_HASH},
        {"username": "erin", "password_hash": ANY_HASH, "disabled": True, "email": "erin@example.com"},
        {"username": "zoe", "password_hash": ANY_HASH},
        {"username": "carol", "password_hash": ANY_HASH, "sub": "bob"},
    ]
    imported = here("users", "import", "-", given="\n".join(map(json.dumps, [alice, *others])))
    assert DONE == imported.status, imported.err
    assert DONE == here("users", "delete", "zoe", "--yes").status
    return here


def events(here: Here) -> list[tuple[str, str | None]]:
    """Return the events and their actors, without those of `people`."""
    with sqlite3.connect(Path(here.environment["KEYTURN_DATA_DIR"], "keyturn.sqlite3")) as database:
        rows = database.execute("SELECT event, details FROM events ORDER BY id").fetchall()
    found = [(event, json.loads(details).get("by")) for event, details in rows]
    return [one for one in found if one[0] not in {"user.imported", "user.deleted"}]


def letters(here: Here) -> int:
    """Return how many messages wait to be sent."""
    with sqlite3.connect(Path(here.environment["KEYTURN_DATA_DIR"], "keyturn.sqlite3")) as database:
        return int(database.execute("SELECT COUNT(*) FROM outbox").fetchone()[0])


COMMANDS = [("set-email", NEW), ("remove-email",), ("set-locale", "fr"), ("reset-password",)]


@pytest.mark.parametrize(("act", "more"), [(act, more) for act, *more in COMMANDS])
def test_an_account_that_a_name_does_not_give_is_refused(people: Here, act: str, more: list[str]) -> None:
    """There is none, it was deleted, or two accounts have the name: nothing is recorded, and nothing is sent."""
    unknown, no_name, deleted, two = people.run_all(
        *(Invocation(("users", act, name, *more)) for name in ("nobody", "no body", "zoe", "bob"))
    )
    assert [NOBODY] * 3 == [unknown, no_name, deleted]
    assert (MISUSED, "") == (two.status, two.out)
    assert "bob is the username of one account and the sub of another" in two.err
    assert ([], 0) == (events(people), letters(people))


def test_a_new_address_waits_for_its_confirmation(people: Here) -> None:
    """The former one stays until then. Messages go to both; the events name the operator."""
    first, second, shown, as_json, text = people.run_all(
        Invocation(("users", "set-email", "sub:bob", "carol@example.com")),
        Invocation(("users", "set-email", "ALICE", f" {NEW} ")),
        Invocation(("users", "show", "alice")),
        Invocation(("users", "show", "alice", "--json")),
        Invocation(("users", "show", "sub:bob")),
    )
    sentences = "A message with a link goes to {}. The account has the address once that link was used.\n"
    assert CommandOutput(DONE, sentences.format("carol@example.com"), "") == first
    assert CommandOutput(DONE, sentences.format(NEW) + f"Until then alice keeps {ADDRESS}.\n", "") == second
    lines = f"email           {ADDRESS}\nnew email       {NEW} (not confirmed)\nlocale          de\n"
    assert lines in shown.out
    assert "email           -\nnew email       carol@example.com (not confirmed)\nlocale          -\n" in text.out
    details = json.loads(as_json.out)
    assert (ADDRESS, NEW, "de") == (details["email"], details["new_email"], details["locale"])
    assert [("email.change_requested", "operator")] * 2 == events(people)
    assert 3 == letters(people), "carol's, and one to each address of alice"


@pytest.mark.parametrize(
    ("name", "address", "environment", "status", "sentence"),
    [
        ("alice", "nobody", {}, MISUSED, "keyturn: An e-mail address is like name@example.com"),
        ("alice", "", {}, MISUSED, "keyturn: An e-mail address is like name@example.com"),
        ("alice", ADDRESS.upper(), {}, MISUSED, "keyturn: address: This is the address of the account already.\n"),
        ("alice", NEW, SILENT, MISUSED, "keyturn: address: This service sends no messages: nobody could confirm"),
        ("erin", NEW, {}, REFUSED, DISABLED.err),
    ],
)
def test_an_address_that_cannot_be_is_refused(
    people: Here, name: str, address: str, environment: dict[str, str], status: int, sentence: str
) -> None:
    (refused,) = people.run_all(Invocation(("users", "set-email", name, address), "", environment))
    assert (status, "") == (refused.status, refused.out)
    assert refused.err.startswith(sentence)
    assert ([], 0) == (events(people), letters(people))


def test_the_language_of_a_user_is_changed(people: Here) -> None:
    """Without a language it is that of the service. What stays the same is no event; a disabled user has one, too."""
    first, again, erin, wrong, shown, removed, after = people.run_all(
        Invocation(("users", "set-locale", "ALICE", "pt-BR")),
        Invocation(("users", "set-locale", "alice", "pt-BR")),
        Invocation(("users", "set-locale", "erin", "de")),
        Invocation(("users", "set-locale", "alice", "deutsch!")),
        Invocation(("users", "show", "alice")),
        Invocation(("users", "set-locale", "alice")),
        Invocation(("users", "show", "alice", "--json")),
    )
    assert [CommandOutput(DONE, "Messages to alice are in pt-BR.\n", "")] * 2 == [first, again]
    assert "Messages to erin are in de.\n" == erin.out
    refused = "keyturn: locale: Write a language as its tag, such as de or pt-BR.\n"
    assert CommandOutput(MISUSED, "", refused) == wrong
    assert "locale          pt-BR\n" in shown.out
    assert "Messages to alice are in the language of the service.\n" == removed.out
    assert json.loads(after.out)["locale"] is None
    assert [("user.locale_changed", "operator")] * 3 == events(people)


def test_an_address_is_removed(people: Here) -> None:
    """A requested one too; a second removal changes nothing, and a disabled account may lose its address."""
    alice, again, requested, bob, erin, shown = people.run_all(
        Invocation(("users", "remove-email", "Alice")),
        Invocation(("users", "remove-email", "alice")),
        Invocation(("users", "set-email", "sub:bob", NEW)),
        Invocation(("users", "remove-email", "carol")),
        Invocation(("users", "remove-email", "erin")),
        Invocation(("users", "show", "alice", "--json")),
    )
    assert CommandOutput(DONE, "alice has no address any more.\n", "") == alice
    assert CommandOutput(DONE, "alice had no address.\n", "") == again
    assert [DONE] * 3 == [requested.status, bob.status, erin.status]
    assert "carol has no address any more.\n" == bob.out
    assert (None, None, "de") == tuple(json.loads(shown.out)[n] for n in ("email", "new_email", "locale"))
    names = ["email.removed", "email.change_requested", "email.removed", "email.removed"]
    assert [(name, "operator") for name in names] == events(people)


async def test_without_a_message_the_link_for_a_new_password_is_shown(people: Here, client: Client) -> None:
    """It is all of standard output, and works once. The user logs in with the new password."""
    no_address, silent = people.run_all(
        Invocation(("users", "reset-password", "carol")),
        Invocation(("users", "reset-password", "alice"), "", SILENT),
    )
    for shown, name in ((no_address, "carol"), (silent, "alice")):
        link, end = shown.out.split("#reset-password=")
        assert (DONE, "http://localhost:8000/account") == (shown.status, link)
        assert f"Give it to {name} only. It is valid until 20" in shown.err
        body = {"token": end.removesuffix("\n"), "new_password": NEW_PASSWORD}
        assert 204 == (await client.post("/password-reset/confirm", json=body)).status_code
        assert 401 == (await client.post("/password-reset/confirm", json=body)).status_code, "it works once"
        answer = await client.post("/login", json={"username": name, "password": NEW_PASSWORD})
        assert 200 == answer.status_code
    assert [("password.reset_requested", "operator")] * 2 == [one for one in events(people) if one[1] == "operator"]


def test_a_message_brings_the_link_for_a_new_password(people: Here) -> None:
    """Standard output has nothing then: a script takes what is there for the link."""
    sent, refused = people.run_all(
        Invocation(("users", "reset-password", "ALICE")), Invocation(("users", "reset-password", "erin"))
    )
    assert CommandOutput(DONE, "", "A message with the link goes to the confirmed address of alice.\n") == sent
    assert DISABLED == refused
    assert ([("password.reset_requested", "operator")], 1) == (events(people), letters(people))


def test_an_account_is_added_with_an_address_a_language_and_roles(here: Here) -> None:
    """The address waits for its confirmation; the events name the operator."""
    options = ("--email", f" {ADDRESS}", "--locale", "de-CH", "--role", "b", "--role", "a", "--role", "b")
    added, shown = here.run_all(
        Invocation(("users", "add", "Alice", *options), PASSWORD), Invocation(("users", "show", "alice", "--json"))
    )
    sentences = f"A message with a link goes to {ADDRESS}. The account has the address once that link was used.\n"
    assert CommandOutput(DONE, f"alice can log in.\n{sentences}", "") == added
    details = json.loads(shown.out)
    assert (None, ADDRESS, "de-CH", ["a", "b"]) == tuple(
        details[name] for name in ("email", "new_email", "locale", "roles")
    )
    names = ["signup", "user.roles_changed", "email.change_requested"]
    assert ([(name, "operator") for name in names], 1) == (events(here), letters(here))


@pytest.mark.parametrize(
    ("options", "environment", "sentence"),
    [
        (("--email", "nobody"), {}, "keyturn: An e-mail address is like name@example.com"),
        (("--email", ADDRESS), SILENT, "keyturn: --email: This service sends no messages: leave the address out.\n"),
        (("--locale", "de_DE.UTF-8"), {}, "keyturn: --locale: Write a language as its tag"),
        (("--locale", ""), {}, "keyturn: --locale: Write a language as its tag"),
        (("--role", "Admin"), {}, "keyturn: --role: "),
        (("--role", "a", "--role", ""), {}, "keyturn: --role: "),
        (tuple(f"--role={number}" for number in range(17)), {}, "keyturn: --role: "),
    ],
)
def test_an_account_with_such_an_option_is_not_added(
    here: Here, options: tuple[str, ...], environment: dict[str, str], sentence: str
) -> None:
    refused = here.run_all(Invocation(("users", "add", "alice", *options), PASSWORD, environment))[0]
    assert (MISUSED, "") == (refused.status, refused.out)
    assert refused.err.startswith(sentence)
    assert ([], NOBODY) == (events(here), here("users", "show", "alice"))


def test_the_lengths_of_passwords_are_those_of_the_given_roles(here: Here) -> None:
    """A role for which `KEYTURN_REQUIRE_MFA` demands a second factor makes fewer characters enough."""
    environment = {"KEYTURN_REQUIRE_MFA": "staff"}
    refused, added = here.run_all(
        Invocation(("users", "add", "alice"), "ten chars.", environment),
        Invocation(("users", "add", "alice", "--role", "staff"), "ten chars.", environment),
    )
    assert (REFUSED, DONE) == (refused.status, added.status), added.err
