"""Builds the part of this package: the recorder of events, and the deliveries to the webhook and by mail."""

import ipaddress
from dataclasses import dataclass
from email.headerregistry import Address
from urllib.parse import urlsplit

from service.context import Context
from service.messages import outbox
from service.messages.contents import Contents
from service.messages.delivery import Delivery
from service.messages.events import Events
from service.messages.feed import EventFeed
from service.messages.mail import Carrier, Mail
from service.messages.templates import Templates
from service.messages.webhook import Webhook
from service.outgoing import check_authorities
from service.secret_texts import read_webhook_secret
from service.settings import Settings
from service.smtp_url import read_sender, read_smtp_url
from service.storage.page import Cursors
from service.tokens.part import TokensPart


@dataclass(frozen=True)
class MessagesPart:
    events: Events
    event_feed: EventFeed
    deliveries: tuple[Delivery, ...]
    """One for each transport that there is: the webhook, and mail."""


def make_messages(context: Context, tokens: TokensPart) -> MessagesPart:
    settings = context.settings
    contents = Contents(context.database, tokens.links, page_url=settings.resolved_page_url)
    webhook = make_webhook(settings, contents if settings.message_transport == "webhook" else None)
    mail = make_mail(settings, contents)
    message_transport = None
    if settings.message_transport is not None:
        message_transport = outbox.WEBHOOK if settings.message_transport == "webhook" else outbox.MAIL
    return MessagesPart(
        events=Events(
            context.database, is_delivered=settings.webhook_url is not None, message_transport=message_transport
        ),
        event_feed=EventFeed(context.database, Cursors(context.sealer, "events"), settle=context.waits.settle),
        deliveries=tuple(
            Delivery(context.database, transport, settle=context.waits.settle)
            for transport in (webhook, mail)
            if transport is not None
        ),
    )


def make_webhook(settings: Settings, contents: Contents | None = None) -> Webhook | None:
    """Make the transport to the webhook, if there is one. With `contents` it gets messages to users.

    Raises `ConfigurationError` for certificate authorities that cannot be read.
    """
    url, secret = settings.webhook_url, settings.webhook_secret
    if url is None or secret is None:
        return None
    check_authorities()
    key = read_webhook_secret(secret.get_secret_value())
    return Webhook(url=url, key=key, contents=contents, locale=settings.locale)


def make_mail(settings: Settings, contents: Contents) -> Mail | None:
    """Make the transport of mail, if there is one.

    Raises `ConfigurationError` for a mistake in a template, and for certificate authorities that cannot be read.
    """
    carrier, templates = make_carrier(settings), make_templates(settings)
    if carrier is not None or settings.templates_dir is not None:
        templates.check()
    return None if carrier is None else Mail(contents, templates, carrier, sender=sender_of(settings))


def make_templates(settings: Settings) -> Templates:
    return Templates(
        folder=settings.templates_dir,
        product=settings.totp_issuer,
        locale=settings.locale,
        page_url=settings.resolved_page_url,
    )


def make_carrier(settings: Settings) -> Carrier | None:
    """Make what takes mail: the mail server, or files; `None` if messages leave by another way, or not at all."""
    if settings.message_transport == "smtp" and settings.smtp_url is not None:
        from service.messages.mail_smtp import Smtp  # its library is not needed without a mail server

        check_authorities()
        return Smtp(read_smtp_url(settings.smtp_url.get_secret_value()), local_name=_local_name(settings))
    if settings.message_transport == "files":
        from service.messages.mail_files import MailFiles

        return MailFiles(settings.data_dir.absolute() / "mail")
    return None


def sender_of(settings: Settings) -> Address:
    """Return the sender of messages; without a mail server one that exists nowhere (RFC 2606 section 2)."""
    return read_sender(settings.mail_from or "noreply@keyturn.invalid")


def _local_name(settings: Settings) -> str:
    """Return the name with which the service greets the mail server: the issuer's host (RFC 5321 section 4.1.1.1)."""
    host = urlsplit(settings.issuer).hostname or "localhost"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"
