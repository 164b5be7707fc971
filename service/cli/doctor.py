"""`keyturn doctor`: what is wrong with a deployment, and what to do about it."""

import argparse
import asyncio

from service.app import make_components
from service.cli.parts import DONE, REFUSED
from service.doctor import Doctor
from service.errors import ConfigurationError, StoreUnavailable
from service.settings import read_settings

_SIGNS = {"ok": "ok     ", "warning": "WARNING", "wrong": "WRONG  "}


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    doctor = commands.add_parser(
        "doctor",
        help="look for what is wrong with this deployment",
        description="Look for what is wrong with this deployment, and say what to do. Run it where the service runs, "
        "with the same settings; it does nothing that serving would not do. Exit status 1 if something is wrong.",
    )
    doctor.set_defaults(run=_doctor)


def _doctor(_options: argparse.Namespace) -> int:
    async def examine() -> int:
        settings = read_settings()
        if settings.database_url is None and not settings.sqlite_file.exists():
            raise ConfigurationError(f"There is no database at {settings.sqlite_file}: run it where that is.")
        parts = make_components(settings)
        status = DONE
        try:
            await parts.database.open()
            async for finding in Doctor(settings, parts.database, parts.keys, parts.clock).examine():
                print(f"{_SIGNS[finding.verdict]} {finding.what}")
                if finding.advice:
                    print(f"        {finding.advice}")
                if finding.verdict == "wrong":
                    status = REFUSED
        except StoreUnavailable:
            print(f"{_SIGNS['wrong']} The database went away meanwhile.")
            status = REFUSED
        finally:
            parts.passwords.close()
            await parts.ephemeral.close()
            await parts.database.close()
        return status

    return asyncio.run(examine())
