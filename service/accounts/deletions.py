"""The deletion of accounts: requested by the user and carried out after a delay, or at once by another actor.

A request disables the account, ends its sessions and revokes its tokens. Within the delay the user can take it
back by a login (`login/restore`). After the delay the housekeeping of one replica removes the account; without a
delay the request removes it. After a restored backup the restore guard removes the accounts that an operator lists,
because they were deleted after the backup.
"""

from collections.abc import Collection
from datetime import timedelta

from service.accounts.fresh import FreshProof
from service.clock import Clock, unix_seconds
from service.errors import InvalidToken
from service.factors.second_factor import SecondFactors
from service.messages.events import Events, remove_details
from service.origin import OPERATOR, Act, Caller
from service.sessions import sessions
from service.storage.database import Database, Transaction
from service.telemetry.event_names import EventName
from service.tokens.access import AccessClaims
from service.users import addresses, deletions, invitations, users
from service.users.administrators import ADMINISTRATOR, check_leaving
from service.users.deletions import RemovedAccounts
from service.users.users import User

_PAGE = 100
"""Accounts that are listed at a time."""


async def remove_account(
    transaction: Transaction, user_id: str, act: Act, second_factors: SecondFactors, events: Events
) -> User | None:
    """Delete an account, except its username and `sub`; `None` if it was deleted already.

    `user.deleted` is its last event. Its earlier events lose their details: at once, or, if they are due to the
    webhook, after their delivery. The events and the rows of its ended sessions stay until they are swept.
    """
    deleted = await users.delete(transaction, user_id, act.at)
    if deleted is None:
        return None
    await second_factors.remove_all(transaction, user_id)
    await sessions.end_all(transaction, user_id, reason="deleted", now=act.at)
    await _remove_addresses(transaction, user_id)
    await remove_details(transaction, user_id)
    await events.record(transaction, EventName.USER_DELETED, user_id, act)
    return deleted


async def _remove_addresses(transaction: Transaction, user_id: str) -> None:
    await addresses.release_all(transaction, user_id)
    await invitations.remove_address(transaction, user_id)


class Deletions:
    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        fresh: FreshProof,
        second_factors: SecondFactors,
        events: Events,
        delay: timedelta,
    ) -> None:
        self._clock = clock
        self._database = database
        self._fresh = fresh
        self._second_factors = second_factors
        self._events = events
        self._delay = delay

    async def request(self, access: AccessClaims, password: str, caller: Caller) -> int:
        """Schedule the deletion of the bearer's account; without a delay delete it. Return when it is due.

        The time is in epoch seconds. Raises what `FreshProof.require` does; `LastAdministrator`; `InvalidToken` if
        the account changed at the same time.
        """
        proved = await self._fresh.require(access, password, caller)
        user, now = proved.user, proved.at
        act, due_at = Act.of_user(user.id, now, caller), unix_seconds(now + self._delay)
        async with self._database.begin() as transaction:
            if ADMINISTRATOR in user.roles:
                await check_leaving(transaction, user.id)
            if not await deletions.schedule(transaction, user, now=now, due_at=due_at):
                raise InvalidToken
            if not self._delay:
                await remove_account(transaction, user.id, act, self._second_factors, self._events)
                return due_at
            await sessions.end_all(transaction, user.id, reason="deletion_scheduled", now=now)
            await self._events.record(transaction, EventName.USER_DELETION_SCHEDULED, user.id, act, due_at=due_at)
        return due_at

    async def remove_due(self) -> int:
        """Remove the accounts whose deletion is due; return how many this call removed. Raises `StoreUnavailable`."""
        now, removed = self._clock(), 0
        while due := await deletions.list_due(self._database, now, limit=_PAGE):
            for user_id in due:
                async with self._database.begin() as transaction:
                    if await deletions.lock_if_due(transaction, user_id, now):
                        act = Act.of_user(user_id, now)  # the user requested it
                        await remove_account(transaction, user_id, act, self._second_factors, self._events)
                        removed += 1
        return removed

    async def remove_listed(self, subjects: Collection[str]) -> RemovedAccounts:
        """Remove the accounts with these `sub`, as an act of the operator. Raises `StoreUnavailable`.

        A `sub` that no account has is counted as absent: the account was made after the backup, so that the restored
        database does not have it.
        """
        removed, before, absent = 0, 0, 0
        for user_id in sorted(set(subjects)):
            async with self._database.begin() as transaction:
                act = Act(OPERATOR, self._clock())
                if await remove_account(transaction, user_id, act, self._second_factors, self._events) is not None:
                    removed += 1
                elif await deletions.is_deleted(transaction, user_id):
                    before += 1
                else:
                    absent += 1
        return RemovedAccounts(removed=removed, deleted_before=before, absent=absent)

    async def remove_remains(self) -> None:
        """Remove what replicas of the previous version left of accounts that they deleted. Raises `StoreUnavailable`.

        While replicas are replaced, those of the previous version go on serving, and do not know the newer columns.
        No other user could confirm an address that such an account keeps.
        """
        last_id = ""
        while found := await deletions.list_with_remains(self._database, after=last_id, limit=_PAGE):
            last_id = found[-1]
            async with self._database.begin() as transaction:
                for user_id in found:
                    await _remove_addresses(transaction, user_id)
                    await deletions.empty(transaction, user_id)
