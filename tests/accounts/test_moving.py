"""Users move in from other systems without enrolling again, and can be exported the same way."""

import asyncio
import base64
import hashlib
import io
import json
import re
import sqlite3
from collections.abc import Iterator
from typing import Any

import pyotp
import pytest
from passlib.hash import argon2, bcrypt, django_pbkdf2_sha256, pbkdf2_sha256, pbkdf2_sha512, scrypt

from service.accounts.import_files import lines_of
from service.accounts.import_records import MAX_LINE_LENGTH, read_record
from service.accounts.moving import import_users
from service.factors import totp
from service.origin import OPERATOR
from service.secret_files import read_only_line
from service.settings import Settings
from service.storage.database import Row, Transaction
from tests.harness.clients import Client, Opener
from tests.harness.commands import DONE, MISUSED, REFUSED, Invocation, run, run_all
from tests.harness.databases import ForwardingDatabase, ForwardingTransaction
from tests.harness.import_files import ANY_HASH, export_lines, import_lines, record
from tests.harness.people import PASSWORD, MovableClock, Person, sign_up
from tests.harness.relying_services import add_client
from tests.harness.sessions import bearer

ELSEWHERE = {
    "argon2": ANY_HASH,
    "argon2 of 64 MiB": argon2.using(type="ID", memory_cost=65536, rounds=1, parallelism=4).hash(PASSWORD),
    "argon2i": argon2.using(type="I", memory_cost=64, rounds=3, parallelism=1).hash(PASSWORD),
    "bcrypt": bcrypt.using(rounds=4).hash(PASSWORD),
    "bcrypt of PHP": "$2y$" + bcrypt.using(rounds=4).hash(PASSWORD)[4:],
    "scrypt": scrypt.using(rounds=4).hash(PASSWORD),
    "pbkdf2-sha256": pbkdf2_sha256.using(rounds=1000).hash(PASSWORD),
    "pbkdf2-sha512": pbkdf2_sha512.using(rounds=1000).hash(PASSWORD),
    "django": django_pbkdf2_sha256.using(rounds=1000).hash(PASSWORD),
}


@pytest.fixture
async def fast(world: dict[str, Any], open_client: Opener) -> Any:
    async with open_client({**world, "limit_login": None, "limit_login_address": None}) as client:
        yield client


async def test_passwords_work_whatever_they_were_hashed_with(fast: Client, clock: MovableClock) -> None:
    """The first login replaces the foreign hash by one of this service, which works as well."""
    names = {f"person{n}": kind for n, kind in enumerate(ELSEWHERE)}
    lines = [record(name, ELSEWHERE[kind]) for name, kind in names.items()]
    assert (len(ELSEWHERE), []) == await import_lines(fast, clock, lines)
    for name, kind in names.items():
        person = Person(fast, clock, name)
        assert 401 == (await person.give_password("not the password")).status_code, kind
        assert 200 == (await person.give_password()).status_code, kind
    kept = {json.loads(line)["password_hash"] for line in await export_lines(fast, with_secrets=False)}
    assert {"$argon2id$v=19$m=8,t=1,p=1"} == {"$".join(text.split("$")[:4]) for text in kept}
    for name in names:
        assert 200 == (await Person(fast, clock, name).give_password()).status_code


async def test_an_imported_authenticator_keeps_working(fast: Client, clock: MovableClock) -> None:
    """Its codes are accepted, and from the import on the password alone is not enough."""
    for number, size in enumerate((24, 26, 32, 52)):
        secret = pyotp.random_base32(32)[:size] if size < 32 else pyotp.random_base32(size)
        written = " ".join((secret[:4], secret[4:])).lower()
        assert (1, []) == await import_lines(
            fast, clock, [record(f"alice{number}", totp_secret=written, roles=["staff"])]
        )
        alice = Person(fast, clock, f"alice{number}", secret=secret)
        pending = (await alice.give_password()).json()
        assert (True, True) == (pending["mfa_required"], pending["mfa_confirmed"])
        assert 401 == (await alice.give_code(mfa_token=pending["mfa_token"])).status_code, (
            "the code was shown before the import"
        )
        clock.next_step()
        admitted = await alice.give_code(mfa_token=pending["mfa_token"])
        assert 200 == admitted.status_code
        me = (await fast.get("/me", headers=bearer(admitted.json()["access_token"]))).json()
        assert (["staff"], 0) == (me["roles"], me["recovery_codes_left"])
        clock.next_step()
        new = await fast.post("/recovery-codes", headers=bearer(admitted.json()["access_token"]))
        assert 10 == len(new.json()["recovery_codes"]), "an imported user can request recovery codes"


