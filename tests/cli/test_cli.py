"""The `keyturn` command as operators run it: a process with arguments and variables, its output and exit status."""

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from httpx2 import AsyncClient
from joserfc.jwk import ECKey, RSAKey

from service import VERSION
from service.storage.database import SCHEMA
from tests.harness.clients import SECRET, Client
from tests.harness.commands import DONE, MISUSED, REFUSED, CommandOutput, Here, Invocation, run, run_all
from tests.harness.people import PASSWORD, MovableClock, real_clock, sign_up
from tests.harness.ports import free_port
from tests.harness.servers import REPOSITORY, PostgreSQLServer, clean_environment, find_program, wait_until

# Usage

COMMANDS = [
    (),
    ("serve",),
    ("migrate",),
    ("users",),
    ("users", "add"),
    ("users", "list"),
    ("users", "disable"),
    ("users", "enable"),
    ("users", "reset-mfa"),
    ("users", "show"),
    ("users", "set-password"),
    ("users", "set-claims"),
    ("users", "set-email"),
    ("users", "remove-email"),
    ("users", "set-locale"),
    ("users", "reset-password"),
    ("users", "sessions"),
    ("users", "end-sessions"),
    ("users", "delete"),
    ("keys",),
    ("keys", "list"),
    ("keys", "export"),
    ("keys", "rotate"),
    ("keys", "revoke"),
    ("keys", "reseal"),
    ("users", "import"),
    ("users", "export"),
    ("users", "role"),
    ("users", "role", "add"),
    ("users", "role", "remove"),
    ("clients",),
    ("clients", "add"),
    ("clients", "list"),
    ("clients", "rotate-secret"),
    ("clients", "remove"),
]


def test_a_command_in_the_wrong_folder_says_so(tmp_path: Path) -> None:
    """It creates no second database there, and no second master secret."""
    output = run("users", "list", environment={"KEYTURN_DATA_DIR": str(tmp_path / "elsewhere")})
    assert (MISUSED, "") == (output.status, output.out)
    assert f"There is no database at {tmp_path}/elsewhere/keyturn.sqlite3" in output.err
    assert not (tmp_path / "elsewhere").exists()


def test_every_command_explains_itself() -> None:
    """`--help` of each describes it and lists its options; no password is ever an argument."""
    for command, output in zip(
        COMMANDS, run_all(Invocation((*command, "--help")) for command in COMMANDS), strict=True
    ):
        assert (DONE, "") == (output.status, output.err), command
        assert output.out.startswith("usage: keyturn"), command
        assert len(output.out.splitlines()) > 4, command
        for below in COMMANDS:
            if command == below[:-1] != below:
                assert re.search(rf"^ +{below[-1]}\s+\w", output.out, re.MULTILINE), below
        assert not re.search(r"--\w*(password|secret|otp)", output.out), command


def test_wrong_usage_is_reported_on_standard_error() -> None:
    """A missing or unknown command, too few or too many arguments, or a wrong type: status 2, and no output."""
    wrong = [
        (),
        ("users",),
        ("serv",),
        ("users", "add"),
        ("users", "add", "alice", "bob"),
        ("users", "add", "alice", "--password", "x"),
        ("serve", "--port", "http"),
        ("keys", "list", "now"),
    ]
    for command, output in zip(wrong, run_all(map(Invocation, wrong)), strict=True):
        assert (MISUSED, "") == (output.status, output.out), command
        assert "usage: keyturn" in output.err, command


def test_the_version_is_printed() -> None:
    """`--version` is useful in bug reports."""
    assert CommandOutput(DONE, f"keyturn {VERSION}\n", "") == run("--version")


