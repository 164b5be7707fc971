"""`docs/reference/events.md`: every event that is recorded, when, and with which details."""

from service.messages.events import LISTED_EVENTS, RETENTION
from service.telemetry.event_names import EventName
from tests.reference.calls import Report, reports
from tests.reference.markdown import code, page, paragraph, table

WHEN = {
    "client.added": "A client was registered.",
    "client.removed": "A client was removed.",
    "client.secret_rotated": "A client got a new secret.",
    "code.refused_repeatedly": "The third verification code in a row, or the third recovery code in a row, was "
    "refused after the right password or in a step-up; again at the sixth, the ninth and so on. Someone else may "
    "know the password, or have an access token.",
    "email.change_cancelled": "A new e-mail address was refused, with the link in the message to the former one.",
    "email.change_requested": "A new e-mail address was requested. It is not used before it is confirmed.",
    "email.changed": "A new e-mail address was confirmed.",
    "email.removed": "The e-mail address was removed, by the user or by another actor.",
    "factor.added": "The first verification code confirmed another authenticator.",
    "factor.realigned": "Two verification codes in a row proved that the clock of an authenticator differs from the "
    "offset that was stored for it; codes of that clock are accepted from now on.",
    "factor.removed": "An authenticator was removed by its user, or replaced because its secret is weak.",
    "factor.renamed": "The user gave an authenticator another name, which is `name`.",
    "invitation.created": "An invitation was made.",
    "invitation.revoked": "An invitation was revoked before its use.",
    "login.admitted": "A login opened a session.",
    "mfa.disabled": "The user turned the second factor off; every session ended.",
    "mfa.enabled": "The first verification code confirmed the first authenticator; every earlier session ended.",
    "mfa.enrolment_started": "The user requested an enrolment or another authenticator, or a login began an "
    "enrolment because `KEYTURN_REQUIRE_MFA` demands one. The enrolments that `signup` and `recovery.carried_out` "
    "begin have no event of their own.",
    "mfa.reset": "An operator, an administrator or a client reset the second factor, also where there was none "
    "(`factors` 0); every session ended.",
    "password.changed": "The password was changed, by the user or by another actor.",
    "password.reset": "The user set a new password with a link; every session ended.",
    "password.reset_requested": "A link to set a new password was requested.",
    "recovery.cancelled": "A delayed recovery was cancelled by a second factor in a login or step-up, or by `DELETE "
    "/recovery`. Whatever increments the [credential version](glossary.md) cancels it too, without this event.",
    "recovery.carried_out": "After the delay a login with the password removed the second factor and began an "
    "enrolment.",
    "recovery.started": "Delayed recovery was requested with the right password.",
    "recovery_code.used": "A recovery code was consumed.",
    "recovery_codes.replaced": "Ten new recovery codes replaced the old ones.",
    "session.ended": "A session ended by a logout, by the user from another session, by a revocation, by another "
    "actor than the user, or because it does not satisfy `KEYTURN_REQUIRE_MFA`. There is no `session.ended` (a) for "
    "a change that has an event of its own, such as `password.changed`, (b) for the pass over all sessions that "
    "enforces the policy: its log line `sessions.ended_by_policy` has the number of sessions that it ended, (c) for "
    "the restore guard.",
    "session.raised": "A step-up, or the first code of another authenticator, stepped up the running session.",
    "session.refresh_reused": "A refresh token was used more than ten seconds after it was replaced, or after its "
    "successor was replaced too. It may have been copied; the session ended.",
    "signup": "An account was created.",
    "user.claims_changed": "The static claims were changed.",
    "user.locale_changed": "The language of messages to the user was changed.",
    "user.deleted": "The account was deleted, or the deletion that its user requested was carried out.",
    "user.deletion_scheduled": "The user requested the deletion of the account; every session ended. With "
    "`KEYTURN_DELETION_DELAY=0` only `user.deleted` is recorded.",
    "user.disabled": "The account was disabled; every session ended.",
    "user.enabled": "The account was enabled again.",
    "user.restored": "The user took back the deletion of the account, or the account was enabled, which cancels the "
    "deletion.",
    "user.roles_changed": "The roles were changed.",
}

NOT_RECORDED_YET: set[EventName] = set()
"""Events whose endpoints do not exist yet. A name leaves the list with the code that records it."""

