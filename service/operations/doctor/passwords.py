"""The check of the list of leaked passwords."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

from service.clock import unix_seconds
from service.operations.doctor.finding import Deployment, Finding
from service.outgoing import FAILURES
from service.users.breached.check import DEADLINE_SECONDS, open_list
from service.users.breached.range_service import RangeService
from service.users.breached.source import Unanswered

_ANY_DIGEST = bytes(20)
"""The digest whose range is asked for. It belongs to no password of a user."""


async def check_list(deployment: Deployment) -> list[Finding]:
    """Check that new passwords can be compared with the list of leaked passwords, and report its age."""
    setting = deployment.settings.breached_passwords
    match setting:
        case None:
            return [
                Finding("ok", "New passwords are not compared with leaked ones (KEYTURN_BREACHED_PASSWORDS is off).")
            ]
        case Path():
            return [await _describe(setting, unix_seconds(deployment.clock()))]
    return [await _ask(setting, deployment)]


async def _describe(path: Path, now: int) -> Finding:
    found = open_list(path)
    await found.close()
    days = max(0, now - found.made_at) // 86400
    return Finding("ok", f"The list of leaked passwords has {found.entries} entries and was made {days} days ago.")


async def _ask(url: str, deployment: Deployment) -> Finding:
    """Ask for one range, as a check of a password does."""
    host = urlsplit(url).hostname
    service = RangeService(url, timeout=DEADLINE_SECONDS, transport=deployment.transport)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await service.has(_ANY_DIGEST)
    except (Unanswered, TimeoutError) as failure:
        reason = failure.reason if isinstance(failure, Unanswered) else "timeout"
        what = f"The service of leaked passwords at {host} gives no range within {DEADLINE_SECONDS:.0f} s ({reason})."
        why = FAILURES.get(reason, "Is KEYTURN_BREACHED_PASSWORDS the URL to which five digits are appended?")
        return Finding("warning", what, f"{why} New passwords are accepted without the comparison.")
    finally:
        await service.close()
    return Finding("ok", f"The service of leaked passwords at {host} answers in time.")
