"""Sessions: a login opens one, and refreshing keeps it alive. The `sid` of its tokens is the row's `id`.

Law 11: a session is its refresh family. The row holds the valid `generation`, a number, and the time at which the
previous one was replaced. A refresh token is a function of session id, generation and a derived key (`tokens`), so
none is stored:

- The current generation rotates by one guarded UPDATE: of fifty requests at once one succeeds, and the others find
  the generation replaced.
- The generation just replaced yields the same successor again for `ROTATION_GRACE` (after a lost answer, or with two
  tabs).
- Any other genuine token of an earlier generation ends the session, because somebody may have copied it: the one just
  replaced, after `ROTATION_GRACE`, and all older ones.
- With a cookie, the current generation is kept for `ROTATION_GRACE` after its predecessor was replaced. Tabs that
  refresh one after the other send the cookie that the previous one received, and would rotate again and again.

`pending_jti` is unique, so that a pending token opens at most one session (law 1: a password alone yields no more
than a pending token). The column `raised` counts step-ups, so that the pending token of a step-up steps its session
up once.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from service.clock import unix_seconds
from service.origin import Caller
from service.static_claims import Value, decode
from service.storage.database import Database, Row, Transaction
from service.tokens.access import Subject
from service.users.mfa_policy import MfaPolicy
from service.users.users import User

PASSWORD = ("pwd",)
PASSWORD_AND_CODE = ("pwd", "otp", "mfa")
PASSWORD_AND_RECOVERY_CODE = ("pwd", "rc", "mfa")
"""Values of `amr`: what was verified, never what was sent. RFC 8176 defines all but `rc`, a recovery code."""

ROTATION_GRACE = timedelta(seconds=10)
"""The time in which the generation just replaced still yields its successor."""

STEP_UP_ALLOWED = "id = $3 AND raised = $4 AND ended_at IS NULL AND expires_at > $5"
"""The WHERE condition of a step-up: the session ($3) is live now ($5), and has had no step-up since the pending token
was issued. That token has the number of earlier step-ups ($4)."""

_IS_LIVE = "ended_at IS NULL AND expires_at > $2"
_USER_IS_ENABLED = "EXISTS (SELECT 1 FROM users WHERE users.id = sessions.user_id AND users.disabled_at IS NULL)"
"""Defence in depth: disabling an account ends its sessions. This check covers any that was missed."""

_END_NONCOMPLIANT = "UPDATE sessions SET ended_at = $2, ended_reason = 'mfa_required'"
MAX_LISTED_SESSIONS = 500
"""The most sessions that a list of a user's sessions shows: those that were used last. Most users have a few; a
program that logs in again and again may have more. `end_all` ends the others too."""

_PAGE = 1000
"""Rows per step of an operation on all sessions, so that each statement takes less than a second."""

_COLUMNS = "id, user_id, amr, acr, auth_time, expires_at, generation, raised"
SUMMARY_COLUMNS = "id, amr, acr, auth_time, created_at, last_used_at, expires_at, address, user_agent"
_USER_COLUMNS = ", ".join(
    f"(SELECT {column} FROM users WHERE users.id = sessions.user_id) AS {column}"
    for column in ("username", "roles", "claims")
)


_ID = re.compile(r"[A-Za-z0-9_-]{22}")


def is_id(text: str) -> bool:
    """Return whether `text` has the form of a session id. Other texts are refused without a query."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """The maximum lifetime of a session, and the time after which an unused one expires."""

    absolute: timedelta
    idle: timedelta


@dataclass(frozen=True, slots=True)
class Session:
    id: str
    user_id: str
    auth_time: int
    amr: tuple[str, ...]
    acr: str
    expires_at: int
    """The time at which it expires unless it is used. An access token issued now does not outlive it."""
    generation: int = 0
    step_ups: int = 0

    def subject(self, username: str, roles: tuple[str, ...]) -> Subject:
        """Return the subject of the session's access tokens."""
        return Subject(
            sub=self.user_id,
            sid=self.id,
            username=username,
            roles=roles,
            amr=self.amr,
            acr=self.acr,
            auth_time=self.auth_time,
        )


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """A live session in a list; times in epoch seconds."""

    id: str
    amr: tuple[str, ...]
    acr: str
    auth_time: int
    created_at: int
    last_used_at: int
    expires_at: int
    address: str
    user_agent: str


