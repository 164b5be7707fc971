"""Invitations to sign up: for which address, with which roles, and until when.

An invitation is made by an operator, by a client or by an administrator. If it has an address and messages are sent,
a message brings its link there. Otherwise the answer of the admin API shows the link, once. The command shows it in
any case.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from service.errors import InvalidInvitation, InvalidRequest, InvalidToken, NotFound
from service.messages.contents import link_to
from service.messages.events import Events
from service.messages.kinds import MessageKind
from service.origin import Act
from service.roles import check_roles
from service.storage.database import Database, Transaction
from service.storage.page import Cursors, Page
from service.telemetry.event_names import EventName
from service.tokens import links
from service.tokens.links import Links, digest_address
from service.users import invitations
from service.users.addresses import fold
from service.users.administrators import check_right
from service.users.invitations import Invitation
from service.users.users import User

DEFAULT_LIFETIME = timedelta(days=7)
MIN_LIFETIME, MAX_LIFETIME = timedelta(minutes=5), timedelta(days=90)
MAX_PAGE_SIZE = 200


@dataclass(frozen=True, slots=True)
class NewInvitation:
    """An invitation and its token, which is shown now or never: a message may bring it instead."""

    invitation: Invitation
    token: str


class Invitations:
    def __init__(self, *, database: Database, events: Events, links: Links, cursors: Cursors, page_url: str) -> None:
        self._database = database
        self._events = events
        self._links = links
        self._cursors = cursors
        self._page_url = page_url

    async def create(
        self,
        act: Act,
        *,
        email: str | None = None,
        locale: str | None = None,
        roles: tuple[str, ...] = (),
        lifetime: timedelta = DEFAULT_LIFETIME,
    ) -> NewInvitation:
        """Make an invitation. If it has an address, a sign-up cannot give another one.

        Where messages are sent, one brings the link to the address. Raises `InvalidRequest` for a lifetime outside
        `MIN_LIFETIME` to `MAX_LIFETIME`, or a role that cannot exist; what `check_right` does.
        """
        if not MIN_LIFETIME <= lifetime <= MAX_LIFETIME:
            raise InvalidRequest((("expires_in", "This must be 5 minutes to 90 days"),))
        try:
            roles = check_roles(tuple(sorted(set(roles))))
        except ValueError as error:
            raise InvalidRequest((("roles", str(error)),)) from None
        async with self._database.begin() as transaction:
            await check_right(transaction, act.actor, gives=roles)
            made = await invitations.add(
                transaction,
                email=email,
                locale=locale,
                roles=roles,
                created_by=act.actor.by(None) or "",
                now=act.at,
                expires_at=act.at + lifetime,
            )
            await self._events.record(
                transaction,
                EventName.INVITATION_CREATED,
                None,
                act,
                invitation=made.id,
                roles=" ".join(roles) or None,
            )
        return NewInvitation(made, self.write_token(made))

    def write_token(self, invitation: Invitation) -> str:
        """Derive the token of an invitation."""
        digest = None if invitation.email is None else digest_address(invitation.email)
        return self._links.write(
            links.Invitation(
                issued_at=invitation.created_at,
                expires_at=invitation.expires_at,
                id=invitation.id,
                address_digest=digest,
            )
        )

    def link_of(self, made: NewInvitation) -> str:
        """Return the link of an invitation."""
        return link_to(self._page_url, MessageKind.INVITATION, made.token)

    def shown_link_of(self, made: NewInvitation) -> str | None:
        """Return the link of an invitation for its maker; `None` where a message brings it to the invited user."""
        is_sent = self._events.sends_messages and made.invitation.email is not None
        return None if is_sent else self.link_of(made)

    async def revoke(self, invitation_id: str, act: Act) -> None:
        """Revoke an invitation that was not used. Raises `NotFound`, and what `check_right` does."""
        async with self._database.begin() as transaction:
            await check_right(transaction, act.actor)
            if not await invitations.revoke(transaction, invitation_id):
                raise NotFound
            await self._events.record(transaction, EventName.INVITATION_REVOKED, None, act, invitation=invitation_id)

    async def get(self, invitation_id: str) -> Invitation:
        """Return an invitation, used or not. Raises `NotFound`."""
        found = await invitations.find(self._database, invitation_id)
        if found is None:
            raise NotFound
        return found

    async def list_page(self, *, limit: int = MAX_PAGE_SIZE, cursor: str | None = None) -> Page[Invitation]:
        """Return invitations in the order of their ids. Raises `InvalidRequest`."""
        if not 1 <= limit <= MAX_PAGE_SIZE:
            raise InvalidRequest((("limit", f"This must be 1 to {MAX_PAGE_SIZE}"),))
        after = "" if cursor is None else self._cursors.read(cursor, filters="")
        found = await invitations.list_after(self._database, after, limit=limit + 1)
        shown = found[:limit]
        more = len(found) > limit
        return Page(tuple(shown), self._cursors.write(shown[-1].id, filters="") if more else None)

    async def get_usable(self, token: str, *, email: str | None, now: datetime) -> Invitation:
        """Return the unused invitation of a token. If it is for one address, `email` must be that one or `None`.

        `consume` decides which of several sign-ups at the same time gets it. Raises `InvalidInvitation`.
        """
        try:
            link = self._links.read(links.Invitation, token, now=now)
        except InvalidToken:
            raise InvalidInvitation from None
        found = await invitations.find(self._database, link.id)
        if found is None or found.used_at is not None or found.expires_at != link.expires_at:
            raise InvalidInvitation
        if email is not None and found.email is not None and fold(email) != fold(found.email):
            raise InvalidInvitation
        return found

    async def consume(self, transaction: Transaction, invitation: Invitation, user: User, act: Act) -> None:
        """Use the invitation for a new account. Raises `InvalidInvitation` if it was used or revoked meanwhile."""
        if not await invitations.consume(transaction, invitation.id, user_id=user.id, now=act.at):
            raise InvalidInvitation
