"""The letters that a service in this process writes as files, and a program that follows their links."""

import asyncio
import email
import re
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import default
from urllib.parse import urlsplit

from httpx2 import Response

from tests.harness.clients import Client


async def write_letters(client: Client) -> None:
    """Deliver until nothing is due. A test opens the service with `AT_ONCE`."""
    async with asyncio.timeout(20):
        while await client.parts.database.fetch_all("SELECT id FROM outbox"):
            await client.parts.housekeeping.deliver()


async def letters(client: Client, to: str = "") -> list[EmailMessage]:
    """Return all letters to this address, or all there are, the newest last."""
    await write_letters(client)
    found = []
    for file in sorted(
        (client.parts.settings.data_dir / "mail").glob("*.eml"), key=lambda file: file.stat().st_mtime
    ):
        letter = email.message_from_bytes(file.read_bytes(), policy=default)
        assert isinstance(letter, EmailMessage)
        if to in str(letter["To"]):
            found.append(letter)
    return found


def texts_of(letter: EmailMessage) -> Iterator[str]:
    """Yield the text and the HTML, decoded."""
    for kind in ("plain", "html"):
        part = letter.get_body((kind,))
        assert part is not None
        yield part.get_content()


def urls_in(letter: EmailMessage) -> set[str]:
    """Return every URL in the letter, whatever its host."""
    return {url.rstrip(".") for text in texts_of(letter) for url in re.findall(r"(?:https?:)?//[^\s\"'<>]+", text)}


def token_in(letter: EmailMessage, fragment: str) -> str:
    """Return the token of the link of this kind; there is exactly one."""
    [token] = {url.partition(f"#{fragment}=")[2] for url in urls_in(letter)} - {""}
    return token


async def scan(client: Client, letter: EmailMessage) -> list[Response]:
    """Follow every link of a letter twice, as a program that scans mail does, and return the answers.

    Such a program sends no fragment. One that opens the page sends the token in a query, and to what the page calls,
    which it may know from the documentation.
    """
    answers = []
    for url in sorted(urls_in(letter)):
        name, _, token = urlsplit(url).fragment.partition("=")
        path = urlsplit(url)._replace(scheme="", netloc="", fragment="").geturl()
        assert token
        paths = [path, f"{path}/"]
        paths += ["/email/confirm", "/email/cancel", "/password-reset/confirm", "/password-reset", "/signup"]
        for _ in range(2):
            for method in ("GET", "HEAD", "OPTIONS"):
                for target in paths:
                    answers.append(await client.request(method, target))
                    for query in ({name: token}, {"token": token}):
                        answers.append(await client.request(method, target, params=query))
    return answers
