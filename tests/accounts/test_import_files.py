"""The files of accounts that other systems and spreadsheets write, and the fields in them."""

import io
import json
import re
from base64 import b32encode
from collections.abc import Iterable
from typing import Any

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from passlib.hash import argon2

from service.accounts.import_files import RejectedLine, lines_of, read_lines
from service.accounts.import_records import Record, read_record, read_secret
from service.errors import ConfigurationError
from tests.harness.commands import run
from tests.harness.people import PASSWORD

ARGON2 = argon2.using(type="ID", memory_cost=8, rounds=1, parallelism=1, salt=b"of all test runs").hash(PASSWORD)
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
ALICE = json.dumps({"username": "alice", "password_hash": ARGON2})


def names(lines: Iterable[str], *, allow_weak: bool = False) -> list[str]:
    """Return the usernames of the lines, and the reason for each rejected line."""
    return [
        entry.reason if isinstance(entry, RejectedLine) else entry[1].username
        for entry in read_lines(lines, allow_weak=allow_weak)
    ]


def field(**fields: Any) -> Record:
    return read_record(json.dumps({"username": "alice", "password_hash": ARGON2, **fields}))


# ---- Files


def test_the_help_of_the_command_names_every_field() -> None:
    """A field that is new cannot be forgotten there."""
    shown = re.sub(r"\s+", " ", run("users", "import", "--help").out)
    assert [] == [name for name in Record.model_fields if not re.search(rf"\b{name}\b", shown)]


def test_a_byte_order_mark_is_not_part_of_the_first_line() -> None:
    """Windows editors write a byte order mark at the start of a file; anywhere else it is an error."""
    assert ["alice"] == names(["\ufeff" + ALICE])
    assert ["alice", "bob"] == names(["\ufeffusername,password_hash", f'alice,"{ARGON2}"', f'bob,"{ARGON2}"'])
    assert ["alice", "it is not a JSON object, or has a member twice"] == names([ALICE, "\ufeff" + ALICE])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", [ALICE, "username,password_hash\nalice,x\n"])
def test_utf_16_is_refused_in_one_sentence(text: str, encoding: str) -> None:
    """A file in UTF-16 gets one error for the file, not one for each line."""
    file = io.StringIO(text.encode(encoding).decode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigurationError, match="is UTF-16: save it as UTF-8"):
        names(lines_of(file))


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ([f"[{ALICE}]"], "JSON array"),
        (["[", ALICE + ",", ALICE.replace("alice", "bob"), "]"], "JSON array"),
        (["", "  [", ALICE, "]"], "JSON array"),
        (["{", '"username": "alice",'], "JSON document over several lines"),
        (['{"users": [', ALICE], "JSON document over several lines"),
    ],
)
def test_one_json_document_is_refused_in_one_sentence(lines: list[str], what: str) -> None:
    """A file that is one JSON document is refused whole, and the sentence names the command that converts it."""
    with pytest.raises(ConfigurationError, match=what) as refusal:
        names(lines)
    assert "jq -c" in str(refusal.value)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_is_read_by_its_header(delimiter: str) -> None:
    """Columns stand in any order, with the delimiters that spreadsheets use; an empty cell is an absent field."""
    header = ["roles", "username", "password_hash", "totp_secret", "mfa", "disabled", "sub"]
    rows = [
        ['"staff;admin"', "alice", f'"{ARGON2}"', SECRET, "", "TRUE", "42"],
        ["staff admin", "bob", f'"{ARGON2}"', "", "", "false", ""],
        ["", "carol", f'"{ARGON2}"', "", "asked", "", "auth0|1"],
    ]
    lines = [delimiter.join(row) + "\r\n" for row in [header, *rows]]
    entries = list(read_lines([*lines, delimiter * 6 + "\r\n"]))
    assert [2, 3, 4] == [entry[0] for entry in entries if not isinstance(entry, RejectedLine)]
    alice, bob, carol = (entry[1] for entry in entries if not isinstance(entry, RejectedLine))
    assert (["staff", "admin"], True, "42", SECRET) == (alice.roles, alice.disabled, alice.sub, alice.totp_secret)
    assert (["staff", "admin"], False, None, None, ARGON2) == (
        bob.roles,
        bob.disabled,
        bob.sub,
        bob.totp_secret,
        bob.password_hash,
    )
    assert ("asked", True, "auth0|1") == (carol.mfa, carol.requires_enrolment, carol.sub)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (f"alice,{ARGON2},", "double quotes"),  # the commas of argon2
        (f'alice,"{ARGON2}', "not a CSV line"),
        (f'alice,"{ARGON2}"x,', "not a CSV line"),
        ("alice", "1 cells and the header 3"),
        (f'alice,"{ARGON2}",perhaps', "disabled must be true or false"),
        (f'a b,"{ARGON2}",', "username needs"),
        (",x,", "username: Field required"),
        ("alice," + "x" * 20000, "longer than"),
    ],
)
def test_an_invalid_csv_line_does_not_affect_the_others(row: str, reason: str) -> None:
    """Only that line is rejected, and the reason says what to do."""
    refusal, bob = names(["username,password_hash,disabled", row, f'bob,"{ARGON2}",'])
    assert reason in refusal
    assert "bob" == bob


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("username,pasword_hash", "a field pasword_hash is unknown: remove it, the fields are username,"),
        ("username,password_hash,authenticators", "a field authenticators is unknown"),
        ("username,roles", "needs the columns username and password_hash"),
        ("username,password_hash,username", "each column once"),
        ("telephone,hash", "a field telephone is unknown"),
    ],
)
def test_a_csv_header_with_wrong_columns_is_refused(header: str, sentence: str) -> None:
    """The whole file is refused, in one sentence."""
    with pytest.raises(ConfigurationError, match=sentence):
        names([header, "alice,x"])


