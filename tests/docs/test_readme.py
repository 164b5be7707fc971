"""The README is true: its examples run unchanged, and every link of every document resolves."""

import re
from pathlib import Path

import pytest

from tests.harness.documents import blocks, reader
from tests.harness.servers import REPOSITORY

README = REPOSITORY / "README.md"
MAX_LINES = 150


def test_the_readme_is_short() -> None:
    """It is one page: everything else has its place in docs/."""
    assert len(README.read_text("utf-8").splitlines()) <= MAX_LINES


def test_the_login_and_the_verification_run_as_printed(tmp_path: Path) -> None:
    """The login yields recovery codes and an access token, and PyJWT verifies that token."""
    with reader(tmp_path / "copy") as shell:
        for block in blocks(README, "sh"):
            shell.type(block.text)
        assert '"recovery_codes":[' in shell.output
        assert 3 == len(shell.variable("ACCESS_TOKEN").split("."))
        (example,) = blocks(README, "python")
        assert "ada aal2 ['pwd', 'otp', 'mfa']" == shell.run_python(example.text)


def test_every_figure_was_measured() -> None:
    """Each number of the table is in the scoreboard, which is generated."""
    scoreboard = (REPOSITORY / "docs" / "scoreboard.md").read_text("utf-8").replace("37725", "37,725")
    figures = re.findall(r"\d{1,3}(?:,\d{3})+", README.read_text("utf-8"))
    assert 3 == len(figures)
    for figure in figures:
        assert figure in scoreboard


def documents() -> list[Path]:
    found = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob(".github/**/*.md")]
    return [*found, *REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("deploy/**/*.md")]


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_link_within_the_repository_resolves(document: Path) -> None:
    """Links to sections of other documents are checked, too."""
    text = re.sub(r"^( *)```.*?^\1```$", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(<?([^)\s>]+)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, chapter = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        if chapter:
            titles = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert chapter in anchors, link
