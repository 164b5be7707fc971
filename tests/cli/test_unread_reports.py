"""Commands whose standard error has no reader: it ended (`2>&1 | head`), or the shell closed the stream (`2>&-`)."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.cli.parts import opened_lines
from service.errors import ConfigurationError
from tests.harness.commands import DONE, MISUSED, REFUSED, Here
from tests.harness.import_files import ANY_HASH
from tests.harness.servers import REPOSITORY, clean_environment

PEOPLE = [{"username": "x"}, {"username": "alice", "password_hash": ANY_HASH}]
"""A line that is refused and reported, and then one that is imported."""

BUFFERED = {"PYTHONUNBUFFERED": ""}
"""As in an operator's shell: what a command has printed may still wait when its report fails."""

IN_SHELL = {"its reader has ended": 'exec "$@"', "the shell closed it": 'exec "$@" 2>&-'}


def run_unread(here: Here, state: str, *arguments: str) -> tuple[int, str]:
    """Run a command in this state of standard error; return its exit status and its standard output."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", IN_SHELL[state], "sh", sys.executable, "-m", "service", *arguments],
            env={**clean_environment(), **here.environment, **BUFFERED}, cwd=REPOSITORY,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=writer, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(writer)
    return done.returncode, done.stdout


@pytest.mark.parametrize("state", IN_SHELL)
def test_a_command_does_its_work_without_a_reader_of_its_reports(here: Here, tmp_path: Path, state: str) -> None:
    """An import goes on after a line that it refused, and standard output has the result of each command only."""
    people = tmp_path / "people.jsonl"
    people.write_text("\n".join(map(json.dumps, PEOPLE)))
    assert (REFUSED, "1 imported, 1 refused.\n") == run_unread(here, state, "users", "import", str(people))
    assert DONE == here("users", "show", "alice").status
    status, secret = run_unread(here, state, "clients", "add", "billing")
    assert (DONE, 1) == (status, len(secret.split()))
    status, guarded = run_unread(here, state, "restore-guard")
    assert (DONE, "1 users: ") == (status, guarded[:9])


@pytest.mark.parametrize("state", IN_SHELL)
def test_an_error_that_nobody_reads_has_its_exit_status(here: Here, tmp_path: Path, state: str) -> None:
    """It ends in no traceback, whose exit status would be another, and its sentence is not on standard output."""
    assert (REFUSED, "") == run_unread(here, state, "users", "show", "nobody")
    assert (MISUSED, "") == run_unread(here, state, "users", "import", str(tmp_path / "none"))
    assert (MISUSED, "") == run_unread(here, state, "no-such-command")


def test_a_command_without_standard_output_does_its_work(here: Here) -> None:
    """The shell closed it (`>&-`)."""
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "service", "doctor"],
        env={**clean_environment(), **here.environment, **BUFFERED}, cwd=REPOSITORY,
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr


def test_only_an_error_of_the_file_says_that_it_cannot_be_read(tmp_path: Path) -> None:
    """A pipe that breaks while the lines are used has nothing to do with the file."""
    file = tmp_path / "people.jsonl"
    file.write_text("one\ntwo\n")
    with pytest.raises(BrokenPipeError), opened_lines(str(file)):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_a_read_that_fails_after_the_opening_names_the_file() -> None:
    """Nothing can be read at the beginning of the memory of a process."""
    with pytest.raises(ConfigurationError) as error, opened_lines("/proc/self/mem") as lines:
        next(lines)
    assert "/proc/self/mem cannot be read: Input/output error." == str(error.value)
