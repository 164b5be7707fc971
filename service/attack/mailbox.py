"""Mailbox: genuine links in messages to the run's own user.

Each must be accepted once, only at its route, and must not open a session. The operator names a folder in which the
messages arrive (`--mail`): `data/mail` of a service that writes files, or the folder of a mail server for tests. All
addresses are in `attack.invalid` or below it, so that no message can reach another mailbox (RFC 6761 section 6.4).
"""

import asyncio
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email import message_from_bytes, policy
from pathlib import Path
from types import MappingProxyType

from service.attack.campaign import Attack, Context, require_refusal
from service.attack.headers import HOST_HEADERS
from service.attack.lines import Post, burst
from service.attack.links import (
    ADDRESS_DOMAIN,
    altered,
    give_token,
    request_link,
    require_refused_everywhere,
)
from service.attack.people import Person
from service.attack.report import Broken, NotTried

ARRIVAL_SECONDS = 8.0
MAX_MESSAGES = 3
"""Links for a new password that a user gets in an hour."""
PARALLEL_REQUESTS = 12

_LINK = re.compile(r"(https?://[^\s\"<>#]*)#([a-z-]+)=(ktl_[A-Za-z0-9_-]+)")


@dataclass(frozen=True)
class ReceivedLink:
    page: str
    purpose: str
    """The name before the token in the fragment."""
    token: str


@dataclass
class Mailbox:
    """The links in the messages to one person."""

    folder: Path
    local_part: str

    def links(self) -> list[ReceivedLink]:
        """Return the links of all messages so far. Raises `NotTried` if the folder cannot be read."""
        found: list[ReceivedLink] = []
        try:
            files = sorted(self.folder.rglob("*.eml"), key=lambda file: file.stat().st_mtime_ns)
            contents = [file.read_bytes() for file in files]
        except OSError as error:
            raise NotTried(f"the folder of messages cannot be read: {error.strerror}") from None
        for content in contents:
            message = message_from_bytes(content, policy=policy.default)
            body = message.get_body(("plain",))
            if body is not None and f"{self.local_part}@" in str(message.get("to", "")).lower():
                found += {ReceivedLink(*match) for match in _LINK.findall(body.get_content())}
        return found

    async def arrived(self, route: str, *, after: list[ReceivedLink]) -> ReceivedLink:
        """Wait for a link for the route, other than the links in `after`. Raises `NotTried` if none arrives."""
        patience = time.monotonic() + ARRIVAL_SECONDS
        purpose = _PURPOSES[route]
        while time.monotonic() < patience:
            for link in self.links():
                if link.purpose == purpose and link not in after:
                    return link
            await asyncio.sleep(0.1)
        raise NotTried(f"no message with a link for {route} arrived in {self.folder} within {ARRIVAL_SECONDS:.0f} s")


_PURPOSES = {
    "/password-reset/confirm": "reset-password",
    "/email/confirm": "confirm-email",
    "/email/cancel": "cancel-email",
}


@dataclass
class Reader:
    """A user with a second factor and a confirmed address, and their mailbox."""

    person: Person
    mailbox: Mailbox
    page: str
    """The page to which the first link leads."""


async def _use_once(
    context: Context, route: str, link: ReceivedLink, rest: Mapping[str, object] = MappingProxyType({})
) -> None:
    """Attack a genuine link, then use it many times at once: one request must be accepted, with an empty answer."""
    target = context.target
    await require_refused_everywhere(context, {"a link of another purpose": link.token}, but=route)
    for what, token in altered(link.token).items():
        require_refusal(await give_token(target, route, token, rest), f"a token with {what} at {route}")
    for method in ("GET", "HEAD"):
        for query in (f"?token={link.token}", f"?token={link.token}&new_password={rest.get('new_password', '')}"):
            require_refusal(await target.send(method, route + query), f"{method} {route} with a genuine token")
    posts = [Post(route, {**rest, "token": link.token})] * PARALLEL_REQUESTS
    answers = await burst(target, posts)
    accepted = [answer for answer in answers if answer.is_yes]
    if len(accepted) > 1:
        raise Broken(f"one link was accepted in {len(accepted)} of {len(answers)} requests at {route}")
    failed = [answer for answer in answers if answer.is_failure]
    if failed:
        raise Broken(f"{len(failed)} of {len(answers)} requests with one link were failures ({failed[0]})")
    if not accepted and answers[0].code == "invalid_token":
        raise Broken(f"a refused request used up the link for {route}: another route, a GET, or an altered token")
    if not accepted:
        raise NotTried(f"the link was accepted in no request at {route} ({answers[0]})")
    require_refusal(await give_token(target, route, link.token, rest), f"a used link at {route}")
    if accepted[0].body or "set-cookie" in accepted[0].headers:
        raise Broken(f"{route} answered a link with a body or a cookie: the mailbox must not open a session")


