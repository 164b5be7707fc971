"""What a list of leaked passwords offers: whether it has the SHA-1 of a password."""

from typing import Protocol


class Unanswered(Exception):
    """The list did not answer. `reason` is a word for the log: a key of `outgoing.FAILURES` or one of these.

    `status`: another status than 200; `too_large`, `malformed`: another answer than a range; `unreadable`: the file
    cannot be read.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Source(Protocol):
    async def has(self, digest: bytes) -> bool:
        """Return whether the list has the password with this SHA-1. Raises `Unanswered`."""
        ...

    async def close(self) -> None: ...
