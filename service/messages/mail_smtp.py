"""The mail server: the carrier that hands letters over by SMTP (RFC 5321), with `aiosmtplib`.

The connection is encrypted, and the certificate is verified: `smtps://` begins with TLS, and `smtp://` demands
STARTTLS. A server on loopback that does not offer STARTTLS gets letters in clear, because they do not leave the
machine, but never credentials.

A round is one call of `delivery`, which sends several letters. They go one after the other over one connection, which
is closed at the end of the round. After a failure that is not about one letter (the connection, STARTTLS, the
credentials, the sender), and after `ROUND_SECONDS`, the other letters of the round are not tried: each would fail or
wait at the same server, and the round must end before the lease of the replica expires.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import replace

import aiosmtplib

from service.messages.mail import Letter
from service.messages.templates import show
from service.messages.transport import Drop, NotTried, Outcome, Refusal
from service.outgoing import failure_of, make_tls_context
from service.smtp_url import SmtpServer

LETTER_TIMEOUT_SECONDS = 10.0
"""The time for a letter in all, with the connection if it needs a new one."""

ROUND_SECONDS = 10.0
"""The time after which a round begins no further letter."""

_ABOUT_AUTHENTICATION = frozenset({530, 534, 535, 538})
"""Status codes of the permanent kind that are about this service's authentication and not about the letter (RFC 4954
section 6; 538: RFC 2554 section 6). The letter is tried again, because the server accepts it when the operator has
corrected the setting."""


class SmtpRefused(Exception):
    """The server cannot be used. `reason` is a word for the log; `status` is that of the server's answer, if any."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


class Smtp:
    """A `Carrier` to one server. `local_name` is how this service greets it (RFC 5321 section 4.1.1.1).

    `timeout` is the number of seconds for one letter.
    """

    def __init__(
        self,
        server: SmtpServer,
        *,
        local_name: str,
        ticks: Callable[[], float] = time.monotonic,
        timeout: float = LETTER_TIMEOUT_SECONDS,
    ) -> None:
        self._timeout = timeout
        self._server = server
        self._local_name = local_name
        self._ticks = ticks
        self._turn = asyncio.Lock()
        self._client: aiosmtplib.SMTP | None = None
        self._tls: ssl.SSLContext | None = None
        self._round_ends: float | None = None

    async def carry(self, letter: Letter) -> Outcome:
        async with self._turn:
            now = self._ticks()
            if self._round_ends is None:
                self._round_ends = now + ROUND_SECONDS
            if now >= self._round_ends:
                return NotTried()
            try:
                await self._hand_over(letter)
            except (aiosmtplib.SMTPRecipientsRefused, aiosmtplib.SMTPDataError) as refused:
                return _judge(refused)
            except (aiosmtplib.SMTPException, SmtpRefused, OSError) as error:  # TimeoutError is an OSError
                self._abandon()
                return explain(error)
        return None

    async def try_once(self, letter: Letter) -> tuple[Refusal | None, str]:
        try:
            answer = await self._hand_over(letter)
        except (aiosmtplib.SMTPException, SmtpRefused, OSError) as error:
            return explain(error), ""
        return None, f"The mail server accepted the message: {show(answer)}"

    async def check(self) -> Refusal | None:
        """Connect, encrypt and authenticate without sending anything; return why that fails."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._connect()
        except (aiosmtplib.SMTPException, SmtpRefused, OSError) as error:
            return explain(error)
        finally:
            await self.end_round()
        return None

    async def _hand_over(self, letter: Letter) -> str:
        """Hand over one letter within the timeout; return the server's answer.

        Raises the errors of the library, `SmtpRefused` and `TimeoutError`.
        """
        async with asyncio.timeout(self._timeout):
            client = await self._connect()
            _, answer = await client.sendmail(letter.sender, [letter.to], letter.content)
        return answer

    async def _connect(self) -> aiosmtplib.SMTP:
        """Return the connection of this round, encrypted and authenticated."""
        if self._client is not None and self._client.is_connected:
            return self._client
        server = self._server
        if self._tls is None:
            self._tls = await asyncio.to_thread(make_tls_context)
        client = self._client = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            use_tls=server.begins_with_tls,
            start_tls=False,  # called below, where a server on loopback may lack STARTTLS
            tls_context=self._tls,
            timeout=self._timeout,
            local_hostname=self._local_name,
        )
        await client.connect()
        if not server.begins_with_tls:
            await client.ehlo()
            if client.supports_extension("starttls"):
                await client.starttls()
            elif server.username is not None or not server.is_on_loopback:
                raise SmtpRefused("no_starttls")
        if server.username is not None and server.password is not None:
            await client.ehlo()
            if not client.supports_extension("auth"):
                raise SmtpRefused("no_authentication")
            try:
                await client.login(server.username, server.password)
            except aiosmtplib.SMTPAuthenticationError as refused:
                raise SmtpRefused("credentials_refused", refused.code) from None
        return client

    async def end_round(self) -> None:
        client, self._client, self._round_ends = self._client, None, None
        if client is not None and client.is_connected:
            try:
                await client.quit(timeout=1)
            except (aiosmtplib.SMTPException, OSError, TimeoutError):
                client.close()

    def name_of(self, letter_id: str) -> None:
        """Return `None`: there is no file."""

    def _abandon(self) -> None:
        """Close the connection, and try no other letter in this round."""
        if self._client is not None:
            self._client.close()
            self._client = None
        self._round_ends = self._ticks()


def explain(error: Exception) -> Refusal:
    """Return why the server took no letter, from the error of handing it over."""
    match error:
        case SmtpRefused():
            return Refusal(error.reason, error.status)
        case aiosmtplib.SMTPRecipientsRefused():
            return Refusal("refused", error.recipients[0].code)
        case aiosmtplib.SMTPResponseException():
            return Refusal("status", error.code)
        case _:
            return Refusal(failure_of(error))


def _judge(error: aiosmtplib.SMTPException) -> Refusal | Drop:
    """Return what becomes of a refused letter: after a permanent refusal a further attempt would be refused, too."""
    refusal = explain(error)
    if refusal.status in _ABOUT_AUTHENTICATION:
        return refusal
    is_of_content = isinstance(error, aiosmtplib.SMTPDataError)
    if refusal.status is not None and 500 <= refusal.status < 600:
        return Drop("refused", refusal.status, is_of_content)
    return replace(refusal, is_of_message=True, is_of_content=is_of_content)