async def test_an_export_can_be_imported_again(
    world: dict[str, Any], open_client: Opener, clock: MovableClock, tmp_path: Any
) -> None:
    """Another instance gets the names, ids, roles, states, and second factors, confirmed or not."""
    async with open_client(world) as client:
        alice, carol = await sign_up(client, clock, "alice"), await sign_up(client, clock, "carol")
        await alice.confirm()
        await sign_up(client, clock, "bob", mfa=False)
        parts = client.parts
        await parts.administration.set_roles("bob", add="admin", by=OPERATOR)
        await parts.administration.set_disabled("bob", disabled=True, by=OPERATOR)
        lines = await export_lines(client, with_secrets=True)
        without = await export_lines(client, with_secrets=False)
    assert not [line for line in without if alice.secret in line or carol.secret in line]
    clock.next_step()
    async with open_client({"data_dir": tmp_path / "without secrets"}) as client:
        imported, refused = await import_lines(client, clock, without)
        assert 2 == imported, "a confirmed second factor is not dropped silently"
        assert {"totp_secret" in entry.reason for entry in refused} == {True}
        assert (await Person(client, clock, "carol").give_password()).json()["mfa_confirmed"] is False
        assert not set(lines) & {line for line in await export_lines(client, with_secrets=True) if "carol" in line}
    async with open_client({"data_dir": tmp_path / "another"}) as client:
        assert (3, []) == await import_lines(client, clock, lines)
        imported, refused = await import_lines(client, clock, lines)
        assert (0, {"the username, the email or the sub is taken: the account that has it is unchanged"}) == (
            imported,
            {entry.reason for entry in refused},
        )
        assert sorted(lines) == sorted(await export_lines(client, with_secrets=True))
        clock.next_step()
        alice.client = carol.client = client
        assert 200 == (await alice.log_in()).status_code
        assert (await carol.give_password()).json()["mfa_confirmed"] is False
        assert 401 == (await Person(client, clock, "bob").give_password()).status_code


