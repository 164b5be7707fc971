"""`keyturn` in processes that are forked from one which has loaded the program.

Starting Python and loading the program is most of the work of a short command; a fork of a loaded process skips it.
Each command and each server still has a process of its own, with its arguments, environment, standard streams and
exit status, as from a shell.
"""

import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_REPOSITORY = Path(__file__).parents[2]
TIMEOUT_SECONDS = 240

_PROGRAM = r"""
import gc, json, os, random, signal, sys, traceback, warnings

import service.app, service.attack, service.cli, service.web.docs, service.web.server
import service.storage.database_postgresql, service.storage.migrations
import service.operations.doctor, service.messages.webhook
import anyio._backends._asyncio, zxcvbn  # which the program loads at the first request that needs them

def read_request():
    line = b""
    while not line.endswith(b"\n"):  # not sys.stdin, whose buffer a child would inherit
        part = os.read(0, 65536)
        if not part:
            sys.exit(0)
        line += part
    return json.loads(line)

def start(request):
    signal.alarm(request["timeout"])
    if not request["timeout"]:  # a server runs with the warnings of an ordinary start
        warnings.simplefilter("ignore", ResourceWarning)
    for number, name in enumerate(request["files"]):
        file = os.open(name, os.O_RDWR | os.O_APPEND * (number > 0))
        os.dup2(file, number)
        os.close(file)
    random.seed()
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[:] = ["keyturn", *request["arguments"]]
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        stream.reconfigure(encoding=encoding or None, errors=errors or None)
    try:
        status = service.cli.main(request["arguments"])
    except SystemExit as stopped:
        status = stopped.code
    except BaseException:
        traceback.print_exc()
        status = 1
    gc.collect()  # what was left open is reported
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status or 0)  # tearing the loaded modules down would copy all of their memory

gc.collect()
gc.freeze()
while True:
    request = read_request()
    if "arguments" in request:
        answer = os.fork()
        if answer == 0:
            start(request)
    else:
        ended, status = os.waitpid(request["pid"], 0 if request["waits"] else os.WNOHANG)
        answer = os.waitstatus_to_exitcode(status) if ended else None
    os.write(1, json.dumps(answer).encode() + b"\n")
"""


class Child:
    """A process that the launcher forked, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, launcher: "Launcher", pid: int) -> None:
        self._launcher = launcher
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._launcher.ask({"pid": self.pid, "waits": False})
        return self.returncode

    def wait(self, timeout: float = TIMEOUT_SECONDS) -> int:
        """Return the exit status, negative for a signal. Raises `subprocess.TimeoutExpired`."""
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("keyturn", timeout)
            time.sleep(0.01)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@dataclass(frozen=True)
class Finished:
    """What a command left: its exit status, negative for a signal, and what it wrote."""

    returncode: int
    stdout: bytes
    stderr: bytes


class Launcher:
    """A process that has loaded the program, and forks. One for each process of the test run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, arguments: Sequence[str], *, given: bytes = b"", environment: Mapping[str, str]) -> Finished:
        """Run one command to its end, with `environment` and nothing else."""
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / name for name in ("stdin", "stdout", "stderr")]
            for file in files:
                file.write_bytes(given if file.name == "stdin" else b"")
            child = self._fork(arguments, environment, files, timeout=TIMEOUT_SECONDS)
            status = self.ask({"pid": child.pid, "waits": True})
            return Finished(status, files[1].read_bytes(), files[2].read_bytes())

    def start(self, arguments: Sequence[str], *, environment: Mapping[str, str], log: Path | None = None) -> Child:
        """Start one that goes on, such as a server; it writes to `log`."""
        nothing = Path(os.devnull)
        if log is not None:
            log.touch()
        return self._fork(arguments, environment, [nothing, log or nothing, log or nothing], timeout=0)

    def _fork(
        self, arguments: Sequence[str], environment: Mapping[str, str], files: list[Path], *, timeout: int
    ) -> Child:
        pid = self.ask(
            {
                "arguments": list(arguments),
                "environment": dict(environment),
                "files": [str(file) for file in files],
                "timeout": timeout,
            }
        )
        return Child(self, pid)

    def ask(self, request: dict[str, Any]) -> Any:
        """Send one request to the process that forks, and return its answer."""
        with self._lock:
            process = self._started()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            assert answer, "the process that forks has ended"
            return json.loads(answer)

    def stop(self) -> None:
        """End the process that forks; its children must have ended before."""
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error::ResourceWarning", "-c", _PROGRAM],
                env={name: value for name, value in os.environ.items() if not name.startswith("KEYTURN_")},
                cwd=_REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        return self._process


@functools.cache
def launcher() -> Launcher:
    """Return the launcher of this process of the test run; conftest.py stops it at the end."""
    return Launcher()
