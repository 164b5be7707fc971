"""What other programs do with tokens: refresh them, get their own, introspect them, revoke them.

`web/tokens.py` has the OAuth 2.0 endpoints (RFC 6749, RFC 7009, RFC 7662) that call these methods. No
client authentication is needed to refresh a session by its refresh token, or to end it by one of its tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from service.clock import Clock
from service.errors import (
    InvalidClient,
    InvalidGrant,
    InvalidScope,
    InvalidToken,
    UnauthorizedClient,
    UnsupportedTokenType,
)
from service.messages.events import Events
from service.origin import ANONYMOUS, Act, Actor
from service.sessions import clients, sessions
from service.sessions.clients import Client
from service.sessions.issuing import issue
from service.sessions.sessions import SessionWithUser
from service.static_claims import Value
from service.storage.database import Database
from service.telemetry import metrics
from service.telemetry.event_names import EventName, LogName
from service.telemetry.log import emit
from service.tokens.access import AccessClaims, ClientAccessClaims
from service.tokens.keys import Keys
from service.tokens.refresh import RefreshClaims
from service.tokens.tokens import Tokens
from service.users.mfa_policy import MfaPolicy


@dataclass(frozen=True, slots=True)
class TokenGrant:
    """An access token, with the next refresh token of a session or with the scope of a client."""

    access_token: str
    expires_in: int
    refresh_token: str | None = None
    refresh_expires_in: int = 0
    scope: str | None = None


@dataclass(frozen=True, slots=True)
class ActiveToken:
    """What is known of a token that is active now (RFC 7662 section 2.2)."""

    token: AccessClaims | ClientAccessClaims | RefreshClaims
    live: SessionWithUser | None = None
    """The session and its user as they are now; `None` for a client."""
    expires_at: int = 0
    """When the session of a refresh token expires unless it is used (Unix seconds); 0 for an access token."""
    static_claims: Mapping[str, Value] = field(default_factory=dict)
    """The static claims of the user that access tokens contain, as they are now."""


class Grants:
    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        events: Events,
        keys: Keys,
        tokens: Tokens,
        session_idle: timedelta,
        policy: MfaPolicy,
    ) -> None:
        self._clock = clock
        self._database = database
        self._events = events
        self._keys = keys
        self._tokens = tokens
        self._session_idle = session_idle
        self._policy = policy

    async def authenticate(self, client_id: str, secret: str) -> Client:
        """Return the registered client with this id and secret. Raises `InvalidClient`."""
        client = await clients.authenticate(self._database, client_id, secret, self._clock())
        if client is None:
            emit(LogName.CLIENT_REFUSED, client_id=client_id if clients.is_id(client_id) else None)
            raise InvalidClient
        return client

    async def refresh(self, refresh_token: str, *, keeps_recent: bool = False) -> TokenGrant:
        """Issue the next tokens of a session (RFC 6749 section 6, law 11: a session is its refresh family).

        With `keeps_recent` there is no refresh token in the result if the given one is to be used again: see
        `sessions.renew`. Raises `InvalidGrant`.
        """
        now = self._clock()
        try:
            refresh = self._tokens.refresh.read(refresh_token)
        except InvalidToken:
            emit(LogName.SESSION_REFRESH_REFUSED, reason="no_such_token")
            raise InvalidGrant from None
        key = await self._keys.get_signing_key(now)  # before anything changes: this may fail
        renewed = await sessions.renew(
            self._database,
            refresh.sid,
            refresh.generation,
            keeps=keeps_recent,
            policy=self._policy,
            idle=self._session_idle,
            now=now,
        )
        if renewed is None:
            await self._refuse(refresh, now)
            raise InvalidGrant
        metrics.count(LogName.SESSION_REFRESHED, {"is_repeated": renewed.is_repeated})
        issued = issue(self._tokens, renewed, key, now)
        if renewed.session.generation == refresh.generation:
            return TokenGrant(issued.access_token, issued.expires_in)
        return TokenGrant(issued.access_token, issued.expires_in, issued.refresh_token, issued.refresh_expires_in)

    async def _refuse(self, refresh: RefreshClaims, now: datetime) -> None:
        """End the live session of a genuine refresh token that was refused, and record why.

        There are two such cases. The token was replaced more than `ROTATION_GRACE` ago, or its successor was replaced
        too: somebody may have copied it. Or the session does not satisfy the policy: it is ended because /verify
        reads no store, and is sure to refuse the access tokens of a session only once the session has ended.
        """
        sid, reason = refresh.sid, "session_is_over"
        act = Act(ANONYMOUS, now)  # the token may have been copied
        async with self._database.begin() as transaction:
            user_id = await sessions.end_reused(transaction, sid, refresh.generation, now)
            if user_id is not None:
                await self._events.record(transaction, EventName.SESSION_REFRESH_REUSED, user_id, act, sid=sid)
                return
            if self._policy.is_on:
                user_id = await sessions.end_noncompliant(transaction, sid, policy=self._policy, now=now)
            if user_id is not None:
                reason = "mfa_required"
                await self._events.record(transaction, EventName.SESSION_ENDED, user_id, act, reason=reason, sid=sid)
        emit(LogName.SESSION_REFRESH_REFUSED, reason=reason, sid=sid)

    async def client_credentials(self, client: Client, scope: str | None) -> TokenGrant:
        """Issue an access token for a client itself (RFC 6749 section 4.4).

        Raises `InvalidScope`; `UnauthorizedClient` for a client without a scope, which may only introspect.
        """
        now = self._clock()
        if not client.scopes:
            raise UnauthorizedClient
        requested = client.scopes if scope is None else tuple(dict.fromkeys(scope.split(" ")))
        if not set(requested) <= set(client.scopes):
            raise InvalidScope
        key = await self._keys.get_signing_key(now)
        granted = " ".join(requested)
        emit(LogName.CLIENT_ADMITTED, client_id=client.id, scope=granted)
        token = self._tokens.access.write_for_client(key, client.id, granted, now=now)
        return TokenGrant(token, int(self._tokens.access.ttl.total_seconds()), scope=granted)

    async def introspect(self, token: str) -> ActiveToken | None:
        """Return the token and what the database says about it now; `None` if it is not active."""
        now = self._clock()
        match await self._read(token, now):
            case ClientAccessClaims() as client:
                is_active = await clients.could_own_token(
                    self._database, client.client_id, client.scope.split(), issued_at=client.issued_at
                )
                return ActiveToken(client) if is_active else None
            case AccessClaims() as access:
                found = await sessions.find_live_with_user(self._database, access.sid, policy=self._policy, now=now)
                return None if found is None else self._active(access, found[0])
            case RefreshClaims() as refresh:
                found = await sessions.find_live_with_user(self._database, refresh.sid, policy=self._policy, now=now)
                if found is None or found[0].session.generation != refresh.generation:
                    return None
                return self._active(refresh, *found)
        return None

    def _active(self, token: AccessClaims | RefreshClaims, live: SessionWithUser, expires_at: int = 0) -> ActiveToken:
        return ActiveToken(token, live, expires_at, self._tokens.access.select_static(live.claims))

    async def revoke(self, token: str, *, client: Client | None = None) -> None:
        """End the session of a genuine refresh token, replaced or not, or of a valid access token (RFC 7009).

        Do nothing for any other text. The actor is the registered client that sent the request, if one authenticated,
        and otherwise the user. Raises `UnsupportedTokenType` for a client's access token: there is no session to end.
        """
        now = self._clock()
        match await self._read(token, now):
            case ClientAccessClaims():
                raise UnsupportedTokenType
            case AccessClaims(sid=sid) | RefreshClaims(sid=sid):
                async with self._database.begin() as transaction:
                    user_id = await sessions.end(transaction, sid, reason="revoked", now=now)
                    if user_id is not None:
                        actor = Actor.user(user_id) if client is None else Actor.client(client.id)
                        await self._events.record(
                            transaction, EventName.SESSION_ENDED, user_id, Act(actor, now), reason="revoked", sid=sid
                        )

    async def _read(self, token: str, now: datetime) -> AccessClaims | ClientAccessClaims | RefreshClaims | None:
        """Read a genuine refresh token, or a valid access token of a user or a client; `None` for any other text."""
        find_key = (await self._keys.public_keys(now)).get
        for read in (
            self._tokens.refresh.read,
            lambda text: self._tokens.access.read(text, find_key=find_key, now=now),
            lambda text: self._tokens.access.read_of_client(text, find_key=find_key, now=now),
        ):
            try:
                return read(token)
            except InvalidToken:
                continue
        return None