INVALID = [
    ("", "not a JSON object"),
    ("[]", "valid dictionary"),
    ("{", "not a JSON object"),
    ("[" * 5000, "not a JSON object"),
    ("x" * (MAX_LINE_LENGTH + 1), "longer than"),
    (record("a b"), "username"),
    (record("alice", s3cr3t="s3cr3t"), "a field"),
    (record(password_hash="s3cr3t"), "password_hash: The hash is not argon2"),
    (record(password_hash=""), "password_hash: The hash is not argon2"),
    (record(password_hash="$2b$31$" + ELSEWHERE["bcrypt"][7:]), "cost too much"),
    (record(password_hash=ANY_HASH.replace("m=8", "m=4194304")), "cost too much"),
    (record(password_hash=ELSEWHERE["pbkdf2-sha256"].replace("$1000$", "$900000000$")), "cost too much"),
    (record(password_hash=ELSEWHERE["scrypt"].replace("ln=4", "ln=30")), "cost too much"),
    (record(password_hash=ELSEWHERE["scrypt"].replace("r=8", "r=524288")), "cost too much"),
    (record(password_hash=ELSEWHERE["scrypt"].replace("ln=4,r=8,p=1", "ln=18,r=8,p=4")), "cost too much"),
    (record(password_hash=ELSEWHERE["scrypt"].replace("ln=4,r=8", "ln=16,r=1")), "too large for its r"),
    (record(password_hash=ELSEWHERE["scrypt"].replace("r=8", "r=1000000000000")), "cost too much"),
    (record(password_hash=ELSEWHERE["scrypt"].replace("r=8", "r=33")), "cost too much"),
    (record(password_hash=ELSEWHERE["scrypt"].replace("p=1", "p=5")), "cost too much"),
    (record(password_hash=ELSEWHERE["scrypt"].replace("ln=4", "ln=18")), "cost too much"),
    (record(password_hash=ANY_HASH.replace("t=1", "t=11")), "cost too much"),
    (record(password_hash=ANY_HASH.replace("m=8,t=1,p=1", "m=128,t=1,p=9")), "cost too much"),
    (record(password_hash=ANY_HASH.replace("p=1", "p=1,keyid=AAAA")), "not supported"),
    (record(password_hash=ANY_HASH.replace("p=1", "p=1,data=AAAA")), "no password matches"),
    (record(password_hash=ANY_HASH.replace("m=8,t=1,p=1", "m=63,t=1,p=8")), "no password matches"),
    (record(password_hash=ANY_HASH.replace("m=8", "m=08")), "no password matches"),
    (record(password_hash=ANY_HASH[: ANY_HASH.rindex("$")] + "$c2E"), "no password matches"),
    ('{"username": "alice", "mfa": "confirmed", "mfa": "off"}', "a member twice"),
    (record(totp_secret="\u00df" * 32), "not base32"),
    (record(totp_secret="A" * 32, authenticators=[{"totp_secret": "A" * 32}]), "both"),
    (record(authenticators=[{"totp_secret": "A" * 32, "name": "\x07"}]), "authenticators.0.name"),
    (record(authenticators=[{"totp_secret": "A" * 32}] * 6), "authenticators"),
    (record(authenticators=[{"totp_secret": "A" * 32}] * 2, mfa="asked"), "one is enrolled at a time"),
    (record(password_hash=ANY_HASH[: ANY_HASH.rindex("$")]), "truncated"),
    (record(password_hash=ANY_HASH[:40]), "password_hash"),
    (record(password_hash="x" * 5000), "password_hash: The hash is not argon2"),
    (record(password_hash=ANY_HASH + "\0"), "password_hash: The hash is not argon2"),
    (record(password_hash=ANY_HASH + "\ud800"), "password_hash: The hash is not argon2"),
    (record(totp_secret="s3cr3t!"), "totp_secret: The secret is not base32"),
    (record(totp_secret="A" * 16), "totp_secret: The secret needs 112"),
    (record(totp_secret="A" * 300), "totp_secret: The secret needs 112"),
    (record(mfa="confirmed"), "no totp_secret"),
    (record(mfa="off", totp_secret="A" * 32), "mfa is off"),
    (record(roles=["Two Words"]), "roles"),
    (record(roles="admin"), "roles"),
    (record(disabled="no"), "disabled"),
    (record(sub=""), "sub: A sub needs 1 to 255"),
    (record(sub="a b"), "sub: A sub needs 1 to 255"),
    (record(sub="a,b"), "sub: A sub needs 1 to 255"),
    (record(sub='a"b'), "sub: A sub needs 1 to 255"),
    (record(sub="a\\b"), "sub: A sub needs 1 to 255"),
    (record(sub="a\n"), "sub: A sub needs 1 to 255"),
    (record(sub="\u00fc"), "sub: A sub needs 1 to 255"),
    (record(sub="x" * 256), "sub: A sub needs 1 to 255"),
    (record(sub="keyturn"), "sub: This sub is the client_id"),
    (record(sub=True), "sub: Input should be a valid string"),
    (record(sub=1.5), "sub: Input should be a valid string"),
]


@pytest.mark.parametrize(("line", "reason"), [entry for entry in INVALID if entry[0]])
def test_an_invalid_line_is_refused_with_a_reason(line: str, reason: str) -> None:
    """The reason names the field and quotes no value."""
    with pytest.raises(ValueError, match=re.escape(reason)) as refused:
        read_record(line)
    assert "s3cr3t" not in str(refused.value)


KEY = b"an HMAC key of 20 by"
SAME_SECRET = "MFXCASCNIFBSA23FPEQG6ZRAGIYCAYTZ"


