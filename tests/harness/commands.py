"""Commands of the program, each run to its end in a process of its own."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tests.harness.launcher import launcher
from tests.harness.servers import (
    clean_environment,
)

DONE, REFUSED, MISUSED = 0, 1, 2


@dataclass(frozen=True)
class CommandOutput:
    """The exit status and the output of a command."""

    status: int
    out: str
    err: str


def run(*arguments: str, given: bytes = b"", environment: Mapping[str, str] | None = None) -> CommandOutput:
    """Run one command to its end, and check that it shows no traceback, whatever goes wrong."""
    finished = launcher().run(arguments, given=given, environment={**clean_environment(), **(environment or {})})
    output = CommandOutput(finished.returncode, finished.stdout.decode(), finished.stderr.decode())
    assert "Traceback" not in output.err, output.err
    assert "Exception ignored" not in output.err, output.err
    return output


@dataclass(frozen=True)
class Invocation:
    """A command for `run_all`."""

    arguments: tuple[str, ...]
    given: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


def run_all(invocations: Iterable[Invocation], environment: Mapping[str, str] | None = None) -> list[CommandOutput]:
    """Run commands one after the other, with `environment` and their own."""
    return [
        run(*one.arguments, given=one.given.encode(), environment={**(environment or {}), **one.environment})
        for one in invocations
    ]


@dataclass(frozen=True)
class Here:
    """Commands on a SQLite database of their own."""

    environment: dict[str, str]

    def __call__(self, *arguments: str, given: str = "") -> CommandOutput:
        return run(*arguments, given=given.encode(), environment=self.environment)

    def run_all(self, *invocations: Invocation) -> list[CommandOutput]:
        return run_all(invocations, self.environment)
