"""`keyturn restore-guard`: the command to run after restoring a backup, before the service starts."""

import argparse
import asyncio
import sys

from service.cli.parts import DONE, opened_lines, opened_parts, report, when
from service.clock import system_clock
from service.environment import read_settings
from service.errors import ConfigurationError
from service.factors.restored import max_accepted_ahead
from service.factors.totp import PERIOD
from service.operations.restoring import Choices, RestoreReport, revoke_restored_state
from service.users.subjects import check_subject


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    guarding = commands.add_parser(
        "restore-guard",
        help="after restoring a backup: revoke what it would make valid again",
        description="Run the command after restoring a backup of the database, before the service serves again. It "
        "ends every session, revokes every pending token and device token, cancels every delayed recovery and every "
        "request for a new e-mail address, removes an unconfirmed authenticator beside a confirmed one, voids every "
        "code that may have been used and, without --keep-recovery-codes, every recovery code, revokes every open "
        "invitation, signs with a new key, and deletes the accounts whose scheduled deletion was due by now, and "
        "those that --deleted names. All users must log in again; a known device does not replace the second factor. "
        "The command prints the time from which verification codes are accepted: 6.5 minutes after its end with the "
        "default KEYTURN_TOTP_SKEW_STEPS (earlier from an authenticator with a fast clock, later from one with a "
        "slow clock). It may be repeated, after an interruption or with another file.",
    )
    guarding.add_argument(
        "--keep-recovery-codes",
        action="store_true",
        help="keep the recovery codes that were unused in the backup, even if they were used since then",
    )
    guarding.add_argument(
        "--deleted",
        metavar="FILE",
        help="delete these accounts, which were deleted after the backup: one `sub` per line, as the events "
        "user.deleted name them; - for standard input",
    )
    guarding.set_defaults(run=_guard)


def _guard(options: argparse.Namespace) -> int:
    subjects = None if options.deleted is None else _read_subjects(options.deleted)

    async def run() -> RestoreReport:
        async with opened_parts() as parts:
            return await revoke_restored_state(
                parts.database,
                parts.keys,
                parts.events,
                parts.clock(),
                skew_steps=parts.settings.totp_skew_steps,
                choices=Choices(keeps_recovery_codes=options.keep_recovery_codes, deleted=subjects),
                deletions=parts.deletions,
                report_progress=_tell if sys.stderr.isatty() else lambda _users: None,
            )

    settings = read_settings()
    done = asyncio.run(run())
    ended = int(system_clock().timestamp())
    print(
        f"{done.users} users: {done.sessions} sessions ended, {done.recovery_codes} recovery codes voided, "
        f"{done.invitations} invitations revoked, {done.signing_keys} signing keys revoked."
    )
    if done.listed is not None:
        print(
            f"Accounts that --deleted names: {done.listed.removed} deleted now, {done.listed.deleted_before} deleted "
            f"before, {done.listed.absent} absent from the backup."
        )
    if done.deleted:
        print(f"Accounts whose deletion was due, and that are deleted now: {done.deleted}.")
    if done.newest is not None:
        accounts = "disabled and deleted accounts" if done.listed is None else "disabled accounts"
        print(f"The backup's newest event is of {when(done.newest)}. Later changes are lost:")
        print(f"passwords, confirmed e-mail addresses, {accounts}, roles, static claims, languages,")
        print("authenticators and clients are as they were then.")
    wait = PERIOD * (max_accepted_ahead(settings.totp_skew_steps) + 1)
    print(f"Verification codes are accepted from {when(ended + wait)}: earlier ones may have been used already.")
    print("An authenticator whose clock is slow must wait longer, by as much as it is slow.")
    if done.recovery_codes:
        print("No user has a recovery code now: after a login users make new ones (POST /recovery-codes).")
    return DONE


def _read_subjects(name: str) -> list[str]:
    """Return the lines of the file that are not blank. Raises `ConfigurationError`."""
    subjects = []
    with opened_lines(name) as lines:
        for number, line in enumerate(lines, 1):
            text = (line.removeprefix("\ufeff") if number == 1 else line).strip()  # a byte order mark
            if not text:
                continue
            try:
                subjects.append(check_subject(text))
            except ValueError:
                raise ConfigurationError(
                    f"--deleted: line {number} of {name} is no `sub`. The file needs one on each line, without "
                    "quotation marks, in UTF-8. Nothing was changed."
                ) from None
    return subjects


def _tell(user_count: int) -> None:
    report(f"{user_count} users", end="\r")
