"""`docs/reference/tokens.md`: every kind of token, its claims, its key, its lifetime and its readers."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

from service.accounts.invitations import DEFAULT_LIFETIME
from service.messages.kinds import LINK_LIFETIMES, MessageKind
from service.settings import Settings
from service.tokens import device
from service.tokens.access import AccessCodec, Subject
from service.tokens.device import DeviceClaims
from service.tokens.jwt_codec import SigningKey
from service.tokens.keys import generate
from service.tokens.pending import PendingCodec
from tests.reference.markdown import code, page, paragraph, table

CLAIMS = {
    "acr": "The authentication level: `aal1` (a password alone, or with a known device), or "
    "`aal2` (with a second factor).",
    "amr": "The authentication methods: `pwd`, `otp`, `mfa` (RFC 8176), and `rc` for a recovery code, which is not a "
    "registered value.",
    "aud": "The audience: `KEYTURN_AUDIENCE`; of a pending token, the URL of `/login-2fa`.",
    "auth_time": "When the user last logged in or, after a step-up, last proved the second factor.",
    "client_id": "`keyturn`, or the id of the registered client.",
    "epoch": "The credential version of the account. A change of password or factors revokes the token.",
    "exp": "When the token expires.",
    "factor": "The authenticator that the first code confirms.",
    "iat": "When the token was issued.",
    "iss": "The issuer: `KEYTURN_ISSUER`.",
    "jti": "The id of the token. A pending token of a login opens at most one session.",
    "known_device": "`true`: the password was given on a known device, so that no message reports the login.",
    "raised": "How often the session had been stepped up when the token was issued.",
    "roles": "The roles of the user.",
    "scope": "The scopes of the client, separated by spaces.",
    "restores": "`true`: the login also takes back the scheduled deletion of the account.",
    "sid": "The id of the session.",
    "sub": "The id of the user: opaque and never reused. For a client, its id.",
    "token_use": "`mfa_pending`.",
    "username": "The username, for display.",
}


@dataclass(frozen=True)
class Kind:
    """One kind of token as the page shows it; `claims` and `header` are read from a real one."""

    name: str
    form: str
    key: str
    lifetime: str
    readers: str
    claims: frozenset[str]
    type: str | None = None


def _setting(name: str, unit: str = "s") -> str:
    return f"`KEYTURN_{name.upper()}` ({Settings.model_fields[name].default} {unit})"


def decoded(token: str) -> tuple[str | None, Mapping[str, Any]]:
    """The type and the claims of a JWT; the signature is not checked."""
    claims = jwt.decode(token, options={"verify_signature": False})
    return jwt.get_unverified_header(token).get("typ"), claims


def kinds() -> list[Kind]:
    """Every kind, from tokens that are written for this purpose."""
    now = datetime(2026, 11, 22, tzinfo=UTC)
    issuer = "https://auth.example.com"
    access = AccessCodec(issuer=issuer, audience=issuer, ttl=timedelta(seconds=600))
    waiting = PendingCodec(issuer=issuer, ttl=timedelta(seconds=300), keys=[bytes(32)])
    private, jwk = generate("ES256")
    key = SigningKey(jwk["kid"], "ES256", private)
    subject = Subject("sub", "sid", "alice", (), ("pwd",), "aal1", 0)
    public = "a signing key in the key set (ES256 by default)"
    user: Any = {"sub": "sub", "credential_version": 1, "now": now}
    session: Any = {"sid": "sid", "step_ups": 0}
    access_readers = "relying services; Keyturn (`/me`, `/verify` and others)"
    derived = "HS256 with a key derived from the master secret"
    found = [
        ("access token", access.write(key, subject, now=now), public, "access_ttl", access_readers),
        (
            "access token of a client",
            access.write_for_client(key, "billing", "invoices:read", now=now),
            public, "access_ttl", "relying services; Keyturn (`/admin`, `/introspect`)",
        ),
        (
            "pending token of a login", waiting.write_for_login(**user, is_known_device=True),
            derived, "mfa_pending_ttl", "`/login-2fa`, `/qrcode`",
        ),
        ("pending token of a restore", waiting.write_for_restore(**user), derived, "mfa_pending_ttl",
         "`/login-2fa`, `/qrcode`"),
        ("pending token of a step-up", waiting.write_for_step_up(**user, **session), derived, "mfa_pending_ttl",
         "`/login-2fa`"),
        (
            "pending token of another authenticator",
            waiting.write_for_authenticator(**user, **session, factor="factor"),
            derived, "mfa_pending_ttl", "`/login-2fa`, `/qrcode`",
        ),
    ]  # fmt: skip
    jwts = []
    for name, token, signed_with, lifetime, readers in found:
        kind, claims = decoded(token)
        jwts.append(Kind(name, "JWT", signed_with, _setting(lifetime), readers, frozenset(claims), kind))
    return jwts


def _lifetimes_of_links() -> str:
    hours = {kind: int(LINK_LIFETIMES[kind].total_seconds()) // 3600 for kind in LINK_LIFETIMES}
    return (
        f"new password: {hours[MessageKind.PASSWORD_RESET]} h; address to confirm: "
        f"{hours[MessageKind.EMAIL_CONFIRMATION]} h; address to refuse: {hours[MessageKind.EMAIL_CHANGED] // 24} "
        f"days; invitation: {DEFAULT_LIFETIME.days} days by default"
    )


def _claims_of_device() -> set[str]:
    """The keys of the sealed object; `credential_version` keeps its first name there."""
    return {"epoch" if field.name == "credential_version" else field.name for field in fields(DeviceClaims)}


def write() -> str:
    """The page as Markdown."""
    jwts = kinds()
    days = device.LIFETIME.days
    return page(
        "Tokens",
        paragraph(
            "Access tokens, pending tokens, refresh tokens, device tokens and the tokens of links have keys of "
            "their own, so that none is accepted in place of another. The four pending tokens share one type and one "
            "key, and differ in their claims. The pending token of a login also serves to confirm the first "
            "authenticator (`/signup`, `/enable-mfa`). Times are in epoch seconds."
        ),
        "## Signed tokens (JWT)\n",
        table(
            ("token", "`typ`", "key", "lifetime", "read by"),
            [(kind.name, f"`{kind.type}`", kind.key, kind.lifetime, kind.readers) for kind in jwts],
        ),
        paragraph(
            "An access token has the form of RFC 9068. An access token of a user never expires later than its "
            "session. It also has those static claims of the user that `KEYTURN_CLAIMS` names. No verifier has the "
            "key of a pending token: a service that verifies with the key set cannot accept one, even if it checks "
            "nothing but the signature. A pending token opens or steps up one session, once. Under it five "
            "verification codes and five recovery codes may be tried."
        ),
        "### JWT claims\n",
        table(
            ("claim", "meaning", "in"),
            [
                (f"`{claim}`", CLAIMS[claim], _whose(claim, jwts))
                for claim in sorted(frozenset[str]().union(*(kind.claims for kind in jwts)))
            ],
        ),
        "## Opaque tokens\n",
        table(
            ("token", "form", "key", "lifetime", "read by"),
            [
                (
                    "refresh token", "`ktr_` and base64url of session id (16 bytes), generation (4) and MAC (32)",
                    "HMAC-SHA256 with a key derived from the master secret",
                    f"the session: {_setting('refresh_idle_ttl')} unused, {_setting('refresh_ttl')} at most",
                    "`/token`, `/revoke`, `/introspect`",
                ),
                (
                    "device token",
                    f"`ktd_` and a sealed JSON object: {code(sorted(_claims_of_device()))}",
                    "sealed with a key derived from the master secret", f"{days} days", "`/login`",
                ),
                (
                    "token of a link",
                    "`ktl_` and base64url of its claims (JSON, signed, not encrypted) and MAC (32 bytes)",
                    "HMAC-SHA256 with a key derived from the master secret for each purpose", _lifetimes_of_links(),
                    "`/password-reset/confirm`, `/email/confirm`, `/email/cancel`, `/signup`",
                ),
                (
                    "client secret", "`kts_` and 256 random bits in base64url",
                    "none; the database has its SHA-256", "until it is rotated", "`/token`, `/revoke`, `/introspect`",
                ),
            ],
        ),
        paragraph(
            "A refresh token, a device token and the token of a link are stored nowhere. A browser may keep its "
            "refresh token in the cookie `__Host-keyturn-refresh`, which `/login`, `/login-2fa`, `/me/restore` and "
            "`/token` set if the request has the header `Keyturn-Session: cookie`, and its device token in "
            "`__Host-keyturn-device`, which `/login` and `/login-2fa` set. Each use of a refresh token replaces it; "
            "in a cookie it is replaced at most once in ten seconds. If the token that was replaced last is used "
            "again within ten seconds, the answer has the same new refresh token. If it is used later, or an older "
            "token is used, the session ends. A change of password or factors revokes device tokens and pending "
            "tokens."
        ),
    )  # fmt: skip


def _whose(claim: str, jwts: list[Kind]) -> str:
    having = [kind.name for kind in jwts if claim in kind.claims]
    if len(having) == len(jwts):
        return "all"
    if having == [kind.name for kind in jwts if kind.name.startswith("pending")]:
        return "pending tokens"
    if having == [kind.name for kind in jwts if kind.name.startswith("access")]:
        return "access tokens"
    return ", ".join(having)
