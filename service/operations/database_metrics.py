"""Metrics that are read from the database: every worker and replica reports the same values to Prometheus.

They are read between requests, never at a scrape, so that scrapes cannot keep the database busy.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.clock import unix_seconds
from service.factors.counts import count_by_drift
from service.messages import outbox
from service.storage.database import Database

PAGE_PAUSE_SECONDS = 0.05
"""Pause between two pages, in which requests can use the database."""


class DatabaseMetrics(Collector):
    """The values that were read last."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._drifts: dict[int, int] = {}
        self._backlog_seconds = {outbox.WEBHOOK: 0, outbox.MAIL: 0}

    async def count_factors(self) -> None:
        """Read every authenticator, page by page. Raises `StoreUnavailable`, and then keeps the previous counts."""
        total: Counter[int] = Counter()
        last_id, is_over = "", False
        while not is_over:
            drifts, last_id = await count_by_drift(self._database, last_id)
            total.update(drifts)
            is_over = not last_id
            await asyncio.sleep(0 if is_over else PAGE_PAUSE_SECONDS)
        self._drifts = dict(total)

    async def measure_backlogs(self, now: datetime) -> None:
        for transport in self._backlog_seconds:
            oldest_at = await outbox.oldest(self._database, transport)
            self._backlog_seconds[transport] = 0 if oldest_at is None else max(0, unix_seconds(now) - oldest_at)

    def collect(self) -> Iterator[Metric]:
        drifts = GaugeMetricFamily(
            "keyturn_factors",
            "Authenticators that were ever used, by their drift: the number of time steps of 30 s that the clock was "
            "ahead at the last code; negative: behind.",
            labels=["drift_steps"],
        )
        for steps, number in sorted(self._drifts.items()):
            drifts.add_metric([str(steps)], number)
        yield drifts
        yield GaugeMetricFamily(
            "keyturn_webhook_waiting_seconds",
            "The age in seconds of the oldest event or message that the webhook has not accepted yet.",
            value=self._backlog_seconds[outbox.WEBHOOK],
        )
        yield GaugeMetricFamily(
            "keyturn_mail_waiting_seconds",
            "The age in seconds of the oldest message that the mail server has not accepted yet.",
            value=self._backlog_seconds[outbox.MAIL],
        )
