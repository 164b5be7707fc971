"""`docs/reference/log.md`: the lines of the log that are no recorded events, and the fields of every line."""

import json
import logging

from service.outgoing import FAILURES
from service.telemetry.log import JsonLines
from tests.reference import events
from tests.reference.calls import defects, reports
from tests.reference.markdown import code, page, paragraph, table

WHEN = {
    "backup.guarded": "`keyturn restore-guard` has revoked what a restored backup would make valid.",
    "client.admitted": "A registered client got an access token of its own.",
    "client.refused": "A client did not authenticate: an unknown id or a wrong secret. An id that no client can "
    "have is not logged.",
    "code.refused": "A verification code was refused. `no_match`: it is wrong; `claimed`, `consumed`: it was used "
    "before; `waiting`: it was not checked, because of earlier failures; `out_of_step`: the authenticator's "
    "clock is off.",
    "database.reachable": "The database answers again.",
    "database.unreachable": "The database cannot be used, for a reason that was not reported since it last answered.",
    "key.published": "A new signing key is in the key set.",
    "key.revoked": "A signing key was revoked.",
    "limit.hit": "A rate limit refused an attempt.",
    "login.refused": "A login or another operation with a password was refused, with the true reason: the "
    "answer is the same for all but `busy`. `unknown_user`: no account has the name; `wrong_password`; `disabled`: "
    "the password is right, but the account is disabled (also by its scheduled deletion), or, at `/me/restore`, it "
    "has no deletion to take back; `changed`: the account changed after its password was found right; "
    "`no_second_factor`: `/disable-mfa` of a user without one; `proof_used`: the code at `/disable-mfa` was used "
    "meanwhile; `busy`: the queue of hashing was full or too slow.",
    "login.second_factor_required": "The password was right, and a pending token was issued.",
    "message.dropped": "A message to a user is not sent any more. `expired`: its link has expired, or it is a notice "
    "older than three days; `superseded`: another address was requested, or its link was used; `no_address`, "
    "`no_account`, `disabled`: nobody is to get it; `refused`: the mail server refuses it, with its `status`; "
    "`invalid_address`: the address cannot be in a header; `no_transport`: `KEYTURN_MESSAGES` changed.",
    "message.refused": "A message to a user was not accepted; it is tried again. Reason `status`, or reason "
    "`refused` if the line also has the field `status`: the mail server or the webhook answered with that status; "
    "`no_starttls`, `no_authentication`: the mail server does not offer STARTTLS or authentication; "
    "`credentials_refused`: it refuses the credentials; `not_written`: the file could not be written. The other "
    "reasons, and `refused` without the field `status`, are those of `webhook.refused`.",
    "message.sent": "A message to a user was accepted by the mail server, by the webhook, or written to `file`.",
    "mfa.secret_shown": "The secret of an unconfirmed authenticator was shown.",
    "password.not_checked": "A new password was accepted although the list of leaked passwords gave no usable "
    "answer within a second. `status`: its status was not 200; `too_large`: the answer of the range service was "
    "longer than allowed; `malformed`: it was not a list of hash suffixes with counts; `unreadable`: the file "
    "cannot be read. The other reasons are those of `webhook.refused`.",
    "recovery_code.refused": "A recovery code was refused.",
    "redis.away": "Redis cannot be used. The worker counts attempts for itself, with smaller rate limits of sign-up "
    "and login.",
    "redis.back": "Redis answers again.",
    "request.refused": "A request got 503 because the database cannot be used.",
    "service.starting": "`keyturn serve` is about to accept connections.",
    "session.refresh_refused": "A refresh was refused. `no_such_token`: its token is malformed or forged; "
    "`session_is_over`: its session has ended, has expired or does not exist, or its user is disabled; "
    "`mfa_required`: `KEYTURN_REQUIRE_MFA` does not allow its session, which has ended; `two_cookies`: "
    "the cookie was given twice; `foreign_origin`: `Origin` is not an allowed one, or it is missing at a refresh by "
    "the cookie.",
    "session.step_up_asked": "A step-up was requested.",
    "sessions.ended_by_policy": "A pass over all sessions ended those that `KEYTURN_REQUIRE_MFA` does not allow.",
    "sessions.swept": "Expired and ended sessions were deleted.",
    "signup.refused": "Sign-up was refused because the username is taken, or because sign-up is closed.",
    "webhook.delivered": "The webhook accepted an event.",
    "webhook.refused": "The webhook did not accept an event; it is tried again. `status`: it answered with this "
    f"`status`. Without an answer: {', '.join(f'`{reason}`' for reason in FAILURES)}.",
    "worker.not_started": "A worker could not start, and the other workers go on serving. The parent tries again "
    "after `retry_seconds`; null: only at the next SIGHUP.",
}

