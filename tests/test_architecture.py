"""The page on the architecture lists every module and nothing else."""

import re

from tests.servers import REPOSITORY

SERVICE = REPOSITORY / "service"
PAGE = (REPOSITORY / "docs" / "explanation" / "architecture.md").read_text("utf-8")
PACKAGES = {"attack", "cli", "doctor", "migrations"}
"""Directories that are listed as a whole; the modules of `web/` are listed one by one."""


def test_every_module_has_one_line() -> None:
    """Each line has a sentence that describes the module."""
    rows = re.findall(r"^\| `([\w/]+)` \| (.+) \|$", PAGE, re.MULTILINE)
    named = [name for name, _ in rows]
    modules = [file.stem for file in SERVICE.glob("*.py") if file.stem != "__init__"]
    modules += [f"web/{file.stem}" for file in (SERVICE / "web").glob("*.py") if file.stem != "__init__"]
    assert sorted([*modules, *(f"{package}/" for package in PACKAGES)]) == sorted(named)
    assert [] == [text for _, text in rows if not text.endswith(".")]


def test_every_package_is_known() -> None:
    """A new package needs a line too."""
    folders = {folder.name for folder in SERVICE.iterdir() if (folder / "__init__.py").is_file()}
    assert PACKAGES | {"web"} == folders


def test_every_file_that_the_explanations_name_exists() -> None:
    """The check covers the explanations and the decision records. The index lists every decision."""
    pages = [*REPOSITORY.glob("docs/explanation/*.md"), *REPOSITORY.glob("docs/decisions/*.md")]
    for page in pages:
        named = re.findall(
            r"`((?:service|tests|bench|deploy|docs)/[\w/.-]+\.(?:py|md|json))`", page.read_text("utf-8")
        )
        assert [] == [name for name in named if not (REPOSITORY / name).exists()], page.name


def test_the_index_of_the_decisions_is_complete() -> None:
    """It has the number and the title of each record, in order."""
    folder = REPOSITORY / "docs" / "decisions"
    records = [file for file in sorted(folder.glob("*.md")) if file.name != "index.md"]
    titles = [(file.name, file.read_text("utf-8").splitlines()[0].partition(". ")[2]) for file in records]
    index = re.findall(r"^\| \d+ \| \[(.*)\]\((.*)\) \|", (folder / "index.md").read_text("utf-8"), re.MULTILINE)
    assert titles == [(name, title) for title, name in index]
