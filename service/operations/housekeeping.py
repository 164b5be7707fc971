"""The work between requests: sweep expired rows, read which sessions ended lately, read the keys, deliver events.

The work of other parts, such as removing accounts whose deletion is due, is passed in as `tasks`.

Every replica does all of it and there is no leader: two replicas that sweep the same rows delete them once. Only
deliveries need a lease, which one replica has at a time (`messages.lease`). No request waits for this work, and a
step that fails is tried again. Of the requests only /verify depends on it, and so learns of an ended session up to a
second late.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from service.clock import Clock
from service.errors import StoreUnavailable
from service.messages.delivery import Delivery
from service.messages.events import Events
from service.sessions import sessions
from service.sessions.bearers import EndedSessions
from service.storage.database import Database
from service.telemetry.event_names import LogName
from service.telemetry.log import emit
from service.tokens.keys import Keys
from service.users import invitations
from service.users.mfa_policy import MfaPolicy

_log = logging.getLogger("keyturn.housekeeping")

READ_ENDED_INTERVAL_SECONDS = 0.4
"""Seconds between two readings of the ended sessions, so that /verify knows them within a second."""

READ_KEYS_INTERVAL_SECONDS = 10.0
"""Seconds between two readings of the signing keys: a third of the time for which they are cached."""

PROBE_INTERVAL_SECONDS = 10.0
"""Seconds between two probes of the database. After an outage, the first that succeeds logs the end of it."""

SWEEP_INTERVAL_SECONDS = 1.0
"""Seconds between two steps of the sweep; each reads a thousand rows, so a million take a quarter of an hour."""

SWEEP_EVENTS_INTERVAL_SECONDS = 2.0
"""Seconds between two steps of the sweep of old events; each deletes a thousand at most."""

SWEEP_INVITATIONS_INTERVAL_SECONDS = 3600.0
"""Seconds between two deletions of old invitations."""

KEEP_INVITATIONS = timedelta(days=30)
"""How long an invitation is kept after it expired, used or not."""

COUNT_FACTORS_INTERVAL_SECONDS = 300.0
"""Seconds between two counts of the authenticators: each count reads all of them."""

MEASURE_BACKLOGS_INTERVAL_SECONDS = 10.0
"""Seconds between two measurements of how long events and messages wait."""

DELIVER_INTERVAL_SECONDS = 0.5
"""Seconds between two rounds of deliveries if there is nothing to deliver."""

ENFORCE_INTERVAL_SECONDS, ENFORCE_PAUSE_SECONDS = 600.0, 0.02
"""Seconds between two passes over all sessions for `KEYTURN_REQUIRE_MFA`, and between two pages of a pass.

The first pass begins with the service. Later ones end the sessions that replicas with an older policy open.
"""

KEEP_EXPIRED = timedelta(hours=1)
"""How long expired sessions are kept: the longest lifetime of a pending token.