SILENT = {"backup.guarded", "key.revoked"}
"""Events that only commands report."""

DEFECTS = {
    "housekeeping_failed": "A task in the background failed; it goes on.",
    "internal_error": "A request got 500.",
}

FIELDS = {
    "time": "The time in UTC with milliseconds (ISO 8601).",
    "level": "`info`, `warning` or `error`.",
    "severity": "The same in capitals, as Google Cloud Logging reads it.",
    "event": "The name of the event.",
    "request_id": "The id of the request, which is also in the answer (`X-Request-Id`); `-` outside of requests.",
    "traceback": "With a defect: the type of the exception and the lines it went through, without its text.",
}


def fields() -> set[str]:
    """The fields of a line, besides details, as the formatter writes them."""
    record = logging.LogRecord("keyturn", logging.ERROR, "", 0, "event", None, (ValueError, ValueError(), None))
    return set(json.loads(JsonLines().format(record)))


def write() -> str:
    """The page as Markdown."""
    only_logged = [
        report
        for report in reports().values()
        if report.is_logged and not report.is_recorded and report.name not in SILENT
    ]
    rows = [
        (f"`{report.name}`", ", ".join(sorted(report.levels)), WHEN[report.name], _details(report.name))
        for report in only_logged
    ]
    rows += [(f"`{name}`", "error", DEFECTS[name], "`traceback`") for name in defects()]
    return page(
        "Log",
        paragraph(
            "The log has one line for each decision, with the true reason, on standard error of `keyturn serve`. "
            "Refreshes and accepted verification codes are too frequent, and are only counted in the "
            "[metrics](metrics.md). `KEYTURN_LOG_FORMAT` chooses between JSON objects and lines for reading in a "
            "terminal. No line holds a password, a code, a token or another secret. A line names a user by `sub`."
        ),
        paragraph(
            "Commands of the operator print sentences about what they do. Of the log they write only warnings and "
            "errors, such as `password.not_checked`: in the same format, and on standard error, so that a program "
            "can read standard output. `database.unreachable` is not among them: the sentence with which the command "
            "ends has its reason. These events, which only commands report, appear in no log: "
            f"{code(sorted(SILENT))}. What a command changes in an account, a client or an invitation is a "
            "[recorded event](events.md)."
        ),
        "## Fields of a line as JSON\n",
        table(("field", "meaning"), [(f"`{name}`", FIELDS[name]) for name in FIELDS]),
        paragraph(
            "The details of the event are further fields of the same object. A line for a terminal has the time as "
            "HH:MM:SS in UTC, the level, the event and the details; it has no severity and no request id."
        ),
        "## Names\n",
        paragraph(
            "A [recorded event](events.md) that a request or a background task caused is a line of the log too, with "
            "its details and `sub`. The lines below are in the log only. The server and Alembic add sentences of "
            "their own, whose `event` is the sentence."
        ),
        table(("event", "level", "when", "details"), rows),
    )


def _details(name: str) -> str:
    report = reports()[name]
    has_sub = ["`sub`"] if "sub" in report.details else []
    others = events.details_of(report)
    return ", ".join(has_sub + ([] if others == "none" else [others])) or "none"