@dataclass(frozen=True, slots=True)
class SessionWithUser:
    """A live session with the current name, roles and static claims of its user."""

    session: Session
    username: str
    roles: tuple[str, ...]
    claims: Mapping[str, Value]
    is_repeated: bool = False
    """Whether `renew` rotated nothing, because the last rotation was within `ROTATION_GRACE`.

    `session.generation` is the generation that the last rotation made. That is the successor of the one that was sent
    or, with a cookie, the one that was sent.
    """

    def subject(self) -> Subject:
        return self.session.subject(self.username, self.roles)


async def open_session(
    transaction: Transaction,
    user: User,
    *,
    amr: tuple[str, ...],
    caller: Caller,
    lifetimes: Lifetimes,
    now: datetime,
    pending_jti: str | None = None,
) -> Session | None:
    """Open a session; `None` if the pending token has opened one already."""
    session = Session(
        id=secrets.token_urlsafe(16), user_id=user.id, auth_time=unix_seconds(now), amr=amr, acr=acr_of(amr),
        expires_at=unix_seconds(now + min(lifetimes.absolute, lifetimes.idle)),
    )  # fmt: skip
    inserted = await transaction.execute(
        "INSERT INTO sessions (id, user_id, pending_jti, amr, acr, auth_time, created_at, last_used_at,"
        " ends_at, expires_at, address, user_agent) VALUES ($1, $2, $3, $4, $5, $6, $6, $6, $7, $8, $9, $10)"
        " ON CONFLICT (pending_jti) DO NOTHING",
        session.id, user.id, pending_jti, " ".join(amr), session.acr, session.auth_time,
        unix_seconds(now + lifetimes.absolute), session.expires_at,
        caller.address, caller.user_agent,
    )  # fmt: skip
    return session if inserted == 1 else None


async def renew(
    database: Database, sid: str, generation: int, *, keeps: bool, policy: MfaPolicy, idle: timedelta, now: datetime
) -> SessionWithUser | None:
    """Exchange a genuine refresh token of this generation for its successor, or return `None`.

    With `keeps`, the result has this generation itself if its predecessor was replaced within `ROTATION_GRACE`. No
    rotation can come between the SELECT and the UPDATE unnoticed: each one changes `generation` together with
    `replaced_at`, and the UPDATE compares `generation`.

    `None`: the session has ended, has expired or does not satisfy the policy; or its user is disabled; or the
    database was restored from a backup that is older than the token; or the token was replaced longer ago than
    `ROTATION_GRACE`, or its successor was replaced too. See `end_reused` and `end_noncompliant`.
    """
    moment = unix_seconds(now)

    async def find_recent(number: int) -> SessionWithUser | None:
        row = await database.fetch_one(
            f"SELECT {_COLUMNS}, {_USER_COLUMNS} FROM sessions WHERE id = $1 AND generation = $3"
            f" AND replaced_at >= $4 AND {_IS_LIVE} AND {_USER_IS_ENABLED}{policy.guard}",
            sid, moment, number, unix_seconds(now - ROTATION_GRACE),
        )  # fmt: skip
        return None if row is None else _with_user(row, is_repeated=True)

    if keeps and (kept := await find_recent(generation)) is not None:
        return kept
    row = await database.write_one(
        "UPDATE sessions SET generation = generation + 1, replaced_at = $2, last_used_at = $2,"
        " expires_at = CASE WHEN ends_at < $4 THEN ends_at ELSE $4 END"
        f" WHERE id = $1 AND generation = $3 AND {_IS_LIVE} AND {_USER_IS_ENABLED}{policy.guard}"
        f" RETURNING {_COLUMNS}, {_USER_COLUMNS}",
        sid, moment, generation, unix_seconds(now + idle),
    )  # fmt: skip
    return await find_recent(generation + 1) if row is None else _with_user(row)