WRONG: list[tuple[tuple[str, ...], dict[str, str], str]] = [
    (("serve",), {"KEYTURN_PROT": "8000"}, "KEYTURN_PROT"),
    (("users", "list"), {"KEYTURN_PROT": "8000"}, "KEYTURN_PROT"),
    (("migrate",), {"KEYTURN_MASTER_SECRET": "s3cr3t"}, "KEYTURN_MASTER_SECRET"),
    (("serve", "--workers", "2"), {}, "KEYTURN_WORKERS is 2, which needs KEYTURN_DATABASE_URL and KEYTURN_REDIS_URL"),
    (("serve",), {"KEYTURN_WORKERS": "2"}, "SQLite has one writer"),
    (("serve", "--port", "65536"), {}, "KEYTURN_PORT"),
    (("serve",), {"KEYTURN_MASTER_SECRETS": "s3cr3t"}, "master secret"),
    (("keys", "list"), {"KEYTURN_MASTER_SECRETS": "s3cr3t"}, "master secret"),
    (("users", "list"), {"KEYTURN_REDIS_URL": "redis:6379"}, "KEYTURN_REDIS_URL"),
    (("users", "list"), {"KEYTURN_REDIS_URL": "redis://:s3cr3t@redis:port"}, "KEYTURN_REDIS_URL"),
    (("users", "list"), {"KEYTURN_REDIS_URL": "redis+sentinel://:s3cr3t@sentinel/keyturn"}, "KEYTURN_REDIS_URL"),
    (("serve",), {"KEYTURN_REDIS_URL": "redis://:s3cr3t@redis/0?family=6"}, "the option family"),
    (("doctor",), {"KEYTURN_REDIS_URL": "redis://:s3cr3t@redis/0?ssl_cert_reqs=none"}, "the option ssl_cert_reqs"),
    (("migrate",), {"KEYTURN_REDIS_URL": "redis+sentinel://:s3cr3t@one:1/m?nonsense=1"}, "the option nonsense"),
    (
        ("keys", "list"),
        {"KEYTURN_REDIS_URL": "rediss://:s3cr3t@redis?ssl_ca_certs=/no/ca.pem"},
        "/no/ca.pem cannot be read",
    ),
    (("serve",), {"KEYTURN_REDIS_URL": "rediss+cluster://:s3cr3t@one:1?ssl_certfile=/no/c.pem"}, "/no/c.pem"),
    (
        ("users", "list"),
        {"KEYTURN_DATABASE_URL": "postgresql://k:s3cr3t@db:port/k", "KEYTURN_MASTER_SECRETS": SECRET},
        "KEYTURN_DATABASE_URL",
    ),
    (
        ("migrate",),
        {"KEYTURN_DATABASE_URL": "postgresql://k:s3cr3t@db:port/k", "KEYTURN_MASTER_SECRETS": SECRET},
        "KEYTURN_DATABASE_URL",
    ),
]


