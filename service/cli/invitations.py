"""`keyturn users invite`, `invitations` and `revoke-invitation`: invitations to sign up."""

import argparse
import asyncio
import json
from dataclasses import asdict
from datetime import datetime, timedelta

from service.accounts.invitations import DEFAULT_LIFETIME, MAX_LIFETIME, NewInvitation
from service.cli.parts import (
    DONE,
    LOCALE_HELP,
    REFUSED,
    misuse,
    opened_parts,
    read_address,
    read_locale,
    report,
    when,
)
from service.clock import unix_seconds
from service.durations import as_text, read_seconds
from service.environment import read_settings
from service.errors import ConfigurationError, InvalidRequest, NotFound
from service.origin import OPERATOR, Act
from service.users.invitations import Invitation

_OPTIONS = {"expires_in": "--expires", "roles": "--role"}
"""The options, by the names that refusals have for them."""
_TOO_LONG = 1 + int(MAX_LIFETIME.total_seconds())
"""One second more than is allowed. Longer durations are cut to it, because `timedelta` overflows, and refused."""


def add_to(acts: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    default = as_text(int(DEFAULT_LIFETIME.total_seconds()))
    invite = acts.add_parser(
        "invite",
        help="make an invitation to sign up, and show its link",
        description="Make an invitation to sign up, and show its link, only this once. If you give an address, the "
        "new account has this address, which counts as confirmed, and the link is sent to it if the service sends "
        "messages.",
    )
    invite.add_argument("address", nargs="?", help="the e-mail address of the user")
    invite.add_argument("--role", action="append", default=[], help="a role of the new account; may be repeated")
    invite.add_argument("--locale", help=LOCALE_HELP)
    invite.add_argument("--expires", default=default, help=f"how long it is valid, 5m to 90d (default: {default})")
    invite.set_defaults(run=_invite)
    listing = acts.add_parser(
        "invitations",
        help="list invitations",
        description="List invitations. Each is kept for 30 days after it expired, used or not.",
    )
    listing.add_argument("--json", action="store_true", help="one JSON object per line, times in epoch seconds")
    listing.set_defaults(run=_list)
    revoke = acts.add_parser(
        "revoke-invitation",
        help="revoke an invitation that was not used",
        description="Revoke an invitation that was not used. Its link is of no use any more.",
    )
    revoke.add_argument("id", help="the id of the invitation, from the list")
    revoke.set_defaults(run=_revoke)


def _invite(options: argparse.Namespace) -> int:
    address = None if options.address is None else read_address(options.address)
    locale = read_locale(options.locale)
    try:
        seconds = read_seconds(options.expires, plain=None, like="7d")
    except ValueError as error:
        raise ConfigurationError(f"--expires: {error}.") from None
    lifetime = timedelta(seconds=min(max(seconds, 0), _TOO_LONG))

    async def invite() -> tuple[NewInvitation, str]:
        async with opened_parts() as parts:
            try:
                made = await parts.invitations.create(
                    Act(OPERATOR, parts.clock()),
                    email=address,
                    locale=locale,
                    roles=tuple(options.role),
                    lifetime=lifetime,
                )
            except InvalidRequest as error:
                raise misuse(error, _OPTIONS) from None
            return made, parts.invitations.link_of(made)

    made, link = asyncio.run(invite())
    print(link)
    until = when(made.invitation.expires_at)
    report(f"The link is the line above, shown this once. It is valid until {until}, for one sign-up.")
    if read_settings().signup == "closed":
        report("KEYTURN_SIGNUP is closed: the link works only once it is `invited` or `open`.")
    return DONE


def _list(options: argparse.Namespace) -> int:
    async def show() -> None:
        async with opened_parts() as parts:
            cursor, header = None, f"{'ID':32} {'UNTIL':20} {'STATE':7} {'BY':20} ADDRESS ROLES"
            while True:
                page = await parts.invitations.list_page(cursor=cursor)
                if not options.json and header:
                    print(header)
                header = ""
                for invitation in page.items:
                    print(json.dumps(asdict(invitation)) if options.json else _line(invitation, parts.clock()))
                cursor = page.next_cursor
                if cursor is None:
                    return

    asyncio.run(show())
    return DONE


def _line(invitation: Invitation, now: datetime) -> str:
    is_expired = invitation.expires_at <= unix_seconds(now)
    state = "used" if invitation.used_at is not None else "expired" if is_expired else "open"
    until, address = when(invitation.expires_at), invitation.email or "-"
    line = f"{invitation.id:32} {until} {state:7} {invitation.created_by:20} {address} {' '.join(invitation.roles)}"
    return line.rstrip()


def _revoke(options: argparse.Namespace) -> int:
    async def revoke() -> None:
        async with opened_parts() as parts:
            await parts.invitations.revoke(options.id, Act(OPERATOR, parts.clock()))

    try:
        asyncio.run(revoke())
    except NotFound:
        report("keyturn: there is no such invitation, or it was used.")
        return REFUSED
    print("The invitation is revoked.")
    return DONE