async def end_reused(transaction: Transaction, sid: str, generation: int, now: datetime) -> str | None:
    """End the session if this generation was replaced longer ago than `ROTATION_GRACE`; return its user's id.

    It also ends if the generation after this one was replaced too, however recently.
    """
    ended = await transaction.fetch_one(
        "UPDATE sessions SET ended_at = $2, ended_reason = 'refresh_reused'"
        f" WHERE id = $1 AND {_IS_LIVE} AND (generation > $3 OR (generation = $3 AND replaced_at < $4))"
        " RETURNING user_id",
        sid, unix_seconds(now), generation + 1, unix_seconds(now - ROTATION_GRACE),
    )  # fmt: skip
    return None if ended is None else str(ended["user_id"])


async def end_noncompliant(transaction: Transaction, sid: str, *, policy: MfaPolicy, now: datetime) -> str | None:
    """End the session if it is live and does not satisfy the policy; return its user's id."""
    ended = await transaction.fetch_one(
        f"{_END_NONCOMPLIANT} WHERE id = $1 AND {_IS_LIVE} AND NOT {policy.condition} RETURNING user_id",
        sid,
        unix_seconds(now),
    )
    return None if ended is None else str(ended["user_id"])


async def end_all_noncompliant(transaction: Transaction, user_id: str, *, policy: MfaPolicy, now: datetime) -> int:
    """End the user's live sessions that do not satisfy the policy; return their number."""
    return await transaction.execute(
        f"{_END_NONCOMPLIANT} WHERE user_id = $1 AND {_IS_LIVE} AND NOT {policy.condition}",
        user_id,
        unix_seconds(now),
    )


async def end_noncompliant_page(
    database: Database, *, after: str, policy: MfaPolicy, now: datetime
) -> tuple[str, int]:
    """End those of the next thousand sessions, in the order of their ids, that do not satisfy the policy.

    Return the last id read (empty after the last row), and the number of ended sessions.
    """
    page = await database.fetch_all(
        f"SELECT id, CASE WHEN {_IS_LIVE} AND NOT {policy.condition} THEN 1 ELSE 0 END AS is_refused"
        f" FROM sessions WHERE id > $1 ORDER BY id LIMIT {_PAGE}",
        after, unix_seconds(now),
    )  # fmt: skip
    ended = 0
    if any(row["is_refused"] for row in page):
        async with database.begin() as transaction:
            ended = await transaction.execute(
                f"{_END_NONCOMPLIANT} WHERE id > $1 AND id <= $3 AND {_IS_LIVE} AND NOT {policy.condition}",
                after, unix_seconds(now), page[-1]["id"],
            )  # fmt: skip
    return page[-1]["id"] if len(page) == _PAGE else "", ended


async def find_live(database: Database, sid: str, *, policy: MfaPolicy, now: datetime) -> Session | None:
    """Return the session if it has neither ended nor expired, its user is enabled, and it satisfies the policy."""
    row = await database.fetch_one(
        f"SELECT {_COLUMNS} FROM sessions WHERE id = $1 AND {_IS_LIVE} AND {_USER_IS_ENABLED}{policy.guard}",
        sid, unix_seconds(now),
    )  # fmt: skip
    return None if row is None else _session(row)


async def find_live_with_user(
    database: Database, sid: str, *, policy: MfaPolicy, now: datetime
) -> tuple[SessionWithUser, int] | None:
    """Return the live session with its user as they are now, and when it expires unless it is used."""
    row = await database.fetch_one(
        f"SELECT {_COLUMNS}, {_USER_COLUMNS} FROM sessions"
        f" WHERE id = $1 AND {_IS_LIVE} AND {_USER_IS_ENABLED}{policy.guard}",
        sid, unix_seconds(now),
    )  # fmt: skip
    if row is None:
        return None
    return _with_user(row), row["expires_at"]


async def step_up_session(
    transaction: Transaction, sid: str, user_id: str, *, step_ups: int, amr: tuple[str, ...], now: datetime
) -> Session | None:
    """Record that a second factor was proved again; `None` if the session has ended or had a step-up meanwhile."""
    row = await transaction.fetch_one(
        "UPDATE sessions SET auth_time = $5, amr = $1, acr = $2, raised = raised + 1"
        f" WHERE {STEP_UP_ALLOWED} AND user_id = $6 RETURNING {_COLUMNS}",
        " ".join(amr), acr_of(amr), sid, step_ups, unix_seconds(now), user_id,
    )  # fmt: skip
    return None if row is None else _session(row)


