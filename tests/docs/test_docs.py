"""The documentation is consistent: names exist, configurations can be read, and the site needs no other host."""

import contextlib
import importlib.util
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from service.cli import main
from tests.harness.documents import blocks, pages
from tests.harness.servers import REPOSITORY, missing

DOCS = REPOSITORY / "docs"
KEYTURN = re.compile(r"(?:^|\s|/)keyturn ((?:users|clients|keys|doctor|migrate|serve|attack)\b[^|>;&#)]*)")
"""A command of the service in an example, up to a pipe, a redirection or a comment."""


def console_commands() -> list[tuple[str, str]]:
    """Return every command of the examples that are not run, with its page."""
    found = []
    for page in pages():
        for block in blocks(page, "console"):
            text = block.text.replace("\\\n", " ")
            found += [(page.name, line.removeprefix("$ ")) for line in text.splitlines() if line.startswith("$ ")]
    return found


@pytest.mark.parametrize(("page", "command"), console_commands())
def test_a_command_that_is_not_run_names_what_exists(page: str, command: str) -> None:
    """Make targets, files of the repository, services of compose.yaml, and arguments of `keyturn` exist."""
    del page
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE)
    for target in re.findall(r"\bmake ([a-z-]+)", command):
        assert target in targets
    for name in re.findall(r"\b(?:deploy/(?!keyturn\b)|examples/)[\w./-]+", command):
        assert (REPOSITORY / name).exists(), name
    services = yaml.safe_load((REPOSITORY / "compose.yaml").read_text("utf-8"))["services"]
    for name in re.findall(r"docker compose (?:stop|(?:exec|run)(?: -T| --rm)*) (\w+)", command):
        assert name in services
    for arguments in KEYTURN.findall(command):
        with contextlib.redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as ended:
            main([*shlex.split(arguments), "--help"])
        assert 0 == ended.value.code


@pytest.mark.parametrize("language", ["yaml", "json"])
def test_configurations_can_be_read(language: str) -> None:
    """They are valid YAML, of which JSON is a subset."""
    for page in pages():
        for block in blocks(page, language):
            assert list(yaml.safe_load_all(block.text)), page


def test_every_make_target_that_is_named_exists() -> None:
    """The README, the documentation and the files about contributing are checked."""
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for page in [*REPOSITORY.glob("*.md"), *DOCS.glob("**/*.md")]:
        for target in re.findall(r"[`$] ?make ([a-z-]+)", page.read_text("utf-8")):
            assert target in targets, (page.name, target)


def test_every_page_is_in_the_navigation() -> None:
    """Every page of the navigation exists, too."""
    text = (REPOSITORY / "mkdocs.yml").read_text("utf-8")
    listed = re.findall(r"([\w/.-]+\.md)$", text[text.index("\nnav:") :], re.MULTILINE)
    assert sorted(str(page.relative_to(DOCS)) for page in DOCS.glob("**/*.md")) == sorted(listed)


def test_the_site_needs_no_other_host(tmp_path: Path) -> None:
    """The strict build succeeds, and no page loads a script, a style, a font or an image from another host."""
    if importlib.util.find_spec("mkdocs") is None:
        missing("mkdocs (make docs installs it)")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert 0 == run.returncode, run.stdout + run.stderr
    for page in (tmp_path / "site").glob("**/*.html"):
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\bsrc=\"?([^\"\s>]+)", page.read_text("utf-8"))
        loaded += re.findall(r"<link[^>]*\bhref=\"?([^\"\s>]+)", page.read_text("utf-8"))
        assert not [address for address in loaded if re.match(r"(?:https?:)?//", address)], page