The row of a session (its unique `pending_jti`) prevents the pending token from opening another session.
"""


REMOVE_ACCOUNTS_INTERVAL_SECONDS = 10.0
"""Seconds between two searches for accounts whose deletion is due."""

REMOVE_REMAINS_INTERVAL_SECONDS = 3600.0
"""Seconds between two searches for data of deleted accounts that replicas of the previous version did not remove."""


@dataclass(frozen=True, slots=True)
class Task:
    """Work of another part of the service, and the seconds between two runs of it."""

    work: Callable[[], Awaitable[object]]
    interval: float


class Housekeeping:
    """The tasks. `running` runs them in the background; tests call them one by one."""

    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        keys: Keys,
        ended: EndedSessions,
        events: Events,
        deliveries: tuple[Delivery, ...],
        policy: MfaPolicy,
        tasks: Sequence[Task],
    ) -> None:
        self._clock = clock
        self._database = database
        self._keys = keys
        self._ended = ended
        self._events = events
        self._deliveries = deliveries
        self._tasks = tasks
        # An ended session is kept until its access tokens have expired, and one more day for investigations.
        self._keep_ended = ended.access_ttl + timedelta(days=1)
        self._policy = policy
        self._sweep_position = ""

    async def read_ended(self) -> None:
        await self._ended.read(self._clock())

    async def read_keys(self) -> None:
        await self._keys.refresh(self._clock())

    async def sweep(self) -> int:
        """Run one step: read the next thousand sessions, and delete those that expired or ended long ago.

        Returns the number of deleted rows. `KEEP_EXPIRED` and `_keep_ended` say how long ago.
        """
        now = self._clock()
        step = await sessions.sweep(
            self._database, after=self._sweep_position, expired_by=now - KEEP_EXPIRED, ended_by=now - self._keep_ended
        )
        self._sweep_position = step.last_id
        if step.deleted:
            emit(LogName.SESSIONS_SWEPT, deleted=step.deleted)
        return step.deleted

    async def enforce_policy(self) -> int:
        """End every session that does not satisfy the operator's policy on second factors; return how many.

        Refreshes and account endpoints refuse them anyway; once they are ended, /verify refuses them too.
        """
        last_id, is_over, total = "", False, 0
        try:
            while not is_over:
                last_id, ended = await sessions.end_noncompliant_page(
                    self._database, after=last_id, policy=self._policy, now=self._clock()
                )
                total, is_over = total + ended, not last_id
                await asyncio.sleep(0 if is_over else ENFORCE_PAUSE_SECONDS)
        finally:
            if total:
                emit(LogName.SESSIONS_ENDED_BY_POLICY, sessions=total, reason="mfa_required")
        return total

    async def sweep_events(self) -> None:
        await self._events.sweep(self._clock())

    async def sweep_invitations(self) -> None:
        await invitations.sweep(self._database, expired_by=self._clock() - KEEP_INVITATIONS)

    async def deliver(self) -> int:
        """Run a round of deliveries by each transport; return the number of delivered and dropped messages."""
        return sum([await delivery.deliver(self._clock()) for delivery in self._deliveries])

    async def _deliver_all(self, delivery: Delivery) -> None:
        while await delivery.deliver(self._clock()):
            pass

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run all tasks in the background until the block ends. Reads the ended sessions first, if possible.

        The short tasks take turns in their first run. If they began at the same moment, every start would open a
        connection to the database for each of them. The count of the authenticators comes last: it may take long.
        """
        with suppress(StoreUnavailable):
            await self.read_ended()
        turns = asyncio.Lock()  # the first to wait is the first to get it
        tasks = [
            asyncio.create_task(_repeat(work, pause, turns=turns))
            for work, pause in (
                (self.read_ended, READ_ENDED_INTERVAL_SECONDS),
                (self.read_keys, READ_KEYS_INTERVAL_SECONDS),
                (self._database.probe, PROBE_INTERVAL_SECONDS),
                (self.sweep, SWEEP_INTERVAL_SECONDS),
                (self.sweep_events, SWEEP_EVENTS_INTERVAL_SECONDS),
                (self.sweep_invitations, SWEEP_INVITATIONS_INTERVAL_SECONDS),
                *((task.work, task.interval) for task in self._tasks),
            )
        ]
        if self._policy.is_on:
            tasks.append(asyncio.create_task(_repeat(self.enforce_policy, ENFORCE_INTERVAL_SECONDS)))
        # A task for each transport: a mail server that does not answer must not delay the webhook.
        for delivery in self._deliveries:
            work = partial(self._deliver_all, delivery)
            tasks.append(asyncio.create_task(_repeat(work, DELIVER_INTERVAL_SECONDS)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for delivery in self._deliveries:
                await delivery.close()


async def _repeat(work: Callable[[], Awaitable[object]], pause: float, *, turns: asyncio.Lock | None = None) -> None:
    """Do the work again and again. With `turns`, the first run waits for its turn."""
    async with turns or nullcontext():
        await _attempt(work)
    while True:
        await asyncio.sleep(pause)
        await _attempt(work)


async def _attempt(work: Callable[[], Awaitable[object]]) -> None:
    try:
        await work()
    except StoreUnavailable:
        pass  # requests report it; the work is tried again
    except Exception:  # noqa: BLE001 -- a defect must not end the work that /verify depends on
        _log.exception("housekeeping_failed")
