"""What is wrong with a deployment, and what to do about it: `keyturn doctor`.

Each check looks at one thing that has locked people out, or let somebody in, elsewhere. A check does nothing that
serving would not do, and says a sentence for people; what it could not look at it says too.
"""

import asyncio
import ipaddress
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any, Literal
from urllib.parse import urlsplit

from service.clock import epoch
from service.database import SCHEMA, Database, schema_revision
from service.ephemeral import EphemeralUnavailable
from service.ephemeral_redis import Redis
from service.errors import StoreUnavailable
from service.events import list_latest_logins, oldest_due
from service.keys import Keys
from service.sealing import SealBroken
from service.settings import Settings
from service.tokens import LEEWAY

WIDEST_PROXIES = {4: 1 << 16, 6: 1 << 80}
"""Addresses in a trusted network beyond which it is surely too wide."""

ENOUGH_LOGINS, ENOUGH_PEOPLE = 20, 5
"""From how many logins of how many people it is strange that all came from one address."""

LATE = timedelta(minutes=10)
ANSWER_WITHIN = 5.0
"""Seconds that a URL has."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: in order, to be looked after, or wrong."""

    verdict: Literal["ok", "warning", "wrong"]
    what: str
    advice: str = ""


class Doctor:
    def __init__(self, settings: Settings, database: Database, keys: Keys, clock: Callable[[], Any]) -> None:
        self._settings = settings
        self._database = database
        self._keys = keys
        self._clock = clock

    async def examine(self) -> AsyncIterator[Finding]:
        """All checks, one after the other; those that need the database only if it answers."""
        checks: list[Callable[[], Awaitable[list[Finding]]]] = [self._master_secrets, self._proxies, self._issuer]
        database = await self._reach_database()
        for finding in database:
            yield finding
        if all(finding.verdict != "wrong" for finding in database):
            checks = [self._database_clock, self._signing_keys, self._addresses, self._webhook, *checks, self._jwks]
        for check in (*checks, self._redis):
            for finding in await check():
                yield finding

    async def _reach_database(self) -> list[Finding]:
        try:
            revision = await schema_revision(self._database)
        except StoreUnavailable as error:
            what = f"The database does not answer ({type(error.__cause__ or error).__name__})."
            return [Finding("wrong", what, "Is KEYTURN_DATABASE_URL right? Does it run?")]
        if revision != SCHEMA:
            what = f"The schema is {revision or 'not there'}, this version needs {SCHEMA}."
            return [Finding("wrong", what, "Run: keyturn migrate")]
        return [Finding("ok", f"The database answers; its schema is {SCHEMA}.")]

    async def _database_clock(self) -> list[Finding]:
        if self._settings.database_url is None:
            return []
        row = await self._database.fetch_one("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT) AS now")
        return [_clocks("The database's", epoch(self._clock()) - (0 if row is None else row["now"]))]

    async def _signing_keys(self) -> list[Finding]:
        try:
            key = await self._keys.get_signing_key(self._clock())
        except SealBroken:
            return [
                Finding(
                    "wrong",
                    "No master secret opens the signing key.",
                    "List the one that it was made with, too: in KEYTURN_MASTER_SECRETS, or in the data folder.",
                )
            ]
        found = [Finding("ok", f"The master secret opens the signing key {key.kid} ({key.algorithm}).")]
        file = self._settings.data_dir / "master-secret"
        if self._settings.database_url is None and file.exists() and file.stat().st_mode & 0o077:
            found.append(Finding("wrong", f"Others than its owner may read {file}.", f"Run: chmod 600 {file}"))
        return found

    async def _master_secrets(self) -> list[Finding]:
        weak = [n for n, secret in enumerate(self._settings.read_master_secrets(), 1) if _is_patterned(secret)]
        return [
            Finding(
                "wrong",
                f"Master secret {n} has a pattern: it was not made by chance, and can be guessed.",
                "Make one with: openssl rand -hex 32. List it first, and run: keyturn keys reseal",
            )
            for n in weak
        ]

    async def _addresses(self) -> list[Finding]:
        logins = await list_latest_logins(self._database, ENOUGH_LOGINS * 5)
        people, addresses = {user_id for user_id, _ in logins}, {address for _, address in logins}
        if len(logins) < ENOUGH_LOGINS or len(people) < ENOUGH_PEOPLE or len(addresses) > 1:
            return []
        return [
            Finding(
                "wrong",
                f"The last {len(logins)} logins, of {len(people)} people, all came from {addresses.pop()}.",
                "If that is a proxy of yours, name it in KEYTURN_TRUSTED_PROXIES: all its clients share one "
                "address and its limits now.",
            )
        ]

    async def _webhook(self) -> list[Finding]:
        if self._settings.webhook_url is None:
            return []
        due = await oldest_due(self._database)
        age = 0 if due is None else epoch(self._clock()) - due
        if age > LATE.total_seconds():
            what = f"An event has been waiting for the webhook for {age // 60} minutes."
            return [Finding("warning", what, "Does the receiver answer with 2xx? The log says webhook.refused.")]
        return [Finding("ok", "The webhook is up to date.")]

    async def _proxies(self) -> list[Finding]:
        networks = [ipaddress.ip_network(proxy, strict=False) for proxy in self._settings.trusted_proxies]
        return [
            Finding(
                "wrong",
                f"KEYTURN_TRUSTED_PROXIES believes everybody in {network}.",
                "Name the proxies themselves: whoever is believed can take any address, and with it any limit.",
            )
            for network in networks
            if network.num_addresses > WIDEST_PROXIES[network.version]
        ]

    async def _issuer(self) -> list[Finding]:
        issuer = urlsplit(self._settings.issuer)
        if issuer.scheme == "https":
            return []
        is_local = issuer.hostname in {"localhost", "127.0.0.1", "::1"}
        what = f"KEYTURN_ISSUER is {self._settings.issuer}, without TLS."
        advice = "Put TLS in front, and name the https URL under which verifiers find this service."
        listens_here = self._settings.host in {"127.0.0.1", "::1", "localhost"}
        return [Finding("warning" if is_local and listens_here else "wrong", what, advice)]

    async def _jwks(self) -> list[Finding]:
        import httpx2

        url = f"{self._settings.issuer}/.well-known/jwks.json"
        try:
            async with asyncio.timeout(ANSWER_WITHIN), httpx2.AsyncClient(timeout=ANSWER_WITHIN) as client:
                published = {key["kid"] for key in (await client.get(url)).raise_for_status().json()["keys"]}
        except (httpx2.HTTPError, OSError, TimeoutError, ValueError, KeyError, TypeError):
            advice = "Does the service run, and do verifiers reach it there? KEYTURN_ISSUER is where they look."
            return [Finding("wrong", f"There is no key set at {url}.", advice)]
        try:
            ours = {key.kid for key in await self._keys.list_published(self._clock())}
        except SealBroken:
            return []  # the master secret is another one, which is told above
        if not ours <= published:
            return [Finding("wrong", f"The key set at {url} is another service's.", "Is KEYTURN_ISSUER right?")]
        return [Finding("ok", f"Verifiers find the keys at {url}.")]

    async def _redis(self) -> list[Finding]:
        url = self._settings.ephemeral_url
        if url is None:
            if self._settings.database_url is None:
                return []
            what = "PostgreSQL without Redis: every process counts failed passwords by itself."
            return [Finding("warning", what, "Run one process only, or set KEYTURN_REDIS_URL.")]
        redis = Redis(url)
        try:
            state = await redis.inspect()
        except EphemeralUnavailable:
            return [Finding("wrong", "Redis does not answer.", "Is KEYTURN_REDIS_URL right? Limits are small now.")]
        finally:
            await redis.close()
        found = [_clocks("Redis'", epoch(self._clock()) - state.now)]
        if state.policy not in {"noeviction", ""}:
            what = f"Redis may evict counters (maxmemory-policy {state.policy})."
            found.append(Finding("warning", what, "Set it to noeviction: an attacker's keys push out his failures."))
        if not state.is_kept:
            advice = "Set appendonly yes: a restart forgets failed passwords. (No code is accepted twice by that.)"
            found.append(Finding("warning", "Redis keeps nothing over a restart.", advice))
        return found


def _is_patterned(secret: bytes) -> bool:
    """Whether it, or its steps, can be written shorter, or somebody typed it: chance makes no such secret."""
    steps = bytes((after - before) % 256 for before, after in pairwise(secret))
    is_text = all(32 <= byte < 127 for byte in secret)
    return is_text or any(len(zlib.compress(text, 9)) < len(text) for text in (secret, steps))


def _clocks(whose: str, seconds: int) -> Finding:
    if abs(seconds) <= LEEWAY:
        return Finding("ok", f"{whose} clock agrees with this machine's.")
    what = f"{whose} clock is {abs(seconds)} s {'behind' if seconds > 0 else 'ahead of'} this machine's."
    return Finding("wrong", what, "Let NTP set both: codes, tokens and waits go by the clock.")
