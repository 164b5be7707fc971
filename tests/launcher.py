"""Commands in processes that are forked from one which has loaded the program.

Starting Python and loading the program costs a second of CPU, a fork of a loaded process some milliseconds. Each command
has a process of its own, with its arguments, environment, standard streams and exit, as from a shell.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.servers import REPOSITORY, clean_environment

TIMEOUT_SECONDS = 60

_PROGRAM = rf"""
import json, os, signal, sys

import service.cli, service.migrations, service.database_postgresql, service.webhook, service.doctor, service.attack

line = b""
while True:  # not sys.stdin, whose buffer a child would inherit
    while not line.endswith(b"\n"):
        part = os.read(0, 65536)
        if not part:
            sys.exit(0)
        line += part
    request, line = json.loads(line), b""
    child = os.fork()
    if child == 0:
        signal.alarm({TIMEOUT_SECONDS})
        for number, name in enumerate(request["files"]):
            file = os.open(name, os.O_RDWR)
            os.dup2(file, number)
            os.close(file)
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv[:] = ["keyturn", *request["arguments"]]
        sys.exit(service.cli.main(request["arguments"]))
    _, status = os.waitpid(child, 0)
    os.write(1, b"%d\n" % os.waitstatus_to_exitcode(status))
"""


@dataclass(frozen=True)
class Finished:
    """What a command left: its exit status, negative for a signal, and what it wrote."""

    returncode: int
    stdout: bytes
    stderr: bytes


class Launcher:
    """A process that has loaded the program, and forks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, arguments: Sequence[str], *, given: bytes = b"", environment: Mapping[str, str]) -> Finished:
        """Run one command to its end, with `environment` and nothing else."""
        with self._lock, tempfile.TemporaryDirectory() as folder:
            process = self._started()
            files = [Path(folder) / name for name in ("stdin", "stdout", "stderr")]
            for file in files:
                file.write_bytes(given if file.name == "stdin" else b"")
            request = {
                "arguments": list(arguments),
                "environment": dict(environment),
                "files": [str(file) for file in files],
            }
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            status = process.stdout.readline()
            assert status, "the process that forks has ended"
            return Finished(int(status), files[1].read_bytes(), files[2].read_bytes())

    def stop(self) -> None:
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error::ResourceWarning", "-c", _PROGRAM],
                env=clean_environment(),
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        return self._process
