"""The messages that the replicas wrote, as a user's mail program would show them."""

import asyncio
import re
from collections import defaultdict
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from pathlib import Path
from time import monotonic

POLL_SECONDS = 0.1
_LINK = re.compile(r"https?://[^\s\"<>#]*#([a-z-]+)=(ktl_[A-Za-z0-9_-]+)")

CONFIRMS, RESETS = "confirm-email", "reset-password"
"""What links are for, as their fragment says it."""


@dataclass
class Mailbox:
    """The folder of messages. A file is read once; those that are there at the start are for earlier users."""

    folder: Path
    _links: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    _read: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._read.update(file.name for file in self.folder.glob("*.eml"))

    def links_to(self, address: str, purpose: str) -> list[str]:
        """Return the tokens in all messages to an address so far, one for each message."""
        for file in self.folder.glob("*.eml"):
            if file.name not in self._read:
                self._read.add(file.name)
                message = message_from_bytes(file.read_bytes(), policy=policy.default)
                body = message.get_body(("plain",))
                found = None if body is None else _LINK.search(body.get_content())
                if found is not None:
                    self._links[str(message["to"])].append((found[1], found[2]))
        return [token for kind, token in self._links[address] if kind == purpose]

    async def await_link(self, address: str, purpose: str, *, within: float, count: int = 1) -> str | None:
        """Return the token in the newest message, once there are `count`; `None` if that takes too long."""
        end = monotonic() + within
        while len(links := self.links_to(address, purpose)) < count:
            if monotonic() > end:
                return None
            await asyncio.sleep(POLL_SECONDS)
        return links[-1]
