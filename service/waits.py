"""Waits that the service makes on purpose. Tests that measure no time give shorter ones."""

from dataclasses import dataclass

SETTLE_SECONDS = 1.0
"""Seconds for which the number of an event must have been visible before the event counts as settled (see
`messages/settling`). By then every transaction that has a lower number has also changed a row, and so counts as
running until it ends."""

ANSWER_SECONDS = 0.25
"""Seconds from the beginning of a request for a password reset to its answer. If they were fewer than the database
needs for a known user, the duration of the answer would show it (law 8: no answer reveals who exists)."""


@dataclass(frozen=True, slots=True)
class Waits:
    """The waits of one service, in seconds."""

    settle: float = SETTLE_SECONDS
    answer: float = ANSWER_SECONDS


WAITS = Waits()
