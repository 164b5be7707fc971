"""The administration of accounts: list, show, set a password, change, disable, reset, delete.

The actor is the operator, by a command, or an administrator or a client at the admin API (`users/administrators`).

Each change records an event in the same transaction. Setting a password, disabling, resetting and deleting also end
every session and increment the credential version, which revokes pending and device tokens; enabling only increments
it. A change of roles ends the sessions that no longer satisfy the policy on second factors.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from service.accounts.changes import Changes, RoleChange, Unchanged
from service.accounts.deletions import remove_account
from service.clock import Clock
from service.errors import AccountDisabled, ConfigurationError, InvalidRequest, NotFound
from service.factors import recovery_codes
from service.factors.listing import AuthenticatorSummary
from service.factors.listing import list_all as list_authenticators
from service.factors.second_factor import SecondFactors
from service.messages.events import Events
from service.origin import Act, Actor
from service.roles import check_roles
from service.sessions import sessions
from service.sessions.sessions import SessionSummary
from service.static_claims import Value, encode
from service.storage.database import Database, Transaction
from service.storage.page import Cursors, Page
from service.telemetry.event_names import EventName
from service.typed_text import trim
from service.users import addresses, emails, listing, user_claims, user_roles, users
from service.users.administrators import ADMINISTRATOR, check_right
from service.users.listing import AccountSummary
from service.users.mfa import MfaState
from service.users.mfa_policy import MfaPolicy
from service.users.password_policy import PasswordPolicy
from service.users.passwords import Passwords
from service.users.users import User

MAX_PAGE_SIZE = 200
"""Accounts on a page."""

ROWS_PER_PAGE = 1000
"""Accounts that are read for a page and filtered in Python."""


@dataclass(frozen=True, slots=True)
class AccountFilter:
    """Which accounts to list: those that match every given condition."""

    prefix: str = ""
    """The beginning of the username, in lower case."""
    role: str | None = None
    mfa: MfaState | None = None
    only_disabled: bool = False
    only_enabled: bool = False
    email: str | None = None
    """The confirmed address. Upper and lower case count as the same."""

    def matches(self, account: AccountSummary) -> bool:
        return (
            account.username.startswith(self.prefix)
            and (self.role is None or self.role in account.roles)
            and (self.mfa is None or self.mfa == account.mfa)
            and (not self.only_disabled or account.is_disabled)
            and (not self.only_enabled or not account.is_disabled)
        )


@dataclass(frozen=True, slots=True)
class AccountDetails:
    """One account with everything that belongs to it, without secrets."""

    account: AccountSummary
    recovery_due_at: int | None
    authenticators: list[AuthenticatorSummary]
    recovery_codes_left: int
    email: str | None
    """The confirmed address."""
    new_email: str | None
    """The address that is to replace it once it is confirmed."""
    locale: str | None
    claims: Mapping[str, Value]
    """The static claims."""
    sessions: list[SessionSummary]
    """The live sessions, the most recently used first; at most `MAX_LISTED_SESSIONS`."""


class Administration:
    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        passwords: Passwords,
        password_policy: PasswordPolicy,
        second_factors: SecondFactors,
        events: Events,
        policy: MfaPolicy,
        cursors: Cursors,
    ) -> None:
        self._clock = clock
        self._database = database
        self._passwords = passwords
        self._password_policy = password_policy
        self._second_factors = second_factors
        self._events = events
        self._policy = policy
        self._cursors = cursors

    async def get(self, name: str) -> User:
        """Return the account with this username (in upper or lower case) or `sub`.

        A name that begins with `sub:` is always read as a `sub`, and white space in it is part of the `sub`. Raises
        `NotFound`; `ConfigurationError` if the name is the username of one account and the `sub` of another: a user
        could choose a username that makes an operator take them for another user.
        """
        if not name.startswith("sub:"):
            name = trim(name)
        if not name.isascii() or not name.isprintable():
            raise NotFound
        if name.startswith("sub:"):
            by_id = await users.find_by_id(self._database, name.removeprefix("sub:"))
            found = [] if by_id is None else [by_id]
        else:
            found = await users.find_either(self._database, name)
        if not found:
            raise NotFound
        if len(found) > 1:
            raise ConfigurationError(
                f"{name} is the username of one account and the sub of another. For the first account give its sub. "
                f"For the second one give its username, or write sub:{name}."
            )
        return found[0]

    async def deleted_at(self, name: str) -> int | None:
        """When the account with this username or `sub` was deleted (epoch seconds); `None` if none was deleted."""
        name = name.strip().removeprefix("sub:")
        return await users.deleted_at(self._database, name) if name.isascii() and name.isprintable() else None

    async def show(self, name: str) -> AccountDetails:
        """Return the account with its authenticators and live sessions. Raises what `get` does."""
        user, now = await self.get(name), self._clock()
        return AccountDetails(
            listing.summary_of(user),
            user.pending_recovery(now),
            await list_authenticators(self._database, user.id),
            await recovery_codes.count_left(self._database, user.id),
            user.email,
            user.new_email,
            user.locale,
            user.claims,
            await sessions.list_live(self._database, user.id, policy=self._policy, now=now),
        )

    async def list_page(
        self,
        chosen: AccountFilter,
        *,
        limit: int = MAX_PAGE_SIZE,
        cursor: str | None = None,
        rows_per_page: int = ROWS_PER_PAGE,
    ) -> Page[AccountSummary]:
        """Return the next accounts that match, in the order of their usernames: at most `limit`.

        The address and the beginning of the username are searched in the database. The other filters are applied in
        Python to `rows_per_page` rows: a statement that searches millions of rows for a rare match would exceed
        the time limit of statements. So a page may be empty although others follow. With an address at most one
        account matches, and the cursor is not read. Raises `InvalidRequest` for a limit that is not 1 to
        `MAX_PAGE_SIZE`, and for a cursor of another list or of other filters.
        """
        if not 1 <= limit <= MAX_PAGE_SIZE:
            raise InvalidRequest((("limit", f"This must be 1 to {MAX_PAGE_SIZE}"),))
        if chosen.email is not None:
            named = await listing.find_by_email(self._database, chosen.email)
            return Page(tuple(account for account in named if chosen.matches(account)), None)
        filters = repr(chosen)
        after = "" if cursor is None else self._cursors.read(cursor, filters=filters)
        read = limit if chosen == AccountFilter(prefix=chosen.prefix) else rows_per_page
        rows = await listing.list_after(self._database, after, prefix=chosen.prefix, limit=read + 1)
        found: list[AccountSummary] = []
        for number, account in enumerate(rows[:read], 1):
            if chosen.matches(account):
                found.append(account)
            if number < len(rows) and (len(found) == limit or number == read):
                return Page(tuple(found), self._cursors.write(account.username, filters=filters))
        return Page(tuple(found), None)

    async def list_matching(
        self, chosen: AccountFilter, *, rows_per_page: int = ROWS_PER_PAGE
    ) -> AsyncIterator[AccountSummary]:
        """Yield all accounts that match, in the order of their usernames."""
        cursor = None
        while True:
            page = await self.list_page(chosen, cursor=cursor, rows_per_page=rows_per_page)
            for account in page.items:
                yield account
            if page.next_cursor is None:
                return
            cursor = page.next_cursor

    async def set_password(self, name: str, password: str, *, by: Actor) -> User:
        """Replace the password of an account and end every session. (A change by the user keeps the current session.)

        The second factor stays; a disabled account stays disabled. Raises what `get` and `check_right` do,
        `WeakPassword`, `BreachedPassword` and `Busy`.
        """
        user = await self.get(name)
        await self._password_policy.check_for(user, password)
        await self._password_policy.check_breached(password)
        password_hash = await self._passwords.hash(password)
        now = self._clock()
        async with self._database.begin() as transaction:
            await check_right(transaction, by, user.id)
            changed = await users.set_password(transaction, user.id, password_hash)
            if changed is None:
                raise NotFound
            await sessions.end_all(transaction, user.id, reason="password_changed", now=now)
            await self._events.record(transaction, EventName.PASSWORD_CHANGED, user.id, Act(by, now))
        return changed

    async def set_roles(
        self, name: str, *, add: str | None = None, remove: str | None = None, by: Actor
    ) -> RoleChange:
        """Add or remove a role, and end the sessions that no longer satisfy the policy.

        If the roles stay the same, no event is recorded. Raises what `get` and `check_right` do, or `ValueError` for
        a role that cannot exist.
        """
        found = await self.get(name)
        act = Act(by, self._clock())
        async with self._database.begin() as transaction:
            given = () if add is None else (add,)
            await check_right(transaction, by, found.id, gives=given, removes=remove == ADMINISTRATOR)
            before = await users.lock(transaction, found.id)  # so that no change of a second operator is lost
            if before is None:
                raise NotFound
            user = await user_roles.change_roles(transaction, before, add=add, remove=remove)
            return await self._finish_role_change(transaction, before, user, act, by=by)

    async def _finish_role_change(
        self, transaction: Transaction, before: User, user: User, act: Act, *, by: Actor
    ) -> RoleChange:
        """Record a change of roles, and end the sessions that no longer satisfy the policy."""
        ended = None
        if set(user.roles) != set(before.roles):
            roles = " ".join(user.roles)
            await self._events.record(transaction, EventName.USER_ROLES_CHANGED, user.id, act, roles=roles)
        if self._policy.applies_to(user.roles):
            # The user's row is locked: a refresh that read the old roles has finished, or its session ends here.
            ended = await sessions.end_all_noncompliant(transaction, user.id, policy=self._policy, now=act.at)
            if ended:
                await self._events.record(
                    transaction, EventName.SESSION_ENDED, user.id, act, reason="mfa_required", sessions=ended
                )
        return RoleChange(user.roles, ended)

    async def set_disabled(self, name: str, *, disabled: bool, by: Actor) -> None:
        """Disable an account and end its sessions, or enable it again. Raises what `get` and `check_right` do.

        Disabling an account whose deletion is scheduled leaves it scheduled, and its user can no longer take it back.
        Enabling cancels the deletion. Otherwise, disabling a disabled account or enabling an enabled one changes
        nothing.
        """
        found = await self.get(name)
        act = Act(by, self._clock())
        async with self._database.begin() as transaction:
            await check_right(transaction, by, found.id, removes=disabled)
            user = await users.lock(transaction, found.id)
            if user is None:
                raise NotFound
            await self._write_disabled(transaction, user, act, disabled=disabled, by=by)

    async def _write_disabled(
        self, transaction: Transaction, user: User, act: Act, *, disabled: bool, by: Actor
    ) -> User:
        """Disable or enable the account if that changes it. The user's row must be locked."""
        # Disabling an account whose user requested its deletion is a change: see `set_disabled`.
        if disabled == user.is_disabled and not user.is_disabled_by_user:
            return user
        await users.revoke_tokens(transaction, user.id)
        await users.set_disabled(transaction, user.id, act.at if disabled else None)
        if disabled:
            await sessions.end_all(transaction, user.id, reason="disabled", now=act.at)
        elif user.deletion_due_at is not None:
            await self._events.record(transaction, EventName.USER_RESTORED, user.id, act)
        event = EventName.USER_DISABLED if disabled else EventName.USER_ENABLED
        await self._events.record(transaction, event, user.id, act)
        return await users.lock(transaction, user.id) or user

    async def change(self, name: str, changes: Changes, *, by: Actor) -> None:
        """Make all of these changes, or none. A field that has its value already changes nothing.

        There are two exceptions: an address, and disabling an account whose user requested its deletion (see
        `set_disabled`).

        Raises what `get` and `check_right` do; `InvalidRequest` for roles that cannot exist, an address that the
        account has already, and a new address where no message can be sent to it; `AccountDisabled` for a new address
        of a disabled account.
        """
        found = await self.get(name)
        act, roles = Act(by, self._clock()), changes.roles
        if roles is not None:
            try:
                roles = check_roles(tuple(sorted(set(roles))))
            except ValueError as error:
                raise InvalidRequest((("roles", str(error)),)) from None
        async with self._database.begin() as transaction:
            loses_role = roles is not None and ADMINISTRATOR not in roles
            await check_right(
                transaction, by, found.id, gives=roles or (), removes=loses_role or changes.disabled is True
            )
            user = await users.lock(transaction, found.id)
            if user is None:
                raise NotFound
            if roles is not None and roles != user.roles:
                before, user = user, await user_roles.set_roles(transaction, user, roles)
                await self._finish_role_change(transaction, before, user, act, by=by)
            if changes.claims is not None and encode(changes.claims) != encode(user.claims):
                await user_claims.set_claims(transaction, user, changes.claims)
                names = " ".join(sorted(changes.claims))
                await self._events.record(transaction, EventName.USER_CLAIMS_CHANGED, user.id, act, claims=names)
            if changes.locale is not Unchanged.UNCHANGED and changes.locale != user.locale:
                user = await users.set_locale(transaction, user, changes.locale)
                await self._events.record(
                    transaction, EventName.USER_LOCALE_CHANGED, user.id, act, locale=changes.locale or ""
                )
            if changes.disabled is not None:
                user = await self._write_disabled(transaction, user, act, disabled=changes.disabled, by=by)
            if changes.email is not Unchanged.UNCHANGED:
                await self._write_email(transaction, user, changes.email, act, by=by)

    async def _write_email(
        self, transaction: Transaction, user: User, email: str | None, act: Act, *, by: Actor
    ) -> None:
        """Remove the address, or send a link to a new one. The user's row must be locked."""
        if email is None:
            if user.has_email:
                await self._events.record(transaction, EventName.EMAIL_REMOVED, user.id, act)
                await emails.remove(transaction, user)
            return
        if not self._events.sends_messages:
            raise InvalidRequest((("email", "This service sends no messages: nobody could confirm the address"),))
        if user.is_disabled:
            raise AccountDisabled
        if user.email is not None and addresses.fold(user.email) == addresses.fold(email):
            raise InvalidRequest((("email", "This is the address of the account already"),))
        if not await emails.request(transaction, user, email, act.at):
            raise NotFound
        await self._events.record(transaction, EventName.EMAIL_CHANGE_REQUESTED, user.id, act)

    async def reset_mfa(self, name: str, *, by: Actor) -> bool:
        """Remove the second factor of a user who lost it and end all their sessions.

        Return whether there was an authenticator, confirmed or not.

        Raises what `get` and `check_right` do.
        """
        found = await self.get(name)
        now = self._clock()
        async with self._database.begin() as transaction:
            await check_right(transaction, by, found.id)
            user = await users.revoke_tokens(transaction, found.id)
            if user is None:
                raise NotFound
            removed = await self._second_factors.remove_all(transaction, user.id)
            await sessions.end_all(transaction, user.id, reason="mfa_reset", now=now)
            await self._events.record(transaction, EventName.MFA_RESET, user.id, Act(by, now), factors=removed)
        return removed > 0

    async def delete(self, name: str, *, by: Actor) -> User:
        """Delete an account. Its username and `sub` are never given to another account.

        The password hash, roles, static claims, addresses, language, authenticators and recovery codes are removed at
        once, and every session ends. Its events stay without their details (those that are due to the webhook keep
        them until they are delivered). The events and the rows of its ended sessions are swept when they are old, as
        for every account. Raises what `get` and `check_right` do.
        """
        user = await self.get(name)
        now = self._clock()
        async with self._database.begin() as transaction:
            await check_right(transaction, by, user.id, removes=True)
            deleted = await remove_account(transaction, user.id, Act(by, now), self._second_factors, self._events)
            if deleted is None:
                raise NotFound
        return deleted
