"""The page on the architecture lists every module and nothing else."""

import re

from tests.harness.servers import REPOSITORY

SERVICE = REPOSITORY / "service"
PAGE = (REPOSITORY / "docs" / "explanation" / "architecture.md").read_text("utf-8")
DECISIONS = REPOSITORY / "docs" / "decisions"
RECORDS = [file for file in sorted(DECISIONS.glob("*.md")) if file.name != "index.md"]
LISTED_AS_A_WHOLE = ("attack/", "cli/", "operations/doctor/", "storage/migrations/")


def test_every_module_has_one_line() -> None:
    """Each line has a sentence that describes the module. Some packages have one line for all of their modules."""
    rows = re.findall(r"^\| `([\w/]+)` \| (.+) \|$", PAGE, re.MULTILINE)
    files = (str(file.relative_to(SERVICE)) for file in SERVICE.rglob("*.py") if file.name != "__init__.py")
    modules = [name.removesuffix(".py") for name in files if not name.startswith(LISTED_AS_A_WHOLE)]
    assert sorted([*modules, *LISTED_AS_A_WHOLE]) == sorted(name for name, _ in rows)
    assert [] == [text for _, text in rows if not text.endswith(".")]


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
    titles = [(file.name, file.read_text("utf-8").splitlines()[0].partition(". ")[2]) for file in RECORDS]
    index = re.findall(r"^\| \d+ \| \[(.*)\]\((.*)\) \|", (DECISIONS / "index.md").read_text("utf-8"), re.MULTILINE)
    assert titles == [(name, title) for title, name in index]


def test_every_decision_has_the_parts_that_the_index_promises() -> None:
    """They are the question, the decision, and what was given up for it or follows from it."""
    for record in RECORDS:
        parts = re.findall(r"^\*\*([A-Z][a-z ]+)\.\*\*", record.read_text("utf-8"), re.MULTILINE)
        assert "Question" == parts[0], record.name
        assert "Decision" in parts, record.name
        assert {"Given up", "Consequences"} & set(parts), record.name