def test_wrong_settings_do_not_start(tmp_path: Path) -> None:
    """Exit status 2 and a sentence with the setting's name, which contains no secret."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "keyturn.sqlite3").touch()
    usual = {"KEYTURN_DATA_DIR": str(tmp_path / "data"), "KEYTURN_PORT": "0"}  # port 8000 may be in use
    invocations = [Invocation(arguments, "", {**usual, **environment}) for arguments, environment, _ in WRONG]
    for (arguments, environment, sentence), output in zip(WRONG, run_all(invocations), strict=True):
        assert (MISUSED, "") == (output.status, output.out), (arguments, environment)
        assert output.err.splitlines()[-1].startswith("keyturn: ")
        assert sentence in output.err
        assert "s3cr3t" not in output.err


# Accounts


def test_an_account_is_added_with_a_password_from_standard_input(here: Here) -> None:
    """The password is the first line, with or without a line end; the username is folded; the list then has it."""
    before, added, other, after = here.run_all(
        Invocation(("users", "list")),
        Invocation(("users", "add", "Alice"), f"{PASSWORD}\nand more\n"),
        Invocation(("users", "add", "bob", "--mfa"), PASSWORD),
        Invocation(("users", "list")),
    )
    assert (DONE, 1) == (before.status, len(before.out.splitlines()))
    assert CommandOutput(DONE, "alice can log in.\n", "") == added
    assert DONE == other.status
    lines = after.out.splitlines()
    assert ["USERNAME", "SINCE", "STATE", "MFA", "SUB", "ROLES"] == lines[0].split()
    assert ["alice", "active", "off"] == [lines[1].split()[n] for n in (0, 2, 3)]
    assert ["bob", "active", "asked"] == [lines[2].split()[n] for n in (0, 2, 3)]
    since = datetime.strptime(lines[1].split()[1], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert abs(since.timestamp() - time.time()) < 60


BAD: list[tuple[str, str, int, str]] = [
    ("alice", "short\n", REFUSED, "at least 15 characters"),
    ("alice", "password1\n", REFUSED, "commonly used"),
    ("alice.liddell", "Alice.Liddell\n", REFUSED, "the username"),
    ("alice", "", MISUSED, "no password"),
    ("alice", "\n", MISUSED, "no password"),
    ("alice", "bell\x07bell\x07bell\n", MISUSED, "control characters"),
    ("alice", "x" * 1025, MISUSED, "1024 bytes"),
    ("al", f"{PASSWORD}\n", MISUSED, "3 to 64 characters"),
    ("alice liddell", f"{PASSWORD}\n", MISUSED, "3 to 64 characters"),
    ("\u0430lice", f"{PASSWORD}\n", MISUSED, "3 to 64 characters"),
]


def test_an_invalid_account_is_refused(here: Here) -> None:
    """A weak, missing or undecodable password or an invalid name is refused with the reason, and is not repeated."""
    *answers, listed = here.run_all(
        *(Invocation(("users", "add", username), given) for username, given, _, _ in BAD),
        Invocation(("users", "list")),
    )
    for (username, given, status, sentence), output in zip(BAD, answers, strict=True):
        assert (status, "") == (output.status, output.out), (username, given)
        assert output.err.startswith("keyturn: ")
        assert sentence in output.err
        assert len(given.strip()) < 2 or given.strip() not in output.err
    assert 1 == len(listed.out.splitlines())


def test_a_password_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    """This holds under a UTF-8 locale and under the old C locale."""
    for locale in ("C.UTF-8", "C"):
        environment = {"KEYTURN_DATA_DIR": str(tmp_path), "LC_ALL": locale}
        environment |= {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        output = run("users", "add", "alice", given=b"caf\xe9 caf\xe9 caf\xe9\n", environment=environment)
        assert (MISUSED, "") == (output.status, output.out)
        assert output.err.startswith("keyturn: ")


def test_a_username_is_taken_once(here: Here) -> None:
    """In any spelling it is refused with 1, and the first account does not change."""
    first, second, listed = here.run_all(
        Invocation(("users", "add", "alice"), PASSWORD),
        Invocation(("users", "add", "ALICE"), "another good password"),
        Invocation(("users", "list")),
    )
    assert DONE == first.status
    assert CommandOutput(REFUSED, "", "keyturn: This username is taken.\n") == second
    assert 2 == len(listed.out.splitlines())


def test_an_unknown_user_is_reported(here: Here) -> None:
    """Every command exits with 1 and prints one sentence."""
    acts = [(act, name) for act in ("disable", "enable", "reset-mfa") for name in ("nobody", "no body")]
    output = here.run_all(*(Invocation(("users", *act)) for act in acts))
    assert [CommandOutput(REFUSED, "", "keyturn: there is no such user.\n")] * 6 == output


def test_a_name_may_look_like_an_option(here: Here) -> None:
    """Usernames may begin with a dash. The refusal says how to write such a name, and this form works."""
    refused, added, disabled = here.run_all(
        Invocation(("users", "add", "-bob"), PASSWORD),
        Invocation(("users", "add", "--", "-bob"), PASSWORD),
        Invocation(("users", "disable", "--", "-bob")),
    )
    assert (MISUSED, "") == (refused.status, refused.out)
    assert "goes last, after --" in refused.err
    assert [DONE, DONE] == [added.status, disabled.status]


async def test_an_added_account_logs_in(here: Here, client: AsyncClient) -> None:
    """The service runs on the same database; with `--mfa` the first login shows the QR code."""
    added = here("users", "add", "alice", given=f"{PASSWORD}\n")
    assert CommandOutput(DONE, "alice can log in.\n", "") == added
    answer = await client.post("/login", json={"username": "alice", "password": PASSWORD})
    assert (200, False) == (answer.status_code, answer.json()["mfa_required"])
    assert "first login shows the QR code" in here("users", "add", "bob", "--mfa", given=f"{PASSWORD}\n").out
    answer = await client.post("/login", json={"username": "bob", "password": PASSWORD})
    assert (True, False) == (answer.json()["mfa_required"], answer.json()["mfa_confirmed"])
    picture = await client.get("/qrcode/bob", headers={"Authorization": f"Bearer {answer.json()['mfa_token']}"})
    assert "image/png" == picture.headers["content-type"]


async def test_events_of_commands_name_the_operator(here: Here, client: Client) -> None:
    """Of every command that changes an account or a client."""
    here("users", "add", "alice", given=f"{PASSWORD}\n")
    here("users", "disable", "alice")
    here("users", "enable", "alice")
    here("users", "role", "add", "alice", "staff")
    here("users", "reset-mfa", "alice")
    here("users", "set-password", "alice", given=f"{PASSWORD} again\n")
    here("clients", "add", "billing")
    here("clients", "rotate-secret", "billing")
    here("clients", "remove", "billing")
    rows = await client.parts.database.fetch_all("SELECT event, details FROM events ORDER BY id")
    assert [
        *("signup", "user.disabled", "user.enabled", "user.roles_changed", "mfa.reset", "password.changed"),
        *("client.added", "client.secret_rotated", "client.removed"),
    ] == [row["event"] for row in rows]
    assert {"operator"} == {json.loads(row["details"]).get("by") for row in rows}


async def test_a_disabled_account_is_refused_until_it_is_enabled(
    here: Here, client: AsyncClient, clock: MovableClock
) -> None:
    """From the next request on no login works, nor the second step of a login that began before."""
    alice = await sign_up(client, clock)
    await alice.confirm()
    clock.next_step()
    pending = await alice.pending()
    assert CommandOutput(DONE, "alice is disabled; every session has ended.\n", "") == here(
        "users", "disable", "Alice"
    )
    assert "invalid_credentials" == (await alice.give_password()).json()["code"]
    assert "invalid_token" == (await alice.give_code(mfa_token=pending)).json()["code"]
    assert " disabled " in here("users", "list").out.splitlines()[1]
    assert CommandOutput(DONE, "alice is enabled.\n", "") == here("users", "enable", "alice")
    assert "invalid_token" == (await alice.give_code(mfa_token=pending)).json()["code"]
    clock.advance(seconds=60)
    assert 200 == (await alice.log_in()).status_code
    assert " active " in here("users", "list").out.splitlines()[1]


async def test_a_lost_second_factor_is_removed(here: Here, client: AsyncClient, clock: MovableClock) -> None:
    """The password alone is then enough, old code and recovery codes are void, and the user may enrol again."""
    alice = await sign_up(client, clock)
    codes = (await alice.confirm()).json()["recovery_codes"]
    clock.next_step()
    pending = await alice.pending()
    output = here("users", "reset-mfa", "alice")
    assert (DONE, "") == (output.status, output.err)
    assert "no second factor any more" in output.out
    for body in ({"otp": alice.code()}, {"recovery_code": codes[0]}):
        answer = await client.post("/login-2fa", json={"mfa_token": pending, **body})
        assert "invalid_token" == answer.json()["code"]
    answer = (await alice.give_password()).json()
    assert answer["mfa_required"] is False
    again = await client.post(
        "/enable-mfa",
        json={"password": PASSWORD},
        headers={"Authorization": f"Bearer {answer['access_token']}"},
    )
    assert 200 == again.status_code
    assert here("users", "reset-mfa", "alice").out.startswith("alice has no second factor any more")
    assert here("users", "reset-mfa", "alice").out.startswith("alice had no second factor")


def test_a_list_may_be_cut_short(here: Here) -> None:
    """`keyturn users list | head -1` does not report a broken pipe."""
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "users", "list"],
        env={**clean_environment(), **here.environment},
        cwd=REPOSITORY,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert "" == process.communicate(timeout=60)[1]


def test_a_username_is_folded_as_at_the_edge(here: Here) -> None:
    """With a space, a no-break space or a byte-order mark around it, and in any case, it names the same user."""
    added, disabled, enabled, reset, role = here.run_all(
        Invocation(("users", "add", " Alice"), PASSWORD),
        Invocation(("users", "disable", "alice ")),
        Invocation(("users", "enable", "\ufeffALICE")),
        Invocation(("users", "reset-mfa", "alice\u00a0")),
        Invocation(("users", "role", "add", "\u200balice\n", "staff")),
    )
    assert CommandOutput(DONE, "alice can log in.\n", "") == added
    assert CommandOutput(DONE, "alice is disabled; every session has ended.\n", "") == disabled
    assert CommandOutput(DONE, "alice is enabled.\n", "") == enabled
    assert CommandOutput(DONE, "alice had no second factor; every session has ended.\n", "") == reset
    assert CommandOutput(DONE, "alice has the roles staff.\n", "") == role


# Keys


def test_keys_are_listed_and_rotated(here: Here) -> None:
    """The first key signs; a rotation publishes the next; another rotation is refused with 1 until that one signs."""
    before, rotated, after, again, unchanged = here.run_all(
        Invocation(("keys", "list")),
        Invocation(("keys", "rotate"), environment={"KEYTURN_SIGNING_ALGORITHM": "EdDSA"}),
        Invocation(("keys", "list")),
        Invocation(("keys", "rotate")),
        Invocation(("keys", "list")),
    )
    rows = before.out.splitlines()
    assert ["KID", "ALG", "SIGNS", "FROM", "UNTIL", "STATE"] == rows[0].split()
    first = rows[1].split()
    assert (["ES256"], ["-", "signing"]) == (first[1:2], first[3:])
    assert (DONE, "") == (rotated.status, rotated.err)
    rows = after.out.splitlines()
    assert 3 == len(rows)
    new = rows[2].split()
    assert (first[0], "signing") == (rows[1].split()[0], rows[1].split()[-1])
    assert ["EdDSA", "-", "next"] == [new[1], new[3], new[4]]
    assert rows[1].split()[3] == new[2], "one key signs until the next one does"
    assert rotated.out == f"{new[0]} is published and signs from {new[2]}.\n"
    assert CommandOutput(REFUSED, "", "keyturn: a new key is already published and does not sign yet.\n") == again
    assert after == unchanged


def test_public_keys_are_written_as_pem(here: Here) -> None:
    """The signing key is first, each follows a comment with its kid, `--kid` selects one; verifiers read the file."""
    _, _, exported, listed = here.run_all(
        Invocation(("keys", "list")),
        Invocation(("keys", "rotate"), environment={"KEYTURN_SIGNING_ALGORITHM": "RS256"}),
        Invocation(("keys", "export")),
        Invocation(("keys", "list")),
    )
    signing, following = (line.split()[0] for line in listed.out.splitlines()[1:])
    assert (DONE, "") == (exported.status, exported.err)
    comments = [line for line in exported.out.splitlines() if line.startswith("#")]
    assert [f"# kid {signing}, ES256, signing", f"# kid {following}, RS256, next"] == comments
    one, none = here.run_all(Invocation(("keys", "export", following)), Invocation(("keys", "export", "x")))
    assert exported.out.endswith(one.out)
    assert CommandOutput(REFUSED, "", "keyturn: no key with this kid is published.\n") == none
    ec_key, rsa_key = (load_pem_public_key(text.encode()) for text in (exported.out, one.out))
    assert (signing, following) == (thumbprint(ec_key), thumbprint(rsa_key))
    openssl = [find_program("openssl"), "pkey", "-pubin", "-noout"]
    assert 0 == subprocess.run(openssl, input=one.out.encode(), capture_output=True, check=False).returncode


def thumbprint(key: Any) -> str:
    """Return the thumbprint of a public key (RFC 7638), as joserfc computes it."""
    imported = ECKey.import_key(key) if isinstance(key, EllipticCurvePublicKey) else RSAKey.import_key(key)
    return str(imported.thumbprint())


def test_a_key_is_revoked(here: Here) -> None:
    """Another key signs at once. A second revocation and that of an unknown key are refused."""
    (before,) = here.run_all(Invocation(("keys", "list")))
    kid = before.out.splitlines()[1].split()[0]
    revoked, again, unknown, after = here.run_all(
        Invocation(("keys", "revoke", kid)),
        Invocation(("keys", "revoke", kid)),
        Invocation(("keys", "revoke", "x")),
        Invocation(("keys", "list")),
    )
    rows = [line.split() for line in after.out.splitlines()[1:]]
    assert [(kid, "revoked"), (rows[1][0], "signing")] == [(row[0], row[-1]) for row in rows]
    assert (DONE, "") == (revoked.status, revoked.err)
    assert revoked.out.startswith(f"{kid} is revoked; {rows[1][0]} signs. ")
    for refused in (again, unknown):
        assert CommandOutput(REFUSED, "", "keyturn: there is no such key, or it is revoked already.\n") == refused


def test_everything_is_resealed(here: Here) -> None:
    """Everything is sealed with the first master secret; the command says when the others may be removed."""
    added, resealed, again, alone = here.run_all(
        Invocation(("users", "add", "alice", "--mfa"), PASSWORD, {"KEYTURN_MASTER_SECRETS": SECRET}),
        Invocation(("keys", "reseal"), environment={"KEYTURN_MASTER_SECRETS": f"{'ab' * 32},{SECRET}"}),
        Invocation(("keys", "reseal"), environment={"KEYTURN_MASTER_SECRETS": f"{'ab' * 32},{SECRET}"}),
        Invocation(("keys", "list"), environment={"KEYTURN_MASTER_SECRETS": "ab" * 32}),
    )
    assert DONE == added.status
    assert ["totp_authenticators: 1 resealed", "recovery_budgets: 0 resealed", "signing_keys: 1 resealed"] == (
        resealed.out.splitlines()[:3]
    )
    assert "Keep the old master secret listed for 604800 s" in resealed.out
    assert "signing_keys: 0 resealed" in again.out
    assert DONE == alone.status


def test_a_reseal_reports_what_still_needs_the_old_secret(here: Here, tmp_path: Path) -> None:
    """Recovery codes from before schema 0002 and broken seals make it incomplete, and the exit status says so."""

    def reseal_after(*statements: str) -> CommandOutput:
        with contextlib.closing(sqlite3.connect(tmp_path / "data" / "keyturn.sqlite3")) as file, file:
            for statement in statements:
                file.execute(statement)
        (output,) = here.run_all(
            Invocation(("keys", "reseal"), "", {"KEYTURN_MASTER_SECRETS": f"{'ab' * 32},{SECRET}"})
        )
        return output

    old = {"KEYTURN_MASTER_SECRETS": SECRET}
    here.run_all(Invocation(("users", "add", "alice", "--mfa"), PASSWORD, old))
    hanging = reseal_after(
        "INSERT INTO recovery_budgets (id) SELECT id FROM users",
        "INSERT INTO recovery_codes (user_id, digest, created_at) SELECT id, x'00', 0 FROM users",
    )
    assert REFUSED == hanging.status
    assert (
        "keyturn: the recovery codes of 1 users are from before schema 0002 and depend on the master secret"
        in hanging.err
    )
    assert "Keep the old master secret" not in hanging.out
    broken = reseal_after("UPDATE totp_authenticators SET secret = x'00'")
    both = [hanging.err.strip(), "keyturn: keep every master secret listed until every row can be opened."]
    assert (REFUSED, both) == (broken.status, broken.err.splitlines())
    done = reseal_after("DELETE FROM totp_authenticators", "UPDATE recovery_codes SET used_at = 0")
    assert (DONE, "") == (done.status, done.err), "nothing needs the old secret any more"


def test_roles_are_added_and_removed(here: Here) -> None:
    """Only operators do it; a role is a short word, and their number is limited so that they fit into a token."""
    output = here.run_all(
        Invocation(("users", "add", "alice"), PASSWORD),
        Invocation(("users", "role", "add", "Alice", "staff")),
        Invocation(("users", "role", "add", "alice", "admin")),
        Invocation(("users", "role", "add", "alice", "admin")),
        Invocation(("users", "list")),
        Invocation(("users", "role", "remove", "alice", "staff")),
        Invocation(("users", "role", "remove", "alice", "staff")),
        Invocation(("users", "role", "remove", "alice", "admin")),
        Invocation(("users", "role", "add", "alice", "two words")),
        Invocation(("users", "role", "add", "alice", "")),
        Invocation(("users", "role", "add", "nobody", "admin")),
        *(Invocation(("users", "role", "add", "alice", f"role{n}")) for n in range(17)),
    )
    assert CommandOutput(DONE, "alice has the roles staff.\n", "") == output[1]
    assert "alice has the roles admin, staff.\n" == output[2].out == output[3].out
    _, _, _, mfa, _, *roles = output[4].out.splitlines()[1].split()
    assert ("off", ["admin", "staff"]) == (mfa, roles)
    assert "alice has the roles admin.\n" == output[5].out == output[6].out
    assert "alice has no role.\n" == output[7].out
    assert [MISUSED, MISUSED, REFUSED] == [one.status for one in output[8:11]]
    assert [DONE] * 16 + [MISUSED] == [one.status for one in output[11:]]


async def test_adding_a_role_that_the_policy_names_reports_the_ended_sessions(
    here: Here, client: AsyncClient, clock: MovableClock
) -> None:
    """The command reads the policy from its own settings, which are those of the service."""
    clock.now = real_clock()
    bob = await sign_up(client, clock, "bob", mfa=False)
    sessions = [(await bob.give_password()).json()["access_token"] for _ in range(2)]
    policy = {"KEYTURN_REQUIRE_MFA": "admin"}
    staff, admin, again = here.run_all(
        Invocation(("users", "role", "add", "bob", "staff"), environment=policy),
        Invocation(("users", "role", "add", "bob", "admin"), environment=policy),
        Invocation(("users", "role", "add", "bob", "admin"), environment=policy),
    )
    assert CommandOutput(DONE, "bob has the roles staff.\n", "") == staff
    demand = "KEYTURN_REQUIRE_MFA demands a second factor of this user. "
    demand += "Sessions that were opened without one and have ended now: "
    assert CommandOutput(DONE, f"bob has the roles admin, staff.\n{demand}2.\n", "") == admin
    assert CommandOutput(DONE, f"bob has the roles admin, staff.\n{demand}0.\n", "") == again
    for token in sessions:
        answer = await client.get("/me", headers={"Authorization": f"Bearer {token}"})
        assert 401 == answer.status_code, "the service without the policy refuses it too"


def test_clients_are_registered_and_removed(here: Here) -> None:
    """The secret is the only line of output, for a program to read; it is in no list and in no message."""
    added, taken, other, listed, rotated, removed, gone, unknown, after = here.run_all(
        Invocation(("clients", "add", "billing", "--scope", "invoices:write invoices:read")),
        Invocation(("clients", "add", "billing")),
        Invocation(("clients", "add", "gateway")),
        Invocation(("clients", "list")),
        Invocation(("clients", "rotate-secret", "billing", "--overlap", "24")),
        Invocation(("clients", "remove", "gateway")),
        Invocation(("clients", "remove", "gateway")),
        Invocation(("clients", "rotate-secret", "gateway")),
        Invocation(("clients", "list")),
    )
    assert DONE == added.status
    assert re.fullmatch(r"kts_[A-Za-z0-9_-]{43}\n", added.out)
    assert added.out.strip() not in added.err + listed.out
    assert added.out != other.out
    assert CommandOutput(REFUSED, "", "keyturn: this client_id is taken.\n") == taken
    rows = listed.out.splitlines()
    assert ["billing", "-", "invoices:read", "invoices:write"] == [rows[1].split()[n] for n in (0, 2, 3, 4)]
    assert ["gateway", "-"] == [rows[2].split()[n] for n in (0, 2)]
    assert re.fullmatch(r"kts_[A-Za-z0-9_-]{43}\n", rotated.out)
    assert rotated.out != added.out
    assert DONE == removed.status
    for refused in (gone, unknown):
        assert CommandOutput(REFUSED, "", "keyturn: there is no such client.\n") == refused
    assert 2 == len(after.out.splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", after.out.splitlines()[1].split()[2])


def test_a_client_has_a_valid_name(here: Here) -> None:
    """Reserved names and names that a form or a log could misread are refused; so are such scopes and times."""
    bad: list[tuple[str, ...]] = [
        ("keyturn",),
        ("ab",),
        ("Billing",),
        ("a b c",),
        ("x" * 65,),
        ("\N{KEY}\N{KEY}\N{KEY}",),
    ]
    bad += [("billing", "--scope", scope) for scope in ('quo"te', "\x07", "x" * 65)]
    output = here.run_all(
        *(Invocation(("clients", "add", *arguments)) for arguments in bad),
        Invocation(("clients", "rotate-secret", "billing", "--overlap", "-1")),
        Invocation(("clients", "rotate-secret", "billing", "--overlap", "nan")),
        Invocation(("clients", "list")),
    )
    assert {MISUSED} == {one.status for one in output[:-1]}
    assert 1 == len(output[-1].out.splitlines())


def test_without_the_master_secret_every_command_is_refused(here: Here) -> None:
    """With another master secret every command prints a sentence that says what to do."""
    acts = ("serve", "--port", "0"), ("keys", "rotate"), ("users", "list")
    other = {"KEYTURN_MASTER_SECRETS": "ff" * 32}
    added, *answers = here.run_all(
        Invocation(("users", "add", "alice"), PASSWORD), *(Invocation(act, environment=other) for act in acts)
    )
    assert DONE == added.status
    for output in answers:
        assert (MISUSED, "") == (output.status, output.out)
        assert "No master secret opens this database's signing key" in output.err


# The schema and the database


def test_migrate_reports_the_schema(tmp_path: Path) -> None:
    """It prints the same line on standard error each time, and makes the folder."""
    environment = {"KEYTURN_DATA_DIR": str(tmp_path / "deep" / "data")}
    output = run_all([Invocation(("migrate",)), Invocation(("migrate",))], environment)
    assert [CommandOutput(DONE, "", f"The schema is at {SCHEMA}.\n")] * 2 == output


def test_without_a_schema_commands_refer_to_migrate(tmp_path: Path, postgresql_server: PostgreSQLServer) -> None:
    """On an empty PostgreSQL neither `serve` nor any other command makes the schema implicitly."""
    url = postgresql_server.url(postgresql_server.new_database())
    production = {"KEYTURN_DATABASE_URL": url, "KEYTURN_MASTER_SECRETS": SECRET}
    embedded = {"KEYTURN_DATA_DIR": str(tmp_path / "data")}
    acts = ("serve", "--port", "0"), ("users", "list"), ("keys", "rotate"), ("users", "add", "alice")
    invocations = [Invocation(act, PASSWORD, production) for act in acts] + [
        Invocation(("users", "list"), "", embedded)
    ]
    *refused, migrated, listed = run_all(
        [*invocations, Invocation(("migrate",), "", production), Invocation(("users", "list"), "", production)]
    )
    for output in refused:
        assert (MISUSED, "") == (output.status, output.out)
        assert "keyturn migrate" in output.err
    assert (DONE, DONE) == (migrated.status, listed.status)


def test_a_newer_or_older_schema_is_refused(postgresql_server: PostgreSQLServer) -> None:
    """The sentence names both revisions."""
    name = postgresql_server.new_database("migrated")
    postgresql_server.run("UPDATE alembic_version SET version_num = '0000'", name)
    production = {"KEYTURN_DATABASE_URL": postgresql_server.url(name), "KEYTURN_MASTER_SECRETS": SECRET}
    output = run("serve", "--port", "0", environment=production)
    assert MISUSED == output.status
    for word in ("0000", SCHEMA, "keyturn migrate"):
        assert word in output.err


@pytest.mark.parametrize(
    "url",
    ["postgresql://keyturn@127.0.0.1:{closed}/x", "postgresql://keyturn@127.0.0.1:{open}/no_such_database"],
    ids=["nobody listens", "no such database"],
)
def test_an_unreachable_database_is_reported(postgresql_server: PostgreSQLServer, url: str) -> None:
    """Listing, adding and migrating report that it cannot be reached, and exit with an error."""
    chosen = url.format(closed=free_port(), open=postgresql_server.port)
    production = {"KEYTURN_DATABASE_URL": chosen, "KEYTURN_MASTER_SECRETS": SECRET}
    acts = ("users", "list"), ("users", "add", "alice"), ("keys", "rotate"), ("migrate",)
    for output in run_all((Invocation(act, PASSWORD) for act in acts), production):
        assert output.status in {REFUSED, MISUSED}
        assert ("", True) == (output.out, output.err.startswith("keyturn: "))
        assert len(output.err.splitlines()) == 1


@pytest.mark.parametrize("obstacle", ["garbage", "folder"])
def test_a_file_that_is_no_database_is_reported(tmp_path: Path, obstacle: str) -> None:
    """Something else is in the place of the SQLite file: a sentence reports it, and nothing is overwritten."""
    file = tmp_path / "keyturn.sqlite3"
    if obstacle == "garbage":
        file.write_bytes(b"not a database " * 100)
    else:
        file.mkdir()
    acts = ("serve", "--port", "0"), ("users", "list"), ("migrate",)
    for output in run_all(map(Invocation, acts), {"KEYTURN_DATA_DIR": str(tmp_path)}):
        assert output.status in {REFUSED, MISUSED}
        assert ("", True) == (output.out, "keyturn: " in output.err)
    assert file.is_dir() or file.read_bytes() == b"not a database " * 100


def test_the_folder_is_made_with_configured_master_secrets_too(tmp_path: Path) -> None:
    """A command on a missing folder reports a missing schema, like any other command."""
    environment = {"KEYTURN_DATA_DIR": str(tmp_path / "data"), "KEYTURN_MASTER_SECRETS": SECRET}
    output = run("users", "list", environment=environment)
    assert (MISUSED, "") == (output.status, output.out)
    assert "keyturn migrate" in output.err


# Serving


def test_serve_makes_the_schema_and_stops_on_sigterm(tmp_path: Path) -> None:
    """On SQLite `serve` makes a missing schema; a taken port is reported; SIGTERM ends it with status 0."""
    port = free_port()
    serving = subprocess.Popen(
        [sys.executable, "-m", "service", "serve", "--port", str(port)],
        env={**clean_environment(), "KEYTURN_DATA_DIR": str(tmp_path / "data")},
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: httpx2.get(f"http://127.0.0.1:{port}/readyz", timeout=2), seconds=60)
        taken = run("serve", "--port", str(port), environment={"KEYTURN_DATA_DIR": str(tmp_path / "other")})
        assert (MISUSED, "") == (taken.status, taken.out)
        assert f"port {port}" in taken.err
        assert "KEYTURN_PORT: another program has port" in taken.err
        listed = run("users", "list", environment={"KEYTURN_DATA_DIR": str(tmp_path / "data")})
        assert (DONE, "") == (listed.status, listed.err)
    finally:
        serving.terminate()
        out, err = serving.communicate(timeout=20)
    assert (DONE, "") == (serving.returncode, out)
    assert "Traceback" not in err


# What goes wrong around a command


def test_an_export_onto_a_full_disk_says_so(here: Here) -> None:
    """It exits with 1 and without a traceback, because an incomplete export must not look complete."""
    here.run_all(*(Invocation(("users", "add", f"person{n}"), PASSWORD) for n in range(3)))
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "service", "users", "export"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env={**clean_environment(), **here.environment}, cwd=REPOSITORY,
        )  # fmt: skip
    assert (REFUSED, "keyturn: No space left on device.\n") == (done.returncode, done.stderr)


def test_a_command_that_is_stopped_is_not_done(here: Here) -> None:
    """SIGTERM ends a server regularly; any other command was interrupted (128 + 15)."""
    waiting = subprocess.Popen(
        [sys.executable, "-m", "service", "users", "import", "-"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**clean_environment(), **here.environment}, cwd=REPOSITORY,
    )  # fmt: skip
    with waiting:
        wait_until(lambda: check_waits_for_input(waiting.pid))
        for _ in range(20):
            # Repeated, because Python may miss a signal between its last check for signals and a blocking read.
            waiting.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                waiting.wait(5)  # a second signal while Python ends would end it as if it had no handler
                break
        assert 143 == waiting.returncode


def check_waits_for_input(pid: int) -> None:
    """Raise unless the database is open, after which the command reads."""
    files = [str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()]
    assert any("keyturn.sqlite3" in file for file in files)


def test_a_data_folder_that_cannot_be_read_is_named() -> None:
    """The error of the system alone would not say what to correct."""
    for command in (("users", "list"), ("doctor",)):
        answered = run(*command, environment={"KEYTURN_DATA_DIR": "/" + "x" * 5000})
        assert MISUSED == answered.status
        assert answered.err.startswith("keyturn: KEYTURN_DATA_DIR: /xxx")
        assert "cannot be read: File name too long. Name a folder" in answered.err
