"""E-mail: the transport that renders messages to users and hands each to a carrier.

There are two carriers: a mail server (`mail_smtp`), and files on the machine of a developer (`mail_files`).
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Protocol

from service.messages import outbox, reports
from service.messages.contents import Content, Contents
from service.messages.outbox import Message
from service.messages.templates import Rendered, Templates, show
from service.messages.transport import Drop, Outcome, Refusal


@dataclass(frozen=True, slots=True)
class Letter:
    """The e-mail of a message: `id` is the same at each attempt, `content` has the format of RFC 5322."""

    id: str
    sender: str
    to: str = field(repr=False)
    content: bytes = field(repr=False)


class Carrier(Protocol):
    """Takes letters."""

    async def carry(self, letter: Letter) -> Outcome:
        """Hand over one letter, once."""
        ...

    async def try_once(self, letter: Letter) -> tuple[Refusal | None, str]:
        """Hand over one letter; return why it was not accepted, or otherwise a sentence with the answer."""
        ...

    async def end_round(self) -> None:
        """Close the connection: the letters of the next round use another one."""
        ...

    def name_of(self, letter_id: str) -> str | None:
        """Return the file of a letter for the log; `None` if the carrier writes none."""
        ...


class Mail:
    """A `Transport` that sends messages to users by e-mail."""

    name = outbox.MAIL
    lease = timedelta(seconds=30)

    def __init__(self, contents: Contents, templates: Templates, carrier: Carrier, *, sender: Address) -> None:
        self._contents = contents
        self._templates = templates
        self._carrier = carrier
        self._sender = sender

    async def send(self, message: Message, now: datetime) -> Outcome:
        content = await self._contents.read(message, now)
        if isinstance(content, Drop):
            return content
        outcome = await self._carry(content)
        if content.details and isinstance(outcome, Refusal | Drop) and outcome.is_of_content:
            # A filter may refuse a text that a caller chose, such as a user agent. The message must not depend on it.
            return await self._carry(replace(content, details={}))
        return outcome

    async def _carry(self, content: Content) -> Outcome:
        try:
            letter = write_letter(content, self._templates.render(content), sender=self._sender)
        except ValueError:  # an address that cannot be in a header
            return Drop("invalid_address")
        return await self._carrier.carry(letter)

    async def end_round(self) -> None:
        await self._carrier.end_round()

    def log_delivered(self, message: Message) -> None:
        letter_id = f"msg_{message.occurred_at}_{message.event_id}_{message.kind}"
        reports.log_sent(message, file=self._carrier.name_of(letter_id))

    def log_refused(self, message: Message, refusal: Refusal, *, again_in: int) -> None:
        reports.log_refused(message, refusal, again_in=again_in)

    async def close(self) -> None:
        await self._carrier.end_round()


def write_letter(content: Content, rendered: Rendered, *, sender: Address) -> Letter:
    """Write an e-mail with a text and an HTML part. Raises `ValueError` for an address that is not valid.

    Every value in a header comes from the operator or has been checked: the recipient is parsed as one address, and
    the subject is one line (`templates.show`).
    """
    letter = EmailMessage(policy=SMTP)
    letter["From"] = sender
    letter["To"] = Address(addr_spec=content.to)
    letter["Subject"] = rendered.subject
    letter["Date"] = format_datetime(datetime.fromtimestamp(content.occurred_at, UTC))
    letter["Message-ID"] = f"<{content.id}@{sender.domain}>"
    letter["Auto-Submitted"] = "auto-generated"  # RFC 3834 section 5: no program answers it
    # Base64 and quoted-printable are ASCII, which every server takes; so the extensions
    # 8BITMIME (RFC 6152) and SMTPUTF8 (RFC 6531) are not needed.
    letter.set_content(rendered.text, cte="quoted-printable")
    letter.add_alternative(rendered.html, subtype="html", cte="quoted-printable")
    letter.set_boundary(f"=_{content.id}")  # the same at each attempt
    letter["Content-Language"] = rendered.language  # after the parts, which take such headers
    return Letter(content.id, sender.addr_spec, content.to, letter.as_bytes())


def write_test(*, to: str, sender: Address, product: str, now: datetime) -> Letter:
    """Write the letter of `keyturn messages send-test`. Raises `ValueError` if the address is not valid."""
    letter_id = f"msg_test_{int(now.timestamp())}"
    letter = EmailMessage(policy=SMTP)
    letter["From"] = sender
    letter["To"] = Address(addr_spec=to)
    letter["Subject"] = f"Test message of {show(product)}"
    letter["Date"] = format_datetime(now.astimezone(UTC))
    letter["Message-ID"] = f"<{letter_id}@{sender.domain}>"
    letter["Auto-Submitted"] = "auto-generated"
    letter.set_content("An operator sent this message with: keyturn messages send-test\n")
    return Letter(letter_id, sender.addr_spec, to, letter.as_bytes())
