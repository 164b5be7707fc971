"""The `keyturn` command: serve, migrate, users, passwords, clients, keys, messages, doctor, restore-guard, attack.

Exit status: 0 done, 1 refused (the user does not exist, the name is taken), 2 wrong usage or settings, 130 stopped by
SIGINT, 143 stopped by SIGTERM (`serve`: 0 in both cases). `doctor` has a meaning of its own for 1, and `attack` for 1
and 3: `attack` still reports when SIGINT stops it. No command takes a secret as an argument.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn

from service import VERSION
from service.cli import attack, clients, doctor, keys, messages, passwords, restoring, serving, users
from service.cli.parts import DONE, MISUSED, REFUSED, discard, report
from service.errors import ConfigurationError, NotFound, ServiceError, StoreUnavailable


def main(arguments: Sequence[str] | None = None, *, serve: Callable[..., bool] | None = None) -> int:
    """Run one command and return its exit status. `keyturn serve` calls `serve`, if given, and not `web/server`."""
    if sys.stdout is None:  # the shell closed it (`>&-`)
        sys.stdout = _open_nothing()
    if sys.stderr is None:  # otherwise `print` would write to standard output instead
        sys.stderr = _open_nothing()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name may have characters that the terminal's encoding lacks
            stream.reconfigure(errors="backslashreplace")
    options = make_parser().parse_args(arguments, argparse.Namespace(serve=serve))
    # Process 1 of a container has no default action for SIGTERM. After it has finished the running requests, uvicorn
    # raises again the signal that stopped it: a server that stops on request has not failed. Any other command, such
    # as an export, is interrupted, and that is a failure.
    is_server = options.run is serving.run_server
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(DONE if is_server else 128 + signal.SIGTERM))
    status: int
    try:
        status = options.run(options)
        print(end="", flush=True)
    except ConfigurationError as error:
        report(f"keyturn: {error}")
        return MISUSED
    except NotFound:
        report("keyturn: there is no such user.")
        return REFUSED
    except StoreUnavailable as error:
        report(f"keyturn: {error} {error.why}".rstrip())
        return REFUSED
    except ServiceError as error:
        report(f"keyturn: {error} {getattr(error, 'reason', '')}".rstrip())
        return REFUSED
    except KeyboardInterrupt:
        return DONE if is_server else 128 + signal.SIGINT
    except OSError as error:
        discard(sys.stdout)
        if isinstance(error, BrokenPipeError):  # `keyturn users list | head`
            status = DONE
        else:  # for example, a full disk behind `>`
            report(f"keyturn: {error.strerror}.")
            status = REFUSED
    return status


def _open_nothing() -> TextIOWrapper:
    return Path(os.devnull).open("w", encoding="utf-8")


class _Parser(argparse.ArgumentParser):
    """A parser whose errors also say how to pass a name that begins with a dash and so looks like an option.

    They are written as by every command, with `report`.
    """

    def error(self, message: str) -> NoReturn:
        super().error(f"{message} (a name that begins with - goes last, after --)")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        report(message or "", end="")
        sys.exit(status)


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="keyturn",
        description="Verify a password and a second factor, and issue short-lived JSON Web Tokens.",
        epilog="Settings are environment variables that begin with KEYTURN_; docs/reference/settings.md lists them.",
    )
    parser.add_argument("--version", action="version", version=f"keyturn {VERSION}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (serving, users, passwords, clients, keys, messages, doctor, restoring, attack):
        module.add_to(commands)
    return parser
