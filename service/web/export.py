"""The document of `GET /me/export`: its members, and how it is written in parts."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Self

from pydantic import BaseModel, Field

from service.accounts.exports import Export
from service.factors import totp
from service.factors.attempts import Budget
from service.factors.stored import StoredAuthenticator, StoredRecoveryCode
from service.messages.outbox import WaitingDelivery
from service.sessions.stored import StoredSession
from service.static_claims import Value
from service.users.users import User
from service.web.account import EventAnswer
from service.web.account_answers import ExportedInvitation, UserSessionAnswer


class ExportedAccount(BaseModel):
    """The row of the account. Times are in epoch seconds."""

    sub: str
    username: str
    created_at: int
    roles: list[str]
    locale: str | None
    email: str | None
    new_email: str | None
    new_email_at: int | None = Field(description="When the new address was requested.")
    claims: dict[str, Value] = Field(description="The static claims.")
    mfa: str = Field(description="off, asked (not confirmed yet) or confirmed.")
    credential_version: int = Field(
        description="Rises each time that all pending tokens and device tokens of the account are revoked."
    )
    recovery_due_at: int | None
    password_reset_at: int | None
    deletion_due_at: int | None = Field(description="Null, except where an older version left a value.")
    deletion_requested_at: int | None = Field(description="Null, except where an older version left a value.")

    @classmethod
    def of(cls, user: User) -> Self:
        return cls(
            sub=user.id,
            username=user.username,
            created_at=user.created_at,
            roles=list(user.roles),
            locale=user.locale,
            email=user.email,
            new_email=user.new_email,
            new_email_at=user.new_email_at,
            claims=dict(user.claims),
            mfa=user.mfa,
            credential_version=user.credential_version,
            recovery_due_at=user.recovery_due_at,
            password_reset_at=user.password_reset_at,
            deletion_due_at=user.deletion_due_at,
            deletion_requested_at=user.deletion_requested_at,
        )


class ExportedBudget(BaseModel):
    """The budget of guesses at a second factor. Times are in epoch seconds."""

    failures: int = Field(description="Codes that were refused in a row.")
    waits_until: int = Field(description="The time until which every code is refused; 0 or a past time if none is.")
    recent_failures: list[int] = Field(description="The times of refused codes, the newest first; at most 50.")

    @classmethod
    def of(cls, budget: Budget) -> Self:
        return cls(
            failures=budget.failures,
            waits_until=budget.waits_until,
            recent_failures=list(budget.recent_failures),
        )


class ExportedAuthenticator(BaseModel):
    """An authenticator, without its secret. Times are in epoch seconds, steps are time steps of 30 s."""

    id: str
    name: str
    created_at: int
    confirmed_at: int | None
    last_used_at: int | None
    last_step: int = Field(
        description="The newest time step that counts as used: its code was accepted or reported as out of step, or "
        "an import or the restore guard set it."
    )
    offset_steps: int = Field(description="By how many steps its window of acceptable codes is shifted.")
    offset_seconds: int = Field(
        description="By how many seconds its clock was ahead at its last accepted code; negative: behind."
    )
    out_of_step_reported_at: int = Field(
        description="When a code was reported as out of step; 0: not since the last accepted code or restore."
    )
    weak_secret: bool
    budget: ExportedBudget

    @classmethod
    def of(cls, factor: StoredAuthenticator) -> Self:
        return cls(
            id=factor.id,
            name=factor.name,
            created_at=factor.created_at,
            confirmed_at=factor.confirmed_at,
            last_used_at=factor.last_used_at,
            last_step=factor.last_step,
            offset_steps=factor.offset_steps,
            offset_seconds=factor.drift_steps * totp.PERIOD,
            out_of_step_reported_at=factor.out_of_step_reported_at,
            weak_secret=factor.is_weak,
            budget=ExportedBudget.of(factor.budget),
        )


class ExportedRecoveryCode(BaseModel):
    """The times of a recovery code, in epoch seconds."""

    created_at: int
    used_at: int | None

    @classmethod
    def of(cls, code: StoredRecoveryCode) -> Self:
        return cls(created_at=code.created_at, used_at=code.used_at)


class ExportedDelivery(BaseModel):
    """A row of the outbox: an event for the webhook, or a message to the user. Times are in epoch seconds."""

    kind: str = Field(description="`event`, or the kind of a message to the user.")
    transport: str = Field(description="`webhook` or `mail`.")
    event: str = Field(description="The event that is reported, or that the message follows from.")
    address: str | None = Field(description="The address of the message.")
    created_at: int
    due_at: int
    attempts: int = Field(description="How often sending failed.")

    @classmethod
    def of(cls, waiting: WaitingDelivery) -> Self:
        return cls(
            kind=waiting.kind,
            transport=waiting.transport,
            event=waiting.event,
            address=waiting.address,
            created_at=waiting.created_at,
            due_at=waiting.due_at,
            attempts=waiting.attempts,
        )


class ExportedSession(UserSessionAnswer):
    """One session, live or not: the row of one that ended or expired is kept for some time."""

    ends_at: int = Field(description="When the session ends however much it is used.")
    generation: int = Field(description="How often its refresh token was replaced.")
    replaced_at: int | None = Field(description="When its refresh token was last replaced.")
    step_ups: int
    ended_at: int | None
    ended_reason: str | None

    @classmethod
    def of_stored(cls, session: StoredSession) -> Self:
        return cls(
            **UserSessionAnswer.of(session).model_dump(),
            ends_at=session.ends_at,
            generation=session.generation,
            replaced_at=session.replaced_at,
            step_ups=session.raised,
            ended_at=session.ended_at,
            ended_reason=session.ended_reason,
        )


class ExportAnswer(BaseModel):
    """Everything that is stored about the user, without secrets."""

    exported_at: int = Field(description="Epoch seconds.")
    account: ExportedAccount
    authenticators: list[ExportedAuthenticator]
    recovery_codes_left: int
    recovery_code_times: list[ExportedRecoveryCode] = Field(
        description="One for each recovery code, the used ones first."
    )
    recovery_budget: ExportedBudget | None = Field(description="Null without recovery codes.")
    invitation: ExportedInvitation | None = Field(description="The invitation with which the account was made.")
    deliveries: list[ExportedDelivery]
    sessions: list[ExportedSession]
    events: list[EventAnswer] = Field(description="The events of the last 90 days, the oldest first.")


async def write_export(export: Export) -> AsyncIterator[str]:
    """Write an `ExportAnswer` in parts, so that its sessions and events are never in memory all at once."""
    head = ExportAnswer(
        exported_at=export.exported_at,
        account=ExportedAccount.of(export.user),
        authenticators=[ExportedAuthenticator.of(factor) for factor in export.authenticators],
        recovery_codes_left=sum(code.used_at is None for code in export.recovery_codes),
        recovery_code_times=[ExportedRecoveryCode.of(code) for code in export.recovery_codes],
        recovery_budget=None if export.recovery_budget is None else ExportedBudget.of(export.recovery_budget),
        invitation=None if export.invitation is None else ExportedInvitation.of(export.invitation),
        deliveries=[ExportedDelivery.of(waiting) for waiting in export.deliveries],
        sessions=[],
        events=[],
    )
    yield head.model_dump_json(exclude={"sessions", "events"}).removesuffix("}")
    async for text in _list("sessions", export.sessions, ExportedSession.of_stored):
        yield text
    async for text in _list("events", export.events, EventAnswer.of):
        yield text
    yield "}"


async def _list(name: str, items: AsyncIterator[Any], write: Callable[[Any], BaseModel]) -> AsyncIterator[str]:
    """Write a member that is a list, item by item."""
    yield f',"{name}":['
    separator = ""
    async for item in items:
        yield separator + write(item).model_dump_json()
        separator = ","
    yield "]"
