"""Authentication by access token: for the endpoints of this service, and for gateways that ask at every request.

The signature of a token is verified once while the token is cached. `authenticate` is exact: it reads from the
database whether the session is live. `verify` reads no store at all (law 7: no fail-open, no hang): between requests
`EndedSessions` reads every 0.4 s which sessions ended lately. Sessions that ended earlier need not be kept: their
last access token has expired by itself.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha256

from service.clock import LEEWAY_SECONDS, Clock, unix_seconds
from service.errors import (
    Forbidden,
    InsufficientAuthentication,
    InsufficientScope,
    InvalidToken,
    StoreUnavailable,
)
from service.origin import Actor
from service.sessions import clients, sessions
from service.storage.database import Database
from service.tokens.access import AccessClaims, AccessCodec, ClientAccessClaims
from service.tokens.keys import Keys
from service.users import administrators
from service.users.mfa_policy import MfaPolicy

VERIFIED_TOKEN_CACHE_SIZE = 8192
"""Access tokens whose signature was verified, a kilobyte each. The oldest is dropped and verified again if needed."""

OVERLAP = timedelta(seconds=LEEWAY_SECONDS)
"""How far each reading of ended sessions overlaps the previous one: clocks differ, and commits take time."""

DEEP_INTERVAL = timedelta(seconds=30)
DEEP_OVERLAP = timedelta(minutes=5) + DEEP_INTERVAL
"""The overlap of one reading in each `DEEP_INTERVAL`, for replicas whose clocks are up to five minutes apart.

With this overlap at every reading, a mass logout would be costly.
"""

FRESH_AUTHENTICATION_SECONDS = 300
"""How long a second factor is fresh after it was proved. Operations such as removing an authenticator require it."""

ACR_LEVELS: Mapping[str, int] = {"aal1": 1, "aal2": 2}
"""Values of `acr`, ordered by how much they assure."""


class EndedSessions:
    """The ended sessions with an access token that may still be valid."""

    def __init__(self, database: Database, *, access_ttl: timedelta) -> None:
        self._database = database
        self.access_ttl = access_ttl
        self._relevant = access_ttl + OVERLAP + DEEP_OVERLAP
        self._seen: dict[str, timedelta] = {}
        self._age = timedelta(0)
        self._read_at: datetime | None = None
        self._read_deep_at: datetime | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether the ended sessions were read at least once."""
        return self._read_at is not None

    def __contains__(self, sid: object) -> bool:
        return sid in self._seen

    def __len__(self) -> int:
        return len(self._seen)

    async def read(self, now: datetime) -> None:
        """Add the sessions that ended since the last reading. On `StoreUnavailable` it keeps those it has."""
        is_deep = self._read_deep_at is None or not self._read_deep_at <= now < self._read_deep_at + DEEP_INTERVAL
        # If the clock was set back, sessions may have ended before `_read_at`.
        if self._read_at is None or now < self._read_at:
            since = now - self._relevant
        else:
            since = self._read_at - (DEEP_OVERLAP if is_deep else OVERLAP)
        ended = await sessions.list_ended_since(self._database, unix_seconds(since))
        if self._read_at is not None:  # a clock that jumps, forwards or back, must not age the entries
            self._age += min(max(now - self._read_at, timedelta(0)), DEEP_INTERVAL)
        for sid in ended:
            self._seen.setdefault(sid, self._age)
        self._read_at = now
        if is_deep:
            self._read_deep_at = now
        oldest = next(iter(self._seen.values()), self._age)  # entries are in the order of being added
        if oldest < self._age - 2 * self._relevant:
            self._seen = {sid: seen for sid, seen in self._seen.items() if seen >= self._age - self._relevant}


def check_fresh(access: AccessClaims, now: datetime) -> None:
    """Raise `InsufficientAuthentication` unless the second factor is fresh (`FRESH_AUTHENTICATION_SECONDS`)."""
    if access.acr != "aal2" or unix_seconds(now) - access.auth_time > FRESH_AUTHENTICATION_SECONDS:
        raise InsufficientAuthentication(acr="aal2", max_age=FRESH_AUTHENTICATION_SECONDS)


