"""Compares a new password with a list of leaked passwords (NIST SP 800-63B-4 section 3.1.1.2).

Operations that set a password check it; a login never does. The check takes at most one second. If the list does not
answer, the password is accepted (the check fails open): it reduces a risk that rate limits and the second factor
bound as well. If it failed closed, no user could sign up or change a password while the list does not answer. Each
check without an answer is counted and is a line of the log, without the password, its hash or a part of that (law 15:
logs, metrics, traces, errors and outbox rows hold no secret).
"""

import asyncio
import hashlib
from pathlib import Path

from service.errors import BreachedPassword, ConfigurationError
from service.outgoing import check_authorities
from service.telemetry import metrics
from service.telemetry.event_names import LogName
from service.telemetry.log import warn
from service.users.breached.list_file import ListFile
from service.users.breached.range_service import RangeService
from service.users.breached.source import Source, Unanswered
from service.users.normalisation import Password

DEADLINE_SECONDS = 1.0
"""Seconds for the whole check of a password."""


class BreachedPasswords:
    """Refuses passwords that a list has."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.unanswered = 0
        """The number of checks without an answer, which a command reports in a sentence."""

    async def check(self, password: str) -> None:
        """Raise `BreachedPassword` if the list has the password in its normal form, or as it was typed."""
        typed = password.typed if isinstance(password, Password) else password
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                found = await self._has(password) or (typed != password and await self._has(typed))
        except Unanswered as failure:
            self._report_failure(failure.reason)
            return
        except TimeoutError:
            self._report_failure("timeout")
            return
        metrics.BREACHED_CHECKS.labels("found" if found else "not_found").inc()
        if found:
            raise BreachedPassword

    async def close(self) -> None:
        await self._source.close()

    def _report_failure(self, reason: str) -> None:
        self.unanswered += 1
        metrics.BREACHED_CHECKS.labels("failed").inc()
        warn(LogName.PASSWORD_NOT_CHECKED, reason=reason)

    async def _has(self, password: str) -> bool:
        return await self._source.has(hashlib.sha1(password.encode(), usedforsecurity=False).digest())


def open_list(path: Path) -> ListFile:
    """Open the file that the setting names. Raises `ConfigurationError`."""
    try:
        return ListFile.open(path)
    except ValueError as error:
        raise ConfigurationError(
            f"KEYTURN_BREACHED_PASSWORDS: {path} cannot be used: {error}. Make a list with keyturn passwords "
            "build-list, or set it to off."
        ) from None


def open_breached_passwords(setting: str | Path | None) -> BreachedPasswords | None:
    """Open what `KEYTURN_BREACHED_PASSWORDS` names: a URL, a file, or nothing. Raises `ConfigurationError`."""
    match setting:
        case None:
            return None
        case Path():
            return BreachedPasswords(open_list(setting))
    check_authorities()
    return BreachedPasswords(RangeService(setting, timeout=DEADLINE_SECONDS))
