"""`keyturn restore-guard`: what to run after a backup was restored, before anybody is served."""

import argparse
import asyncio
import sys

from service.cli.parts import DONE, opened_parts, when
from service.clock import system_clock
from service.environment import read_settings
from service.restoring import RestoreReport, max_accepted_ahead, revoke_restored_state
from service.totp import PERIOD


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    guarding = commands.add_parser(
        "restore-guard",
        help="after restoring a backup: revoke what it would make valid again",
        description="Run it after restoring a backup of the database, before the service serves again. It ends every "
        "session, pending login, known device and delayed recovery, voids every code that may have been used and "
        "every recovery code, and signs with a new key. All users log in again, with both factors: new codes are "
        "accepted after six minutes. The command may run again after an interruption.",
    )
    guarding.add_argument(
        "--keep-recovery-codes",
        action="store_true",
        help="keep the unused recovery codes of the backup, also those that were used since then",
    )
    guarding.set_defaults(run=_guard)


def _guard(options: argparse.Namespace) -> int:
    async def run() -> RestoreReport:
        async with opened_parts() as parts:
            return await revoke_restored_state(
                parts.database,
                parts.keys,
                parts.clock(),
                skew_steps=parts.settings.totp_skew_steps,
                keeps_recovery_codes=options.keep_recovery_codes,
                report_progress=_tell if sys.stderr.isatty() else lambda _people: None,
            )

    settings, began = read_settings(), int(system_clock().timestamp())
    done = asyncio.run(run())
    print(
        f"{done.people} people: {done.sessions} sessions and {done.recovery_codes} recovery codes ended, "
        f"{done.signing_keys} signing keys revoked."
    )
    if done.newest is not None:
        print(f"The backup's newest event is of {when(done.newest)}. What was changed later is lost:")
        print("passwords, disabled and deleted accounts, roles, authenticators and clients are as they were then.")
    wait = PERIOD * (max_accepted_ahead(settings.totp_skew_steps) + 1)
    print(f"Codes of authenticators are good again from {when(began + wait)}: some may have been used up to then.")
    if done.recovery_codes:
        print("Nobody has a recovery code now: after a login people make new ones (POST /recovery-codes).")
    return DONE


def _tell(people: int) -> None:
    print(f"{people} people", file=sys.stderr, end="\r")
