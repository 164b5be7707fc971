"""Builds the part of this package: the recorder of events, and the delivery if there is a webhook."""

from dataclasses import dataclass

from service.context import Context
from service.messages.delivery import Delivery
from service.messages.events import Events
from service.messages.webhook import Webhook
from service.outgoing import check_authorities
from service.secret_texts import read_webhook_secret


@dataclass(frozen=True)
class MessagesPart:
    events: Events
    delivery: Delivery | None
    """`None` without a webhook."""


def make_messages(context: Context) -> MessagesPart:
    url, secret = context.settings.webhook_url, context.settings.webhook_secret
    delivery = None
    if url is not None and secret is not None:
        check_authorities()
        webhook = Webhook(url=url, key=read_webhook_secret(secret.get_secret_value()))
        delivery = Delivery(context.database, webhook)
    return MessagesPart(events=Events(context.database, is_delivered=url is not None), delivery=delivery)
