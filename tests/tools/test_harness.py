"""What tests share is in `tests/harness`, with types, and tests read the service by its public names."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.servers import REPOSITORY

IMPORT = re.compile(r"^ *(?:from|import) tests(?:\.| import .*\b)(?:test_|conftest).*", re.MULTILINE)
"""A line that imports a test module."""

CHANGE = re.compile(r"(set|del)(attr|item)\b|__setattr__|\bpatch\b")
"""In what is called: a function that changes its first argument, or what that argument names."""


def service_names(tree: ast.AST) -> dict[str, str]:
    """Return the names that a file has imported from `service`, with the path of each: a module, or what is in it."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "service":
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "service":
                    names[alias.asname or "service"] = alias.name if alias.asname else "service"
    return names


def path_of(expression: ast.expr, names: dict[str, str]) -> str | None:
    """Return the path below `service` that an expression names, or `None`."""
    match expression:
        case ast.Name(id=name):
            return names.get(name)
        case ast.Attribute(value=value, attr=attr):
            owner = path_of(value, names)
            return owner and f"{owner}.{attr}"
        case ast.Subscript(value=value):
            return path_of(value, names)
        case ast.Constant(value=str(text)) if text.startswith("service."):
            return text
    return None


def changed_names(text: str) -> Iterator[str]:
    """Yield what a file changes in modules of `service` and in their classes, by assignment or by a call."""
    tree = ast.parse(text)
    names = service_names(tree)
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        match node:
            case ast.Assign(targets=assigned) | ast.Delete(targets=assigned):
                targets = [part for target in assigned for part in getattr(target, "elts", [target])]
            case ast.AugAssign(target=changed) | ast.AnnAssign(target=changed):
                targets = [changed]
            case ast.Call(func=called, args=[first, *_]) if CHANGE.search(ast.unparse(called)):
                targets = [first]
        for target in targets:
            # A name alone is a variable of the file. An argument of a call is what is changed, or its owner.
            if isinstance(node, ast.Call) or not isinstance(target, ast.Name):
                path = path_of(target, names)
                if path is not None:
                    yield path


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


def test_no_test_changes_a_module_of_the_service(texts: dict[str, str]) -> None:
    """What a test needs otherwise is an argument, with the constant of the service as its default."""
    assert [] == [f"{path}: {name}" for path, text in texts.items() for name in changed_names(text)]


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("wire.LIMIT = 1", "service.web.wire.LIMIT"),
        ("wire.LIMIT += 1", "service.web.wire.LIMIT"),
        ("wire.LIMIT: int = 1", "service.web.wire.LIMIT"),
        ("one, wire.LIMIT = 1, 2", "service.web.wire.LIMIT"),
        ("del wire.LIMIT", "service.web.wire.LIMIT"),
        ("wire.TABLE['a'] = 1", "service.web.wire.TABLE"),
        ("whole.LIMIT = 1", "service.web.edge.LIMIT"),
        ("service.web.edge.LIMIT = 1", "service.web.edge.LIMIT"),
        ("Protocol.limit = 1", "service.web.wire.Protocol.limit"),
        ("monkeypatch.setattr(wire, 'LIMIT', 1)", "service.web.wire"),
        ("monkeypatch.setattr('service.web.wire.LIMIT', 1)", "service.web.wire.LIMIT"),
        ("monkeypatch.setattr(Protocol, 'limit', 1)", "service.web.wire.Protocol"),
        ("monkeypatch.setitem(wire.TABLE, 'a', 1)", "service.web.wire.TABLE"),
        ("setattr(wire, 'LIMIT', 1)", "service.web.wire"),
        ("mock.patch('service.web.wire.LIMIT', 1)", "service.web.wire.LIMIT"),
        ("mock.patch.object(wire, 'LIMIT', 1)", "service.web.wire"),
        ("wire = 1", None),
        ("LIMIT = wire.LIMIT", None),
        ("table = dict(wire.TABLE)", None),
        ("protocol.limit = 1", None),
        ("monkeypatch.setattr(protocol, 'limit', 1)", None),
        ("monkeypatch.setenv('service.web.wire', '1')", None),
    ],
)
def test_every_way_to_change_a_module_is_found(line: str, changed: str | None) -> None:
    """An assignment, an import under another name and a path in a string are found; a variable is none."""
    imports = (
        "import service.web.edge\nimport service.web.edge as whole\nfrom service.web import wire\n"
        "from service.web.wire import Protocol\n"
    )
    assert ([] if changed is None else [changed]) == list(changed_names(imports + line))
