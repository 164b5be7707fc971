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
- Every time step that may have been used by now counts as used, and so does every recovery code, unless the operator
  keeps them (law 2: a code is consumed, not checked; this holds across a restore). Authenticators with a fast clock
  may have been re-aligned after the backup and have used time steps of the future, and the backup does not say which.
  So the time steps up to `max_accepted_ahead` are counted as used for every authenticator. Until they are over, no
  verification code of an authenticator with a right clock is accepted: for 6.5 minutes with the default
  KEYTURN_TOTP_SKEW_STEPS (1), and a minute more or less for each step more or less. An authenticator with a fast
  clock can be used earlier, one with a slow clock later.
- Every signing key of the backup is revoked: the tokens that it signed since belong to sessions that are lost.
- Every invitation that could be used is revoked, because it may have been used or revoked since (law 16: derive, do
  not store; consume with one statement; this holds across a restore too). Each one is an event of the operator.
- Accounts that the operator lists, because their deletion after the backup is known from events, are deleted.
- Accounts that are scheduled for deletion in the backup, and whose deletion was due by now, are deleted. The backup
  does not say whether the user took the deletion back since: where that is known, an operator enables the account
  before the guard runs.

Changes since the backup are lost, and the guard cannot restore them: passwords, confirmed e-mail addresses, disabled
and deleted accounts, roles, static claims, languages, authenticators and clients are as they were in the backup. That
includes a deletion after the backup of an account that the operator does not list: the account is back.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from service.factors import restored as restored_factors
from service.messages.events import Events, newest_event
from service.origin import OPERATOR, Act
from service.sessions import restored as restored_sessions
from service.storage.database import Database
from service.telemetry.event_names import EventName, LogName
from service.telemetry.log import emit
from service.tokens.keys import Keys
from service.users import restored as restored_users
from service.users.deletions import RemovedAccounts

_PAGE = 200
"""Users or invitations that one transaction changes: it must end within the timeout of the database."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What the operator chooses."""

    keeps_recovery_codes: bool = False
    """Whether the recovery codes of the backup stay as they are."""
    deleted: Collection[str] | None = None
    """The `sub` of the accounts that were deleted after the backup; `None`: the operator lists none."""


class AccountDeletions(Protocol):
    """Deletes accounts: `Deletions` of the package `accounts`, which stands above this one."""

    async def remove_due(self) -> int:
        """Delete the accounts whose deletion is due, and return their number."""
        ...

    async def remove_listed(self, subjects: Collection[str]) -> RemovedAccounts:
        """Delete the accounts with these `sub`."""
        ...


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What was revoked, and the numbers of deleted accounts.

    `deleted` counts those whose deletion was due, `listed` has the numbers of those that the operator listed; `None`
    without a list. `newest` is the time of the last event in the backup (Unix seconds).
    """

    users: int
    sessions: int
    recovery_codes: int
    signing_keys: int
    invitations: int
    deleted: int
    listed: RemovedAccounts | None
    newest: int | None


async def revoke_restored_state(
    database: Database,
    keys: Keys,
    events: Events,
    now: datetime,
    *,
    skew_steps: int,
    deletions: AccountDeletions,
    choices: Choices,
    report_progress: Callable[[int], None] = lambda _users: None,
) -> RestoreReport:
    """Revoke what the backup would make valid. Raises `StoreUnavailable`.

    `report_progress` is called after each page with the number of users that are done.
    """
    newest = await newest_event(database)
    revoked = await keys.revoke_all(now)
    listed = None if choices.deleted is None else await deletions.remove_listed(choices.deleted)
    deleted = await deletions.remove_due()
    invitations = await _revoke_invitations(database, events, now)
    user_count, sessions, codes, after = 0, 0, 0, ""
    while page := await restored_users.list_ids_after(database, after, limit=_PAGE):
        id_range = (after, page[-1])
        async with database.begin() as transaction:
            await restored_users.advance_credential_versions(transaction, id_range, now)
            await restored_factors.use_up_steps(transaction, id_range, now, skew_steps=skew_steps)
            if not choices.keeps_recovery_codes:
                codes += await restored_factors.use_up_recovery_codes(transaction, id_range, now)
        sessions += await restored_sessions.end_all(database, id_range, now)
        user_count, after = user_count + len(page), page[-1]
        report_progress(user_count)
    emit(
        LogName.BACKUP_GUARDED,
        people=user_count,
        sessions=sessions,
        recovery_codes=codes,
        signing_keys=revoked,
        invitations=invitations,
    )
    return RestoreReport(
        users=user_count,
        sessions=sessions,
        recovery_codes=codes,
        signing_keys=revoked,
        invitations=invitations,
        deleted=deleted,
        listed=listed,
        newest=newest,
    )


async def _revoke_invitations(database: Database, events: Events, now: datetime) -> int:
    act, count = Act(OPERATOR, now), 0
    while True:
        async with database.begin() as transaction:
            revoked = await restored_users.revoke_open_invitations(transaction, now, limit=_PAGE)
            for invitation_id in revoked:
                await events.record(transaction, EventName.INVITATION_REVOKED, None, act, invitation=invitation_id)
        count += len(revoked)
        # Beside a second guard a page may be empty, because that guard has just revoked its rows: look again.
        if not revoked and not await restored_users.has_open_invitations(database, now):
            return count