class BearerAuth:
    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        keys: Keys,
        tokens: AccessCodec,
        ended: EndedSessions,
        policy: MfaPolicy,
    ) -> None:
        self._clock = clock
        self._database = database
        self._keys = keys
        self._tokens = tokens
        self._ended = ended
        self._policy = policy
        self._verified_tokens: dict[bytes, AccessClaims | ClientAccessClaims] = {}

    @property
    def cached_tokens(self) -> int:
        """How many verified tokens are in memory, at most `VERIFIED_TOKEN_CACHE_SIZE`."""
        return len(self._verified_tokens)

    async def authenticate(self, token: str) -> AccessClaims:
        """Return the claims of a valid token whose session is live now. Raises `InvalidToken`."""
        now = self._clock()
        access = await self._prove(token, now)
        if not isinstance(access, AccessClaims):
            raise InvalidToken
        await self._check_session(access, now)
        return access

    async def authenticate_recent(self, token: str) -> AccessClaims:
        """Like `authenticate`, but also raise `InsufficientAuthentication` unless the second factor is fresh."""
        access = await self.authenticate(token)
        check_fresh(access, self._clock())
        return access

    async def authenticate_client(self, token: str, *, scope: str) -> ClientAccessClaims:
        """Return the claims of a valid access token of a registered client that has `scope`.

        A scope grants only itself: `keyturn:users.write` does not contain `keyturn:users.read`. Raises
        `InvalidToken`, also if the client was removed or no longer has a scope of the token; `InsufficientScope`.
        """
        access = await self._prove(token, self._clock())
        if not isinstance(access, ClientAccessClaims):
            raise InvalidToken
        await self._check_scope(access, scope)
        return access

    async def authenticate_administrator(self, token: str, *, scope: str, writes: bool) -> Actor:
        """Return the actor at the admin API: a client whose token has the scope, or an administrator.

        An administrator must have the role now, whatever roles the token has, and must have proved a second factor,
        which must be fresh for an act that `writes`. Raises `InvalidToken`, `InsufficientScope`, `Forbidden` or
        `InsufficientAuthentication`.
        """
        now = self._clock()
        access = await self._prove(token, now)
        if isinstance(access, ClientAccessClaims):
            await self._check_scope(access, scope)
            return Actor.client(access.client_id)
        await self._check_session(access, now)
        if not await administrators.is_administrator(self._database, access.sub):
            raise Forbidden
        if writes:
            check_fresh(access, now)
        elif access.acr != "aal2":
            raise InsufficientAuthentication(acr="aal2", max_age=None)
        return Actor.user(access.sub)

    async def _check_session(self, access: AccessClaims, now: datetime) -> None:
        if await sessions.find_live(self._database, access.sid, policy=self._policy, now=now) is None:
            raise InvalidToken

    async def _check_scope(self, access: ClientAccessClaims, scope: str) -> None:
        scopes = access.scope.split()
        if not await clients.could_own_token(self._database, access.client_id, scopes, issued_at=access.issued_at):
            raise InvalidToken
        if scope not in scopes:
            raise InsufficientScope(scope)

    async def verify(self, token: str, *, acr: str | None = None, max_age: int | None = None) -> AccessClaims:
        """Return the claims of a valid token whose session had not ended a second ago.

        Housekeeping ends the sessions that do not satisfy the operator's policy. If the claims of the token show that
        its session does not, this method refuses it at once.

        Raises `InvalidToken`; `InsufficientAuthentication` if the bearer proved less than `acr`, or longer ago than
        `max_age` seconds (RFC 9470); `StoreUnavailable` until the ended sessions were read once.
        """
        now = self._clock()
        if not self._ended.is_loaded:
            raise StoreUnavailable  # started without the database: the ended sessions are unknown
        access = await self._prove(token, now)
        if not isinstance(access, AccessClaims):
            raise InvalidToken
        if access.sid in self._ended or self._policy.refuses(access.acr, access.roles):
            raise InvalidToken
        is_weak = acr is not None and ACR_LEVELS.get(access.acr, 0) < ACR_LEVELS[acr]
        is_old = max_age is not None and unix_seconds(now) - access.auth_time > max_age
        if is_weak or is_old:
            raise InsufficientAuthentication(acr=acr, max_age=max_age)
        return access

    async def _prove(self, token: str, now: datetime) -> AccessClaims | ClientAccessClaims:
        """Return the claims of a valid token, whose session or client may be gone. Raises `InvalidToken`.

        The signature is verified once for each token, while the token is cached and the key is published.
        """
        keys = await self._keys.public_keys(now)
        digest = sha256(token.encode("utf-8", "replace")).digest()
        access = self._verified_tokens.get(digest)
        if access is not None and access.kid in keys and unix_seconds(now) < access.expires_at:
            return access
        self._verified_tokens.pop(digest, None)
        access = self._tokens.read_of_either(token, find_key=keys.get, now=now)
        if len(self._verified_tokens) >= VERIFIED_TOKEN_CACHE_SIZE:
            del self._verified_tokens[next(iter(self._verified_tokens))]
        self._verified_tokens[digest] = access
        return access