def test_a_file_without_accounts_is_read() -> None:
    """Empty lines and a header alone yield no accounts."""
    assert [] == names([]) == names(["", " \n"]) == names(["username,password_hash"])


@given(st.lists(st.text(max_size=30), max_size=5))
def test_any_lines_are_read_or_refused(lines: list[str]) -> None:
    """A file with any content ends in rejected lines or a configuration error, never in another error."""
    try:
        assert "alice" not in names(lines)
    except ConfigurationError:
        return


# ---- Fields


@pytest.mark.parametrize(
    ("name", "is_named"),
    [
        ("pasword_hash", True),
        ("passwordHash", True),
        ("telephone", True),
        ("created-at", True),
        ("s3cr3t", False),
        ("two words", False),
        ("x" * 41, False),
        ("\u00fcber", False),
    ],
)
def test_an_unknown_field_is_named_if_it_looks_like_a_name(name: str, is_named: bool) -> None:
    """A name that may be a value in the wrong place is not quoted."""
    with pytest.raises(ValueError, match="is unknown: remove it, the fields are username") as refusal:
        field(**{name: "x"})
    assert is_named == (name in str(refusal.value))
    with pytest.raises(ValueError, match="a field issuer is unknown: remove it, the fields are name, totp"):
        field(authenticators=[{"totp_secret": SECRET, "issuer": "x"}])


@pytest.mark.parametrize(
    "sub",
    [
        "auth0|5f7c8ec7c33c6c004bbafe82",
        "google-oauth2|103547991597142817347",
        "f:8a6b7c1d-0e1f-4a2b-9c3d-4e5f6a7b8c9d:jane",
        "us-east-1:8a6b7c1d-0e1f-4a2b-9c3d-4e5f6a7b8c9d",
        "8a6b7c1d-0e1f-4a2b-9c3d-4e5f6a7b8c9d",
        "42",
        "samlp|ad|jane@example.org",
        "x" * 255,
    ],
)
def test_a_sub_of_another_system_is_kept(sub: str) -> None:
    """Every value that OpenID Connect Core section 2 allows is accepted, if headers and JSON hold it unescaped."""
    assert sub == field(sub=sub).sub


def test_a_number_is_a_sub() -> None:
    """Systems that number their users export numbers, which become strings."""
    assert "42" == field(sub=42).sub


@pytest.mark.parametrize(
    "username",
    [
        "o'brien@example.org",
        "jane!doe@example.org",
        "jane#&$%*=?^_`|~-+.doe@example.org",
        "J.Doe@EXAMPLE.org",
        "x" * 64 + "@" + "y" * 51 + ".example.org",
    ],
)
def test_an_email_address_is_a_username(username: str) -> None:
    """The characters of RFC 5322 section 3.2.3 are accepted, up to 128 of them, and folded to lower case."""
    assert username.lower() == field(username=username).username


@pytest.mark.parametrize(
    "username",
    [
        "o'brien",
        "jane!",
        "x" * 65,
        "x" * 65 + "@example.org",
        "x" * 64 + "@" + "y" * 52 + ".example.org",
        "a/b@example.org",
        "{a}b@example.org",
        "o'brien@localhost",
        "o'brien@-example.org",
        "o'brien@exam_ple.org",
        '"jane doe"@example.org',
        "o\u2019brien@example.org",
    ],
)
def test_any_other_name_is_refused(username: str) -> None:
    """The error says what a username may be."""
    with pytest.raises(ValueError, match=r"username needs 3 to 64 characters of .* or is an e-mail address"):
        field(username=username)


