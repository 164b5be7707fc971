"""`docs/reference/metrics.md`: every metric of `GET /metrics`."""

from dataclasses import dataclass
from typing import Any, cast

from prometheus_client.core import Metric

from service import metrics
from service.database_metrics import DatabaseMetrics
from tests.reference.markdown import code, page, paragraph, table

LABELS = {
    ("keyturn_events", "event"): "The name of the event: see [the log](log.md) and [the events](events.md).",
    ("keyturn_logins", "outcome"): "`second_factor_required`, `admitted` (without a second factor), "
    "`invalid_credentials`, `waiting` (a rate limit), `busy` (the hashing queue is full).",
    (
        "keyturn_codes",
        "outcome",
    ): "`accepted`, `no_match`, `claimed` and `consumed` (used before), `waiting` (the budget), "
    "`out_of_step` (the authenticator's clock is off).",
    (
        "keyturn_codes",
        "offset",
    ): "The time steps of 30 s by which the authenticator is ahead; empty where they are not known.",
    ("keyturn_recovery_codes", "outcome"): "`accepted`, `refused`.",
    (
        "keyturn_refreshes",
        "outcome",
    ): "`rotated`, `repeated` (the same successor again), `reused` (the session ended), `refused`.",
    ("keyturn_limits_hit", "limit"): "`signup`, `password`, `device`, `pending`, `qrcode`.",
    ("keyturn_store_errors", "store"): "`sql`, `redis`.",
    ("keyturn_requests", "route"): "The path as it is declared, never as it was requested.",
    ("keyturn_requests", "method"): "The method, or `other`.",
    ("keyturn_requests", "status"): "The status, or `none` where the client left before the answer.",
    ("keyturn_request_seconds", "route"): "The path as it is declared.",
    ("keyturn_build_info", "version"): "The version of Keyturn.",
    ("keyturn_factors", "drift_steps"): "The time steps of 30 s by which the clock was ahead at the last code.",
}


@dataclass(frozen=True)
class Described:
    """One metric: its name without the suffix of its type, its type, its labels and its help text."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str

    @property
    def sample(self) -> str:
        """The name of its samples."""
        suffix = {"counter": "_total", "histogram": "_bucket"}.get(self.kind, "")
        return f"{self.name}{suffix}"


def described() -> list[Described]:
    """Every metric of the registry and of the database's collector."""
    registry = cast(Any, metrics)._registry
    labels = {collector._name: collector._labelnames for collector in registry._collector_to_names}
    found = [
        Described(family.name, family.type, tuple(labels[family.name]), family.documentation)
        for family in registry.collect()
    ]
    families = cast(list[Metric], list(DatabaseMetrics(cast(Any, None)).collect()))
    return found + [
        Described(family.name, family.type, tuple(getattr(family, "_labelnames", ())), family.documentation)
        for family in families
    ]


def write() -> str:
    """The page as Markdown."""
    found = described()
    return page(
        "Metrics",
        paragraph(
            "`GET /metrics` answers in the text format of Prometheus. No label holds a username, an address or "
            "anything else that a caller could choose. With several workers the figures of all of them are added "
            "up, whichever worker is asked; each replica answers for itself. `keyturn_factors` and "
            "`keyturn_webhook_waiting_seconds` describe the database and are the same at every replica: do not add "
            "them up."
        ),
        "## Names\n",
        table(
            ("metric", "type", "labels", "meaning"),
            [(f"`{metric.sample}`", metric.kind, code(metric.labels) or "none", metric.text) for metric in found],
        ),
        paragraph("A histogram also has samples with the suffixes `_sum` and `_count`."),
        "## Labels\n",
        table(
            ("metric", "label", "values"),
            [
                (f"`{metric.sample}`", f"`{label}`", LABELS[metric.name, label])
                for metric in found
                for label in metric.labels
            ],
        ),
    )
