"""`keyturn users list`, `show`, `set-password`, `set-claims` and `delete` as operators and scripts run them."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.commands import DONE, MISUSED, REFUSED, CommandOutput, Here, Invocation, run
from tests.harness.import_files import ANY_HASH
from tests.harness.people import PASSWORD
from tests.harness.servers import REPOSITORY, clean_environment, keyturn

NEW = "a passphrase by telephone"
NOBODY = CommandOutput(REFUSED, "", "keyturn: there is no such user.\n")


def with_people(here: Here) -> list[dict[str, object]]:
    """alice (unconfirmed second factor), bob (a role), carol (disabled), car.ol; as in `list --json`."""
    *_, listed = here.run_all(
        Invocation(("users", "add", "--mfa", "alice"), PASSWORD),
        Invocation(("users", "add", "bob"), PASSWORD),
        Invocation(("users", "add", "carol"), PASSWORD),
        Invocation(("users", "add", "car.ol"), PASSWORD),
        Invocation(("users", "role", "add", "bob", "admin")),
        Invocation(("users", "role", "add", "carol", "admin")),
        Invocation(("users", "disable", "carol")),
        Invocation(("users", "list", "--json")),
    )
    assert (DONE, "") == (listed.status, listed.err)
    return [json.loads(line) for line in listed.out.splitlines()]


FILTERS: list[tuple[tuple[str, ...], list[str]]] = [
    ((), ["alice", "bob", "car.ol", "carol"]),
    (("car",), ["car.ol", "carol"]),
    (("CARO",), ["carol"]),
    (("%",), []),
    (("car_ol",), []),
    (("--role", "admin"), ["bob", "carol"]),
    (("--role", "admi"), []),
    (("--disabled",), ["carol"]),
    (("--mfa", "asked"), ["alice"]),
    (("--mfa", "off"), ["bob", "car.ol", "carol"]),
    (("--mfa", "confirmed"), []),
    (("--role", "admin", "--disabled"), ["carol"]),
    (("b", "--role", "admin", "--mfa", "off"), ["bob"]),
]


def test_accounts_are_listed_by_filters_as_text_and_as_json(here: Here) -> None:
    """All given filters must match; text has a header and the `sub`, JSON is one object a line."""
    everybody = with_people(here)
    assert ["alice", "bob", "car.ol", "carol"] == [one["username"] for one in everybody]
    alice, bob, _, carol = everybody
    assert {"sub", "username", "created_at", "disabled", "mfa", "roles"} == set(alice)
    assert ("asked", False, []) == (alice["mfa"], alice["disabled"], alice["roles"])
    assert ("off", False, ["admin"]) == (bob["mfa"], bob["disabled"], bob["roles"])
    assert (True, ["admin"]) == (carol["disabled"], carol["roles"])
    assert 4 == len({one["sub"] for one in everybody})

    invocations = [Invocation(("users", "list", *arguments)) for arguments, _ in FILTERS]
    as_json = [Invocation(("users", "list", *arguments, "--json")) for arguments, _ in FILTERS]
    for (arguments, expected), text, lines in zip(
        FILTERS, here.run_all(*invocations), here.run_all(*as_json), strict=True
    ):
        header, *rows = text.out.splitlines()
        assert "SUB" in header
        assert expected == [row.split()[0] for row in rows], arguments
        assert expected == [json.loads(line)["username"] for line in lines.out.splitlines()], arguments
        assert all(str(one["sub"]) in text.out for one in everybody if one["username"] in expected)


def test_a_long_list_is_whole(here: Here, tmp_path: Path) -> None:
    """It lists more accounts than a page has, each once."""
    file = tmp_path / "people.jsonl"
    known = "$2b$04$abcdefghijklmnopqrstuuIDlKXbhzwe.6XKrTDR1.G9jrbTyhYAe"
    names = [f"user{number:04}" for number in range(1203)]
    file.write_text("".join(json.dumps({"username": name, "password_hash": known}) + "\n" for name in names))
    imported, listed, some = here.run_all(
        Invocation(("users", "import", str(file))),
        Invocation(("users", "list", "--json")),
        Invocation(("users", "list", "user11", "--json")),
    )
    assert DONE == imported.status, imported.err
    assert names == [json.loads(line)["username"] for line in listed.out.splitlines()]
    assert 100 == len(some.out.splitlines())


def test_one_account_is_shown(here: Here) -> None:
    """It is found by its username in any case or by its `sub`, shown as text and as JSON, and without any secret."""
    alice, bob, *_ = with_people(here)
    shown, by_sub, as_json, nobody = here.run_all(
        Invocation(("users", "show", "ALICE")),
        Invocation(("users", "show", str(alice["sub"]))),
        Invocation(("users", "show", "bob", "--json")),
        Invocation(("users", "show", "dora")),
    )
    assert shown == by_sub
    assert {
        "username": "alice",
        "state": "active",
        "roles": "-",
        "sub": str(alice["sub"]),
        "sessions": "0",
    }.items() <= {line.partition(" ")[0]: line[16:] for line in shown.out.splitlines()}.items()
    assert "authenticator   Authenticator: not confirmed" in shown.out
    details = json.loads(as_json.out)
    assert bob.items() <= details.items()
    assert ([], [], 0, None) == (
        details["authenticators"], details["sessions"], details["recovery_codes_left"], details["recovery_due_at"],
    )  # fmt: skip
    for output in (shown, as_json):
        assert "$argon2" not in output.out
        assert not re.search(r"[A-Z2-7]{32}", output.out), "a TOTP secret"
    assert NOBODY == nobody


def test_a_password_is_set_from_standard_input(here: Here) -> None:
    """The first line is the password. Weak and missing passwords and unknown users are refused, without an echo."""
    with_people(here)
    done, weak, none, unknown, control = here.run_all(
        Invocation(("users", "set-password", "Alice"), f"{NEW}\nmore\n"),
        Invocation(("users", "set-password", "alice"), "short\n"),
        Invocation(("users", "set-password", "alice")),
        Invocation(("users", "set-password", "dora"), f"{NEW}\n"),
        Invocation(("users", "set-password", "alice"), "bell\x07bell\x07\n"),
    )
    assert CommandOutput(DONE, "alice has a new password; every session has ended.\n", "") == done
    assert (REFUSED, "") == (weak.status, weak.out)
    assert "at least 8 characters" in weak.err
    assert MISUSED == none.status == control.status
    assert NOBODY == unknown
    assert NEW not in "".join(output.err for output in (weak, none, unknown, control))


def test_static_claims_are_set_from_an_argument(here: Here) -> None:
    """All are replaced. Text that is no object, and names that cannot be, are refused without a change."""
    with_people(here)
    given = '{"tenant": "acme", "n": 1}'
    none, done, shown, as_json, text, registered, unknown, kept, removed = here.run_all(
        Invocation(("users", "show", "alice")),
        Invocation(("users", "set-claims", "ALICE", given)),
        Invocation(("users", "show", "alice")),
        Invocation(("users", "show", "alice", "--json")),
        Invocation(("users", "set-claims", "alice", "tenant=s3cr3t")),
        Invocation(("users", "set-claims", "alice", '{"email": "s3cr3t"}')),
        Invocation(("users", "set-claims", "dora", given)),
        Invocation(("users", "show", "alice")),
        Invocation(("users", "set-claims", "alice", "{}")),
    )
    assert "static claims   -\n" in none.out
    assert CommandOutput(DONE, "alice has the static claims n, tenant.\n", "") == done
    assert 'static claims   {"n":1,"tenant":"acme"}\n' in shown.out
    assert json.loads(given) == json.loads(as_json.out)["claims"]
    assert MISUSED == text.status == registered.status
    assert "a JSON object" in text.err
    assert "email is a registered claim" in registered.err
    assert "s3cr3t" not in text.err + registered.err
    assert NOBODY == unknown
    assert shown == kept
    assert CommandOutput(DONE, "alice has no static claims.\n", "") == removed


def test_a_scheduled_deletion_is_shown_and_cancelled(here: Here) -> None:
    """It differs from what the operator disabled. Enabling cancels it, and disabling leaves it due."""
    with_people(here)
    record = {"username": "erin", "password_hash": ANY_HASH, "deletion_due_at": 4102444800}
    imported, listed, shown, as_json = here.run_all(
        Invocation(("users", "import", "-"), json.dumps(record)),
        Invocation(("users", "list", "erin")),
        Invocation(("users", "show", "erin")),
        Invocation(("users", "list", "erin", "--json")),
    )
    assert DONE == imported.status, imported.err
    assert " to delete " in listed.out
    assert "state           disabled by its user; will be deleted at 2100-01-01" in shown.out
    found = json.loads(as_json.out)
    assert (found["disabled"], found["deletion_due_at"], found["restorable"]) == (True, 4102444800, True)
    disabled, shown, exported, enabled, shown_again = here.run_all(
        Invocation(("users", "disable", "erin")),
        Invocation(("users", "show", "erin")),
        Invocation(
            (
                "users",
                "export",
            )
        ),
        Invocation(("users", "enable", "erin")),
        Invocation(("users", "show", "erin")),
    )
    assert "will still be deleted at 2100-01-01" in disabled.out
    assert "disabled by its user, and by an operator" in shown.out
    line = next(json.loads(line) for line in exported.out.splitlines() if "erin" in line)
    assert (line["disabled"], line["deletion_due_at"]) == (True, 4102444800)
    assert enabled.out == "erin is enabled.\nThe deletion that its user requested is cancelled.\n"
    assert "state           active" in shown_again.out


def test_a_deletion_asks_or_needs_yes(here: Here) -> None:
    """Without a terminal only `--yes` deletes; the username stays reserved, and `show` says why."""
    with_people(here)
    unconfirmed, deleted, again, shown, added, listed = here.run_all(
        Invocation(("users", "delete", "alice")),
        Invocation(("users", "delete", "Alice", "--yes")),
        Invocation(("users", "delete", "alice", "--yes")),
        Invocation(("users", "show", "alice")),
        Invocation(("users", "add", "alice"), PASSWORD),
        Invocation(("users", "list", "--json")),
    )
    assert (MISUSED, "") == (unconfirmed.status, unconfirmed.out)
    assert "Add --yes" in unconfirmed.err
    assert CommandOutput(DONE, "alice is deleted; the username stays reserved.\n", "") == deleted
    assert NOBODY == again
    assert (REFUSED, "") == (shown.status, shown.out)
    assert "was deleted at" in shown.err
    assert "reserved" in shown.err
    assert CommandOutput(REFUSED, "", "keyturn: This username is taken.\n") == added
    assert 3 == len(listed.out.splitlines())


def test_several_are_deleted_by_the_beginning_of_their_names(here: Here) -> None:
    """Only those are deleted. A short prefix, a prefix with a username, and neither of them are wrong usage."""
    with_people(here)
    wrong = [("--prefix", "ca"), ("--prefix", ""), ("alice", "--prefix", "car"), (), ("--prefix",)]
    *refused, nobody, deleted, listed = here.run_all(
        *(Invocation(("users", "delete", "--yes", *arguments)) for arguments in wrong),
        Invocation(("users", "delete", "--prefix", "c%r", "--yes")),
        Invocation(("users", "delete", "--prefix", "CAR", "--yes")),
        Invocation(("users", "list", "--json")),
    )
    assert [MISUSED] * len(wrong) == [output.status for output in refused]
    assert NOBODY == nobody
    assert "2 accounts are deleted, car.ol to carol; their usernames stay reserved.\n" == deleted.out
    assert ["alice", "bob"] == [json.loads(line)["username"] for line in listed.out.splitlines()]


@pytest.mark.parametrize(("typed", "status"), [("alice\n", DONE), ("y\n", REFUSED), ("\n", REFUSED)])
def test_at_a_terminal_the_username_is_typed(here: Here, typed: str, status: int) -> None:
    """Any other text deletes nothing."""
    with_people(here)
    controller, terminal = pty.openpty()
    os.write(controller, typed.encode())
    output = subprocess.run(
        [sys.executable, "-m", "service", "users", "delete", "alice"],
        env={**clean_environment(), **here.environment},
        cwd=REPOSITORY, stdin=terminal, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    os.close(controller)
    os.close(terminal)
    assert status == output.returncode, output.stderr
    assert "Delete alice (sub " in output.stderr
    assert (status == DONE) == ("is deleted" in output.stdout)
    assert status == DONE or "nothing was deleted" in output.stderr


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        (b"\x04", "No password was given."),
        (b"p\xe9ssword of a Latin-1 terminal\n", "Standard input is not text in the encoding utf-8."),
    ],
    ids=["Ctrl-D", "Latin-1"],
)
def test_at_a_terminal_a_password_that_cannot_be_read_is_refused(here: Here, typed: bytes, reason: str) -> None:
    """The end of the input and another encoding are errors with a reason, which quotes no part of the password."""
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "service", "users", "add", "judy"],
        env={**clean_environment(), **here.environment, "PYTHONIOENCODING": "utf-8"},
        cwd=REPOSITORY, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    ) as command:  # fmt: skip
        assert command.stderr is not None
        prompt = command.stderr.read(len("Password: "))  # what is typed before the prompt is thrown away
        os.write(controller, typed)
        _, error = command.communicate(timeout=60)
    os.close(controller)
    os.close(terminal)
    assert (b"Password: ", MISUSED) == (prompt, command.returncode), error
    assert f"keyturn: {reason}" == error.decode().strip()


@pytest.mark.parametrize("arguments", [("add", "judy"), ("set-password", "alice")], ids=" ".join)
def test_a_command_with_closed_standard_input_says_what_to_give(here: Here, arguments: tuple[str, ...]) -> None:
    """A shell closes it with `<&-`; the command then asks for a password in one sentence."""
    with_people(here)
    output = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-m", "service", "users", *arguments],
        env={**clean_environment(), **here.environment},
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (
        MISUSED,
        "keyturn: Standard input is closed. Give the password at a terminal or on its first line.\n",
    ) == (
        output.returncode,
        output.stderr,
    )


def test_a_data_folder_that_is_no_folder_is_named(tmp_path: Path) -> None:
    """The reason is that it cannot be read, not that it has no database yet."""
    (tmp_path / "file").touch()
    output = run("users", "list", environment={"KEYTURN_DATA_DIR": str(tmp_path / "file")})
    assert MISUSED == output.status
    assert "KEYTURN_DATA_DIR: " in output.err
    assert "cannot be read: Not a directory. Name a folder with the database." in output.err


def test_what_an_attack_left_is_deleted_by_the_command_that_it_prints(tmp_path: Path) -> None:
    """The printed command runs where the service runs and deletes no other account."""
    environment = {"KEYTURN_DATA_DIR": str(tmp_path / "data")}
    with keyturn(environment) as served:
        assert DONE == run("users", "add", "attack-er", given=PASSWORD.encode(), environment=environment).status
        attacked = run("attack", served.url, "--only", "confusion", environment=environment)
        (command,) = re.findall(r"keyturn (users delete --prefix attack-[0-9a-f]{8}-)$", attacked.out, re.MULTILINE)
        before = run("users", "list", "attack-", environment=environment).out.splitlines()
        deleted = run(*command.split(), "--yes", environment=environment)
        after = run("users", "list", "attack-", environment=environment).out.splitlines()
    assert len(before) > 3
    assert (DONE, "") == (deleted.status, deleted.err)
    assert f"{len(before) - 2} accounts are deleted" in deleted.out
    assert ["USERNAME", "attack-er"] == [line.split()[0] for line in after]


def test_an_attack_on_closed_sign_up_says_what_to_do(tmp_path: Path) -> None:
    """Nothing is broken and something was not tried: exit status 3, with the setting in the reason."""
    with keyturn({"KEYTURN_DATA_DIR": str(tmp_path / "data"), "KEYTURN_SIGNUP": "closed"}) as served:
        attacked = run("attack", served.url, "--only", "replay")
    assert 3 == attacked.status
    text = " ".join(attacked.out.split())
    assert "sign-up is closed, and the attack needs accounts: set KEYTURN_SIGNUP=open" in text
    assert " 0 held, 0 broken" in f" {text}"
    assert "No account was made." in text


def test_names_are_printed_in_any_encoding(here: Here) -> None:
    """A character that the output's encoding lacks is printed as an escape sequence, by every command."""
    added = here.run_all(Invocation(("users", "add", "bob"), PASSWORD))
    assert DONE == added[0].status
    name = "Zo\u00eb\u2019s phone"
    line = {
        "username": "alice",
        "password_hash": "$argon2id$v=19$m=8,t=1,p=1$b2YgYWxsIHRlc3QgcnVucw$"
        "odEbUIPr9i+jDCJpAi5PWEKcva0BvgG1nifb8N74OZI",
        "authenticators": [{"name": name, "totp_secret": "MFXCASCNIFBSA23FPEQG6ZRAGIYCAYTZ"}],
    }
    environment = {**clean_environment(), **here.environment, "PYTHONIOENCODING": "ascii"}

    def keyturn_in_ascii(*arguments: str, given: str = "") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "service", *arguments],
            input=given.encode(),
            env=environment,
            cwd=REPOSITORY,
            capture_output=True,
            check=False,
        )

    imported = keyturn_in_ascii("users", "import", "-", given=json.dumps(line))
    assert (DONE, b"1 imported, 0 refused.\n") == (imported.returncode, imported.stdout), imported.stderr
    shown = keyturn_in_ascii("users", "show", "alice")
    assert (DONE, b"") == (shown.returncode, shown.stderr)
    assert name.encode("ascii", "backslashreplace") in shown.stdout
    unknown = keyturn_in_ascii("users", "show", name)
    assert (REFUSED, b"keyturn: there is no such user.\n") == (unknown.returncode, unknown.stderr)
    unread = keyturn_in_ascii("users", "add", "carol", given="p\u00e4ssw\u00f6rter ohne Ende")
    assert (MISUSED, b"keyturn: Standard input is not text in the encoding ascii.\n") == (
        unread.returncode,
        unread.stderr,
    )


def test_every_command_on_an_account_takes_its_sub(here: Here) -> None:
    """A relying service knows the `sub` of a user and perhaps not the username."""
    alice, *_ = with_people(here)
    sub = str(alice["sub"])
    disabled, enabled, promoted, reset, unknown = here.run_all(
        Invocation(("users", "disable", sub)),
        Invocation(("users", "enable", f"sub:{sub}")),
        Invocation(("users", "role", "add", sub, "staff")),
        Invocation(("users", "reset-mfa", sub)),
        Invocation(("users", "disable", "sub:alice")),
    )
    assert "alice is disabled; every session has ended.\n" == disabled.out
    assert "alice is enabled.\n" == enabled.out
    assert promoted.out.startswith("alice has the roles staff.")
    assert reset.out.startswith("alice ha")
    assert (REFUSED, "keyturn: there is no such user.\n") == (unknown.status, unknown.err)
