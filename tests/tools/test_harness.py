"""What tests share is in `tests/harness`, with types, and tests read the service by its public names."""

import ast
import re
from pathlib import Path

import pytest

from tests.harness.servers import REPOSITORY

IMPORT = re.compile(r"^ *(?:from|import) tests(?:\.| import .*\b)(?:test_|conftest).*", re.MULTILINE)
"""A line that imports a test module."""


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """The text of every file of tests and measurements, by its path."""
    files = sorted([*REPOSITORY.glob("tests/**/*.py"), *REPOSITORY.glob("bench/**/*.py")])
    return {str(file.relative_to(REPOSITORY)): file.read_text("utf-8") for file in files}


def test_no_file_imports_a_test_module(texts: dict[str, str]) -> None:
    """A helper that two files need is in `tests/harness`, so that a test module can move without the others."""
    found = [f"{path}: {line}" for path, text in texts.items() for line in IMPORT.findall(text)]
    assert [] == found


def test_every_module_of_the_harness_says_what_it_is() -> None:
    """It begins with a docstring."""
    modules = list(Path(REPOSITORY / "tests" / "harness").glob("*.py"))
    assert modules
    assert [] == [file.name for file in modules if not ast.get_docstring(ast.parse(file.read_text("utf-8")))]


def test_every_attribute_has_a_type(texts: dict[str, str]) -> None:
    """No line suppresses mypy's check that an attribute exists: the harness has types for what tests read."""
    suppression = "type: ignore[" + "attr-defined"
    assert [] == [path for path, text in texts.items() if suppression in text]


REQUESTS = {"Client", "AsyncClient", "get", "post", "request", "stream"}
"""What of httpx2 makes requests, or a client that does."""


def test_every_request_over_the_network_has_a_timeout_of_its_own(texts: dict[str, str]) -> None:
    """The five seconds of httpx2 are too short for a slow machine: tests name longer ones."""
    without = [
        f"{path}:{call.lineno}"
        for path, text in texts.items()
        for call in ast.walk(ast.parse(text))
        if isinstance(call, ast.Call)
        and ast.unparse(call.func).partition("httpx2.")[2] in REQUESTS
        and not {"timeout", "transport", None} & {keyword.arg for keyword in call.keywords}
    ]
    assert [] == without
