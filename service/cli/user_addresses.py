"""`keyturn users set-email`, `remove-email`, `set-locale`, `reset-password`: where and how messages reach a user."""

import argparse
import asyncio

from service.accounts.changes import Changes
from service.accounts.password_resets import ResetLink
from service.cli.parts import (
    DONE,
    LOCALE_HELP,
    NAME_HELP,
    misuse,
    opened_parts,
    read_address,
    read_locale,
    report,
    when,
)
from service.errors import InvalidRequest
from service.origin import OPERATOR
from service.users.users import User

_ARGUMENTS = {"email": "address"}
"""The argument of `set-email` for each field that a refusal names."""


def add_to(acts: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    given = acts.add_parser(
        "set-email",
        help="send a link that confirms a new address of an account",
        description="Request a new e-mail address of an account. A link that confirms it is sent there. The account "
        "keeps its former address until the reader of the message has confirmed the new one. Where the service sends "
        "no messages, the command is refused.",
    )
    given.add_argument("name", help=NAME_HELP)
    given.add_argument("address", help="the new e-mail address")
    given.set_defaults(run=_set_email)
    removed = acts.add_parser(
        "remove-email",
        help="remove the address of an account",
        description="Remove the e-mail address of an account, and one that is not confirmed yet. Without an address "
        "the user gets no messages.",
    )
    removed.add_argument("name", help=NAME_HELP)
    removed.set_defaults(run=_remove_email)
    locale = acts.add_parser(
        "set-locale",
        help="change the language of messages to a user",
        description="Change the language of messages to a user: those that are sent from now on. Without a language, "
        "the user gets messages in that of the service, KEYTURN_LOCALE.",
    )
    locale.add_argument("name", help=NAME_HELP)
    locale.add_argument("locale", nargs="?", metavar="LOCALE", help=LOCALE_HELP)
    locale.set_defaults(run=_set_locale)
    reset = acts.add_parser(
        "reset-password",
        help="send the user a link for a new password, or show it",
        description="Send a link for a new password to the confirmed address of the user. Where the service sends no "
        "messages or the user has no confirmed address, the command writes the link to standard output, only this "
        "once. The holder of the link sets the password: verify the user's identity first. Until the link is used, "
        "the password and the sessions stay. The second factor stays in any case.",
    )
    reset.add_argument("name", help=NAME_HELP)
    reset.set_defaults(run=_reset_password)


def describe_request(address: str) -> str:
    """Return the sentences about an address that an account does not have yet."""
    return f"A message with a link goes to {address}. The account has the address once that link was used."


def _set_email(options: argparse.Namespace) -> int:
    address = read_address(options.address)

    async def change() -> User:
        async with opened_parts() as parts:
            user = await parts.administration.get(options.name)
            try:
                await parts.administration.change(f"sub:{user.id}", Changes(email=address), by=OPERATOR)
            except InvalidRequest as error:
                raise misuse(error, _ARGUMENTS) from None
            return user

    user = asyncio.run(change())
    print(describe_request(address))
    if user.email is not None:
        print(f"Until then {user.username} keeps {user.email}.")
    return DONE


def _remove_email(options: argparse.Namespace) -> int:
    async def change() -> User:
        async with opened_parts() as parts:
            user = await parts.administration.get(options.name)
            await parts.administration.change(f"sub:{user.id}", Changes(email=None), by=OPERATOR)
            return user

    user = asyncio.run(change())
    print(f"{user.username} has no address any more." if user.has_email else f"{user.username} had no address.")
    return DONE


def _set_locale(options: argparse.Namespace) -> int:
    locale = read_locale(options.locale, argument="locale")

    async def change() -> User:
        async with opened_parts() as parts:
            user = await parts.administration.get(options.name)
            await parts.administration.change(f"sub:{user.id}", Changes(locale=locale), by=OPERATOR)
            return user

    user = asyncio.run(change())
    print(f"Messages to {user.username} are in {'the language of the service' if locale is None else locale}.")
    return DONE


def _reset_password(options: argparse.Namespace) -> int:
    async def offer() -> tuple[User, ResetLink | None]:
        async with opened_parts() as parts:
            user = await parts.administration.get(options.name)
            return user, await parts.password_resets.offer(user, by=OPERATOR)

    user, shown = asyncio.run(offer())
    # On standard error, so that standard output has the link or nothing.
    if shown is None:
        report(f"A message with the link goes to the confirmed address of {user.username}.")
        return DONE
    print(shown.link)
    report(
        f"The link is the line above, shown this once. Give it to {user.username} only. It is valid until "
        f"{when(shown.expires_at)}, for one new password.",
    )
    return DONE
