"""What a message says: read when it is sent, and never stored.

Of what a message says, the outbox has only its kind, the number of its event and the address. Everything else follows
from the event, and from the rows of the user and of the invitation as they are now. The token of a link is derived
here (law 16: derive, do not store; consume with one statement), from the time of the event, so that each attempt
sends the same one, unless a credential version in it has changed.

A message is dropped if its link would be of no use: the token has expired or was used, another address was requested,
or its address is not that of the account any more. A link to set a new password is also dropped if the password was
set meanwhile. That link, and the link to confirm an address, are dropped if the account is disabled.

A notice is sent whatever has changed since the event, to the address that the account had then, and dropped after
`kinds.NOTICE_LIFETIME`. No notice follows from a first login, from a login with a browser or app that was used
before, or from the reset of a second factor that the account did not have. Nothing is sent to an account that was
deleted.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from service.clock import unix_seconds
from service.messages.events import RETENTION
from service.messages.kinds import FRAGMENTS, LINK_LIFETIMES, NOTICE_LIFETIME, MessageKind, has_link
from service.messages.outbox import Message
from service.messages.transport import Drop
from service.storage.database import Database, Row
from service.telemetry.event_names import EventName
from service.tokens.links import (
    EmailCancellation,
    EmailConfirmation,
    Invitation,
    Link,
    Links,
    PasswordReset,
    digest_address,
)
from service.users.users import NOT_DELETED

_SHOWN = {"address": "address", "name": "factor", "due_at": "due_at", "deleted_at": "due_at"}
"""The details of an event that a message shows, each with its name at the webhook.

Templates have the same names, except `due` for `due_at`.
"""


@dataclass(frozen=True, slots=True)
class Content:
    """One message, before a template puts it into a language. Times in Unix seconds."""

    id: str
    """The same at each attempt. It contains the time of the event too: after a backup is restored, the database gives
    numbers of events a second time, and the ids must differ."""
    kind: MessageKind
    occurred_at: int
    to: str = field(repr=False)
    sub: str | None = None
    username: str | None = None
    locale: str | None = None
    """The language that the user chose; `None`: the default."""
    link: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    expires_at: int | None = None
    details: Mapping[str, str | int] = field(default_factory=dict)
    """`address`, `factor` (a name) and `due_at`, where the event has them; `user_agent` of the event's session."""