@pytest.mark.parametrize(
    "written",
    [
        "jbsw-y3dp-ehpk-3pxp-jbsw-y3dp-ehpk-3pxp",
        "JBSW Y3DP EHPK 3PXP JBSW Y3DP EHPK 3PXP",
        "\tJBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP\r\n",
        "JBSWY3DPEHPK3PXP\u00a0JBSWY3DPEHPK\u20113PXP",
        "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP======",
        f"otpauth://totp/Example:alice?secret={SECRET}&issuer=Example",
        f"otpauth://totp/alice?secret={SECRET.lower()}&algorithm=SHA1&digits=6&period=30&image=x",
        f"OTPAUTH://TOTP/alice?secret={SECRET}&algorithm=HmacSHA1",
        "otpauth://totp/alice?secret=JBSW%20Y3DP%20EHPK%203PXP%20JBSW-Y3DP-EHPK-3PXP",
    ],
)
def test_a_secret_is_read_in_the_spellings_of_other_systems(written: str) -> None:
    """White space, dashes, padding, lower case and `otpauth:` URIs are read."""
    assert SECRET == field(totp_secret=written).totp_secret


@given(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", min_size=24, max_size=60))
def test_trailing_bits_that_make_no_byte_are_ignored(written: str) -> None:
    """Authenticator apps ignore them, so secrets of 25, 27, 30, 33, 35 and 38 characters are valid, too."""
    read = read_secret(written, allow_weak=False)
    padded = written + "A" * (-len(written) % 8)
    whole = len(written) * 5 // 8
    assert pyotp.TOTP(padded).byte_secret()[:whole] == pyotp.TOTP(read).byte_secret()
    assert len(read) in {len(written), len(written) - 1}


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("deadbeefdeadbeefdeadbeefdeadbeef01234567", "hexadecimal: write the same bytes in base32"),
        ("JBSWY3DPEHPK3PX1", "not base32"),
        (SECRET[:24] + "1", "not base32"),
        ("\u00df" * 32, "not base32"),
        (f"otpauth://hotp/alice?secret={SECRET}&counter=1", "of another kind than totp"),
        (f"otpauth://totp/alice?secret={SECRET}&algorithm=SHA256", "hash function is not SHA-1"),
        (f"otpauth://totp/alice?secret={SECRET}&algorithm=SHA512", "hash function is not SHA-1"),
        (f"otpauth://totp/alice?secret={SECRET}&digits=8", "codes do not have six digits"),
        (f"otpauth://totp/alice?secret={SECRET}&period=60", "codes do not change every 30 seconds"),
        ("otpauth://totp/alice?issuer=x", "without a secret"),
        (f"otpauth://totp/alice?secret={SECRET}&secret={SECRET}", "a parameter twice"),
        ("otpauth://totp/alice", "without a secret"),
        ("otpauth://[totp/alice?secret=x", "cannot be read"),
        ("otpauth-migration://offline?data=x", "export of Google Authenticator"),
        ("JBSWY3DPEHPK3PXP", "--allow-weak-secrets"),
        ("JBSWY3DPEHPK3PXPJBSWY3", "--allow-weak-secrets"),
        ("JBSWY3DPEHPK3PX", "needs 112 to 1,024 bits"),
        ("A" * 300, "needs 112 to 1,024 bits"),
    ],
)
def test_a_secret_that_cannot_be_imported_is_refused_with_a_remedy(written: str, reason: str) -> None:
    """The error names what is not supported."""
    with pytest.raises(ValueError, match=r"^totp_secret: ") as refusal:
        field(totp_secret=written)
    assert reason in str(refusal.value)
    if "supported" in str(refusal.value) or "bits" in str(refusal.value):
        assert "mfa: asked" in str(refusal.value)


@pytest.mark.parametrize("size", [10, 13])
def test_a_weak_secret_needs_the_flag(size: int) -> None:
    """The flag admits 80 to 111 bits; fewer bits are always refused."""
    secret = b32encode(bytes(range(size))).decode().rstrip("=")
    assert secret == read_secret(secret, allow_weak=True)
    with pytest.raises(ValueError, match="--allow-weak-secrets"):
        read_secret(secret, allow_weak=False)
    with pytest.raises(ValueError, match="needs 112 to 1,024 bits"):
        read_secret(b32encode(bytes(9)).decode(), allow_weak=True)
