"""Figures for Prometheus. They are read from the database, so that every worker and replica tells the same.

| metric                       | what it is                                                              |
|------------------------------|-------------------------------------------------------------------------|
| `keyturn_factors`            | authenticators in use, by how many steps of 30 s their clock was ahead  |
|                              | of ours at their last code (`drift_steps`; negative: behind)            |
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service import factors
from service.database import Database

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics(Collector):
    """What was read last; `read` is called between requests."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._drifts: dict[int, int] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)

    async def read(self) -> None:
        """Raises `StoreUnavailable`; what was read before stays."""
        self._drifts = await factors.count_by_drift(self._database)

    def collect(self) -> Iterator[Metric]:
        gauge = GaugeMetricFamily(
            "keyturn_factors",
            "Authenticators in use, by the steps of 30 s that their clock was ahead at their last code.",
            labels=["drift_steps"],
        )
        for steps, number in sorted(self._drifts.items()):
            gauge.add_metric([str(steps)], number)
        yield gauge

    def render(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self._registry)
