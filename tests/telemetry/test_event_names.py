"""Names of events and log lines: their grammar, that the code uses each of them, and how the metrics count them."""

import re

import pytest

from service.telemetry import metrics
from service.telemetry.event_names import EventName, LogName, Name
from service.telemetry.metrics import Detail
from tests.reference import events, log
from tests.reference.calls import reports
from tests.reference.metrics import collectors

NAMES: list[Name] = [*EventName, *LogName]
IRREGULAR = {"hit", "reset", "sent", "shown", "swept"}
"""The past participles that do not end in `ed`."""


def exceptions_in(enumeration: type[EventName] | type[LogName]) -> set[str]:
    """The names that the docstring calls exceptions."""
    return set(re.findall(r"`([a-z._]+)`", (enumeration.__doc__ or "").partition("The exception")[2]))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_has_the_grammar_or_is_listed_as_an_exception(name: Name) -> None:
    """The member is named like its value; the value is `subject.past_participle`."""
    assert name.name == name.value.replace(".", "_").upper()
    has_grammar = re.fullmatch(r"[a-z_]+\.[a-z_]+", name) is not None and any(
        word.endswith("ed") or word in IRREGULAR for word in name.partition(".")[2].split("_")
    )
    assert has_grammar != (name in exceptions_in(type(name)))


def test_no_exception_is_listed_without_its_name() -> None:
    """A name is in one enumeration only."""
    for enumeration in (EventName, LogName):
        assert exceptions_in(enumeration) <= set(enumeration)
    assert len(NAMES) == len(set(NAMES))


def test_the_code_reports_every_name_and_no_other() -> None:
    """What is recorded is an `EventName`; what is only logged or counted is a `LogName`."""
    recorded = {report.name for report in reports().values() if report.is_recorded}
    assert set(EventName) - events.NOT_RECORDED_YET == recorded
    assert set(LogName) == {report.name for report in reports().values() if not report.is_recorded}


def test_the_reference_pages_explain_every_name() -> None:
    """The page on the log leaves out the two names that are only counted."""
    assert set(EventName) == set(events.WHEN)
    assert set(LogName) == set(log.WHEN) | {LogName.CODE_ACCEPTED, LogName.SESSION_REFRESHED}


MEANINGS: list[tuple[Name, dict[str, Detail], str, dict[str, str]]] = [
    (LogName.LOGIN_SECOND_FACTOR_REQUIRED, {}, "keyturn_logins", {"outcome": "second_factor_required"}),
    (EventName.LOGIN_ADMITTED, {"amr": "pwd"}, "keyturn_logins", {"outcome": "admitted"}),
    (LogName.LOGIN_REFUSED, {"reason": "wrong_password"}, "keyturn_logins", {"outcome": "invalid_credentials"}),
    (LogName.LOGIN_REFUSED, {"reason": "busy"}, "keyturn_logins", {"outcome": "busy"}),
    (LogName.CODE_ACCEPTED, {"offset_steps": 1}, "keyturn_codes", {"outcome": "accepted", "offset": "1"}),
    (LogName.CODE_REFUSED, {"reason": "consumed"}, "keyturn_codes", {"outcome": "consumed", "offset": ""}),
    (EventName.RECOVERY_CODE_USED, {}, "keyturn_recovery_codes", {"outcome": "accepted"}),
    (LogName.RECOVERY_CODE_REFUSED, {}, "keyturn_recovery_codes", {"outcome": "refused"}),
    (LogName.SESSION_REFRESHED, {"is_repeated": False}, "keyturn_refreshes", {"outcome": "rotated"}),
    (LogName.SESSION_REFRESHED, {"is_repeated": True}, "keyturn_refreshes", {"outcome": "repeated"}),
    (EventName.SESSION_REFRESH_REUSED, {}, "keyturn_refreshes", {"outcome": "reused"}),
    (LogName.SESSION_REFRESH_REFUSED, {}, "keyturn_refreshes", {"outcome": "refused"}),
    (LogName.LIMIT_HIT, {"limit": "signup"}, "keyturn_limits_hit", {"limit": "signup"}),
    (LogName.LIMIT_HIT, {"limit": "password"}, "keyturn_logins", {"outcome": "waiting"}),
]
"""The names that the metrics count by their meaning too, with the sample that increases."""

BY_NAME_ONLY = {
    EventName.CODE_REFUSED_REPEATEDLY: "the refused codes are counted one by one",
    EventName.RECOVERY_CODES_REPLACED: "no code is used",
    EventName.SESSION_ENDED: "no refresh",
    EventName.SESSION_RAISED: "no refresh; its code is counted",
    LogName.SESSION_STEP_UP_ASKED: "no refresh",
}
"""Names with a subject that has a counter of its own, which do not count there."""

COUNTERS = ("keyturn_logins", "keyturn_codes", "keyturn_recovery_codes", "keyturn_refreshes", "keyturn_limits_hit")


def samples() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return the counters of decisions, and the counter of all names."""
    return {
        (family.name, frozenset(sample.labels.items())): sample.value
        for collector in collectors()
        for family in collector.collect()
        if family.name in {*COUNTERS, "keyturn_events"}
        for sample in family.samples
    }


def increase_of(name: Name, details: dict[str, Detail]) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    before = samples()
    metrics.count(name, details)
    return {key for key, value in samples().items() if value != before.get(key, 0)}


@pytest.mark.parametrize("name", NAMES)
def test_the_metrics_count_every_name(name: Name) -> None:
    """By its name always; by its meaning if the table says so, and otherwise no other counter increases."""
    found = increase_of(name, {"reason": "no_match", "limit": "qrcode", "offset_steps": 0, "amr": "pwd otp mfa"})
    assert ("keyturn_events", frozenset({("event", name.value)})) in found
    may_have_meaning = {meant for meant, *_ in MEANINGS}
    assert len(found) == 1 or name in may_have_meaning


@pytest.mark.parametrize(("name", "details", "metric", "labels"), MEANINGS)
def test_the_metrics_count_a_decision_by_its_meaning(
    name: Name, details: dict[str, Detail], metric: str, labels: dict[str, str]
) -> None:
    """The sample of the table increases."""
    assert (metric, frozenset(labels.items())) in increase_of(name, details)


def test_no_decision_about_a_counted_subject_is_left_out() -> None:
    """Each name of a login, code, recovery code, session or limit counts by its meaning, or has a reason not to."""
    subjects = {"login", "code", "recovery_code", "recovery_codes", "session", "limit"}
    counted = {name for name in NAMES if name.partition(".")[0] in subjects}
    assert counted == {name for name, *_ in MEANINGS} | set(BY_NAME_ONLY)


def test_the_series_that_exist_from_the_start_have_known_names() -> None:
    """A series of a name that nothing reports would stay at zero for ever."""
    labels = {sample.labels["event"] for family in metrics.EVENTS.collect() for sample in family.samples}
    assert labels <= set(NAMES)