@pytest.mark.parametrize(
    "other",
    [
        SAME_SECRET,
        SAME_SECRET.lower(),
        " ".join((SAME_SECRET[:4], SAME_SECRET[4:])),
        "-".join((SAME_SECRET[:4], SAME_SECRET[4:].lower())),
        "\u2013".join((SAME_SECRET[:4], SAME_SECRET[4:])),
        SAME_SECRET + "======",
        SAME_SECRET + "A",
        f"otpauth://totp/alice?secret={SAME_SECRET.lower()}&issuer=Elsewhere",
        base64.b32encode(KEY + b"\0").decode(),
        base64.b32encode(KEY + b"\0" * 12).decode(),
    ],
)
def test_one_secret_under_two_names_is_refused(other: str) -> None:
    """Each has its own last step: one code could be used twice (law 2: a code is consumed, not checked).

    Zero bytes at the end do not change an HMAC key that is shorter than a block (RFC 2104).
    """
    assert base64.b32decode(SAME_SECRET) == KEY
    authenticators = [{"name": "Phone", "totp_secret": SAME_SECRET}, {"name": "Tablet", "totp_secret": other}]
    with pytest.raises(ValueError, match="two authenticators have the same totp_secret") as refused:
        read_record(record(authenticators=authenticators))
    assert SAME_SECRET[:8] not in str(refused.value)
    with pytest.raises(ValueError, match="both totp_secret and authenticators"):
        read_record(record(totp_secret=SAME_SECRET, authenticators=[{"totp_secret": other}]))


def test_a_long_secret_and_its_hash_are_one_secret() -> None:
    """HMAC replaces a key that is longer than a block by its hash."""
    long = b"k" * 65
    short = hashlib.sha1(long).digest()  # noqa: S324 -- as HMAC-SHA-1 does
    written = [base64.b32encode(key).decode() for key in (long, short)]
    assert totp.code_at(written[0].rstrip("="), 1) == totp.code_at(written[1], 1)
    authenticators = [{"name": str(number), "totp_secret": secret} for number, secret in enumerate(written)]
    with pytest.raises(ValueError, match="the same totp_secret"):
        read_record(record(authenticators=authenticators))


def test_different_secrets_are_accepted() -> None:
    """Secrets that begin alike are different ones."""
    authenticators = [{"name": end, "totp_secret": SAME_SECRET[:-1] + end} for end in "ABC"]
    assert 3 == len(read_record(record(authenticators=authenticators)).factors)


def test_a_role_that_is_repeated_counts_once() -> None:
    """Roles keep their order; a repeated one does not count against the limit."""
    assert ["staff", "admin"] == read_record(record(roles=["staff", "admin", "staff", "admin"])).roles
    assert ["staff"] == read_record(record(roles=["staff"] * 17)).roles


async def test_a_role_that_a_user_has_is_not_added_again(fast: Client, clock: MovableClock) -> None:
    """This holds for a role that was imported, too."""
    assert (1, []) == await import_lines(fast, clock, [record(roles=["staff", "admin", "staff"])])
    administration = fast.parts.administration
    for role in ("staff", "admin"):
        assert ("admin", "staff") == (await administration.set_roles("alice", add=role, by=OPERATOR)).roles
    assert ("admin",) == (await administration.set_roles("alice", remove="staff", by=OPERATOR)).roles


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("argon2", "m=8,t=1,p=1", "m=131072,t=10,p=8"),
        ("bcrypt", "$04$", "$14$"),
        ("scrypt", "ln=4,r=8,p=1", "ln=17,r=8,p=4"),
        ("scrypt", "ln=4,r=8,p=1", "ln=15,r=32,p=4"),
        ("pbkdf2-sha512", "$1000$", "$2000000$"),
    ],
)
def test_the_cost_of_a_hash_is_bounded(kind: str, old: str, new: str) -> None:
    """128 MiB and about a second are accepted; one step beyond each bound is among the invalid lines."""
    costly = ELSEWHERE[kind].replace(old, new)
    assert costly == read_record(record(password_hash=costly)).password_hash


