"""Mail: servers on loopback, and a service whose messages a test delivers by itself."""

import asyncio
import email
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, Literal

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from service.accounts.signup import SignUpDetails
from service.components import Components, open_components
from service.messages.contents import Contents
from service.messages.delivery import Delivery
from service.messages.mail import Carrier, Mail
from service.messages.part import make_mail, make_templates, sender_of
from service.origin import Act, Caller
from service.settings import Settings
from service.telemetry.event_names import EventName
from service.users import emails, users
from service.users.passwords import CHEAPEST
from service.users.users import User
from tests.harness.canaries import NotedLinks, Watch
from tests.harness.databases import PATIENT
from tests.harness.people import PASSWORD, MovableClock
from tests.harness.ports import free_port
from tests.harness.servers import make_schema
from tests.harness.webhooks import Ticks

USER, MAIL_PASSWORD = "keyturn", "a p@ss/word"
CALLER = Caller("203.0.113.7", "Firefox")
SENDER = "Example <noreply@example.com>"


@dataclass
class MailServer:
    """A mail server: what it answers, what it got, and how each letter came."""

    port: int = 0
    letters: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    users: list[str | None] = field(default_factory=list)
    attempts: int = 0
    connections: int = 0
    rcpt: dict[str, str] = field(default_factory=dict)
    """The answer to RCPT for an address, in place of acceptance."""
    data: str | None = None
    """The answer to DATA in place of acceptance."""
    hangs_for: float = 0
    dies_at: Literal["recipient", "content", "answer"] | None = None
    """Where each connection breaks off, as if the server was killed: after the sender was accepted, within the
    content, or before the answer to the whole content, which the server keeps."""

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        self.attempts += 1
        if self.hangs_for:
            await asyncio.sleep(self.hangs_for)
        if self.dies_at == "recipient":
            _break_off(server)
        if address in self.rcpt:
            return self.rcpt[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.data is not None:
            return self.data
        assert isinstance(envelope.content, bytes)
        letter = email.message_from_bytes(envelope.content, policy=default)
        assert isinstance(letter, EmailMessage)
        self.letters.append(letter)
        self.recipients += envelope.rcpt_tos
        assert server.transport is not None
        self.encrypted.append(server.transport.get_extra_info("sslcontext") is not None)
        self.users.append(session.auth_data if session.authenticated else None)
        if self.dies_at == "answer":
            _break_off(server)
        return "250 queued as 12AB"


class _Smtp(SMTP):
    """The protocol of `MailServer`, which may die within the content of a letter."""

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802
        if self.event_handler.dies_at != "content":
            await super().smtp_DATA(arg)
            return
        self.event_handler.attempts += 1
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        await self._reader.readline()
        _break_off(self)


class _Controller(Controller):
    def factory(self) -> SMTP:
        return _Smtp(self.handler, **self.SMTP_kwargs)


def _break_off(server: SMTP) -> None:
    """Close the connection without an answer."""
    assert isinstance(server.transport, asyncio.WriteTransport)
    server.transport.abort()
    raise ConnectionResetError


@contextmanager
def receiving_mail(
    *,
    authority: Path | None = None,
    has_starttls: bool = True,
    begins_with_tls: bool = False,
    needs_login: bool = False,
    port: int | None = None,
) -> Iterator[MailServer]:
    """Run a mail server on loopback until the block ends; with TLS if there is an authority."""
    handler = MailServer(port or free_port())
    context = None
    if authority is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority / "server.pem")

    def authenticate(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
        is_right = (data.login, data.password) == (USER.encode(), MAIL_PASSWORD.encode())
        return AuthResult(success=is_right, handled=is_right, auth_data=USER)

    controller = _Controller(
        handler,
        hostname="127.0.0.1",
        port=handler.port,
        ssl_context=context if begins_with_tls else None,
        tls_context=None if begins_with_tls or not has_starttls else context,
        require_starttls=context is not None and has_starttls and not begins_with_tls,
        authenticator=authenticate if needs_login else None,
        auth_required=needs_login,
        auth_require_tls=not begins_with_tls,
    )
    controller.start()
    try:
        yield handler
    finally:
        controller.stop()


@dataclass
class Post:
    """A service without background tasks, and its deliveries of mail."""

    parts: Components
    clock: MovableClock
    ticks: Ticks = field(default_factory=Ticks)
    watch: Watch = field(default_factory=Watch)

    async def add_user(
        self,
        name: str,
        *,
        email: str | None = "{}@example.net",
        new_email: str | None = None,
        locale: str | None = None,
        credential_version: int = 1,
    ) -> str:
        """Sign a user up with a confirmed address and one that is requested, without events, and return their id."""
        details = SignUpDetails(locale=locale)
        signed_up = await self.parts.sign_up.sign_up(name, PASSWORD, enable_mfa=False, caller=None, details=details)
        user: User | None = signed_up.user
        async with self.parts.database.begin() as transaction:
            assert user is not None
            while user.credential_version < credential_version:
                user = await users.revoke_tokens(transaction, user.id)
                assert user is not None
            if email is not None:
                await emails.set_confirmed(transaction, user, email.format(name))
            if new_email is not None:
                assert await emails.request(transaction, user, new_email, self.clock())
        return user.id

    async def record(self, event: EventName, user_id: str | None, **details: Any) -> None:
        async with self.parts.database.begin() as transaction:
            act = Act.of_user(user_id or "", self.clock(), CALLER)
            await self.parts.events.record(transaction, event, user_id, act, **details)

    def deliverer(self, carrier: Carrier | None = None) -> Delivery:
        """A replica's deliveries of mail, by this carrier or by that of the settings."""
        database, settings = self.parts.database, self.parts.settings
        contents = Contents(database, NotedLinks(self.parts.sealer, self.watch), page_url=settings.resolved_page_url)
        mail = (
            make_mail(settings, contents)
            if carrier is None
            else Mail(contents, make_templates(settings), carrier, sender=sender_of(settings))
        )
        assert mail is not None
        return Delivery(database, mail, ticks=self.ticks)

    async def deliver(self, delivery: Delivery) -> int:
        """Read what is due, wait until it has settled, and deliver; return how many arrived or were dropped."""
        done = await delivery.deliver(self.clock())
        self.ticks.now += 1
        return done + await delivery.deliver(self.clock())

    async def deliver_all(self, delivery: Delivery) -> int:
        """Deliver until nothing more is due; return how many arrived or were dropped."""
        done = 0
        while more := await self.deliver(delivery):
            done += more
        return done

    async def due(self) -> list[str]:
        rows = await self.parts.database.fetch_all("SELECT kind FROM outbox ORDER BY id")
        return [row["kind"] for row in rows]


@asynccontextmanager
async def open_post(world: dict[str, Any], clock: MovableClock, **more: object) -> AsyncIterator[Post]:
    """Open a service whose messages leave only when a test delivers them; search for its canaries at the end."""
    settings = Settings(**{**world, **more})
    if settings.database_url is None:
        make_schema(settings)
    async with open_components(settings, clock, hash_cost=CHEAPEST, timeouts=PATIENT) as parts:
        post = Post(parts, clock)
        post.watch.begin()
        try:
            yield post
            await post.watch.search(parts)
        finally:
            post.watch.end()


def link_in(letter: EmailMessage, *, kind: str = "plain") -> str:
    """Return the link in a part of a letter; there is exactly one."""
    body = letter.get_body((kind,))
    assert body is not None
    found = re.findall(r"https?://[^\s\"<]+#[a-z-]+=ktl_[A-Za-z0-9_-]+", body.get_content())
    assert len(set(found)) == 1
    return str(found[0])
