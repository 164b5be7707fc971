"""`keyturn users list`, `show`, `set-password`, `set-claims` and `delete`: accounts, for operators."""

import argparse
import asyncio
import json
from typing import Any

from service.accounts.administration import MAX_PAGE_SIZE, AccountDetails, AccountFilter
from service.accounts.changes import Changes
from service.cli import user_sessions
from service.cli.parts import (
    DONE,
    NAME_HELP,
    REFUSED,
    confirm,
    misuse,
    opened_parts,
    read_password,
    report,
    report_unchecked,
    when,
)
from service.errors import ConfigurationError, InvalidRequest, NotFound
from service.origin import OPERATOR
from service.sessions.sessions import MAX_LISTED_SESSIONS
from service.static_claims import encode, read_json
from service.storage.page import Page
from service.users.listing import AccountSummary
from service.users.normalisation import normalise

MIN_PREFIX_LENGTH = 3

_HEADER = f"{'USERNAME':32} {'SINCE':20} {'STATE':9} {'MFA':10} {'SUB':22} ROLES"
_OPTIONS = {"limit": "--limit", "cursor": "--cursor"}
"""The options of `list`, by the names that refusals have for them."""


def add_to(acts: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    listing = acts.add_parser(
        "list",
        help="list accounts",
        description="List accounts in the order of their usernames: all, or those that match every filter. With "
        "--limit, list one page of them. If another page follows, its --cursor is written to standard error. With "
        "--limit and --json, the page is one JSON object with users and next_cursor, which is null on the last page. "
        "With --limit and --role, --mfa, --disabled or --enabled, a page may be short or empty although more "
        "accounts match: go on while there is a cursor.",
    )
    listing.add_argument("prefix", nargs="?", default="", help="only usernames that begin with this text")
    listing.add_argument("--role", help="only accounts that have this role")
    listing.add_argument("--email", help="only the account with this confirmed address")
    listing.add_argument(
        "--mfa",
        choices=("off", "asked", "confirmed"),
        help="only this state of the second factor; asked: requested, not confirmed",
    )
    state = listing.add_mutually_exclusive_group()
    state.add_argument("--disabled", action="store_true", help="only disabled accounts")
    state.add_argument("--enabled", action="store_true", help="only enabled accounts")
    listing.add_argument(
        "--limit", type=int, metavar="N", help=f"one page of at most N accounts (1 to {MAX_PAGE_SIZE})"
    )
    listing.add_argument(
        "--cursor", help="where the page begins, as the page before it says; the filters must be the same"
    )
    listing.add_argument(
        "--json", action="store_true", help="one JSON object per line, or per page; times in epoch seconds"
    )
    listing.set_defaults(run=_list)
    show = acts.add_parser(
        "show",
        help="show one account",
        description="Show one account: its state, addresses, authenticators, recovery codes and live sessions. Of "
        f"more than {MAX_LISTED_SESSIONS} sessions it shows those that were used last.",
    )
    show.add_argument("name", help=NAME_HELP)
    show.add_argument("--json", action="store_true", help="as one JSON object, times in epoch seconds")
    show.set_defaults(run=_show)
    password = acts.add_parser(
        "set-password",
        help="replace the password of an account; ends all sessions",
        description="Replace the password of an account, end every session, and revoke its pending tokens and device "
        "tokens. The second factor stays. The password is asked for, or read as the first line of standard input.",
    )
    password.add_argument("name", help=NAME_HELP)
    password.set_defaults(run=_set_password)
    claims = acts.add_parser(
        "set-claims",
        help="replace the static claims of an account",
        description="Replace all static claims of an account. Tokens issued from now on have those that "
        "KEYTURN_CLAIMS names; earlier tokens expire as usual.",
    )
    claims.add_argument("name", help=NAME_HELP)
    claims.add_argument(
        "claims", help='all static claims as a JSON object, like \'{"tenant": "acme"}\'; {} removes them'
    )
    claims.set_defaults(run=_set_claims)
    delete = acts.add_parser(
        "delete",
        help="delete an account for good; its username stays reserved",
        description="Delete an account, or all whose usernames begin with a prefix, and end their sessions. This "
        "cannot be undone. The username and the sub stay reserved: no other account ever gets them.",
    )
    delete.add_argument("name", nargs="?", help=NAME_HELP)
    delete.add_argument(
        "--prefix",
        help="instead, delete every account whose username begins with this text, which has "
        f"at least {MIN_PREFIX_LENGTH} characters",
    )
    delete.add_argument("--yes", action="store_true", help="do not ask for confirmation: for scripts")
    delete.set_defaults(run=_delete)


def _list(options: argparse.Namespace) -> int:
    chosen = AccountFilter(
        prefix=options.prefix.lower(),
        role=options.role,
        mfa=options.mfa,
        only_disabled=options.disabled,
        only_enabled=options.enabled,
        email=options.email,
    )
    if options.limit is not None:
        return _list_page(chosen, options)
    if options.cursor is not None:
        raise ConfigurationError("--cursor names a page. Give --limit too.")

    async def show() -> None:
        header = "" if options.json else f"{_HEADER}\n"
        async with opened_parts() as parts:
            async for account in parts.administration.list_matching(chosen):
                print(f"{header}{json.dumps(_as_json(account)) if options.json else _line(account)}")
                header = ""
            # Not before the query: without its database the command prints nothing.
            print(header, end="")

    asyncio.run(show())
    return DONE


def _list_page(chosen: AccountFilter, options: argparse.Namespace) -> int:
    async def read() -> Page[AccountSummary]:
        async with opened_parts() as parts:
            try:
                return await parts.administration.list_page(chosen, limit=options.limit, cursor=options.cursor)
            except InvalidRequest as error:
                raise misuse(error, _OPTIONS) from None

    page = asyncio.run(read())
    if options.json:
        print(json.dumps({"users": [_as_json(account) for account in page.items], "next_cursor": page.next_cursor}))
        return DONE
    print("\n".join([_HEADER, *map(_line, page.items)]))
    if page.next_cursor is not None:
        report(f"The next page: --cursor={page.next_cursor}")
    return DONE


def _line(account: AccountSummary) -> str:
    state = "to delete" if account.is_disabled_by_user else "disabled" if account.is_disabled else "active"
    since, roles = when(account.created_at), " ".join(account.roles)
    return f"{account.username:32} {since} {state:9} {account.mfa:10} {account.sub:22} {roles}".rstrip()


def _as_json(account: AccountSummary) -> dict[str, Any]:
    described = {
        "sub": account.sub,
        "username": account.username,
        "created_at": account.created_at,
        "disabled": account.is_disabled,
        "mfa": account.mfa,
        "roles": list(account.roles),
    }
    if account.deletion_due_at is not None:
        described["deletion_due_at"] = account.deletion_due_at
        described["restorable"] = account.is_disabled_by_user
    return described


def _show(options: argparse.Namespace) -> int:
    async def find() -> tuple[AccountDetails | None, int | None]:
        async with opened_parts() as parts:
            try:
                return await parts.administration.show(options.name), None
            except NotFound:
                deleted_at = await parts.administration.deleted_at(options.name)
                if deleted_at is None:
                    raise
                return None, deleted_at

    details, deleted_at = asyncio.run(find())
    if details is None:
        moment = when(deleted_at or 0)
        report(f"keyturn: this account was deleted at {moment}; its username and sub stay reserved.")
        return REFUSED
    if options.json:
        print(json.dumps(_details_as_json(details)))
    else:
        print("\n".join(_details_as_text(details)))
    return DONE


def _details_as_json(details: AccountDetails) -> dict[str, Any]:
    return {
        **_as_json(details.account),
        "email": details.email,
        "new_email": details.new_email,
        "locale": details.locale,
        "claims": dict(details.claims),
        "recovery_due_at": details.recovery_due_at,
        "recovery_codes_left": details.recovery_codes_left,
        "authenticators": [
            {
                "id": factor.id,
                "name": factor.name,
                "created_at": factor.created_at,
                "confirmed_at": factor.confirmed_at,
                "last_used_at": factor.last_used_at,
                "offset_seconds": factor.offset_seconds,
            }
            for factor in details.authenticators
        ],
        "sessions": [user_sessions.as_json(session) for session in details.sessions],
    }


def _state_of(account: AccountSummary) -> str:
    state = "disabled" if account.is_disabled else "active"
    if account.deletion_due_at is None:
        return state
    author = "its user" if account.is_disabled_by_user else "its user, and by an operator"
    return f"disabled by {author}; will be deleted at {when(account.deletion_due_at)}"


def _details_as_text(details: AccountDetails) -> list[str]:
    account = details.account
    lines = [
        f"username        {account.username}",
        f"sub             {account.sub}",
        f"since           {when(account.created_at)}",
        f"state           {_state_of(account)}",
        f"roles           {' '.join(account.roles) or '-'}",
        f"email           {details.email or '-'}",
        *([] if details.new_email is None else [f"new email       {details.new_email} (not confirmed)"]),
        f"locale          {details.locale or '-'}",
        f"static claims   {encode(details.claims) if details.claims else '-'}",
        f"second factor   {account.mfa}",
    ]
    if account.mfa == "confirmed":
        lines.append(f"recovery codes  {details.recovery_codes_left} left")
    if details.recovery_due_at is not None:
        lines.append(f"recovery due    {when(details.recovery_due_at)}")
    for factor in details.authenticators:
        used = "never used" if factor.last_used_at is None else f"last used {when(factor.last_used_at)}"
        lines.append(f"authenticator   {factor.name}: {used if factor.confirmed_at else 'not confirmed'}")
    are_all = len(details.sessions) < MAX_LISTED_SESSIONS
    lines.append(f"sessions        {len(details.sessions)}{'' if are_all else ', or more: these were used last'}")
    for session in details.sessions:
        amr = " ".join(session.amr)
        lines.append(f"  {session.id}  {amr}, last used {when(session.last_used_at)}, from {session.address}")
    return lines


def _set_password(options: argparse.Namespace) -> int:
    async def change() -> str:
        async with opened_parts() as parts:
            user = await parts.administration.get(options.name)  # refuses an unknown name before the prompt
            try:
                password = normalise(read_password())
            except ValueError as error:
                raise ConfigurationError(f"{error}.") from None
            changed = await parts.administration.set_password(f"sub:{user.id}", password, by=OPERATOR)
            report_unchecked(parts)
            return changed.username

    print(f"{asyncio.run(change())} has a new password; every session has ended.")
    return DONE


def _set_claims(options: argparse.Namespace) -> int:
    try:
        claims = read_json(options.claims)
    except ValueError as error:
        raise ConfigurationError(f"{error}.") from None

    async def change() -> str:
        async with opened_parts() as parts:
            user = await parts.administration.get(options.name)
            await parts.administration.change(f"sub:{user.id}", Changes(claims=claims), by=OPERATOR)
            return user.username

    username = asyncio.run(change())
    print(f"{username} has {'the static claims ' + ', '.join(sorted(claims)) if claims else 'no static claims'}.")
    return DONE


def _delete(options: argparse.Namespace) -> int:
    if (options.name is None) == (options.prefix is None):
        raise ConfigurationError("Name one account to delete, or give --prefix.")
    if options.prefix is not None and len(options.prefix) < MIN_PREFIX_LENGTH:
        raise ConfigurationError(f"A prefix of accounts to delete needs {MIN_PREFIX_LENGTH} characters or more.")

    async def delete() -> int:
        async with opened_parts() as parts:
            acts = parts.administration
            if options.name is not None:
                user = await acts.get(options.name)
                question = f"Delete {user.username} (sub {user.id}) for good?"
                if not confirm(question, expected=user.username, is_confirmed=options.yes):
                    return _nothing_deleted()
                await acts.delete(f"sub:{user.id}", by=OPERATOR)
                print(f"{user.username} is deleted; the username stays reserved.")
                return DONE
            found = [account async for account in acts.list_matching(AccountFilter(prefix=options.prefix.lower()))]
            if not found:
                raise NotFound
            first, last = found[0].username, found[-1].username
            question = f"Delete {len(found)} accounts, {first} to {last}, for good?"
            if not confirm(question, expected=str(len(found)), is_confirmed=options.yes):
                return _nothing_deleted()
            for account in found:
                await acts.delete(f"sub:{account.sub}", by=OPERATOR)
            print(f"{len(found)} accounts are deleted, {first} to {last}; their usernames stay reserved.")
            return DONE

    return asyncio.run(delete())


def _nothing_deleted() -> int:
    report("keyturn: nothing was deleted.")
    return REFUSED