async def test_an_invalid_line_does_not_affect_the_others(fast: Client, clock: MovableClock) -> None:
    """Each is reported by its number, the others are imported, and a second import changes nothing."""
    valid = [record("bob"), record("alice"), record("carol", sub="x" * 22), record("dave", sub="x" * 22)]
    lines = [record("alice"), *(line for line, _ in INVALID), *valid]
    imported, refused = await import_lines(fast, clock, lines)
    assert 3 == imported
    taken = [len(INVALID) + 3, len(INVALID) + 5]
    assert [*range(3, len(INVALID) + 2), *taken] == [entry.line for entry in refused], "an empty line is no record"
    again, all_of_them = await import_lines(fast, clock, lines)
    assert (0, len(refused) + 3) == (again, len(all_of_them))
    for name in ("alice", "bob", "carol"):
        assert 200 == (await Person(fast, clock, name).give_password()).status_code


async def test_more_users_than_a_batch_are_imported(fast: Client, clock: MovableClock) -> None:
    """The number exceeds a batch and a page, and each user has a second factor."""
    lines = [record(f"person{n}", totp_secret=pyotp.random_base32()) for n in range(1234)]
    assert (1234, []) == await import_lines(fast, clock, lines)
    assert 1234 == len(await export_lines(fast, with_secrets=True))


def test_a_file_without_line_ends_does_not_fill_the_memory() -> None:
    """A very long line is one invalid line, and the lines after it are read."""
    file = io.StringIO("x" * (3 * MAX_LINE_LENGTH + 5) + "\n" + record("bob") + "\n" + record("alice"))
    lines = list(lines_of(file))
    assert 3 == len(lines)
    assert max(map(len, lines)) == MAX_LINE_LENGTH + 1
    assert ["bob", "alice"] == [read_record(line).username for line in lines[1:]]


def test_the_commands_import_and_export(tmp_path: Any) -> None:
    """They read a file or standard input and write standard output; the exit status reports rejected lines."""
    variables = {"KEYTURN_DATA_DIR": str(tmp_path / "data")}
    assert DONE == run("migrate", environment=variables).status
    file = tmp_path / "people.jsonl"
    file.write_bytes(record("alice").encode() + b"\n\xff\xfe\n" + record("bob").encode())
    result = run("users", "import", str(file), environment=variables)
    assert (REFUSED, "2 imported, 1 refused.\n") == (result.status, result.out)
    assert "line 2: it is not a JSON object, or has a member twice\n" == result.err
    result = run("users", "import", "-", given=record("carol", totp_secret="A" * 32).encode(), environment=variables)
    assert (DONE, "1 imported, 0 refused.\n") == (result.status, result.out)
    exported = run("users", "export", environment=variables)
    assert ["alice", "bob", "carol"] == [json.loads(line)["username"] for line in exported.out.splitlines()]
    assert "A" * 32 not in exported.out
    assert "A" * 32 in run("users", "export", "--with-secrets", environment=variables).out
    assert MISUSED == run("users", "import", str(tmp_path / "nothing"), environment=variables).status


WEAK = record("dave", totp_secret="A" * 16)
FILES: list[tuple[str, str, list[str], tuple[int, str, str]]] = [
    (record("alice"), "utf-8-sig", [], (DONE, "1 imported, 0 refused.\n", "")),
    (f'username,password_hash\r\nbob,"{ANY_HASH}"\r\n', "utf-8-sig", [], (DONE, "1 imported, 0 refused.\n", "")),
    (f'username;password_hash\ncarol;"{ANY_HASH}"\n', "utf-8", [], (DONE, "1 imported, 0 refused.\n", "")),
    ("\n".join([record("erin")] * 300), "utf-16", [], (MISUSED, "", "UTF-16: save it as UTF-8")),
    (f"[{record('erin')},\n{record('frank')}]", "utf-8", [], (MISUSED, "", "JSON array: write one object")),
    ("username,hash\nerin,x", "utf-8", [], (MISUSED, "", "a field hash is unknown")),
    (WEAK, "utf-8", [], (REFUSED, "0 imported, 1 refused.\n", "--allow-weak-secrets")),
    (WEAK, "utf-8", ["--allow-weak-secrets"], (DONE, "1 imported, 0 refused.\n", "")),
]