async def reader(context: Context) -> Reader:
    """Return the shared reader."""
    known = context.notes.get("reader")
    if isinstance(known, Reader):
        return known
    folder = context.options.mail
    if folder is None:
        raise NotTried("the folder of messages is not known (--mail)")
    number = len(context.people.made) + 1
    mailbox = Mailbox(folder, f"{context.people.name}-{number}")
    person = await context.people.sign_up(mfa=True, email=f"{mailbox.local_part}@{ADDRESS_DOMAIN}")
    await person.enrol()
    link = await mailbox.arrived("/email/confirm", after=[])
    named = await context.target.post("/login", {"username": _address(mailbox), "password": person.password})
    require_refusal(named, "a login with an address that is not confirmed")
    await _use_once(context, "/email/confirm", link)
    made = Reader(person, mailbox, link.page)
    context.notes["reader"] = made
    return made


def _address(mailbox: Mailbox) -> str:
    return f"{mailbox.local_part}@{ADDRESS_DOMAIN}"


async def confirmation(context: Context) -> str:
    """The address names the account only after its link was used."""
    read = await reader(context)
    answer = await context.target.post(
        "/login", {"username": _address(read.mailbox).upper(), "password": read.person.password}
    )
    if not answer.is_yes:
        raise NotTried(f"/login with the confirmed address was answered {answer}")
    if "access_token" in answer.members:
        raise Broken("a login with the address and the password alone opened a session")
    return "used once, and before that the address named no account"


async def cancellation(context: Context) -> str:
    """The link that cancels a new address must be accepted once; after it, the address must not be confirmed."""
    read, target = await reader(context), context.target
    before = read.mailbox.links()
    body = {"email": f"{read.mailbox.local_part}@other.{ADDRESS_DOMAIN}", "password": read.person.password}
    answer = await target.post("/email", body, bearer=read.person.access)
    if not answer.is_yes:
        raise NotTried(f"/email answered {answer}")
    link = await read.mailbox.arrived("/email/confirm", after=before)
    cancel = await read.mailbox.arrived("/email/cancel", after=before)
    await _use_once(context, "/email/cancel", cancel)
    require_refusal(
        await give_token(target, "/email/confirm", link.token, {}), "the link of an address that was cancelled"
    )
    return "used once, and the new address cannot be confirmed"


async def reset(context: Context) -> str:
    """A reset, requested with asserted hosts, must change the password, end the sessions and keep the second factor.

    Its link must lead to the same page as the first link.
    """
    read, target = await reader(context), context.target
    person, before = read.person, read.mailbox.links()
    pending, code = await person.pending(), await person.unused_code()
    hosts = [header for header in HOST_HEADERS if header[0] != "Host"]
    asked = await request_link(target, _address(read.mailbox), hosts)
    if not asked.is_yes:
        raise NotTried(f"/password-reset answered {asked} to a confirmed address")
    route = "/password-reset/confirm"
    link = await read.mailbox.arrived(route, after=before)
    if link.page != read.page:
        raise Broken("a link leads to the host that a header of the request asserts")
    old, new = person.password, secrets.token_urlsafe(18)
    await _use_once(context, route, link, {"new_password": new})
    person.password = new
    form = {"grant_type": "refresh_token", "refresh_token": person.refresh}
    tried = {
        "the former password": await person.give_password(old),
        "the access token of an earlier session": await target.send("GET", "/me", bearer=person.access),
        "the refresh token of an earlier session": await target.send("POST", "/token", form=form),
        "an earlier pending token with a valid code": await person.give_code(code, pending),
    }
    for what, answer in tried.items():
        require_refusal(answer, f"after a reset, {what}")
    answer = await person.give_password()
    if not answer.is_yes:
        raise NotTried(f"the new password was answered {answer}")
    if "access_token" in answer.members:
        raise Broken("a reset by mail and the new password opened a session without the second factor")
    picture = await target.send("GET", f"/qrcode/{person.username}", bearer=str(answer.members.get("mfa_token")))
    require_refusal(picture, "the pending token after a reset at /qrcode")
    return f"used once; {len(tried)} refused after it, and the second factor stays"


async def messages(context: Context) -> str:
    """A user must get at most three links for a new password in an hour, however many requests name them."""
    read = await reader(context)
    for _ in range(MAX_MESSAGES):
        answer = await request_link(context.target, read.person.username)
        if answer.status == 429:
            raise NotTried("this address had too many requests for links before: wait an hour")
    await asyncio.sleep(min(3.0, context.target.budget.left))
    purpose = _PURPOSES["/password-reset/confirm"]
    count = sum(link.purpose == purpose for link in read.mailbox.links())
    if count > MAX_MESSAGES:
        raise Broken(f"a user got {count} messages with a link for a new password")
    return f"{count} messages for {MAX_MESSAGES + 1} requests"


ATTACKS = (
    Attack("The link that confirms an address", confirmation, needs_mail=True),
    Attack("The link that refuses an address", cancellation, needs_mail=True),
    Attack("The link for a new password", reset, needs_mail=True),
    Attack("Messages to one user", messages, needs_mail=True),
)
