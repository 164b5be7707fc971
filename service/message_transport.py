"""How messages to users leave: which combinations of settings are refused, and which transport the others choose."""

from typing import Literal

from service.smtp_url import read_smtp_url

MessageTransport = Literal["smtp", "files", "webhook"]
"""`smtp`: a mail server. `files`: the data folder, to try them on one machine. `webhook`: the host application."""


def check_transport(
    messages: Literal["webhook", "off"] | None,
    smtp_url: str | None,
    *,
    mail_from: str | None,
    webhook_url: str | None,
) -> None:
    """Raise `ValueError` for settings that contradict each other, or of which one is missing."""
    if smtp_url is not None:
        read_smtp_url(smtp_url)  # raises a ValueError that names what is wrong
        if mail_from is None:
            raise ValueError(
                "KEYTURN_SMTP_URL is set without KEYTURN_MAIL_FROM. Set it to the sender of messages, like "
                "noreply@example.com"
            )
    if messages == "webhook":
        if webhook_url is None:
            raise ValueError("KEYTURN_MESSAGES is webhook, which needs KEYTURN_WEBHOOK_URL. Set it")
        if smtp_url is not None:
            raise ValueError("KEYTURN_MESSAGES is webhook, and KEYTURN_SMTP_URL is set too. Unset one")


def choose_transport(
    messages: Literal["webhook", "off"] | None, *, has_smtp: bool, is_local: bool
) -> MessageTransport | None:
    """Return the transport; `None`: messages are not sent. Files are for a service that only this machine reaches."""
    if messages is not None:
        return None if messages == "off" else messages
    if has_smtp:
        return "smtp"
    return "files" if is_local else None