def test_other_formats_are_imported_or_refused_with_a_reason(tmp_path: Any) -> None:
    """CSV and a byte order mark are read, other files get one sentence, and weak secrets need a flag."""
    commands = [Invocation(("migrate",))]
    for number, (text, encoding, flags, _) in enumerate(FILES):
        file = tmp_path / f"people{number}"
        file.write_bytes(text.encode(encoding))
        commands.append(Invocation(("users", "import", str(file), *flags)))
    variables = {"KEYTURN_DATA_DIR": str(tmp_path / "data")}
    _, *answers, exported = run_all([*commands, Invocation(("users", "export"))], variables)
    for (text, _, _, (status, out, err)), result in zip(FILES, answers, strict=True):
        assert (status, out, status != DONE) == (result.status, result.out, len(result.err.splitlines()) == 1), text
        assert err in result.err
    assert ["alice", "bob", "carol", "dave"] == [json.loads(line)["username"] for line in exported.out.splitlines()]


def test_a_password_from_a_pipe_has_no_mark_and_no_line_end(tmp_path: Any) -> None:
    """The byte order mark and the line end that Windows writes are not part of the password."""
    variables = {"KEYTURN_DATA_DIR": str(tmp_path / "data")}
    run_all([Invocation(("migrate",))], variables)
    given = b"\xef\xbb\xbf" + PASSWORD.encode() + b"\r\n"
    assert DONE == run("users", "add", "alice", environment=variables, given=given).status
    (result,) = run_all([Invocation(("users", "export"))], variables)
    assert argon2.verify(PASSWORD, json.loads(result.out)["password_hash"])


def test_a_secret_file_of_windows_is_read(tmp_path: Any) -> None:
    """A byte order mark at its beginning is not part of the first secret."""
    file, secret = tmp_path / "secrets", "00112233445566778899aabbccddeeff" * 2
    file.write_bytes(b"\xef\xbb\xbf" + secret.encode() + b"\r\n")
    assert (bytes.fromhex(secret),) == tuple(Settings(master_secrets_file=file).read_master_secrets())
    assert secret == read_only_line("KEYTURN_WEBHOOK_SECRET_FILE", file)


async def test_several_imported_authenticators_keep_working(fast: Client, clock: MovableClock) -> None:
    """They keep their names, and an export has them as the import did."""
    names = ["Phone", "Tablet"]
    secrets = [pyotp.random_base32(), pyotp.random_base32()]
    given = [{"name": name, "totp_secret": secret} for name, secret in zip(names, secrets, strict=True)]
    assert (1, []) == await import_lines(fast, clock, [record("alice", authenticators=given)])
    for secret in secrets:
        clock.next_step()
        assert 200 == (await Person(fast, clock, "alice", secret=secret).log_in()).status_code
    (line,) = await export_lines(fast, with_secrets=True)
    assert given == sorted(json.loads(line)["authenticators"], key=lambda entry: names.index(entry["name"]))


async def test_a_user_cannot_have_the_id_of_a_client(fast: Client, clock: MovableClock) -> None:
    """Tokens identify users and clients alike by `sub` (RFC 9068 section 5)."""
    await add_client(fast, clock, "billing-service-01")
    imported, refused = await import_lines(fast, clock, [record("alice", sub="billing-service-01"), record("bob")])
    assert (1, [1]) == (imported, [entry.line for entry in refused])
    await import_lines(fast, clock, [record("carol", sub="another-service-01")])
    with pytest.raises(AssertionError):
        await add_client(fast, clock, "another-service-01")


async def test_a_slow_database_takes_smaller_transactions(fast: Client, clock: MovableClock) -> None:
    """A transaction takes no more lines than its time allows, and progress is reported after each."""
    parts = fast.parts
    lines = [record(f"person{n}", totp_secret="A" * 32) for n in range(30)]
    slow = SlowDatabase(parts.database)
    reported = [progress.imported async for progress in import_users(slow, parts.second_factors.totp, lines, clock)]
    assert 30 == reported[-1]
    assert len(reported) > 1


