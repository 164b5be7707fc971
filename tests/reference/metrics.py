"""`docs/reference/metrics.md`: every metric of `GET /metrics`."""

from dataclasses import dataclass
from typing import Any, cast

from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase

from service.operations.database_metrics import DatabaseMetrics
from service.telemetry import metrics
from tests.reference.markdown import code, page, paragraph, table

LABELS = {
    (
        "keyturn_events",
        "event",
    ): "The names of [the log](log.md), except those of the level `error`, and of [the events](events.md); "
    "also `code.accepted` and `session.refreshed`.",
    (
        "keyturn_logins",
        "outcome",
    ): "Of a login: `second_factor_required`, `admitted` (without a code: the user has no "
    "second factor, or a known device replaces it). Of any request with a password: `invalid_credentials` (each "
    "`login.refused` of [the log](log.md) but `busy`: the password may be right, and the account disabled, for "
    "example), `waiting` (a rate limit refused it), `busy` (the hashing queue was full). A right password that is "
    "accepted in another request than a login is not counted.",
    (
        "keyturn_codes",
        "outcome",
    ): "`accepted`; `no_match` (wrong); `claimed` and `consumed` (used before: refused by a claim, or by SQL); "
    "`waiting` (not checked, because of earlier failures); `out_of_step` (the authenticator's clock is off).",
    (
        "keyturn_codes",
        "offset",
    ): "The time steps of 30 s by which the authenticator is ahead; empty where they are not known.",
    ("keyturn_recovery_codes", "outcome"): "`accepted`, `refused`.",
    (
        "keyturn_refreshes",
        "outcome",
    ): "`rotated` (replaced by a successor); `repeated` (replaced up to ten seconds before: the same successor "
    "again; or a cookie that a refresh has set at most ten seconds before, and that stays); `reused` (replaced "
    "earlier: the session ended); `refused` (see `session.refresh_refused` in [the log](log.md)).",
    (
        "keyturn_limits_hit",
        "limit",
    ): "`signup`, `password`; `device` (a password on a known device); `pending` (codes of one kind with one pending "
    "token); `qrcode`; `reset` (requests for a new password); `message` (messages to an address that is not "
    "confirmed). See [the rate limits](settings.md).",
    ("keyturn_store_errors", "store"): "`sql`, `redis`.",
    (
        "keyturn_breached_checks",
        "outcome",
    ): "`found` (the password was refused), `not_found`, `failed` (there was no answer; the password was accepted).",
    (
        "keyturn_requests",
        "route",
    ): "The path as it is declared, never as it was requested; `none` without a declared path, and `refused on the "
    "wire` where the request could not be read.",
    ("keyturn_requests", "method"): "The method, or `other`.",
    ("keyturn_requests", "status"): "The status, or `none` where the process stopped before the "
    "answer. If the client left, it is the status that it would have got; 400 if it left during its body.",
    ("keyturn_request_seconds", "route"): "The path as it is declared.",
    ("keyturn_build_info", "version"): "The version of Keyturn.",
    ("keyturn_factors", "drift_steps"): "The time steps of 30 s by which the clock was ahead at the last "
    "code; negative: behind.",
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


def collectors() -> list[MetricWrapperBase]:
    """The metrics of the processes, in the order of their definition."""
    named = vars(metrics).items()
    return [value for name, value in named if isinstance(value, MetricWrapperBase) and not name.startswith("_")]


def described() -> list[Described]:
    """Every metric of the registry and of the database's collector."""
    found = [
        Described(family.name, family.type, tuple(collector._labelnames), family.documentation)
        for collector in collectors()
        for family in collector.collect()
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
            "up, whichever worker answers; each replica reports its own. `keyturn_factors`, "
            "`keyturn_webhook_waiting_seconds` and `keyturn_mail_waiting_seconds` describe the database. Each "
            "replica reports the same values: do not add them up."
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
