"""Sessions: what a login opens. The `sid` of its tokens is the row's `id`.

The row is laid out for refresh tokens, which need nothing but it and a derived key: `generation` is the one
now valid, `replaced_at` is when the one before it was replaced. `pending_jti` is unique, so that a pending
token opens one session at most, whatever Redis remembers (law 1).
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from service.clock import epoch
from service.database import Database, Transaction
from service.users import User

PASSWORD = ("pwd",)
PASSWORD_AND_CODE = ("pwd", "otp", "mfa")
PASSWORD_AND_RECOVERY_CODE = ("pwd", "rc", "mfa")
"""Values of `amr` (RFC 8176): what was verified, never what was sent."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is on the other end of the connection, as far as the network tells."""

    address: str
    user_agent: str = ""
    """At most 256 printable characters of what it calls itself."""


@dataclass(frozen=True, slots=True)
class Session:
    id: str
    user_id: str
    auth_time: int
    amr: tuple[str, ...]
    acr: str


async def open_session(
    transaction: Transaction,
    user: User,
    *,
    amr: tuple[str, ...],
    caller: Caller,
    lifetime: timedelta,
    now: datetime,
    pending_jti: str | None = None,
) -> Session | None:
    """A new session, or `None` if the pending token has opened one already."""
    session = Session(
        id=secrets.token_urlsafe(16),
        user_id=user.id,
        auth_time=epoch(now),
        amr=amr,
        acr="aal2" if "mfa" in amr else "aal1",
    )
    inserted = await transaction.execute(
        "INSERT INTO sessions (id, user_id, pending_jti, amr, acr, auth_time, created_at, last_used_at,"
        " expires_at, address, user_agent) VALUES ($1, $2, $3, $4, $5, $6, $6, $6, $7, $8, $9)"
        " ON CONFLICT (pending_jti) DO NOTHING",
        session.id, user.id, pending_jti, " ".join(amr), session.acr, session.auth_time,
        epoch(now + lifetime), caller.address, caller.user_agent,
    )  # fmt: skip
    return session if inserted == 1 else None


async def is_live(database: Database, sid: str, now: datetime) -> bool:
    """Whether the session exists, was not ended and has not expired."""
    row = await database.fetch_one(
        "SELECT 1 FROM sessions WHERE id = $1 AND ended_at IS NULL AND expires_at > $2", sid, epoch(now)
    )
    return row is not None


async def end_all(
    transaction: Transaction, user_id: str, *, reason: str, now: datetime, but: str | None = None
) -> int:
    """End the user's sessions, all `but` one; how many there were."""
    return await transaction.execute(
        "UPDATE sessions SET ended_at = $1, ended_reason = $2"
        " WHERE user_id = $3 AND ended_at IS NULL AND id <> $4",
        epoch(now), reason, user_id, but or "",
    )  # fmt: skip
