"""The page on the architecture names every module, and no other."""

import re

from tests.servers import REPOSITORY

SERVICE = REPOSITORY / "service"
PAGE = (REPOSITORY / "docs" / "explanation" / "architecture.md").read_text("utf-8")
PACKAGES = {"attack", "cli", "doctor", "migrations"}
"""Named as a whole; the modules of `web/` are named one by one."""


def test_every_module_has_one_line() -> None:
    """With a sentence that says what it is."""
    rows = re.findall(r"^\| `([\w/]+)` \| (.+) \|$", PAGE, re.MULTILINE)
    named = [name for name, _ in rows]
    modules = [file.stem for file in SERVICE.glob("*.py") if file.stem != "__init__"]
    modules += [f"web/{file.stem}" for file in (SERVICE / "web").glob("*.py") if file.stem != "__init__"]
    assert sorted([*modules, *(f"{package}/" for package in PACKAGES)]) == sorted(named)
    assert [] == [text for _, text in rows if not text.endswith(".")]


def test_every_package_is_known() -> None:
    """A new one needs a line, too."""
    folders = {folder.name for folder in SERVICE.iterdir() if (folder / "__init__.py").is_file()}
    assert PACKAGES | {"web"} == folders
