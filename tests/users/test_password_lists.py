"""`keyturn passwords build-list`: from published lists of leaked passwords to the file that is searched."""

import asyncio
import io
import random
from pathlib import Path
from typing import Any

import pytest

from service.errors import ConfigurationError
from service.users.breached.check import open_list
from service.users.breached.list_building import MAX_LINE_BYTES, build_list, write_runs
from service.users.breached.list_file import HEADER, ListFile, write_header
from tests.harness.commands import CommandOutput, run
from tests.harness.ranges import sha1

WORDS = [f"password number {number}" for number in range(2000)]


def digests_of(path: Path) -> list[bytes]:
    data = path.read_bytes()[HEADER.size :]
    return [data[start : start + 8] for start in range(0, len(data), 8)]


def expected(*words: str) -> list[bytes]:
    return sorted({bytes.fromhex(sha1(word))[:8] for word in words})


def build(folder: Path, *texts: str | bytes, is_plain: bool = False, min_count: int = 1, **sizes: Any) -> list[bytes]:
    """Build a list of files with these texts, and return its digests."""
    inputs = []
    for number, text in enumerate(texts):
        inputs.append(folder / f"input{number}")
        inputs[-1].write_bytes(text if isinstance(text, bytes) else text.encode())
    output = folder / "list"
    entries = build_list(inputs, output, is_plain=is_plain, min_count=min_count, made_at=7, **sizes)
    found = digests_of(output)
    assert entries == len(found)
    opened = ListFile.open(output)
    assert (entries, 7) == (opened.entries, opened.made_at)
    asyncio.run(opened.close())
    return found


def lines_of(words: list[str], *, count: int = 1) -> str:
    return "".join(f"{sha1(word)}:{count}\n" for word in words)


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled", "twice"])
def test_the_list_is_sorted_and_has_each_password_once(tmp_path: Path, chunk: int, order: str) -> None:
    """This holds for any order of the input and any size of the chunks."""
    words = sorted(WORDS[:300], key=sha1)
    if order == "descending":
        words.reverse()
    elif order == "shuffled":
        random.Random(5).shuffle(words)  # noqa: S311 -- an order, not a secret
    elif order == "twice":
        words = words + words
    assert expected(*words) == build(tmp_path, lines_of(words), chunk=chunk, read_entries=3)


def test_an_input_in_order_makes_one_run(tmp_path: Path) -> None:
    """So the downloads of Pwned Passwords, which are in order, need no merging and no memory for it."""
    in_order, shuffled = (
        write_runs((bytes.fromhex(sha1(word))[:8] for word in words), io.BytesIO(), chunk=10)
        for words in (sorted(WORDS, key=sha1), WORDS)
    )
    assert [(0, len(WORDS))] == in_order
    assert len(shuffled) > 1
    assert build(tmp_path, lines_of(sorted(WORDS, key=sha1))) == build(tmp_path, lines_of(WORDS), chunk=10)


def test_lines_are_read_in_every_published_form(tmp_path: Path) -> None:
    """Lower case, CR LF, a byte order mark, blank lines, huge counts, and no line end at the end of the file."""
    one, two, three = (sha1(word) for word in WORDS[:3])
    for text in (
        f"{one}:1\n{two}:2\n{three}:3\n",
        f"{one}:1\r\n{two}:2\r\n{three}:3",
        f"\ufeff{one.lower()}:1\n\n{two.lower()}:{10**29}\n\n{three}:3\n\n",
    ):
        assert expected(*WORDS[:3]) == build(tmp_path, text)


