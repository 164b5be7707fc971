"""How answers show an authenticator, a session, and the invitation with which an account was made.

The admin API, `GET /sessions` and `GET /me/export` show them. `export` has the forms that only an export has.
"""

from typing import Self

from pydantic import BaseModel, Field

from service.factors.listing import AuthenticatorSummary
from service.sessions.sessions import SessionSummary
from service.users.invitations import Invitation


class AuthenticatorAnswer(BaseModel):
    """An authenticator of the account. Times are in epoch seconds."""

    id: str
    name: str
    created_at: int
    confirmed_at: int | None
    last_used_at: int | None
    offset_seconds: int = Field(
        description="By how many seconds its clock was ahead at its last accepted code; negative: behind."
    )

    @classmethod
    def of(cls, factor: AuthenticatorSummary) -> Self:
        return cls(
            id=factor.id,
            name=factor.name,
            created_at=factor.created_at,
            confirmed_at=factor.confirmed_at,
            last_used_at=factor.last_used_at,
            offset_seconds=factor.offset_seconds,
        )


class UserSessionAnswer(BaseModel):
    """One live session of the user. Times are in epoch seconds."""

    sid: str
    created_at: int
    last_used_at: int = Field(description="When the session was opened or last refreshed.")
    expires_at: int = Field(description="When the session expires unless it is refreshed.")
    auth_time: int = Field(
        description="When the user last logged in or, after a step-up, last proved the second factor."
    )
    amr: list[str]
    acr: str
    address: str = Field(description="The client address from which the session was opened.")
    user_agent: str = Field(description="The User-Agent with which the session was opened.")

    @classmethod
    def of(cls, session: SessionSummary) -> Self:
        return cls(
            sid=session.id,
            created_at=session.created_at,
            last_used_at=session.last_used_at,
            expires_at=session.expires_at,
            auth_time=session.auth_time,
            amr=list(session.amr),
            acr=session.acr,
            address=session.address,
            user_agent=session.user_agent,
        )


class ExportedInvitation(BaseModel):
    """An invitation in an export. Times are in epoch seconds."""

    id: str
    email: str | None = Field(description="The one address that may sign up with it; null: any may.")
    locale: str | None
    roles: list[str] = Field(description="What the new account gets.")
    created_at: int
    created_by: str = Field(
        description="`operator`, or `client:` or `user:` and an id.", examples=["client:support-desk"]
    )
    expires_at: int
    used_at: int | None

    @classmethod
    def of(cls, invitation: Invitation) -> Self:
        return cls(
            id=invitation.id,
            email=invitation.email,
            locale=invitation.locale,
            roles=list(invitation.roles),
            created_at=invitation.created_at,
            created_by=invitation.created_by,
            expires_at=invitation.expires_at,
            used_at=invitation.used_at,
        )


class InvitationAnswer(ExportedInvitation):
    """An invitation. Times are in epoch seconds."""

    used_by: str | None = Field(description="The `sub` of the account that was made with it.")

    @classmethod
    def of(cls, invitation: Invitation) -> Self:
        return cls(**ExportedInvitation.of(invitation).model_dump(), used_by=invitation.used_by)
