"""`keyturn passwords`: build the list of leaked passwords that `KEYTURN_BREACHED_PASSWORDS` names."""

import argparse
from pathlib import Path

from service.cli.parts import DONE
from service.clock import system_clock, unix_seconds
from service.errors import ConfigurationError
from service.users.breached.list_building import build_list


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    passwords = commands.add_parser(
        "passwords", help="lists of leaked passwords", description="Build lists of leaked passwords."
    )
    acts = passwords.add_subparsers(metavar="COMMAND", required=True)
    build = acts.add_parser(
        "build-list",
        help="build the file for KEYTURN_BREACHED_PASSWORDS",
        description="Build the file that KEYTURN_BREACHED_PASSWORDS names, from files with a SHA-1 in hexadecimal "
        "digits, a colon and a count on each line, in any order, or from folders of range files (named by five "
        "hexadecimal digits, with a line SUFFIX:COUNT for each hash). An existing file is replaced when the new one "
        "is complete. Beside the output the command needs as much space again while it runs.",
    )
    build.add_argument("input", nargs="+", type=Path, help="a file, or a folder of range files")
    build.add_argument("--output", required=True, type=Path, metavar="FILE", help="the file to write")
    build.add_argument("--plain", action="store_true", help="the files have one password per line")
    build.add_argument(
        "--min-count", type=int, default=1, metavar="N", help="leave out passwords that leaked fewer than N times"
    )
    build.set_defaults(run=_build_list)


def _build_list(options: argparse.Namespace) -> int:
    if options.min_count < 1:
        raise ConfigurationError("--min-count must be 1 or more.")
    if options.plain and options.min_count > 1:
        raise ConfigurationError("--min-count needs counts, which files with --plain do not have.")
    entries = build_list(
        options.input,
        options.output,
        is_plain=options.plain,
        min_count=options.min_count,
        made_at=unix_seconds(system_clock()),
    )
    print(f"{options.output} has {entries} passwords. Set KEYTURN_BREACHED_PASSWORDS to its path, and restart.")
    return DONE
