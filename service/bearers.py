"""Who bears an access token: for what people do here, and for gateways that ask at every request.

`authenticate` is exact: one read asks whether the session lives. `verify` asks no store at all (law 7: no fail-open,
no hang): a signature is checked once per token, and which sessions ended lately is read by `EndedSessions` twice a
second, off the request. Sessions that ended earlier need no remembering: their last access token has expired by
itself.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha256

from service import sessions
from service.clock import Clock, unix_seconds
from service.database import Database
from service.errors import InsufficientAuthentication, InvalidToken, StoreUnavailable
from service.keys import Keys
from service.policy import MfaPolicy
from service.tokens import LEEWAY_SECONDS, AccessClaims, Tokens, VerifyingKey

VERIFIED_TOKEN_CACHE_SIZE = 8192
"""Access tokens whose signature was verified, a kilobyte each; the oldest is verified again when it comes back."""

OVERLAP = timedelta(seconds=LEEWAY_SECONDS)
"""How far each reading of ended sessions goes back beyond the one before: clocks differ, commits take a moment."""

DEEP_OVERLAP, DEEP_INTERVAL = timedelta(minutes=5), timedelta(seconds=30)
"""And how far one goes now and then, for a replica whose clock is wrong; each would make a mass logout costly."""

FRESH_AUTHENTICATION_SECONDS = 300
"""How long a second factor is recent enough to change the second factor itself."""

ACR_LEVELS: Mapping[str, int] = {"aal1": 1, "aal2": 2}
"""Values of `acr`, by how much they assure."""


class EndedSessions:
    """The sessions that ended while an access token of theirs may still be good."""

    def __init__(self, database: Database, *, access_ttl: timedelta) -> None:
        self._database = database
        self._relevant = access_ttl + OVERLAP + DEEP_OVERLAP
        self._seen: dict[str, timedelta] = {}
        self._age = timedelta(0)
        self._read_at: datetime | None = None
        self._read_deep_at: datetime | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether they were ever read."""
        return self._read_at is not None

    def __contains__(self, sid: object) -> bool:
        return sid in self._seen

    async def read(self, now: datetime) -> None:
        """Learn what ended since the last reading. Raises `StoreUnavailable`; what is known stays known."""
        is_deep = self._read_deep_at is None or not self._read_deep_at <= now < self._read_deep_at + DEEP_INTERVAL
        if self._read_at is None or now < self._read_at:  # a clock set back was ahead of what ended meanwhile
            since = now - self._relevant
        else:
            since = self._read_at - (DEEP_OVERLAP if is_deep else OVERLAP)
        ended = await sessions.list_ended_since(self._database, unix_seconds(since))
        if self._read_at is not None:  # a clock that jumps, ahead or back, makes nothing a day old
            self._age += min(max(now - self._read_at, timedelta(0)), DEEP_INTERVAL)
        for sid in ended:
            self._seen.setdefault(sid, self._age)
        self._read_at = now
        if is_deep:
            self._read_deep_at = now
        oldest = next(iter(self._seen.values()), self._age)  # in the order of being seen
        if oldest < self._age - 2 * self._relevant:
            self._seen = {sid: seen for sid, seen in self._seen.items() if seen >= self._age - self._relevant}


class BearerAuth:
    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        keys: Keys,
        tokens: Tokens,
        ended: EndedSessions,
        policy: MfaPolicy,
    ) -> None:
        self._clock = clock
        self._database = database
        self._keys = keys
        self._tokens = tokens
        self._ended = ended
        self._policy = policy
        self._verified_tokens: dict[bytes, AccessClaims] = {}

    async def authenticate(self, token: str) -> AccessClaims:
        """The bearer of a good token whose session lives at this moment, or `InvalidToken`."""
        now = self._clock()
        access = self._tokens.read_access(token, find_key=(await self._keys.public_keys(now)).get, now=now)
        if await sessions.find_live(self._database, access.sid, policy=self._policy, now=now) is None:
            raise InvalidToken
        return access

    async def authenticate_recent(self, token: str) -> AccessClaims:
        """`authenticate`, of somebody who proved a second factor a moment ago, or `InsufficientAuthentication`."""
        access = await self.authenticate(token)
        self.check_fresh(access)
        return access

    def check_fresh(self, access: AccessClaims) -> None:
        """Raises `InsufficientAuthentication` unless a second factor was proved a moment ago."""
        if access.acr != "aal2" or unix_seconds(self._clock()) - access.auth_time > FRESH_AUTHENTICATION_SECONDS:
            raise InsufficientAuthentication(acr="aal2", max_age=FRESH_AUTHENTICATION_SECONDS)

    async def verify(self, token: str, *, acr: str | None = None, max_age: int | None = None) -> AccessClaims:
        """The bearer of a good token, of a session that had not ended a second ago.

        A session that does not satisfy the operator's policy is ended elsewhere; where the token alone tells that it
        does not, it is refused here at once.

        Raises `InvalidToken`; `InsufficientAuthentication` if the bearer proved less than `acr`, or longer ago than
        `max_age` seconds (RFC 9470). `StoreUnavailable` until the database answered once.
        """
        now = self._clock()
        if not self._ended.is_loaded:
            raise StoreUnavailable  # started while the database was away: who was logged out is not known
        access = self._prove(token, await self._keys.public_keys(now), now)
        if access.sid in self._ended or self._policy.refuses(access.acr, access.roles):
            raise InvalidToken
        is_weak = acr is not None and ACR_LEVELS.get(access.acr, 0) < ACR_LEVELS[acr]
        is_old = max_age is not None and unix_seconds(now) - access.auth_time > max_age
        if is_weak or is_old:
            raise InsufficientAuthentication(acr=acr, max_age=max_age)
        return access

    def _prove(self, token: str, keys: Mapping[str, VerifyingKey], now: datetime) -> AccessClaims:
        digest = sha256(token.encode("utf-8", "replace")).digest()
        access = self._verified_tokens.get(digest)
        if access is not None and access.kid in keys and unix_seconds(now) < access.expires_at:
            return access
        self._verified_tokens.pop(digest, None)
        access = self._tokens.read_access(token, find_key=keys.get, now=now)
        if len(self._verified_tokens) >= VERIFIED_TOKEN_CACHE_SIZE:
            del self._verified_tokens[next(iter(self._verified_tokens))]
        self._verified_tokens[digest] = access
        return access
