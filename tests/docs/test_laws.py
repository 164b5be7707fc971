"""Every citation of a law is found on the page of the laws, and every file that the page names exists."""

import re
from pathlib import Path

import pytest

from tests.harness.servers import REPOSITORY

PAGE = (REPOSITORY / "docs" / "explanation" / "laws.md").read_text("utf-8")
SECTIONS = re.findall(r"^## Law (\d+): (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
TITLES = {int(number): title for number, title, _ in SECTIONS}
FILES = sorted(
    file
    for folder in ("service", "tests", "bench", "docs", "examples", "deploy")
    for file in (REPOSITORY / folder).rglob("*")
    if file.suffix in {".py", ".md", ".yaml", ".sh"} and file.name not in {"laws.md", "test_laws.py"}
)
CODE = [file for file in FILES if file.suffix == ".py"]
ABSENT = re.compile(r"\b(style|design|review)\.md\b|\bsections? \d+(\.\d+)* of the design\b")


def read(file: Path) -> str:
    """Return the text on one line, so that a title may span lines, without comment marks."""
    return " ".join(re.sub(r"^\s*#", "", line) for line in file.read_text("utf-8").splitlines())


def citations(text: str) -> list[tuple[int, str]]:
    """Return the number of each law that a text cites, and the text that follows it."""
    folded = " ".join(text.split())
    return [(int(found[1]), folded[found.end() :]) for found in re.finditer(r"\b[Ll]aw (\d+)", folded)]


def test_there_are_seventeen_laws() -> None:
    """They are numbered in order, and each has its own title."""
    assert list(range(1, 18)) == list(TITLES)
    assert 17 == len(set(TITLES.values()))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_every_citation_is_of_a_law_that_exists(file: Path) -> None:
    """A law is cited by its number, and two laws are cited separately."""
    text = read(file)
    assert [] == [number for number, _ in citations(text) if number not in TITLES]
    assert re.search(r"\b[Ll]aws \d", text) is None


@pytest.mark.parametrize("file", CODE, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_the_first_citation_in_a_module_has_the_title(file: Path) -> None:
    """The reader of a module sees what the law demands, as in `law 8: no answer reveals who exists`."""
    seen: set[int] = set()
    for number, following in citations(read(file)):
        if number not in seen:
            assert following.lower().startswith(f": {TITLES[number].lower()}"), (number, following[:60])
        seen.add(number)


@pytest.mark.parametrize(("number", "section"), [(int(number), section) for number, _, section in SECTIONS])
def test_a_law_names_where_it_is_enforced_and_what_proves_it(number: int, section: str) -> None:
    """The named files exist, and each module that enforces a law cites it."""
    named = re.findall(r"`((?:service|tests|bench)/[\w/]+\.py)`", section)
    assert [] == [name for name in named if not (REPOSITORY / name).is_file()]
    enforced = re.search(r"^- Enforced in (`service/.*?)(?=^- )", section, re.MULTILINE | re.DOTALL)
    assert enforced is not None
    modules = re.findall(r"`(service/[\w/]+\.py)`", enforced[1])
    assert [] == [name for name in modules if number not in dict(citations(read(REPOSITORY / name)))]
    assert re.search(r"^- Proved by `tests/", section, re.MULTILINE)


def test_no_file_refers_to_a_document_outside_the_repository() -> None:
    """A reader of the repository can find each document that it cites."""
    files = [*FILES, REPOSITORY / "pyproject.toml", REPOSITORY / "Makefile", REPOSITORY / "CONTRIBUTING.md"]
    assert [] == [file.name for file in files if file.exists() and ABSENT.search(file.read_text("utf-8"))]
