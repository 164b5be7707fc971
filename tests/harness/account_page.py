"""A service with its account page, for Chromium: in this process, with a clock that the test moves."""

import asyncio
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pyotp

from service.app import create_app
from service.components import open_components
from service.origin import OPERATOR, Act
from service.settings import Settings
from service.users.passwords import CHEAPEST
from tests.harness.chromium import Browser, Profile
from tests.harness.databases import PATIENT, PATIENT_SECONDS
from tests.harness.people import PASSWORD, MovableClock
from tests.harness.ports import free_port
from tests.harness.servers import make_schema, wait_until
from tests.harness.spoiled import listening


@dataclass
class Site:
    """A service, and Chromium to open its page with."""

    url: str
    settings: Settings
    clock: MovableClock
    browser: Browser
    folder: Path
    made: int = field(default=0)

    @property
    def page(self) -> str:
        return f"{self.url}/account/"

    def profile(self, **options: Any) -> Profile:
        """Return a new profile of Chromium: another browser of the user, or that of another user."""
        self.made += 1
        return self.browser.profile(f"{self.folder.name}-{self.made}", **options)

    def invite(self, email: str | None = None) -> str:
        """Make an invitation, as an operator's command does; return the token that the link has."""

        async def create() -> str:
            async with open_components(self.settings, self.clock) as parts:
                return (await parts.invitations.create(Act(OPERATOR, self.clock()), email=email)).token

        return asyncio.run(create())

    def subjects_to(self, to: str) -> list[str]:
        """Return the subjects of the messages that were sent to this address."""
        messages = [message_from_bytes(file.read_bytes()) for file in (self.settings.data_dir / "mail").glob("*.eml")]
        return [str(make_header(decode_header(message["Subject"]))) for message in messages if to in message["To"]]

    def find_link(self, to: str, fragment: str) -> str:
        """Wait for a message to this address with a link of this kind; return the link of the newest one."""
        found: list[str] = []

        def look() -> None:
            for file in sorted((self.settings.data_dir / "mail").glob("*.eml"), reverse=True):
                message = message_from_bytes(file.read_bytes())
                if to in message["To"]:
                    found.extend(re.findall(rf"{self.url}/account#{fragment}=\S+", text_of(message)))
            assert found, f"no message to {to} has a link to {fragment}"

        wait_until(look)
        return found[0]


def text_of(message: Message) -> str:
    part = next(part for part in message.walk() if part.get_content_type() == "text/plain")
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content.decode()


@dataclass
class Someone:
    """A user who works on the page, with an authenticator on a phone."""

    site: Site
    at: Profile
    username: str
    password: str = PASSWORD
    secret: str = ""

    @classmethod
    def of(cls, site: Site, username: str, *, second_factor: bool = True, **options: Any) -> "Someone":
        """A user whose account was made without the page."""
        someone = cls(site, site.profile(**options), username)
        with httpx2.Client(base_url=site.url, timeout=PATIENT_SECONDS) as client:
            details = {"username": username, "password": PASSWORD, "enable_mfa": second_factor}
            made = client.post("/signup", json=details).raise_for_status().json()
            if second_factor:
                someone.secret = parse_qs(urlsplit(made["provisioning_uri"]).query)["secret"][0]
                code = {"mfa_token": made["mfa_token"], "otp": someone.code()}
                client.post("/login-2fa", json=code).raise_for_status()
                site.clock.next_step()
        return someone

    def code(self, steps: int = 0) -> str:
        return pyotp.TOTP(self.secret).at(self.site.clock(), counter_offset=steps)

    def scan(self) -> None:
        """Scan the QR code on the screen."""
        uri = self.at.scan(self.site.folder)
        assert "otpauth" == urlsplit(uri).scheme
        self.secret = parse_qs(urlsplit(uri).query)["secret"][0]

    def sign_up(self, *, email: str = "", second_factor: bool = True) -> list[str]:
        """Sign up on the page; return the recovery codes."""
        self.at.open(f"{self.site.page}#signup")
        self.at.fill(username=self.username, email=email, password=self.password)
        if not second_factor:
            self.at.run("await page.locator('input[name=enable_mfa]').uncheck()")
        self.at.press("Create the account")
        if not second_factor:
            self.at.heading(f"Hello, {self.username}")
            return []
        self.at.heading("Set up your authenticator")
        self.scan()
        self.at.fill(otp=self.code())
        self.at.heading("Recovery codes")
        codes: list[str] = self.at.run("return page.locator('.codes li').allInnerTexts()")
        self.at.run("await page.locator('input[name=saved]').check()")
        self.at.press("Continue")
        self.at.heading(f"Hello, {self.username}")
        self.site.clock.next_step()
        return codes

    def give_password(self, at: Profile | None = None) -> None:
        at = at or self.at
        at.fill(username=self.username, password=self.password)
        at.press("Log in")

    def log_in(self, at: Profile | None = None) -> None:
        """Log in with the password and the second factor."""
        at = at or self.at
        at.open(f"{self.site.page}#login")
        self.give_password(at)
        if self.secret:
            at.heading("Enter your code")
            at.fill(otp=self.code())
        at.heading(f"Hello, {self.username}")
        self.site.clock.next_step()


@contextlib.contextmanager
def serving(
    browser: Browser, folder: Path, *, port: int | None = None, issuer: str | None = None, **settings: Any
) -> Iterator[Site]:
    """Serve the page of a service with these settings. `issuer` is its URL if a proxy is in front of it."""
    port = port or free_port()
    url = issuer or f"http://localhost:{port}"
    chosen = Settings(data_dir=folder / "data", issuer=url, **settings)
    make_schema(chosen)
    clock = MovableClock()
    app = create_app(chosen, clock, hash_cost=CHEAPEST, timeouts=PATIENT)
    with listening(app, port=port):
        yield Site(url, chosen, clock, browser, folder)
