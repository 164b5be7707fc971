"""The names of events and of log lines: the only place that spells them.

There are two enumerations, so that the type checker keeps the two kinds of names apart. An `EventName` is recorded in
the database: users read those of their account, and the webhook delivers all. A `LogName` is never recorded: it
reports, for example, decisions about unknown users, which an attacker can cause without end, or states of the
process.
"""

from enum import StrEnum


class EventName(StrEnum):
    """The recorded events. Each is counted in the metrics, and a line of the log unless a command caused it.

    A name is `subject.past_participle`: the subject, a dot, and what happened to it. The second part may be two or
    three words with one participle in them: `second_factor_required`, `refused_repeatedly`. Words are separated by
    `_`. The exception is `signup`, which has no second part. A name never changes: receivers and alerts match it.
    """

    CLIENT_ADDED = "client.added"
    CLIENT_REMOVED = "client.removed"
    CLIENT_SECRET_ROTATED = "client.secret_rotated"
    CODE_REFUSED_REPEATEDLY = "code.refused_repeatedly"
    EMAIL_CHANGE_CANCELLED = "email.change_cancelled"
    EMAIL_CHANGE_REQUESTED = "email.change_requested"
    EMAIL_CHANGED = "email.changed"
    EMAIL_REMOVED = "email.removed"
    FACTOR_ADDED = "factor.added"
    FACTOR_REALIGNED = "factor.realigned"
    FACTOR_REMOVED = "factor.removed"
    FACTOR_RENAMED = "factor.renamed"
    INVITATION_CREATED = "invitation.created"
    INVITATION_REVOKED = "invitation.revoked"
    LOGIN_ADMITTED = "login.admitted"
    MFA_DISABLED = "mfa.disabled"
    MFA_ENABLED = "mfa.enabled"
    MFA_ENROLMENT_STARTED = "mfa.enrolment_started"
    MFA_RESET = "mfa.reset"
    PASSWORD_CHANGED = "password.changed"
    PASSWORD_RESET = "password.reset"
    PASSWORD_RESET_REQUESTED = "password.reset_requested"
    RECOVERY_CANCELLED = "recovery.cancelled"
    RECOVERY_CARRIED_OUT = "recovery.carried_out"
    RECOVERY_STARTED = "recovery.started"
    RECOVERY_CODE_USED = "recovery_code.used"
    RECOVERY_CODES_REPLACED = "recovery_codes.replaced"
    SESSION_ENDED = "session.ended"
    SESSION_RAISED = "session.raised"
    SESSION_REFRESH_REUSED = "session.refresh_reused"
    SIGNUP = "signup"
    USER_CLAIMS_CHANGED = "user.claims_changed"
    USER_DELETED = "user.deleted"
    USER_DELETION_SCHEDULED = "user.deletion_scheduled"
    USER_DISABLED = "user.disabled"
    USER_ENABLED = "user.enabled"
    USER_LOCALE_CHANGED = "user.locale_changed"
    USER_RESTORED = "user.restored"
    USER_ROLES_CHANGED = "user.roles_changed"


class LogName(StrEnum):
    """The lines that are only in the log, and two decisions that are only counted because they are too frequent.

    The grammar is that of `EventName`. The exceptions name a state in place of an act: `database.reachable`,
    `database.unreachable`, `redis.away`, `redis.back` and `service.starting`. Reports of a defect, which have a
    traceback, are written by the loggers of their modules, are not counted, and are not here.
    """

    BACKUP_GUARDED = "backup.guarded"
    CLIENT_ADMITTED = "client.admitted"
    CLIENT_REFUSED = "client.refused"
    CODE_REFUSED = "code.refused"
    DATABASE_REACHABLE = "database.reachable"
    DATABASE_UNREACHABLE = "database.unreachable"
    KEY_PUBLISHED = "key.published"
    KEY_REVOKED = "key.revoked"
    LIMIT_HIT = "limit.hit"
    LOGIN_REFUSED = "login.refused"
    LOGIN_SECOND_FACTOR_REQUIRED = "login.second_factor_required"
    MESSAGE_DROPPED = "message.dropped"
    MESSAGE_REFUSED = "message.refused"
    MESSAGE_SENT = "message.sent"
    MFA_SECRET_SHOWN = "mfa.secret_shown"
    PASSWORD_NOT_CHECKED = "password.not_checked"
    RECOVERY_CODE_REFUSED = "recovery_code.refused"
    REDIS_AWAY = "redis.away"
    REDIS_BACK = "redis.back"
    REQUEST_REFUSED = "request.refused"
    SERVICE_STARTING = "service.starting"
    SESSION_REFRESH_REFUSED = "session.refresh_refused"
    SESSION_STEP_UP_ASKED = "session.step_up_asked"
    SESSIONS_ENDED_BY_POLICY = "sessions.ended_by_policy"
    SESSIONS_SWEPT = "sessions.swept"
    SIGNUP_REFUSED = "signup.refused"
    WEBHOOK_DELIVERED = "webhook.delivered"
    WEBHOOK_REFUSED = "webhook.refused"
    WORKER_NOT_STARTED = "worker.not_started"

    CODE_ACCEPTED = "code.accepted"
    """Only counted."""
    SESSION_REFRESHED = "session.refreshed"
    """Only counted."""


Name = EventName | LogName
