"""The README is true: its examples run as they stand, and it names every setting, code, endpoint and module."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.app import create_app
from service.settings import PREFIX, Settings
from service.web.problems import STATUS, WIRE
from tests import npm
from tests.servers import REPOSITORY, Served, clean_environment, keyturn, missing

README = (REPOSITORY / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """The fenced examples of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@dataclass
class Story:
    """The README's shell examples, run one after the other in one shell."""

    served: Served
    folder: Path
    environment: dict[str, str]
    output: str

    def at_this_port(self, example: str) -> str:
        return example.replace("localhost:8000", self.served.url.removeprefix("http://"))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    for program in ("curl", "oathtool"):
        if shutil.which(program) is None:
            missing(program)
    folder = tmp_path_factory.mktemp("readme")
    with keyturn({"KEYTURN_DATA_DIR": str(folder / "data")}) as served:
        told = Story(served, folder, clean_environment(), "")
        script = "set -eu\n" + told.at_this_port("".join(blocks("sh"))) + "\nenv -0 > environment\n"
        run = subprocess.run(
            ["bash", "-c", script], cwd=folder, env=told.environment, capture_output=True, text=True, check=False
        )
        assert 0 == run.returncode, run.stderr
        told.output = run.stdout
        for line in (folder / "environment").read_text().split("\0"):
            name, _, value = line.partition("=")
            told.environment[name] = value
        yield told


def test_the_story_of_a_two_factor_login_can_be_typed_along(story: Story) -> None:
    """Every shell example, in order: the first code gives recovery codes, the second login an access token."""
    assert '"recovery_codes":[' in story.output
    assert 3 == len(story.environment["ACCESS_TOKEN"].split("."))
    assert (story.folder / "alice.png").read_bytes().startswith(b"\x89PNG")


def test_the_pyjwt_example_verifies_that_token(story: Story) -> None:
    """Eight lines of PyJWT, as they stand; only the port is this test's."""
    (example,) = blocks("python")
    # The issuer is a name, not an address: it stays what the service was told.
    example = example.replace("http://localhost:8000/.well-known", f"{story.served.url}/.well-known")
    run = subprocess.run(
        [sys.executable, "-c", example], env=story.environment, capture_output=True, text=True, check=False
    )
    assert "alice aal2 ['pwd', 'otp', 'mfa']" == run.stdout.strip(), run.stderr


def test_the_jose_example_verifies_that_token(story: Story) -> None:
    """The same with npm's jose, installed from its registry."""
    npm.install(story.folder, "jose@6")
    (example,) = blocks("js")
    example = example.replace("http://localhost:8000/.well-known", f"{story.served.url}/.well-known")
    assert "alice aal2 [ 'pwd', 'otp', 'mfa' ]" == npm.run(story.folder, example, story.environment)


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_in_the_readme(name: str) -> None:
    """With its default."""
    assert f"| `{PREFIX}{name.upper()}` |" in README


def test_every_error_code_is_in_the_readme_under_its_status() -> None:
    """And no other code is."""
    codes = {(status, error.code) for error, status in STATUS.items()}
    codes |= {(status, code) for status, (code, _) in WIRE.items()}
    documented = {(int(status), code) for status, code in re.findall(r"^\| (\d{3}) \| `(\w+)`", README, re.MULTILINE)}
    assert codes == documented


def test_every_endpoint_is_in_the_readme(tmp_path: Path) -> None:
    """Those of the OpenAPI document."""
    for path in create_app(Settings(data_dir=tmp_path / "data")).openapi()["paths"]:
        assert f"{path}`" in README


def test_every_module_is_in_the_map_of_the_house() -> None:
    """A newcomer finds each file of service/ there."""
    for file in (REPOSITORY / "service").glob("[a-z]*.py"):
        if file.stem not in {"errors", "clock"}:
            assert f"`{file.stem}`" in README


def test_every_make_target_that_it_names_exists() -> None:
    """`make help` lists them all."""
    listed = subprocess.run(["make", "help"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    for target in set(re.findall(r"`?make ([a-z-]+)", README)):
        assert f"make {target}" in listed, target


def test_every_link_within_the_repository_leads_somewhere() -> None:
    """From the README and from all documents, also to their chapters."""
    documents = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("deploy/**/*.md")]
    for document in documents:
        for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text("utf-8")):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, chapter = link.partition("#")
            target = (document.parent / path).resolve() if path else document
            assert target.exists(), f"{document.name}: {link}"
            if chapter:
                titles = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
                anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
                assert chapter in anchors, f"{document.name}: {link}"
