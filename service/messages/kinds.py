"""The kinds of messages to users: which event causes which, and how long it may be sent.

A message is a consequence of a recorded event. One with a link is sent while the token of the link is valid; a
notice, which has none, within `NOTICE_LIFETIME`.
"""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType

from service.telemetry.event_names import EventName


class MessageKind(StrEnum):
    """The kinds. Each is the name of a template, and a part of the `type` at the webhook."""

    EMAIL_CONFIRMATION = "email_confirmation"
    EMAIL_CHANGED = "email_changed"
    PASSWORD_RESET = "password_reset"  # noqa: S105 -- a name
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 -- a name
    FACTOR_ADDED = "factor_added"
    FACTOR_REMOVED = "factor_removed"
    MFA_DISABLED = "mfa_disabled"
    RECOVERY_STARTED = "recovery_started"
    NEW_DEVICE = "new_device"
    INVITATION = "invitation"
    DELETION_SCHEDULED = "deletion_scheduled"


KINDS_OF_EVENT: Mapping[EventName, tuple[MessageKind, ...]] = MappingProxyType(
    {
        # First the message to the current address: a mail server that is slow with the new one must not delay it.
        EventName.EMAIL_CHANGE_REQUESTED: (MessageKind.EMAIL_CHANGED, MessageKind.EMAIL_CONFIRMATION),
        EventName.EMAIL_CHANGED: (MessageKind.EMAIL_CHANGED,),
        EventName.EMAIL_REMOVED: (MessageKind.EMAIL_CHANGED,),
        EventName.FACTOR_ADDED: (MessageKind.FACTOR_ADDED,),
        EventName.FACTOR_REMOVED: (MessageKind.FACTOR_REMOVED,),
        EventName.INVITATION_CREATED: (MessageKind.INVITATION,),
        EventName.LOGIN_ADMITTED: (MessageKind.NEW_DEVICE,),
        EventName.MFA_DISABLED: (MessageKind.MFA_DISABLED,),
        EventName.MFA_ENABLED: (MessageKind.FACTOR_ADDED,),
        EventName.MFA_RESET: (MessageKind.MFA_DISABLED,),
        EventName.PASSWORD_CHANGED: (MessageKind.PASSWORD_CHANGED,),
        EventName.PASSWORD_RESET: (MessageKind.PASSWORD_CHANGED,),
        EventName.PASSWORD_RESET_REQUESTED: (MessageKind.PASSWORD_RESET,),
        EventName.RECOVERY_CARRIED_OUT: (MessageKind.MFA_DISABLED,),
        EventName.RECOVERY_STARTED: (MessageKind.RECOVERY_STARTED,),
        EventName.USER_DELETION_SCHEDULED: (MessageKind.DELETION_SCHEDULED,),
    }
)
"""The messages that follow from an event. No other event causes one."""

LINK_LIFETIMES: Mapping[MessageKind, timedelta] = MappingProxyType(
    {
        MessageKind.EMAIL_CHANGED: timedelta(days=7),
        MessageKind.EMAIL_CONFIRMATION: timedelta(hours=24),
        MessageKind.PASSWORD_RESET: timedelta(hours=1),
    }
)
"""How long the token of a link is valid, from the event on. The row of an invitation has its own expiry."""

NOTICE_LIFETIME = timedelta(days=3)
"""The time after which a notice is not sent any more."""

FRAGMENTS: Mapping[MessageKind, str] = MappingProxyType(
    {
        MessageKind.EMAIL_CHANGED: "cancel-email",
        MessageKind.EMAIL_CONFIRMATION: "confirm-email",
        MessageKind.INVITATION: "invitation",
        MessageKind.PASSWORD_RESET: "reset-password",
    }
)
"""What the page reads before the token in the fragment. The kinds with a link are those of this table."""


def has_link(kind: MessageKind, event: str) -> bool:
    """Return whether the message that follows from this event has a link.

    `email_changed` has one while the change is only requested. When the address was changed or removed, the message
    is a notice to the former one: nothing is left to refuse.
    """
    return kind in FRAGMENTS and event not in {EventName.EMAIL_CHANGED, EventName.EMAIL_REMOVED}