def test_files_and_folders_are_joined(tmp_path: Path) -> None:
    """A folder has range files, with `.txt` or without; hidden files in it are left out, and so is padding."""
    folder = tmp_path / "ranges"
    folder.mkdir()
    (folder / ".note").write_text("a note")
    for number, word in enumerate(WORDS[:50]):
        digest = sha1(word)
        name = digest[:5] + (".txt" if number % 2 else "")
        with (folder / name).open("a", newline="") as file:
            file.write(f"{digest[5:]}:{number + 1}\r\n{'0' * 35}:0\r\n")
    more = tmp_path / "more"
    more.write_text(lines_of(WORDS[40:60]))
    build_list([folder, more], tmp_path / "list", is_plain=False, min_count=1, made_at=0)
    assert expected(*WORDS[:60]) == digests_of(tmp_path / "list")
    build_list([folder], tmp_path / "list", is_plain=False, min_count=11, made_at=0)
    assert expected(*WORDS[10:50]) == digests_of(tmp_path / "list")


def test_a_minimum_leaves_rare_passwords_out(tmp_path: Path) -> None:
    """Those with exactly the minimum stay. Padding has the count 0 and is never an entry."""
    text = lines_of(WORDS[:3], count=9) + lines_of(WORDS[3:5], count=10) + lines_of(WORDS[5:6], count=0)
    assert expected(*WORDS[3:5]) == build(tmp_path, text, min_count=10)
    assert expected(*WORDS[:5]) == build(tmp_path, text)


def test_plain_passwords_are_read_as_they_are(tmp_path: Path) -> None:
    """Spaces belong to a password, line ends do not, and bytes that are not UTF-8 are no mistake."""
    found = build(tmp_path, "\ufeff one \r\ntwo:3\n\nZo\u00eb\n".encode() + b"caf\xe9\n", is_plain=True)
    assert 4 == len(found)
    assert set(expected(" one ", "two:3", "Zo\u00eb")) < set(found)


DIGEST = sha1("x")
WRONG_LINES: list[tuple[str | bytes, bool, str]] = [
    (f"{DIGEST}:1\n{DIGEST}\n", False, "line 2 "),
    (f"{DIGEST}:1\n\n{DIGEST[:-1]}:1\n", False, "line 3 "),
    (f"{DIGEST}0:1\n", False, "line 1 "),
    (f"{DIGEST}:\n", False, "line 1 "),
    (f"{DIGEST}:-1\n", False, "line 1 "),
    (f"{DIGEST}:1 \n", False, "line 1 "),
    (f"{DIGEST}:{'9' * 31}\n", False, "line 1 "),
    (f"{'0' * 32}:1\n", False, "40 hexadecimal digits"),  # NTLM
    ("hunter2hunter2\n", False, "line 1 "),
    (f"{DIGEST}:1\n".encode("utf-16"), False, "line 1 "),
    (b"\x1f\x8b\x08\x00", False, "line 1 "),
    ("x" * 100_000, False, "line 1 "),
    ("short\n" + "x" * MAX_LINE_BYTES + "\n", True, "line 2 "),
    ("\ufeff" + "x" * MAX_LINE_BYTES + "\n", True, "line 1 "),
    ("\ufeff" + "x" * (MAX_LINE_BYTES - 2) + "\n", True, "line 1 "),
    ("hunter2hunter2\n".encode("utf-16"), True, "UTF-16"),
]


@pytest.mark.parametrize(("text", "is_plain", "named"), WRONG_LINES)
def test_a_wrong_line_is_refused_by_its_number(tmp_path: Path, text: str | bytes, is_plain: bool, named: str) -> None:
    """The sentence has the file and not the line, which may be a password. An existing list stays, and no draft."""
    (tmp_path / "list").write_text("the list of yesterday")
    with pytest.raises(ConfigurationError) as refusal:
        build(tmp_path, text, is_plain=is_plain)
    assert str(tmp_path / "input0") in str(refusal.value)
    assert named in str(refusal.value)
    assert "hunter2" not in str(refusal.value)
    assert "the list of yesterday" == (tmp_path / "list").read_text()
    assert ["input0", "list"] == sorted(file.name for file in tmp_path.iterdir())


