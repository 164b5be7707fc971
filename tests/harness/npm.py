"""JavaScript in tests: third-party packages from npm's registry, run by node."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.harness.servers import missing


def install(folder: Path, *packages: str) -> None:
    """Install packages into a folder; skip (or fail in CI) where that is impossible."""
    if shutil.which("npm") is None:
        missing("npm")
    (folder / "package.json").write_text('{"type": "module"}')
    done = subprocess.run(
        ["npm", "install", "--silent", "--no-audit", "--no-fund", *packages],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        missing(f"npm's {packages[0]} (its registry did not answer)")


def run(folder: Path, script: str, environment: Mapping[str, str]) -> str:
    """Run a script and return its standard output."""
    (folder / "script.mjs").write_text(script)
    done = subprocess.run(
        ["node", "script.mjs"], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout.strip()
