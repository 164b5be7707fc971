"""Checks of messages to users: whether they can leave, and where their links lead."""

from urllib.parse import urlsplit

from service.clock import unix_seconds
from service.messages import outbox
from service.messages.part import make_carrier, make_templates
from service.operations.doctor.finding import Deployment, Finding
from service.operations.doctor.webhook import MAX_DELIVERY_DELAY
from service.outgoing import FAILURES
from service.values import is_loopback

_ADVICE = {
    "credentials_refused": "Correct the user name and the password in KEYTURN_SMTP_URL.",
    "no_authentication": "It takes no user name and password on this port. Try 587 or 465 in KEYTURN_SMTP_URL.",
    "no_starttls": "It offers no STARTTLS, without which Keyturn sends nothing to it. Try smtps:// in "
    "KEYTURN_SMTP_URL.",
}


async def check_transport(deployment: Deployment) -> list[Finding]:
    """Say how messages to users leave, and check that a mail server can be used. No message is sent."""
    settings = deployment.settings
    if settings.templates_dir is not None:
        make_templates(settings).check()  # raises a ConfigurationError, which is a finding
    match settings.message_transport:
        case "webhook":
            return [Finding("ok", "The receiver of KEYTURN_WEBHOOK_URL sends messages to users.")]
        case "files":
            folder = settings.data_dir.absolute() / "mail"
            return [Finding("ok", f"Messages to users are written to {folder}.")]
        case "smtp":
            return await _check_server(deployment)
        case None if settings.messages == "off" or settings.listens_on_loopback:
            return [Finding("ok", "Messages to users are not sent.")]
    what = "Messages to users are not sent: users cannot reset a password, and do not learn of changes."
    advice = "Set KEYTURN_SMTP_URL and KEYTURN_MAIL_FROM, or KEYTURN_MESSAGES=webhook; or KEYTURN_MESSAGES=off."
    return [Finding("ok", what, advice)]


async def _check_server(deployment: Deployment) -> list[Finding]:
    from service.messages.mail_smtp import Smtp

    carrier = make_carrier(deployment.settings)
    assert isinstance(carrier, Smtp)
    refusal = await carrier.check()
    if refusal is None:
        return [Finding("ok", "The mail server accepts a connection with these settings.")]
    status = "" if refusal.status is None else f", {refusal.status}"
    what = f"The mail server cannot be used ({refusal.reason}{status}): messages to users wait."
    return [Finding("wrong", what, FAILURES.get(refusal.reason) or _ADVICE.get(refusal.reason, ""))]


async def check_backlog(deployment: Deployment) -> list[Finding]:
    """Check that messages leave by mail. For the webhook see `webhook.check_events`."""
    oldest_at = await outbox.oldest(deployment.database, outbox.MAIL)
    age = 0 if oldest_at is None else unix_seconds(deployment.clock()) - oldest_at
    if age <= MAX_DELIVERY_DELAY.total_seconds():
        return []
    what = f"A message to a user has been waiting for {age // 60} minutes."
    return [Finding("warning", what, "The log has the reason in message.refused. Try: keyturn messages send-test")]


async def check_page(deployment: Deployment) -> list[Finding]:
    """Check that the links in messages lead to a page, and that it has TLS: their tokens give access to accounts."""
    settings = deployment.settings
    links = "The links in messages"
    if settings.message_transport is None:
        links = "The links of invitations, and those that administrators make for a new password,"
    if settings.account_page == "off" and settings.page_url is None:
        what = f"{links} lead to {settings.resolved_page_url}, and KEYTURN_ACCOUNT_PAGE is off."
        return [Finding("warning", what, "Set KEYTURN_PAGE_URL to your own page, or KEYTURN_ACCOUNT_PAGE=on.")]
    if settings.message_transport is None:
        return []
    page = urlsplit(settings.resolved_page_url)
    if page.scheme == "https" or is_loopback(page.hostname or ""):
        return []
    what = f"The links in messages lead to {settings.resolved_page_url}, without TLS."
    return [Finding("wrong", what, "Set KEYTURN_PAGE_URL, or KEYTURN_ISSUER if it is unset, to an https URL.")]
