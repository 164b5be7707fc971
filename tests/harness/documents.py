"""Documents as programs: their examples, and a shell that runs them in the order of the page.

An example is a fenced block. `sh` runs in the reader's shell. With the title `second terminal` it runs in parallel,
with settings as its title it runs with a Keyturn that has these settings, and with the title `functions` it runs with
each Keyturn of the page. Any other title is for the reader only. `python` and `js` run as programs; with a file name
as the title they are saved in it.
`console` is for examples that need Docker, a cluster, another system or a server of their own: they are not run, but
their commands are checked as far as possible.
"""

import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from tests.harness.ports import free_port
from tests.harness.servers import ANSWERS_WITHIN, REPOSITORY, Process, clean_environment, keyturn, missing, wait_until

SECOND_TERMINAL = "second terminal"
FUNCTIONS = "functions"
FENCE = re.compile(r'^( *)```(\w+)(?: title="([^"]*)")?\n(.*?)^\1```$', re.MULTILINE | re.DOTALL)
PORTS = (8000, 8001, 9000)
"""The ports of Keyturn, of a webhook receiver and of a relying service in the documents."""


@dataclass(frozen=True)
class Block:
    """One example of a document."""

    language: str
    title: str
    text: str


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return the examples of a page in order; only those in `languages`, if any are given."""
    found = [
        Block(language, title, textwrap.dedent(text))
        for _, language, title, text in FENCE.findall(page.read_text("utf-8"))
    ]
    return [block for block in found if not languages or block.language in languages]


def pages() -> list[Path]:
    """Return every document that a reader follows, sorted by path."""
    return [REPOSITORY / "README.md", *sorted(REPOSITORY.glob("docs/tutorials/*.md")),
            *sorted(REPOSITORY.glob("docs/guides/*.md"))]  # fmt: skip


@dataclass
class Reader:
    """Runs examples in a shell that keeps its variables and functions, in a folder like the repository's."""

    folder: Path
    ports: dict[int, int]
    environment: dict[str, str]
    output: str = ""
    _terminals: dict[str, Process] = field(default_factory=dict)

    def here(self, example: str) -> str:
        """Return the example with this test's ports."""
        for documented, port in self.ports.items():
            example = re.sub(rf"((?:localhost|127\.0\.0\.1):|--port ){documented}\b", rf"\g<1>{port}", example)
        return example

    def type(self, example: str) -> str:
        """Run one example after the earlier ones; return its output."""
        script = (
            "[ ! -e .shell ] || source .shell 2> /dev/null || true\nset -eu\n"
            f"{self.here(example)}\n{{ declare -f; declare -p; }} > .shell\n"
        )
        run = subprocess.run(
            ["bash", "-c", script], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert 0 == run.returncode, f"{example}\n{run.stdout}\n{run.stderr}"
        self.output += run.stdout
        return run.stdout

    def variable(self, name: str) -> str:
        """Return the value of a variable of the shell."""
        return self.type(f'printf %s "${name}"')

    def open_terminal(self, example: str) -> None:
        """Run a server until the end of the test, or until the same command is started again."""
        self.close_terminal(example)
        command = f"cd {self.folder} && exec {self.here(example)}"
        self._terminals[example] = Process(["bash", "-c", command], environment=self.environment)
        self._terminals[example].start()
        (port,) = re.findall(r"--port (\d+)", command)
        wait_until(lambda: httpx2.get(f"http://localhost:{port}/", timeout=ANSWERS_WITHIN))

    def close_terminal(self, example: str) -> None:
        process = self._terminals.pop(example, None)
        if process is not None:
            process.stop()

    def save(self, block: Block) -> None:
        """Write a file of the document, or append to it where a later block continues it."""
        with (self.folder / block.title).open("a", encoding="utf-8") as file:
            file.write(self.here(block.text))

    def run_python(self, example: str) -> str:
        """Run a program with the variables that the shell exports."""
        (self.folder / "example.py").write_text(self.here(example), "utf-8")
        return self.type(f"{sys.executable} example.py").strip()

    def close(self) -> None:
        for example in list(self._terminals):
            self.close_terminal(example)


@contextmanager
def reader(folder: Path, **settings: str) -> Iterator[Reader]:
    """Yield a reader and a Keyturn with these settings, with its data in the folder that `make run` uses."""
    for program in ("curl", "oathtool", "jq"):
        if shutil.which(program) is None:
            missing(program)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".venv").symlink_to(sys.prefix)
    for name in ("examples", "deploy"):
        (folder / name).symlink_to(REPOSITORY / name)
    ports = {documented: free_port() for documented in PORTS}
    named = {"KEYTURN_ISSUER": f"http://localhost:{ports[8000]}", "KEYTURN_HOST": "localhost", **settings}
    environment = clean_environment() | named
    environment["PATH"] = f"{Path(sys.prefix) / 'bin'}:{environment['PATH']}"
    with keyturn({**named, "KEYTURN_DATA_DIR": str(folder / "data")}, port=ports[8000]):
        someone = Reader(folder, ports, environment)
        try:
            yield someone
        finally:
            someone.close()


LOGGED_IN = """
field() { python3 -c "import json, sys; said = json.load(sys.stdin); print(said.get('$1') or sys.exit(str(said)))"; }
curl -s localhost:8000/signup -H 'Content-Type: application/json' \\
  -d '{"username": "alice", "password": "correct horse battery staple", "enable_mfa": true}' > signup.json
MFA_TOKEN=$(field mfa_token < signup.json)
SECRET=$(curl -s localhost:8000/qrcode/alice/secret -H "Authorization: Bearer $MFA_TOKEN" | field secret)
CODE=$(oathtool --totp --base32 "$SECRET")
curl -s localhost:8000/login-2fa -H 'Content-Type: application/json' \\
  -d "{\\"mfa_token\\": \\"$MFA_TOKEN\\", \\"otp\\": \\"$CODE\\"}" > tokens.json
export ACCESS_TOKEN=$(field access_token < tokens.json)
CODE=$(oathtool --totp --base32 --now "now + 30 seconds" "$SECRET")
"""
"""The state that a guide requires: alice is logged in with a second factor, and `$CODE` is her next code."""
