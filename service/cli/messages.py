"""`keyturn messages`: show what a message looks like, and send one to try the transport."""

import argparse
import asyncio

from service.cli.parts import DONE, REFUSED, read_command_settings, report
from service.clock import system_clock, unix_seconds
from service.errors import ConfigurationError
from service.messages.kinds import MessageKind
from service.messages.mail import write_test
from service.messages.part import make_carrier, make_templates, make_webhook, sender_of
from service.messages.templates import sample
from service.messages.transport import Refusal
from service.messages.webhook import write_body
from service.outgoing import FAILURES
from service.settings import Settings
from service.users.addresses import check_address


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    messages = commands.add_parser(
        "messages", help="messages to users", description="Show and try the messages that users get."
    )
    acts = messages.add_subparsers(metavar="COMMAND", required=True)
    preview = acts.add_parser(
        "preview",
        help="print a message with invented values",
        description="Print a message with invented values, as users get it from this deployment: with its templates, "
        "its name and its page. Nothing is sent.",
    )
    preview.add_argument("kind", choices=[kind.value for kind in MessageKind], help="the kind of the message")
    preview.add_argument("--locale", metavar="TAG", help="the language, such as de (default: KEYTURN_LOCALE)")
    preview.add_argument("--html", action="store_true", help="print the HTML part in place of the text")
    preview.set_defaults(run=_preview)
    trial = acts.add_parser(
        "send-test",
        help="send a message to an address at once",
        description="Send a message to an address by the configured transport, at once and only once, and print what "
        "its receiver answered. Exit status 1 if the message was not accepted.",
    )
    trial.add_argument("address", help="such as name@example.com")
    trial.set_defaults(run=_send_test)


def _preview(options: argparse.Namespace) -> int:
    settings = read_command_settings()
    templates = make_templates(settings)
    templates.check()
    kind = MessageKind(options.kind)
    rendered = templates.render(sample(kind, settings.resolved_page_url, locale=options.locale))
    print(rendered.html if options.html else f"{rendered.subject}\n\n{rendered.text}", end="")
    return DONE


def _send_test(options: argparse.Namespace) -> int:
    settings = read_command_settings()
    try:
        address = check_address(options.address)
    except ValueError as error:
        raise ConfigurationError(f"{error}.") from None
    outcome, answer = asyncio.run(_send(settings, address))
    if outcome is None:
        print(answer)
        return DONE
    reasons = FAILURES | _WHY if outcome.status is not None else _WHY | FAILURES  # both have "refused"
    why = reasons.get(outcome.reason, "")
    status = "" if outcome.status is None else f" The answer was {outcome.status}."
    report(f"keyturn: the message was not accepted ({outcome.reason}).{status} {why}".rstrip())
    return REFUSED


_WHY = {
    "credentials_refused": "Correct the user name and the password in KEYTURN_SMTP_URL.",
    "no_authentication": "The server takes no user name and password on this port. Try 587 or 465.",
    "no_starttls": "The server offers no STARTTLS, without which no mail and no password is sent to it.",
    "not_written": "The file cannot be written in the data folder.",
    "refused": "The server refuses the recipient.",
    "status": "The log of the receiver has the reason.",
}
"""What to do about the reasons that are no failures of a connection."""


async def _send(settings: Settings, address: str) -> tuple[Refusal | None, str]:
    """Send the message. Return why it was not accepted, or `None` and a sentence with the answer."""
    now = system_clock()
    if settings.message_transport == "webhook":
        webhook = make_webhook(settings)
        assert webhook is not None  # the settings demand its URL
        body = write_body("message.test", unix_seconds(now), {"to": address, "locale": settings.locale})
        try:
            refusal = await webhook.post(f"msg_test_{unix_seconds(now)}", body, now)
        finally:
            await webhook.close()
        return refusal, f"The webhook accepted a message.test for {address}."
    carrier = make_carrier(settings)
    if carrier is None:
        raise ConfigurationError(
            "Messages to users are not sent. Set KEYTURN_SMTP_URL and KEYTURN_MAIL_FROM, or KEYTURN_MESSAGES=webhook."
        )
    letter = write_test(to=address, sender=sender_of(settings), product=settings.totp_issuer, now=now)
    try:
        refusal, answer = await carrier.try_once(letter)
    finally:
        await carrier.end_round()
    return refusal, answer
