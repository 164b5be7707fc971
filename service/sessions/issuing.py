"""Issuing the tokens of a session: one call for a session that was opened, stepped up or refreshed."""

from dataclasses import dataclass
from datetime import datetime

from service.clock import unix_seconds
from service.sessions.sessions import SessionWithUser
from service.tokens.jwt_codec import SigningKey
from service.tokens.tokens import Tokens


@dataclass(frozen=True, slots=True)
class SessionTokens:
    """An access token of a session, its lifetime in seconds, and the refresh token of the session's generation."""

    access_token: str
    expires_in: int
    refresh_token: str
    refresh_expires_in: int
    """Seconds after which the session expires unless it is refreshed."""


def issue(tokens: Tokens, live: SessionWithUser, key: SigningKey, now: datetime) -> SessionTokens:
    """Issue the tokens of a session, signed with `key`. The access token does not outlive the session."""
    lifetime = tokens.access.lifetime(now, expires_at=live.session.expires_at)
    return SessionTokens(
        tokens.access.write(key, live.subject(), static=live.claims, now=now, lifetime=lifetime),
        lifetime,
        tokens.refresh.write(live.session.id, live.session.generation),
        max(0, live.session.expires_at - unix_seconds(now)),
    )
