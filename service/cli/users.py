"""`keyturn users`: the commands with which an operator reads and changes accounts.

Passwords are read from a prompt or from standard input. They are never arguments, which the shell's history would
keep.
"""

import argparse
import asyncio
from collections.abc import Iterator

from service.accounts.changes import RoleChange
from service.accounts.moving import UnexportableUser, export_users, import_users
from service.accounts.signup import SignUpDetails
from service.cli import invitations, user_accounts, user_addresses, user_sessions
from service.cli.parts import (
    DONE,
    LOCALE_HELP,
    NAME_HELP,
    REFUSED,
    misuse,
    opened_lines,
    opened_parts,
    read_address,
    read_locale,
    read_password,
    report,
    report_unchecked,
    when,
)
from service.errors import ConfigurationError, InvalidRequest
from service.origin import OPERATOR
from service.users import users
from service.users.normalisation import normalise
from service.users.users import User

_OPTIONS = {"email": "--email", "roles": "--role"}
"""The options of `add`, by the names that refusals have for them."""


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    people = commands.add_parser("users", help="accounts", description="Show and change accounts.")
    acts = people.add_subparsers(metavar="COMMAND", required=True)
    add = acts.add_parser(
        "add",
        help="create an account",
        description="Create an account. The password is asked for, or read as the first line of standard input. "
        "To let the user choose the password, use 'keyturn users invite'.",
    )
    add.add_argument("username")
    add.add_argument(
        "--mfa", action="store_true", help="require a second factor: the first login begins the enrolment"
    )
    add.add_argument("--email", help="the e-mail address of the user; a link that confirms it is sent there")
    add.add_argument("--locale", help=LOCALE_HELP)
    add.add_argument("--role", action="append", default=[], help="a role of the account; may be repeated")
    add.set_defaults(run=_users_add)
    user_accounts.add_to(acts)
    user_addresses.add_to(acts)
    user_sessions.add_to(acts)
    invitations.add_to(acts)
    for name, run, text in (
        ("disable", _users_disable, "refuse the account's logins and end its sessions"),
        (
            "enable",
            _users_enable,
            "allow a disabled account's logins again, and cancel a deletion that its user requested",
        ),
        (
            "reset-mfa",
            _users_reset_mfa,
            "remove the second factor of a user who lost it, and end all sessions",
        ),
    ):
        act = acts.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        act.add_argument("name", help=NAME_HELP)
        act.set_defaults(run=run)
    import_file = acts.add_parser(
        "import",
        help="import accounts from another system",
        description="Import accounts from another system, one JSON object per line or CSV with a header line: "
        "username and password_hash (argon2, bcrypt, scrypt, PBKDF2 and others), and optionally totp_secret (base32 "
        "or otpauth://), authenticators (JSON only, in place of totp_secret), claims (JSON only), mfa, email, "
        "locale, roles, disabled, deletion_due_at, password_reset_at and sub. A refused line is reported by its "
        "number, and the other lines are imported. The command can be repeated: existing accounts stay unchanged.",
    )
    import_file.add_argument("file", help="the file, or - for standard input")
    import_file.add_argument(
        "--allow-weak-secrets",
        action="store_true",
        help="also import TOTP secrets of 80 to 111 bits; they are marked, and removed when the user "
        "confirms another authenticator",
    )
    import_file.set_defaults(run=_users_import)
    export = acts.add_parser(
        "export",
        help="write all accounts to standard output",
        description="Write all accounts to standard output in the form that 'import' reads, with password hashes. "
        "Without --with-secrets, 'import' refuses the lines of accounts with a confirmed second factor.",
    )
    export.add_argument(
        "--with-secrets",
        action="store_true",
        help="also write the secrets of second factors, in clear text: keep the file safe",
    )
    export.set_defaults(run=_users_export)
    role = acts.add_parser("role", help="add or remove a role", description="Add or remove a role.")
    changes = role.add_subparsers(metavar="CHANGE", required=True)
    for name, text, more in (
        (
            "add",
            "add a role",
            "Tokens issued from now on have it; earlier tokens expire as usual. If KEYTURN_REQUIRE_MFA names the "
            "role, the command also ends the user's sessions that were opened without a second factor, and prints "
            "their number. It needs the settings of the service for that.",
        ),
        ("remove", "remove a role", "Tokens issued from now on lack it; earlier tokens expire as usual."),
    ):
        change = changes.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}. {more}")
        change.add_argument("name", help=NAME_HELP)
        change.add_argument("role")
        change.set_defaults(run=_users_role, change=name)


