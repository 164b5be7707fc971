"""The checks of `keyturn doctor`: what is wrong with a deployment, and what to do about it.

Each check is about one mistake of a deployment, such as one that locks users out or admits an attacker. It reports
the mistake in a sentence for operators. The checks are functions of a `Deployment`, in one module per subject:
`capacity`, `database`, `ephemeral`, `exposure`, `messages`, `passwords`, `secrets`, `webhook`. `finding` has the
types.

Two rules hold for all checks. First, they only read: the database is opened for reading, keys are not rotated, and no
file is created; in Redis the readiness probe sets keys of its own, which expire within seconds. Second, an error in a
check is a finding: the other checks still run, except those that need the database if `SCHEMA` found something wrong.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from service.errors import ConfigurationError, StoreUnavailable
from service.operations.doctor import capacity, ephemeral, exposure, messages, passwords, secrets, webhook
from service.operations.doctor import database as in_database
from service.operations.doctor.finding import Deployment, Finding
from service.settings import Settings
from service.storage.database import Database, ReadOnly
from service.storage.sealing import Sealer
from service.tokens.keys import Keys

__all__ = ["Doctor", "Finding"]

CHECK_TIMEOUT_SECONDS = 20.0
"""Seconds after which a check is aborted."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check, with its name for the finding if the check itself fails."""

    of: str
    run: Callable[[Deployment], Awaitable[list[Finding]]]
    needs_database: bool = False


SCHEMA = Check("the database", in_database.check_schema)
CHECKS = (
    Check("the database's clock", in_database.check_database_clock, needs_database=True),
    Check("the database's collation", in_database.check_collation, needs_database=True),
    Check("the database's isolation level", in_database.check_isolation, needs_database=True),
    Check("the master secrets", secrets.check_master_secrets),
    Check("the signing keys", secrets.check_signing_keys, needs_database=True),
    Check("weak secrets of authenticators", secrets.check_weak_authenticators, needs_database=True),
    Check("the policy on second factors", in_database.check_policy, needs_database=True),
    Check("the static claims", in_database.check_static_claims, needs_database=True),
    Check("the addresses of logins", in_database.check_addresses, needs_database=True),
    Check("the events for the webhook", webhook.check_events, needs_database=True),
    Check("the webhook's receiver", webhook.check_receiver),
    Check("messages to users", messages.check_transport),
    Check("the messages that wait", messages.check_backlog, needs_database=True),
    Check("the page of links", messages.check_page),
    Check("the hashing threads", capacity.check_hashing),
    Check("the trusted proxies", exposure.check_proxies),
    Check("the issuer", exposure.check_issuer),
    Check("the name in authenticator apps", exposure.check_totp_issuer),
    Check("sign-up", exposure.check_signup),
    Check("recovery", exposure.check_recovery),
    Check("the list of leaked passwords", passwords.check_list),
    Check("the published keys", exposure.check_published_keys, needs_database=True),
    Check("Redis", ephemeral.check_redis),
)


class Doctor:
    """Runs the checks. With `more`, tests replace the connections of the `Deployment`."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        clock: Callable[[], datetime],
        *,
        check_timeout: float = CHECK_TIMEOUT_SECONDS,
        **more: Any,
    ) -> None:
        self._check_timeout = check_timeout
        database = ReadOnly(database)
        keys = None
        with suppress(ConfigurationError):  # a check of the master secrets reports it
            sealer = Sealer(settings.find_master_secrets())
            access_ttl = timedelta(seconds=settings.access_ttl)
            keys = Keys(database, sealer, algorithm=settings.signing_algorithm, access_ttl=access_ttl, rotates=False)
        self._deployment = replace(Deployment(settings, database, keys, clock), **more)

    async def examine(self) -> AsyncIterator[Finding]:
        """Run all checks in order. Those that need the database run only if it answers and has the right schema."""
        try:
            schema = await self._findings(SCHEMA)
            for finding in schema:
                yield finding
            has_database = all(finding.verdict != "wrong" for finding in schema)
            for check in CHECKS:
                if has_database or not check.needs_database:
                    for finding in await self._findings(check):
                        yield finding
        finally:
            with suppress(Exception):  # a database that could not be opened may fail to close
                await self._deployment.database.close()

    async def _findings(self, check: Check) -> list[Finding]:
        """Return the findings of a check. If the check itself fails, return that as a finding."""
        advice = "Run keyturn doctor again; if it fails again, report this line."
        deadline = asyncio.timeout(self._check_timeout)
        try:
            async with deadline:
                return await check.run(self._deployment)
        except ConfigurationError as error:
            return [Finding("wrong", str(error))]
        except StoreUnavailable as error:
            what = f"The database could not be used for the check of {check.of}. {error.why}".rstrip()
            return [Finding("wrong", what, "If it was restarted or overloaded, run keyturn doctor again.")]
        except Exception as error:  # noqa: BLE001 -- a diagnosis must not end with what it ought to diagnose
            if deadline.expired():
                return [
                    Finding("wrong", f"The check of {check.of} took longer than {self._check_timeout:.0f} s.", advice)
                ]
            # Without the error's own text, which may contain a URL with its password.
            return [Finding("wrong", f"The check of {check.of} failed ({type(error).__name__}).", advice)]