DETAILS = {
    "address": "The client's IP address; never an e-mail address.",
    "amr": "The authentication methods, separated by spaces.",
    "by": "The actor, or what caused the event. `operator`: a command of the operator; `client:` and an id: a "
    "registered client; `user:` and a `sub`: another user; `policy`: a login of a user whom `KEYTURN_REQUIRE_MFA` "
    "names; `login`: a login or step-up with the second factor; `session`: a request with an access token of the "
    "user. Absent where the user of the event acted, or where nothing proves an identity.",
    "claims": "The names of the static claims that the user has now, separated by spaces.",
    "client_id": "The id of the client.",
    "due_at": "Epoch seconds from which the recovery can be completed, or at which the account is removed.",
    "factor": "The id of the authenticator.",
    "factors": "The number of authenticators that were removed.",
    "failures": "The number of refused codes in a row.",
    "invitation": "The id of the invitation.",
    "left": "The number of recovery codes that are left.",
    "locale": "The language of messages to the user from now on. Empty: that of the service.",
    "mfa": "Whether the sign-up began an enrolment.",
    "name": "The name of the authenticator.",
    "offset_seconds": "By how many seconds the clock of the authenticator is ahead; negative: behind.",
    "reason": "The reason: one of the values in the table above.",
    "roles": "The roles that the user has now, or that the invitation gives, separated by spaces.",
    "scopes": "The scopes of the client, separated by spaces.",
    "sessions": "The number of sessions that ended, where there may be several.",
    "sid": "The id of the session.",
}


def recorded() -> list[Report]:
    """The events that are rows of the table of events."""
    return [report for report in reports().values() if report.is_recorded]


def details_of(report: Report) -> str:
    """The names of the details that are recorded, with the values that are literals."""
    names = sorted(name for name in report.details if name != "sub")
    return ", ".join(_detail(name, sorted(report.details[name])) for name in names) or "none"


def _detail(name: str, values: list[str]) -> str:
    return f"`{name}`" + (f" ({code(values)})" if values else "")


def _level(report: Report) -> str:
    return " ".join(sorted(report.levels))


def write() -> str:
    """Return the page as Markdown."""
    return page(
        "Events",
        paragraph(
            "An event is recorded in the transaction of the change that it reports, so that neither exists without "
            "the other. The exception is `code.refused_repeatedly`: it has a transaction of its own, and while the "
            "database cannot be used, it is in the log only. "
            f"Users see the last {LISTED_EVENTS} events of their account at `GET /events`; an event is deleted after "
            f"{RETENTION.days} days. The webhook, if `KEYTURN_WEBHOOK_URL` is set, receives every event of this "
            "table and no other; with `KEYTURN_MESSAGES=webhook` it also gets [messages]"
            "(../guides/receive-events.md), whose `type` begins with `message.`. When an account is deleted, its "
            "events lose their details once they are delivered, and keep their names, times and `sub`; "
            "`user.deleted` keeps its own."
        ),
        paragraph(
            "An event that a request or a background task caused is also a line of the log, with the level of the "
            "table. An event that a command of the operator caused is not: commands write only warnings and "
            "errors to the log."
        ),
        paragraph(
            "Events of clients and of invitations (`client.*`, `invitation.*`) are about no user: they have neither "
            "`sub` nor `username`, and no user sees them."
        ),
        "## Names\n",
        table(
            ("event", "recorded when", "details", "log level"),
            [(f"`{report.name}`", WHEN[report.name], details_of(report), _level(report)) for report in recorded()],
        ),
        paragraph(
            "A detail is absent where it does not apply: an event that the admin API or a command of the operator "
            "caused has no `address`."
        ),
        "## Details\n",
        table(("detail", "meaning"), [(f"`{name}`", text) for name, text in sorted(DETAILS.items())]),
        "## Delivery to the webhook\n",
        paragraph(
            "A delivery is a POST in the form of [Standard Webhooks](https://www.standardwebhooks.com), with the "
            "headers `webhook-id`, `webhook-timestamp` and `webhook-signature` (HMAC-SHA256 under "
            "`KEYTURN_WEBHOOK_SECRET`). An event is delivered at least once; "
            "the receiver recognises a repetition by `webhook-id`. `webhook-timestamp` is "
            "the time of the attempt. The events of one user arrive in their order; an "
            "event that is about no user does not wait for other events. If the receiver does not answer "
            "with a 2xx status within five seconds, the delivery is retried: first after 2 s, and each further wait "
            "is twice as long, up to five minutes, until the event is deleted. If the receiver refuses a whole "
            "round of sixteen, Keyturn pauses all deliveries to it, for a minute at most. A restart loses no event, "
            "and no login waits for a delivery."
        ),
        _EXAMPLE,
        paragraph(
            "`type` is the name of the event (or of a message), `timestamp` the time at which it occurred, in "
            "UTC. `data` has `sub` and `username`, unless the event is about no user, and the details. At `GET "
            "/events` these are `event`, `occurred_at` (epoch seconds) and `details`; there, `details` has "
            "neither `sub` nor `username`."
        ),
    )


_EXAMPLE = """```json
{
  "type": "login.admitted",
  "timestamp": "2026-11-22T12:00:05Z",
  "data": {
    "sub": "pZ9yKq2mX0d4Wc1bR7tLhA",
    "username": "alice",
    "sid": "0mN4vT8sQxGf2yHc6JkRwA",
    "amr": "pwd otp mfa",
    "address": "203.0.113.7"
  }
}
```
"""
