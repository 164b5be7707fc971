"""After a restore: what an old backup would revive is ended, before anybody comes by (`keyturn restore-guard`).

A backup is a moment that is over. Sessions that were ended since then would live again in it, codes that were used
would open the door once more, and tokens of those days would meet the state that they were made for. So, person by
person, and the same if it is run twice:

- a new credential version, beyond any that there can have been: pending tokens, device tokens and enrolments end;
- every session ends, and a delayed reset that was under way is called off: its owner may have called it off;
- every time step that may have been used by now counts as used (law 2: a code is consumed, not checked; it holds over
  the restore), and every recovery code too. The backup cannot know whose clock was found to be ahead since then, and
  how far: with those, steps of the next six minutes may have been used, and so nobody's codes are good for so long;
- no signing key of the backup is good any more: what it signed since is about sessions that nobody remembers.

What was changed since the backup is lost, and nothing here can bring it back: passwords, disabled and deleted
accounts, roles, removed authenticators and clients are as they were then.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from service import totp, users
from service.clock import unix_seconds
from service.database import Database, Transaction
from service.events import newest_event
from service.keys import Keys
from service.log import emit

_PAGE, _SESSIONS = 200, 1000
"""People, and sessions, in a transaction: it has less than a second."""


def max_accepted_ahead(skew_steps: int) -> int:
    """Steps from now to the last one that can have been accepted: of a clock as far ahead as can be re-aligned."""
    return totp.MAX_DRIFT_STEPS + 2 * skew_steps


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What was ended; `newest` is when the last thing happened that the backup knows of (epoch seconds)."""

    people: int
    sessions: int
    recovery_codes: int
    signing_keys: int
    newest: int | None


async def revoke_restored_state(
    database: Database,
    keys: Keys,
    now: datetime,
    *,
    skew_steps: int,
    keeps_recovery_codes: bool = False,
    report_progress: Callable[[int], None] = lambda _people: None,
) -> RestoreReport:
    """End what the backup would revive. `report_progress` gets the users done. Raises `StoreUnavailable`."""
    newest = await newest_event(database)
    revoked = await keys.revoke_all(now)
    people, sessions, codes, after = 0, 0, 0, ""
    next_page = f"SELECT id FROM users WHERE id > $1 AND {users.NOT_DELETED} ORDER BY id LIMIT {_PAGE}"
    while page := await database.fetch_all(next_page, after):
        async with database.begin() as transaction:
            these = (after, page[-1]["id"])
            await _advance_credential_versions(transaction, these, now)
            await _use_up_steps(transaction, these, now, skew_steps)
            if not keeps_recovery_codes:
                codes += await transaction.execute(
                    "UPDATE recovery_codes SET used_at = $3 WHERE user_id > $1 AND user_id <= $2 AND used_at IS NULL",
                    *these, unix_seconds(now),
                )  # fmt: skip
        sessions += await _end_sessions(database, these, now)
        people, after = people + len(page), page[-1]["id"]
        report_progress(people)
    done = RestoreReport(people, sessions, codes, revoked, newest)
    emit("backup.guarded", people=people, sessions=sessions, recovery_codes=codes, signing_keys=revoked)
    return done


async def _end_sessions(database: Database, these: tuple[str, str], now: datetime) -> int:
    """A thousand at a time: some people have very many."""
    ended = 0
    while True:
        async with database.begin() as transaction:
            some = await transaction.execute(
                "UPDATE sessions SET ended_at = $3, ended_reason = 'restored' WHERE id IN (SELECT id FROM sessions"
                f" WHERE user_id > $1 AND user_id <= $2 AND ended_at IS NULL LIMIT {_SESSIONS})",
                *these, unix_seconds(now),
            )  # fmt: skip
        ended += some
        if some < _SESSIONS:
            return ended


async def _advance_credential_versions(transaction: Transaction, these: tuple[str, str], now: datetime) -> None:
    """Set versions to the Unix time or higher: more than any version since the backup, since they count changes."""
    await transaction.execute(
        "UPDATE users SET epoch = CASE WHEN epoch < $3 THEN $3 ELSE epoch + 1 END, recovery_due_at = NULL"
        " WHERE id > $1 AND id <= $2",
        *these, unix_seconds(now),
    )  # fmt: skip


async def _use_up_steps(transaction: Transaction, these: tuple[str, str], now: datetime, skew_steps: int) -> None:
    """Every step that an authenticator can have used by now, and no enrolment beside a confirmed one."""
    await transaction.execute(
        "DELETE FROM factors WHERE user_id > $1 AND user_id <= $2 AND confirmed_at IS NULL AND EXISTS"
        " (SELECT 1 FROM factors f WHERE f.user_id = factors.user_id AND f.confirmed_at IS NOT NULL)",
        *these,
    )
    await transaction.execute(
        "UPDATE factors SET epoch = (SELECT users.epoch FROM users WHERE users.id = factors.user_id), told_at = 0,"
        " last_step = CASE WHEN last_step < $3 THEN $3 ELSE last_step END"
        " WHERE user_id > $1 AND user_id <= $2",
        *these, totp.step_at(now) + max_accepted_ahead(skew_steps),
    )  # fmt: skip