async def list_live(database: Database, user_id: str, *, policy: MfaPolicy, now: datetime) -> list[SessionSummary]:
    """Return the user's live sessions, the most recently used first; at most `MAX_LISTED_SESSIONS`."""
    rows = await database.fetch_all(
        f"SELECT {SUMMARY_COLUMNS} FROM sessions"
        f" WHERE user_id = $1 AND {_IS_LIVE}{policy.guard}"
        f" ORDER BY last_used_at DESC, id LIMIT {MAX_LISTED_SESSIONS}",
        user_id, unix_seconds(now),
    )  # fmt: skip
    return [SessionSummary(**{**row, "amr": tuple(row["amr"].split())}) for row in rows]


async def end(
    transaction: Transaction, sid: str, *, reason: str, now: datetime, user_id: str | None = None
) -> str | None:
    """End one session that has not ended (and is this user's, if one is given); return its user's id.

    This ends an expired session too, because another replica may still accept it: its clock may be slightly behind.
    """
    row = await transaction.fetch_one(
        "UPDATE sessions SET ended_at = $2, ended_reason = $3 WHERE id = $1 AND ended_at IS NULL"
        " AND user_id = COALESCE($4, user_id) RETURNING user_id",
        sid, unix_seconds(now), reason, user_id,
    )  # fmt: skip
    return None if row is None else str(row["user_id"])


async def end_all(
    transaction: Transaction, user_id: str, *, reason: str, now: datetime, except_sid: str | None = None
) -> int:
    """End the user's sessions except `except_sid`, also expired ones (see `end`); return their number."""
    return await transaction.execute(
        "UPDATE sessions SET ended_at = $1, ended_reason = $2 WHERE user_id = $3 AND ended_at IS NULL AND id <> $4",
        unix_seconds(now), reason, user_id, except_sid or "",
    )  # fmt: skip


async def list_ended_since(database: Database, moment: int) -> set[str]:
    """Return the ids of sessions ended at `moment` (Unix seconds) or later."""
    return {row["id"] for row in await database.fetch_all("SELECT id FROM sessions WHERE ended_at >= $1", moment)}


@dataclass(frozen=True, slots=True)
class SweepStep:
    """A step of the sweep: the last id read (empty after the last row), and the number of deleted rows."""

    last_id: str
    deleted: int


async def sweep(database: Database, *, after: str, expired_by: datetime, ended_by: datetime) -> SweepStep:
    """Read the next thousand rows in the order of their ids, and delete those expired or ended by these times.

    There is no index for expired rows: every refresh would have to update it, and a sweep need not be fast.
    """
    page = await database.fetch_all(
        "SELECT id, CASE WHEN (ended_at IS NULL AND expires_at <= $2) OR ended_at <= $3 THEN 1 ELSE 0 END AS is_dead"
        f" FROM sessions WHERE id > $1 ORDER BY id LIMIT {_PAGE}",
        after, unix_seconds(expired_by), unix_seconds(ended_by),
    )  # fmt: skip
    deleted = 0
    if any(row["is_dead"] for row in page):
        async with database.begin() as transaction:
            deleted = await transaction.execute(
                "DELETE FROM sessions WHERE id > $1 AND id <= $2"
                " AND ((ended_at IS NULL AND expires_at <= $3) OR ended_at <= $4)",
                after, page[-1]["id"], unix_seconds(expired_by), unix_seconds(ended_by),
            )  # fmt: skip
    return SweepStep(page[-1]["id"] if len(page) == _PAGE else "", deleted)


def acr_of(amr: tuple[str, ...]) -> str:
    """`aal2` if a second factor was verified, else `aal1` (RFC 9068 section 2.2.1, NIST SP 800-63B)."""
    return "aal2" if "mfa" in amr else "aal1"


def _with_user(row: Row, *, is_repeated: bool = False) -> SessionWithUser:
    roles = tuple(row["roles"].split())
    return SessionWithUser(_session(row), row["username"], roles, decode(row["claims"]), is_repeated)


def _session(row: Row) -> Session:
    return Session(
        id=row["id"],
        user_id=row["user_id"],
        auth_time=row["auth_time"],
        amr=tuple(row["amr"].split()),
        acr=row["acr"],
        expires_at=row["expires_at"],
        generation=row["generation"],
        step_ups=row["raised"],
    )