class Contents:
    """Reads what messages say. `page_url` is the page to which their links lead."""

    def __init__(self, database: Database, links: Links, *, page_url: str) -> None:
        self._database = database
        self._links = links
        self._page_url = page_url

    async def read(self, message: Message, now: datetime) -> Content | Drop:
        """Return the content of a message, or why it is not sent. Raises `StoreUnavailable`."""
        kind = MessageKind(message.kind)
        details = json.loads(message.details)
        if kind is MessageKind.INVITATION:
            return await self._read_invitation(message, str(details.get("invitation")), now)
        row = await self._database.fetch_one(
            "SELECT email, new_email, new_email_at, locale, epoch, disabled_at FROM users"
            f" WHERE id = $1 AND {NOT_DELETED}",
            message.user_id,
        )
        if row is None or message.user_id is None:
            return Drop("no_account")
        # The previous version put messages into the outbox without an address.
        address = message.address or row["new_email" if kind is MessageKind.EMAIL_CONFIRMATION else "email"]
        if address is None:
            return Drop("no_address")
        refusal = await self._refuse(message, kind, row, details, now)
        if refusal is not None:
            return refusal
        shown: dict[str, str | int] = {_SHOWN[name]: value for name, value in details.items() if name in _SHOWN}
        user_agent = await self._find_user_agent(details.get("sid"))
        if user_agent:
            shown["user_agent"] = user_agent
        claims = _claims(message, kind, row)
        return self._content(
            message,
            to=address,
            locale=row["locale"],
            claims=claims,
            details=shown,
        )

    async def _read_invitation(self, message: Message, invitation_id: str, now: datetime) -> Content | Drop:
        row = await self._database.fetch_one(
            "SELECT email, locale, expires_at, used_at FROM invitations WHERE id = $1", invitation_id
        )
        if row is None or row["used_at"] is not None:
            return Drop("superseded")
        if row["email"] is None:
            return Drop("no_address")
        if unix_seconds(now) >= row["expires_at"]:
            return Drop("expired")
        claims = Invitation(
            message.occurred_at, row["expires_at"], id=invitation_id, address_digest=digest_address(row["email"])
        )
        return self._content(message, to=row["email"], locale=row["locale"], claims=claims, details={})

    async def _refuse(
        self, message: Message, kind: MessageKind, row: Row, details: Mapping[str, object], now: datetime
    ) -> Drop | None:
        """Return why a message to a user is not sent; `None` if it is."""
        is_with_link = has_link(kind, message.event)
        lifetime = LINK_LIFETIMES[kind] if is_with_link else NOTICE_LIFETIME
        if unix_seconds(now) >= message.occurred_at + lifetime.total_seconds():
            return Drop("expired")
        if is_with_link:
            if kind is MessageKind.PASSWORD_RESET and await self._has_new_password(message):
                return Drop("superseded")
            return _refuse_link(message, kind, row)
        if message.event == EventName.MFA_RESET and details.get("factors") == 0:
            return Drop(None)  # an administrator reset an account that had no second factor
        if kind is MessageKind.NEW_DEVICE and not await self._is_new_device(message, str(details.get("sid"))):
            return Drop(None)
        return None

    async def _has_new_password(self, message: Message) -> bool:
        """Return whether the password was set after this request for a reset: the user does not need its link."""
        row = await self._database.fetch_one(
            "SELECT 1 AS one FROM events WHERE user_id = $1 AND id > $2 AND event IN ($3, $4) LIMIT 1",
            message.user_id, message.event_id, EventName.PASSWORD_CHANGED.value, EventName.PASSWORD_RESET.value,
        )  # fmt: skip
        return row is not None

    async def _is_new_device(self, message: Message, sid: str) -> bool:
        """Return whether no earlier session of the user had this user agent, and this is not their first login.

        Only earlier sessions count, so that of two simultaneous logins on a new device at least one is reported. The
        events say whether it is the first login, because sessions are deleted some time after they expired. For an
        account that is older than the retention of events, no login counts as the first.
        """
        row = await self._database.fetch_one(
            "SELECT EXISTS (SELECT 1 FROM events WHERE user_id = $1 AND event = $2 AND id < $3)"
            f" OR EXISTS (SELECT 1 FROM users WHERE id = $1 AND created_at < $5 AND {NOT_DELETED}) AS has_logged_in,"
            " EXISTS (SELECT 1 FROM sessions s JOIN sessions o ON o.user_id = s.user_id"
            " AND o.user_agent = s.user_agent AND (o.created_at < s.created_at"
            " OR (o.created_at = s.created_at AND o.id < s.id)) WHERE s.id = $4) AS is_known",
            message.user_id, EventName.LOGIN_ADMITTED.value, message.event_id, sid,
            message.occurred_at - int(RETENTION.total_seconds()),
        )  # fmt: skip
        return row is not None and bool(row["has_logged_in"]) and not row["is_known"]

    async def _find_user_agent(self, sid: object) -> str | None:
        if not isinstance(sid, str):
            return None
        row = await self._database.fetch_one("SELECT user_agent FROM sessions WHERE id = $1", sid)
        return None if row is None else str(row["user_agent"])

    def _content(
        self, message: Message, *, to: str, locale: str | None, claims: Link | None, details: Mapping[str, str | int]
    ) -> Content:
        kind = MessageKind(message.kind)
        token = None if claims is None else self._links.write(claims)
        return Content(
            id=f"msg_{message.occurred_at}_{message.event_id}_{kind}",
            kind=kind,
            occurred_at=message.occurred_at,
            to=to,
            sub=message.user_id,
            username=message.username,
            locale=locale,
            link=None if token is None else link_to(self._page_url, kind, token),
            token=token,
            expires_at=None if claims is None else claims.expires_at,
            details=details,
        )


def link_to(page_url: str, kind: MessageKind, token: str) -> str:
    """Return a link. Its token is in the fragment, which browsers send to no server (RFC 9110 section 4.2.5)."""
    return f"{page_url}#{FRAGMENTS[kind]}={token}"


def _refuse_link(message: Message, kind: MessageKind, row: Row) -> Drop | None:
    """Return why the link in a message to a user would be of no use; `None` if it is of use."""
    if kind is not MessageKind.EMAIL_CHANGED and row["disabled_at"] is not None:
        return Drop("disabled")
    if kind is not MessageKind.PASSWORD_RESET and (
        row["new_email"] is None or row["new_email_at"] != message.occurred_at
    ):
        return Drop("superseded")
    address = row["new_email"] if kind is MessageKind.EMAIL_CONFIRMATION else row["email"]
    if address is None:
        return Drop("no_address")
    return None if address == (message.address or address) else Drop("superseded")


def _claims(message: Message, kind: MessageKind, row: Row) -> Link | None:
    """Return the claims of the link in a message to a user; `None` for a notice."""
    if not has_link(kind, message.event) or message.user_id is None:
        return None
    issued_at = message.occurred_at
    expires_at = issued_at + int(LINK_LIFETIMES[kind].total_seconds())
    match kind:
        case MessageKind.PASSWORD_RESET:
            return PasswordReset(issued_at, expires_at, sub=message.user_id, credential_version=row["epoch"])
        case MessageKind.EMAIL_CONFIRMATION:
            return EmailConfirmation(issued_at, expires_at, sub=message.user_id, address=row["new_email"])
        case _:
            digest = digest_address(row["new_email"])
            return EmailCancellation(issued_at, expires_at, sub=message.user_id, address_digest=digest)