def test_inputs_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    """A missing file, a folder with another file, an empty list, an output that is an input or has no folder."""
    folder, empty = tmp_path / "ranges", tmp_path / "empty"
    folder.mkdir()
    (folder / "readme.md").write_text("")
    empty.write_text("\n\n")
    output, nowhere = tmp_path / "list", tmp_path / "nowhere" / "list"
    for inputs, out, named in (
        ([tmp_path / "missing"], output, "missing cannot be read: No such file"),
        ([folder], output, "readme.md is not a range file"),
        ([empty], output, "no password that belongs"),
        ([empty], empty, "empty is an input"),
        ([empty], nowhere, "list cannot be written: No such file"),
        ([empty], empty / "list", "list cannot be written: Not a directory"),
        ([empty], tmp_path / ("x" * 300), "x cannot be written: File name too long"),
        ([tmp_path / ("x" * 300)], output, "x cannot be read: File name too long"),
    ):
        with pytest.raises(ConfigurationError, match=named):
            build_list(inputs, out, is_plain=False, min_count=1, made_at=0)
    assert ["empty", "ranges"] == sorted(file.name for file in tmp_path.iterdir())


DAMAGED = {
    "empty": b"",
    "a text": b"password\n" * 10,
    "a short header": write_header(1, 0)[:-1],
    "another magic": b"x" + write_header(1, 0)[1:] + bytes(8),
    "another format": HEADER.pack(b"ktleaked", 2, 8, 1, 0) + bytes(8),
    "other digests": HEADER.pack(b"ktleaked", 1, 10, 1, 0) + bytes(10),
    "truncated": write_header(2, 0) + bytes(15),
    "too long": write_header(2, 0) + bytes(17),
    "no entries": write_header(0, 0),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_file_that_is_not_a_whole_list_stops_the_start(tmp_path: Path, damage: str) -> None:
    """The sentence names the setting, the file, and what to do."""
    file = tmp_path / "list"
    file.write_bytes(DAMAGED[damage])
    with pytest.raises(ConfigurationError) as refusal:
        open_list(file)
    assert str(refusal.value).startswith(f"KEYTURN_BREACHED_PASSWORDS: {file} cannot be used: ")
    assert str(refusal.value).endswith("Make a list with keyturn passwords build-list, or set it to off.")


def test_the_command_builds_a_list_that_a_start_accepts(tmp_path: Path) -> None:
    """It prints the number and the next step. A missing list and a foreign file stop the start with status 2."""
    plain, output = tmp_path / "plain", tmp_path / "list"
    plain.write_text("one\ntwo\none\n")
    command = ("passwords", "build-list", str(plain), "--plain", "--output", str(output))
    done = f"{output} has 2 passwords. Set KEYTURN_BREACHED_PASSWORDS to its path, and restart.\n"
    assert CommandOutput(0, done, "") == run(*command)
    assert 0o600 == output.stat().st_mode & 0o600
    environment = {"KEYTURN_DATA_DIR": str(tmp_path / "data")}
    for path, why in ((tmp_path / "missing", "No such file"), (plain, "is not a list"), (tmp_path, "Is a directory")):
        refused = run("migrate", environment={**environment, "KEYTURN_BREACHED_PASSWORDS": str(path)})
        assert 0 == refused.status, "a migration needs no list"
        refused = run("serve", "--port", "0", environment={**environment, "KEYTURN_BREACHED_PASSWORDS": str(path)})
        assert (2, "") == (refused.status, refused.out)
        assert refused.err.startswith(f"keyturn: KEYTURN_BREACHED_PASSWORDS: {path} ")
        assert why in refused.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--min-count", "0"), "--min-count must be 1 or more"),
        (("--plain", "--min-count", "2"), "--min-count needs counts"),
        (("--min-count", "many"), "invalid int value"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    """Status 2, and no file."""
    (tmp_path / "in").write_text("one\n")
    output = run("passwords", "build-list", str(tmp_path / "in"), "--output", str(tmp_path / "out"), *arguments)
    assert 2 == output.status
    assert sentence in output.err
    assert not (tmp_path / "out").exists()