async def test_a_long_import_reads_the_clock_again(fast: Client, clock: MovableClock) -> None:
    """A user moves at the time of their line: a code that the old system accepted before is refused."""

    def slowly() -> Iterator[str]:
        for number in range(101):
            if number == 100:
                clock.advance(seconds=600)
            yield record(f"person{number}", totp_secret="A" * 32)

    assert (101, []) == await import_lines(fast, clock, slowly())
    last = Person(fast, clock, "person100", secret="A" * 32)
    assert 401 == (await last.log_in()).status_code
    clock.next_step()
    assert 200 == (await last.log_in()).status_code


class SlowDatabase(ForwardingDatabase):
    """A database with a slow connection."""

    def wrap(self, transaction: Transaction) -> Transaction:
        return SlowTransaction(transaction)


class SlowTransaction(ForwardingTransaction):
    async def fetch_one(self, sql: str, *parameters: object) -> Row | None:
        await asyncio.sleep(0.02)
        return await super().fetch_one(sql, *parameters)

    async def execute(self, sql: str, *parameters: object) -> int:
        await asyncio.sleep(0.02)
        return await super().execute(sql, *parameters)


def test_standard_input_may_hold_any_bytes(tmp_path: Any) -> None:
    """In any locale, a line that is not UTF-8 is rejected, and the others are imported."""
    variables = {"KEYTURN_DATA_DIR": str(tmp_path / "data"), "PYTHONIOENCODING": "utf-8:strict"}
    assert DONE == run("migrate", environment=variables).status
    given = record("alice").encode() + b"\n\xff\xfe\n" + record("bob").encode()
    result = run("users", "import", "-", given=given, environment=variables)
    assert (REFUSED, "2 imported, 1 refused.\n") == (result.status, result.out)


def test_a_name_in_another_encoding_is_refused(tmp_path: Any) -> None:
    """The line is rejected from a file and from standard input, so that no garbled name is imported."""
    variables = {"KEYTURN_DATA_DIR": str(tmp_path / "data")}
    assert DONE == run("migrate", environment=variables).status
    named = [{"name": "T\u00e9l\u00e9phone", "totp_secret": "A" * 32}]
    line = json.dumps(json.loads(record(authenticators=named)), ensure_ascii=False)
    file = tmp_path / "people.jsonl"
    file.write_bytes(line.encode("latin-1"))
    for result in (
        run("users", "import", str(file), environment=variables),
        run("users", "import", "-", given=line.encode("latin-1"), environment=variables),
    ):
        assert (REFUSED, "0 imported, 1 refused.\n") == (result.status, result.out)
        assert result.err.startswith("line 1: authenticators.0.name: ")
    file.write_bytes(line.encode())
    assert DONE == run("users", "import", str(file), environment=variables).status
    exported = run("users", "export", "--with-secrets", environment=variables)
    assert named == json.loads(exported.out)["authenticators"]


def test_a_broken_seal_does_not_stop_an_export(tmp_path: Any) -> None:
    """The user is named on standard error, all others are exported, and the exit status reports it."""
    variables = {"KEYTURN_DATA_DIR": str(tmp_path / "data")}
    assert DONE == run("migrate", environment=variables).status
    lines = "\n".join(record(name, totp_secret="A" * 32) for name in ("alice", "bob", "carol"))
    assert DONE == run("users", "import", "-", given=lines.encode(), environment=variables).status
    with sqlite3.connect(tmp_path / "data" / "keyturn.sqlite3") as file:
        bobs = "user_id = (SELECT id FROM users WHERE username = 'bob')"
        file.execute(f"UPDATE totp_authenticators SET secret = x'00' WHERE {bobs}")
    file.close()
    result = run("users", "export", "--with-secrets", environment=variables)
    assert (REFUSED, ["alice", "carol"]) == (
        result.status, [json.loads(line)["username"] for line in result.out.splitlines()],
    )  # fmt: skip
    assert "keyturn: no listed master secret opens bob's authenticator.\n" == result.err
