"""What a transport does: it sends one message, once. When to send, and when again, is decided by `delivery`."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from service.messages.outbox import Message


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message was not accepted: the status of the answer, or without an answer the reason."""

    reason: str
    status: int | None = None


class Transport(Protocol):
    """A way to send messages. A transport keeps no state about them and never tries twice."""

    name: str
    """The value of the outbox's column `transport`."""

    async def send(self, message: Message, now: datetime) -> Refusal | None:
        """Send the message; `None` if it was accepted. A receiver that does not answer is a refusal after seconds.

        It may be sent again after a crash, so that the receiver needs an id that is the same each time.
        """
        ...

    def log_delivered(self, message: Message) -> None:
        """Write the line of the log for a message that was accepted."""
        ...

    def log_refused(self, message: Message, refusal: Refusal, *, again_in: int) -> None:
        """Write the line of the log for a message that will be sent again after so many seconds."""
        ...

    async def close(self) -> None: ...
