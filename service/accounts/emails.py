"""What users do with the e-mail address of their account: request, confirm, cancel, remove.

An address is confirmed before it is used for anything else: a link goes to the new address, and the address of the
account changes only when that link is used. Until then the former address stays, and gets a message with a link that
refuses the change. Only the holder of the link learns whether another account has the address (law 8: no answer
reveals who exists).
"""

from datetime import timedelta

from service.accounts.fresh import FreshProof
from service.clock import Clock
from service.errors import InvalidRequest, InvalidToken, TooManyAttempts
from service.messages.events import Events
from service.origin import Act, Caller
from service.storage.database import Database
from service.storage.throttle import Throttle
from service.telemetry.event_names import EventName
from service.tokens.access import AccessClaims
from service.tokens.links import EmailCancellation, EmailConfirmation, Links, digest_address
from service.users import addresses, emails, users
from service.users.credentials import Credentials

MAX_REQUESTS, REQUESTS_WINDOW = 5, timedelta(hours=1)
"""Changes of address that a user may request in this time. Each sends a message to an address of their choice."""


class Emails:
    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        throttle: Throttle,
        credentials: Credentials,
        fresh: FreshProof,
        events: Events,
        links: Links,
    ) -> None:
        self._clock = clock
        self._database = database
        self._throttle = throttle
        self._credentials = credentials
        self._fresh = fresh
        self._events = events
        self._links = links

    async def request_change(self, access: AccessClaims, address: str, password: str, caller: Caller) -> None:
        """Send to the new address a link that confirms it, and to a current address one that refuses the change.

        Raises `InvalidCredentials`, `InvalidToken`, `InvalidRequest` if the account has this address already,
        `TooManyAttempts` or `Busy`.
        """
        proved = await self._credentials.prove(access.username, password, caller)
        user, now = proved.user, proved.at
        if user.id != access.sub:
            raise InvalidToken
        if user.email is not None and addresses.fold(user.email) == addresses.fold(address):
            raise InvalidRequest((("email", "This is the address of the account already"),))
        await self._throttle.charge_message(digest_address(address), now)
        act = Act.of_user(user.id, now, caller)
        async with self._database.begin() as transaction:
            if not await emails.request(transaction, user, address, now):
                raise InvalidToken
            await self._events.record(transaction, EventName.EMAIL_CHANGE_REQUESTED, user.id, act)
            requested = await self._events.count(
                transaction, EventName.EMAIL_CHANGE_REQUESTED, user.id, since=now - REQUESTS_WINDOW
            )
            if requested > MAX_REQUESTS:
                raise TooManyAttempts(REQUESTS_WINDOW.total_seconds())

    async def confirm(self, token: str, caller: Caller) -> None:
        """Change the address to the new one. Raises `InvalidToken`; `EmailTaken` if another account has it."""
        now = self._clock()
        link = self._links.read(EmailConfirmation, token, now=now)
        async with self._database.begin() as transaction:
            user = await emails.consume_request(transaction, link.sub, link.address, requested_at=link.issued_at)
            if user is None:
                raise InvalidToken
            # Before the change: the notice goes to the address that the account has at the event.
            await self._events.record(
                transaction, EventName.EMAIL_CHANGED, user.id, Act.of_user(user.id, now, caller)
            )
            await emails.set_confirmed(transaction, user, link.address)

    async def cancel(self, token: str, caller: Caller) -> None:
        """Refuse the new address by the link that went to the former one. Raises `InvalidToken`."""
        now = self._clock()
        link = self._links.read(EmailCancellation, token, now=now)
        user = await users.find_by_id(self._database, link.sub)
        if user is None or user.new_email is None or digest_address(user.new_email) != link.address_digest:
            raise InvalidToken
        async with self._database.begin() as transaction:
            if not await emails.cancel(transaction, user, requested_at=link.issued_at):
                raise InvalidToken
            await self._events.record(
                transaction, EventName.EMAIL_CHANGE_CANCELLED, user.id, Act.of_user(user.id, now, caller)
            )

    async def remove(self, access: AccessClaims, password: str | None, caller: Caller) -> None:
        """Remove the user's address, and cancel a requested change. Raises what `FreshProof.require` does."""
        proved = await self._fresh.require(access, password, caller)
        user, now = proved.user, proved.at
        async with self._database.begin() as transaction:
            if not await users.lock_if_current(transaction, user):
                raise InvalidToken
            # Read again: another address may have been confirmed, which changes no credential version.
            current = await users.lock(transaction, user.id)
            if current is not None and current.has_email:
                act = Act.of_user(user.id, now, caller)
                await self._events.record(transaction, EventName.EMAIL_REMOVED, user.id, act)
                await emails.remove(transaction, current)
