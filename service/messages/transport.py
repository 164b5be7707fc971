"""What a transport does: it sends one message, once. `delivery` decides when to send, and when to send again."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from service.messages.outbox import Message


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message was not accepted: the status of the answer, or without an answer the reason."""

    reason: str
    status: int | None = None
    is_of_message: bool = False
    """Whether the receiver refused this message alone, for its recipient or its content, and may take others."""
    is_of_content: bool = False
    """Whether the receiver refused the content, so that another one may be accepted."""


@dataclass(frozen=True, slots=True)
class Drop:
    """The message is not sent, now or later.

    `reason` is `None` if there was nothing to send: then no line of the log reports it.
    """

    reason: str | None
    status: int | None = None
    is_of_content: bool = False


@dataclass(frozen=True, slots=True)
class NotTried:
    """The message was not tried in this round, and is due in the next one."""


Outcome = Refusal | Drop | NotTried | None
"""What became of a message; `None`: it was accepted."""


class Transport(Protocol):
    """A way to send messages. A transport keeps no state about them.

    It makes one attempt for each call of `send`. Only `Mail` makes a second one, without the details of the event, if
    the server refuses the content.
    """

    name: str
    """The value of the outbox's column `transport`."""
    lease: timedelta
    """The time for which the delivering replica may be silent before another one takes over: longer than a round."""

    async def send(self, message: Message, now: datetime) -> Outcome:
        """Send the message. A receiver that does not answer within seconds counts as a refusal.

        It may be sent again after a crash, so the receiver needs an id that is the same each time.
        """
        ...

    async def end_round(self) -> None:
        """Close the connections that are only for the messages of one round."""
        ...

    def log_delivered(self, message: Message) -> None:
        """Write the line of the log for a message that was accepted."""
        ...

    def log_refused(self, message: Message, refusal: Refusal, *, again_in: int) -> None:
        """Write the line of the log for a message that will be sent again after so many seconds."""
        ...

    async def close(self) -> None: ...
