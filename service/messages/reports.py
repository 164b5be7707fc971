"""The lines of the log about messages to users. None has an address, a link or a token."""

from service.messages.outbox import Message
from service.messages.transport import Drop, Refusal
from service.telemetry.event_names import LogName
from service.telemetry.log import Detail, emit, warn


def log_sent(message: Message, *, file: str | None = None) -> None:
    """Report a message that was accepted; `file` is the one that it was written to."""
    details = _details(message) | ({} if file is None else {"file": file})
    emit(LogName.MESSAGE_SENT, attempts=message.attempts + 1, **details)


def log_refused(message: Message, refusal: Refusal, *, again_in: int) -> None:
    """Report a message that will be sent again after so many seconds."""
    warn(
        LogName.MESSAGE_REFUSED,
        status=refusal.status,
        reason=refusal.reason,
        attempts=message.attempts + 1,
        again_in=again_in,
        **_details(message),
    )


def log_dropped(message: Message, drop: Drop) -> None:
    """Report a message that is not sent any more, with a warning if the mail server refuses it permanently."""
    details = _details(message)
    if drop.status is not None:
        warn(LogName.MESSAGE_DROPPED, reason=drop.reason, status=drop.status, attempts=message.attempts, **details)
    elif drop.reason is not None:
        emit(LogName.MESSAGE_DROPPED, reason=drop.reason, attempts=message.attempts, **details)


def _details(message: Message) -> dict[str, Detail]:
    details: dict[str, Detail] = {"kind": message.kind, "event_id": message.event_id, "sub": message.user_id}
    return details
