"""The restore guard (`keyturn restore-guard`): revoke what a restored backup would make valid again.

Run it before the service accepts traffic. In the restored state, sessions that were ended after the backup are live,
used codes are unused, and tokens of that time are valid. The guard goes through all users, and running it twice is
safe. It has these effects:

- Each account gets a credential version higher than any that it can have had. This revokes pending tokens and device
  tokens.
- An unconfirmed authenticator beside a confirmed one is removed. An enrolment, which sets up the first authenticator
  of an account, goes on after the next login, with the same secret.
- Every session ends. A delayed recovery and the request for a new address that were under way are cancelled, because
  the user may have cancelled them since.
- Every time step that may have been used by now counts as used, and so does every recovery code (law 2: a code is
  consumed, not checked; this holds across a restore). Authenticators with a fast clock may have been re-aligned after
  the backup and have used time steps of the future, and the backup does not say which. So the time steps up to
  `max_accepted_ahead` are counted as used for every authenticator. Until they are over, no verification code of an
  authenticator with a right clock is accepted: for 6.5 minutes with the default KEYTURN_TOTP_SKEW_STEPS (1), and a
  minute more or less for each step more or less. An authenticator with a fast clock can be used earlier, one with a
  slow clock later.
- Every signing key of the backup is revoked: the tokens that it signed since belong to sessions that are lost.
- Accounts that are scheduled for deletion in the backup, and whose deletion was due by now, are deleted. The backup
  does not say whether the user took the deletion back since: where that is known, an operator enables the account
  before the guard runs.

Changes since the backup are lost, and the guard cannot restore them: passwords, disabled and deleted accounts, roles,
removed authenticators and clients are as they were in the backup. That includes a deletion that was requested after
the backup: the guard does not know of it, and the account is back.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from service.factors import restored as restored_factors
from service.messages.events import newest_event
from service.sessions import restored as restored_sessions
from service.storage.database import Database
from service.telemetry.event_names import LogName
from service.telemetry.log import emit
from service.tokens.keys import Keys
from service.users import restored as restored_users

_PAGE = 200
"""Users that one transaction changes: it must end within the timeout of the database."""


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What was revoked, and the number of deleted accounts.

    `newest` is the time of the last event in the backup (Unix seconds).
    """

    users: int
    sessions: int
    recovery_codes: int
    signing_keys: int
    deleted: int
    newest: int | None


async def revoke_restored_state(
    database: Database,
    keys: Keys,
    now: datetime,
    *,
    skew_steps: int,
    keeps_recovery_codes: bool = False,
    remove_due_accounts: Callable[[], Awaitable[int]],
    report_progress: Callable[[int], None] = lambda _users: None,
) -> RestoreReport:
    """Revoke what the backup would make valid. Raises `StoreUnavailable`.

    With `keeps_recovery_codes` the recovery codes of the backup stay as they are.
    `remove_due_accounts` deletes the accounts whose deletion is due, and returns their number.
    `report_progress` is called after each page with the number of users that are done.
    """
    newest = await newest_event(database)
    revoked = await keys.revoke_all(now)
    deleted = await remove_due_accounts()
    user_count, sessions, codes, after = 0, 0, 0, ""
    while page := await restored_users.list_ids_after(database, after, limit=_PAGE):
        id_range = (after, page[-1])
        async with database.begin() as transaction:
            await restored_users.advance_credential_versions(transaction, id_range, now)
            await restored_factors.use_up_steps(transaction, id_range, now, skew_steps=skew_steps)
            if not keeps_recovery_codes:
                codes += await restored_factors.use_up_recovery_codes(transaction, id_range, now)
        sessions += await restored_sessions.end_all(database, id_range, now)
        user_count, after = user_count + len(page), page[-1]
        report_progress(user_count)
    done = RestoreReport(user_count, sessions, codes, revoked, deleted, newest)
    emit(LogName.BACKUP_GUARDED, people=user_count, sessions=sessions, recovery_codes=codes, signing_keys=revoked)
    return done
