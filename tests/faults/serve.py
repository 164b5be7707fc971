"""A replica whose clock the suite moves: `python -m tests.faults.serve PORT CLOCK-FILE`.

The file holds the offset of its clock in seconds. Everything else is as in `keyturn serve`, with cheap hashes.
"""

import functools
import sys
from datetime import datetime, timedelta
from pathlib import Path

from fastapi import FastAPI

from service.app import create_app
from service.clock import system_clock
from service.environment import read_settings
from service.settings import Settings
from service.telemetry import log
from service.users.passwords import CHEAPEST
from service.web.listening import bind
from service.web.server import serve


class WrongClock:
    """The system time plus the offset in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self) -> datetime:
        return system_clock() + timedelta(seconds=float(self._file.read_text("ascii")))


def make_app(settings: Settings, file: Path) -> FastAPI:
    return create_app(settings, WrongClock(file), hash_cost=CHEAPEST)


if __name__ == "__main__":
    log.configure("json")
    factory = functools.partial(make_app, read_settings(), Path(sys.argv[2]))
    serve(factory, bind("127.0.0.1", int(sys.argv[1])))
