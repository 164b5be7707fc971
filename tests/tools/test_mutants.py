"""The table of `make mutants`: each guard that it removes is in the file that the table names."""

import shlex
from collections import Counter

import pytest

from tests.harness.servers import REPOSITORY
from tests.mutants import MUTANTS, Mutant, find_test_file


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.guard)
def test_the_line_of_a_mutant_occurs_once(mutant: Mutant) -> None:
    """Otherwise the run of the mutants ends with an error after several minutes."""
    source = (REPOSITORY / mutant.file).read_text()
    assert 1 == source.count(mutant.old)
    if mutant.file.endswith(".py"):
        compile(source.replace(mutant.old, mutant.new), mutant.file, "exec")  # a syntax error proves nothing
    files, _, expression = mutant.tests.partition(" -k ")
    for name in files.split():
        assert (REPOSITORY / find_test_file(name)).is_file()
    assert len(shlex.split(expression)) <= 1, "pytest would take the second word for a file"


def test_no_two_test_files_have_the_same_name() -> None:
    """A mutant names test files without their folders, and pytest's reports are easier to read."""
    names = Counter(file.name for file in (REPOSITORY / "tests").rglob("test_*.py"))
    assert [] == [name for name, count in names.items() if count > 1]
