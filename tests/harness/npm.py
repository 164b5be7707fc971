"""JavaScript in tests: third-party packages from npm's registry, run by node."""

import atexit
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.harness.servers import missing

TYPESCRIPT = "typescript@5.9.3"
COMPILER = {
    "strict": True, "exactOptionalPropertyTypes": True, "target": "ES2022", "module": "ESNext", "noEmit": True,
    "lib": ["ES2022", "DOM", "DOM.Iterable"], "moduleResolution": "Bundler", "jsx": "react-jsx", "checkJs": True,
    "types": [],
}  # fmt: skip
"""The options of a frontend whose types are checked strictly."""


def install(folder: Path, *packages: str) -> None:
    """Let a folder have these packages; skip (or fail in CI) where they cannot be installed."""
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "node_modules").symlink_to(_fetch(*packages) / "node_modules")


def install_listed(folder: Path) -> None:
    """Install the packages that the folder's package.json lists; skip (or fail in CI) where that is impossible."""
    _install(folder)


@functools.cache
def _fetch(*packages: str) -> Path:
    """Install packages into a folder that the tests of this process share, and return it."""
    folder = Path(tempfile.mkdtemp(prefix="keyturn-npm-"))
    atexit.register(shutil.rmtree, folder)
    _install(folder, *packages)
    return folder


def _install(folder: Path, *packages: str) -> None:
    if shutil.which("npm") is None:
        missing("npm")
    done = subprocess.run(
        ["npm", "install", "--silent", "--no-audit", "--no-fund", *packages],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        missing(f"npm's {packages[0] if packages else 'packages'} (its registry did not answer)")


def execute(folder: Path, *command: str) -> None:
    """Run a command of an installed package."""
    done = subprocess.run(
        ["npx", "--no-install", *command], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert 0 == done.returncode, done.stdout + done.stderr


def run_typescript(folder: Path, script: str, environment: Mapping[str, str]) -> str:
    """Check a script strictly, run it, and return its standard output. The folder has the package `typescript`."""
    (folder / "script.mts").write_text(script)
    execute(folder, "tsc", "--strict", "--target", "es2022", "--module", "nodenext", "script.mts")
    return run(folder, (folder / "script.mjs").read_text(), environment)


def run(folder: Path, script: str, environment: Mapping[str, str], *, within: float = 60) -> str:
    """Run a script and return its standard output."""
    (folder / "script.mjs").write_text(script)
    done = subprocess.run(
        ["node", "script.mjs"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=within, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    return done.stdout.strip()
