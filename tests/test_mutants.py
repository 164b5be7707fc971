"""The table of `make mutants`: each guard that it removes is in the file that the table names."""

from pathlib import Path

import pytest

from tests.mutants import MUTANTS, Mutant
from tests.servers import REPOSITORY


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.guard)
def test_the_line_of_a_mutant_occurs_once(mutant: Mutant) -> None:
    """Otherwise the run of the mutants ends with an error after several minutes."""
    assert 1 == (REPOSITORY / mutant.file).read_text().count(mutant.old)
    for name in mutant.tests.split():
        if name.endswith(".py"):
            assert Path(REPOSITORY / "tests" / name).exists()
