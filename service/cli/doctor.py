"""`keyturn doctor`: find what is wrong with a deployment, and how to mend it."""

import argparse
import asyncio
import sys

from service.cli.parts import DONE, REFUSED, has_sqlite_file, read_command_settings
from service.clock import system_clock
from service.errors import ConfigurationError
from service.operations.doctor import Doctor
from service.storage.connecting import connect_database

_SIGNS = {"ok": "ok     ", "warning": "WARNING", "wrong": "WRONG  "}


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    doctor = commands.add_parser(
        "doctor",
        help="examine this deployment",
        description="Examine this deployment for mistakes, and say what to do about each. Run the command where the "
        "service runs, with the same settings. It changes nothing; in Redis it writes probe keys that expire within "
        "seconds. Exit status 1 if something is wrong, 2 if a setting is invalid.",
    )
    doctor.set_defaults(run=_doctor)


def _doctor(_options: argparse.Namespace) -> int:
    settings = read_command_settings()
    if settings.database_url is None and not has_sqlite_file(settings):
        raise ConfigurationError(
            f"There is no database at {settings.sqlite_file}. Run the command where the service runs."
        )

    async def examine() -> int:
        status = DONE
        database = connect_database(
            settings.resolved_database_url, prepared_statements=settings.database_prepared_statements, read_only=True
        )
        async for finding in Doctor(settings, database, system_clock).examine():
            print(f"{_SIGNS[finding.verdict]} {_printable(finding.what)}")
            if finding.advice:
                print(f"        {_printable(finding.advice)}")
            if finding.verdict == "wrong":
                status = REFUSED
        return status

    return asyncio.run(examine())


def _printable(text: str) -> str:
    """Return one line that every terminal can show. A setting may contain any character."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    encoding = sys.stdout.encoding or "ascii"
    return shown.encode(encoding, "backslashreplace").decode(encoding)