def _users_add(options: argparse.Namespace) -> int:
    try:
        username = users.normalise(options.username)
        details = SignUpDetails(
            email=None if options.email is None else read_address(options.email),
            locale=read_locale(options.locale),
            roles=tuple(options.role),
        )
        password = normalise(read_password())
    except ValueError as error:
        raise ConfigurationError(f"{error}.") from None

    async def add() -> None:
        async with opened_parts() as parts:
            try:
                await parts.sign_up.sign_up(
                    username, password, enable_mfa=options.mfa, caller=None, by=OPERATOR, details=details
                )
            except InvalidRequest as error:
                raise misuse(error, _OPTIONS) from None
            report_unchecked(parts)

    asyncio.run(add())
    print(f"{username} can log in." + (" The first login shows the QR code." if options.mfa else ""))
    if details.email is not None:
        print(user_addresses.describe_request(details.email))
    return DONE


def _users_disable(options: argparse.Namespace) -> int:
    return _set_disabled(options.name, disabled=True)


def _users_enable(options: argparse.Namespace) -> int:
    return _set_disabled(options.name, disabled=False)


def _set_disabled(name: str, *, disabled: bool) -> int:
    async def change() -> User:
        async with opened_parts() as parts:
            user = await parts.administration.get(name)
            await parts.administration.set_disabled(f"sub:{user.id}", disabled=disabled, by=OPERATOR)
            return user

    user = asyncio.run(change())
    print(f"{user.username} is {'disabled; every session has ended' if disabled else 'enabled'}.")
    if user.deletion_due_at is not None:
        due = f"will still be deleted at {when(user.deletion_due_at)}, and its user cannot cancel the deletion"
        print(f"The account {due}." if disabled else "The deletion that its user requested is cancelled.")
    return DONE


def _users_reset_mfa(options: argparse.Namespace) -> int:
    async def reset() -> tuple[str, bool]:
        async with opened_parts() as parts:
            user = await parts.administration.get(options.name)
            return user.username, await parts.administration.reset_mfa(f"sub:{user.id}", by=OPERATOR)

    username, had_one = asyncio.run(reset())
    print(
        f"{username} has no second factor any more; every session has ended."
        if had_one
        else f"{username} had no second factor; every session has ended."
    )
    return DONE


def _users_role(options: argparse.Namespace) -> int:
    async def change() -> tuple[str, RoleChange]:
        async with opened_parts() as parts:
            user = await parts.administration.get(options.name)
            try:
                changed = await parts.administration.set_roles(
                    f"sub:{user.id}", by=OPERATOR, **{options.change: options.role}
                )
            except ValueError as error:
                raise ConfigurationError(f"{error}.") from None
            return user.username, changed

    username, changed = asyncio.run(change())
    roles = "the roles " + ", ".join(changed.roles) if changed.roles else "no role"
    print(f"{username} has {roles}.")
    if changed.ended is not None:
        print(
            "KEYTURN_REQUIRE_MFA demands a second factor of this user. "
            f"Sessions that were opened without one and have ended now: {changed.ended}."
        )
    return DONE


def _users_import(options: argparse.Namespace) -> int:
    async def import_lines(lines: Iterator[str]) -> tuple[int, int]:
        imported, refused, reported = 0, 0, 0
        async with opened_parts() as parts:
            people = import_users(
                parts.database,
                parts.second_factors.totp,
                lines,
                parts.clock,
                allow_weak=options.allow_weak_secrets,
            )
            async for progress in people:
                imported, refused = progress.imported, refused + len(progress.refused)
                for entry in progress.refused:
                    report(f"line {entry.line}: {entry.reason}")
                if progress.lines - reported >= 10_000:
                    reported = progress.lines
                    report(f"{progress.lines} lines, {imported} imported")
        return imported, refused

    with opened_lines(options.file) as lines:
        imported, refused = asyncio.run(import_lines(lines))
    print(f"{imported} imported, {refused} refused.")
    return REFUSED if refused else DONE


def _users_export(options: argparse.Namespace) -> int:
    async def export() -> int:
        status = DONE
        async with opened_parts() as parts:
            async for line in export_users(
                parts.database, parts.second_factors.totp, with_secrets=options.with_secrets
            ):
                if isinstance(line, UnexportableUser):
                    status = REFUSED
                    report(f"keyturn: no listed master secret opens {line.username}'s authenticator.")
                else:
                    print(line)
        return status

    return asyncio.run(export())
