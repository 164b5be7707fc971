"""How many random cases and rounds of a race the longest tests draw.

`make test` draws the fewest, `make test-long` more (the workflow of CI runs it too), and with `TEST_ROUNDS=all` it
draws all. Each round proves the same again, in another random order.
"""

import os

DEPTH = os.environ.get("TEST_ROUNDS", "few")
if DEPTH not in {"few", "long", "all"}:
    raise ValueError("TEST_ROUNDS is few, long or all")


def rounds(few: int, *, long: int, everything: int) -> int:
    """Return how many cases to draw in this run. A test that calls it has the mark `rounds`."""
    return {"few": few, "long": long, "all": everything}[DEPTH]
