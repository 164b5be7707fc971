"""How many random cases the longest tests draw: fewer at every submission, all of them with `make test-all`."""

import os

IS_LONG = os.environ.get("TEST_ROUNDS") == "all"


def rounds(usual: int, *, everything: int) -> int:
    """Return how many cases to draw: `everything` where `TEST_ROUNDS=all`, else `usual`."""
    return everything if IS_LONG else usual
