"""Checks of the webhook: its receiver, and the events that wait for it."""

import asyncio
from datetime import timedelta
from urllib.parse import urlsplit

from service.clock import unix_seconds
from service.messages import outbox
from service.operations.doctor.finding import Deployment, Finding
from service.outgoing import FAILURES, failure_of, make_tls_context

MAX_DELIVERY_DELAY = timedelta(minutes=10)
"""Time for which an event may wait for the webhook before that is a warning."""


async def check_events(deployment: Deployment) -> list[Finding]:
    """Check that events reach the webhook."""
    if deployment.settings.webhook_url is None:
        return []
    oldest_at = await outbox.oldest(deployment.database, outbox.WEBHOOK)
    age = 0 if oldest_at is None else unix_seconds(deployment.clock()) - oldest_at
    attempts = await outbox.max_attempts(deployment.database, outbox.WEBHOOK)
    advice = "The receiver must answer with 2xx. The log has the reason in webhook.refused."
    if age > MAX_DELIVERY_DELAY.total_seconds():
        return [Finding("warning", f"An event has been waiting for the webhook for {age // 60} minutes.", advice)]
    if attempts:
        what = f"The webhook's last delivery failed (attempts so far: {attempts})."
        return [Finding("warning", what, advice)]
    return [Finding("ok", "No event waits for the webhook.")]


async def check_receiver(deployment: Deployment) -> list[Finding]:
    """Check that the receiver accepts a connection. It is closed at once, and nothing is sent."""
    url = deployment.settings.webhook_url
    if url is None:
        return []
    receiver = urlsplit(url)
    tls = make_tls_context() if receiver.scheme == "https" else None
    try:
        port = receiver.port or (80 if tls is None else 443)
        async with asyncio.timeout(deployment.answer_timeout):
            _, writer = await asyncio.open_connection(receiver.hostname, port, ssl=tls)
        writer.close()
    except (OSError, ValueError) as error:  # TimeoutError is an OSError
        reason = failure_of(error)
        what = f"The webhook's receiver {receiver.hostname} cannot be reached ({reason})."
        return [Finding("warning", what, FAILURES[reason])]
    return []
