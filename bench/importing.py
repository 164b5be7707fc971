"""The cost of an import: `python -m bench.importing [HOW_MANY]` (100,000 users with second factors)."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import pyotp

from bench.board import say
from bench.worlds import WORLDS
from service.environment import read_settings
from service.storage.migrations import migrate
from tests.harness.servers import REPOSITORY, clean_environment

HASH = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b7dWRWJTmaaJObG0ifWtP9PUY4"


def main(how_many: int) -> None:
    with tempfile.TemporaryDirectory(prefix="keyturn-bench-") as folder:
        file = Path(folder) / "people.jsonl"
        with file.open("w", encoding="utf-8") as out:
            for n in range(how_many):
                person = {"username": f"person{n}", "password_hash": HASH, "totp_secret": pyotp.random_base32()}
                out.write(json.dumps(person) + "\n")
        for name, world in WORLDS.items():
            with world() as made:
                settings = read_settings(made.environment)
                settings.make_data_dir()
                migrate(settings.resolved_database_url)
                begun = perf_counter()
                child = subprocess.Popen(  # noqa: S603 -- our own command
                    [sys.executable, "-m", "service", "users", "import", str(file)],
                    cwd=REPOSITORY, env={**clean_environment(), **made.environment},
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )  # fmt: skip
                _, status, used = os.wait4(child.pid, 0)
                took = perf_counter() - begun
                child.returncode = os.waitstatus_to_exitcode(status)
                if child.returncode != 0:
                    raise RuntimeError(f"the import ended with {child.returncode}")
                say(f"{name:11}{how_many} users in {took:.0f} s, {how_many / took:.0f} per second,"
                    f" {used.ru_maxrss / 1024:.0f} MiB at most")  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
