"""What the database alone knows, for Prometheus: every worker and replica tells the same.

It is read between requests, never at a scrape: who asks for the metrics cannot keep the database busy.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service import factors
from service.clock import epoch
from service.database import Database
from service.events import oldest_due

PAUSE = 0.05
"""Seconds between two pages: others want the database, too."""


class Census(Collector):
    """What was read last."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._drifts: dict[int, int] = {}
        self._webhook_waits = 0

    async def count_factors(self) -> None:
        """Reads every factor, page by page. Raises `StoreUnavailable`; what was read before stays."""
        total: Counter[int] = Counter()
        reached, is_over = "", False
        while not is_over:
            drifts, reached = await factors.count_by_drift(self._database, reached)
            total.update(drifts)
            is_over = not reached
            await asyncio.sleep(0 if is_over else PAUSE)
        self._drifts = dict(total)

    async def look_at_webhook(self, now: datetime) -> None:
        due = await oldest_due(self._database)
        self._webhook_waits = 0 if due is None else max(0, epoch(now) - due)

    def collect(self) -> Iterator[Metric]:
        drifts = GaugeMetricFamily(
            "keyturn_factors",
            "Authenticators in use, by the time steps of 30 s that their clock was ahead at their last code.",
            labels=["drift_steps"],
        )
        for steps, number in sorted(self._drifts.items()):
            drifts.add_metric([str(steps)], number)
        yield drifts
        yield GaugeMetricFamily(
            "keyturn_webhook_waiting_seconds",
            "The age in seconds of the oldest event that the webhook has not accepted yet.",
            value=self._webhook_waits,
        )
