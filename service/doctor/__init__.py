"""What is wrong with a deployment, and what to do about it: `keyturn doctor`.

Each check looks at one thing that has locked users out, or let an attacker in, elsewhere, and reports it in a
sentence for people. The checks are functions of a `Deployment`, in one module per subject: `database`, `ephemeral`,
`exposure`, `secrets`. `finding` has the types.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime

from service.database import Database
from service.doctor import database as database_checks
from service.doctor import ephemeral, exposure, secrets
from service.doctor.finding import Deployment, Finding
from service.keys import Keys
from service.settings import Settings

__all__ = ["Doctor", "Finding"]

Check = Callable[[Deployment], Awaitable[list[Finding]]]

IN_THE_DATABASE: tuple[Check, ...] = (
    database_checks.check_database_clock,
    secrets.check_signing_keys,
    database_checks.check_addresses,
    database_checks.check_webhook,
)
ELSEWHERE: tuple[Check, ...] = (secrets.check_master_secrets, exposure.check_proxies, exposure.check_issuer)


class Doctor:
    def __init__(self, settings: Settings, database: Database, keys: Keys, clock: Callable[[], datetime]) -> None:
        self._deployment = Deployment(settings, database, keys, clock)

    async def examine(self) -> AsyncIterator[Finding]:
        """Run all checks, one after the other; those that need the database only if it answers."""
        checks: tuple[Check, ...] = ELSEWHERE
        schema = await database_checks.check_schema(self._deployment)
        for finding in schema:
            yield finding
        if all(finding.verdict != "wrong" for finding in schema):
            checks = (*IN_THE_DATABASE, *ELSEWHERE, exposure.check_published_keys)
        for check in (*checks, ephemeral.check_redis):
            for finding in await check(self._deployment):
                yield finding
