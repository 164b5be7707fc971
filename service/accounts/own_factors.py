"""What users do with their second factor: list, rename and remove authenticators, replace recovery codes, disable it.

Disabling takes a username, a password and a current code, without a token. The code is consumed like any other one,
in the transaction that removes the factors (law 2: a code is consumed, not checked). The answer is the same whether
the username, the password or the code is wrong (law 8: no answer reveals who exists).
"""

from service.clock import Clock
from service.errors import (
    CodeOutOfStep,
    InvalidCode,
    InvalidCredentials,
    InvalidToken,
    LastFactor,
    MfaNotEnabled,
    NotFound,
)
from service.factors import listing
from service.factors import totp_authenticators as authenticators
from service.factors.listing import AuthenticatorSummary
from service.factors.second_factor import Proof, SecondFactors
from service.messages.events import Events
from service.origin import Act, Caller
from service.sessions import sessions
from service.storage.database import Database
from service.telemetry.event_names import EventName, LogName
from service.telemetry.log import emit
from service.tokens.access import AccessClaims
from service.users import mfa, users
from service.users.credentials import Credentials, account_changed


class OwnFactors:
    """The operations of users on their own second factor. For adding an authenticator see `login/enrolment`."""

    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        credentials: Credentials,
        second_factors: SecondFactors,
        events: Events,
    ) -> None:
        self._clock = clock
        self._database = database
        self._credentials = credentials
        self._second_factors = second_factors
        self._events = events

    async def list_factors(self, access: AccessClaims) -> list[AuthenticatorSummary]:
        """The bearer's authenticators, the oldest first."""
        return await listing.list_all(self._database, access.sub)

    async def remove_factor(self, access: AccessClaims, factor_id: str, caller: Caller) -> None:
        """Remove one of the bearer's authenticators.

        If it was confirmed, every other session ends, because an attacker may have the device. Raises `NotFound`,
        `LastFactor`; `InvalidToken` if the account is disabled, or changed at the same time.
        """
        _check_id(factor_id)
        now = self._clock()
        user = await users.find_by_id(self._database, access.sub)
        async with self._database.begin() as transaction:
            if user is None or await users.increment_credential_version(transaction, user) is None:
                raise InvalidToken
            removed = await authenticators.remove(transaction, user.id, factor_id)
            if removed is None:
                raise NotFound
            if not await mfa.is_confirmed(transaction, user.id):
                raise LastFactor
            if removed.was_confirmed:
                await sessions.end_all(transaction, user.id, reason="factor_removed", now=now, except_sid=access.sid)
            details = {"factor": factor_id, "name": removed.name, "sid": access.sid}
            act = Act.of_user(user.id, now, caller)
            await self._events.record(transaction, EventName.FACTOR_REMOVED, user.id, act, **details)

    async def rename_factor(
        self, access: AccessClaims, factor_id: str, name: str, caller: Caller
    ) -> AuthenticatorSummary:
        """Give one of the bearer's authenticators another name, which changes nothing about access.

        If it has this name already, no event is recorded, so that repeated requests do not fill the table of events.
        Raises `NotFound`; `InvalidToken` if the account is disabled, or changed at the same time.
        """
        _check_id(factor_id)
        now = self._clock()
        user = await users.find_by_id(self._database, access.sub)
        async with self._database.begin() as transaction:
            if user is None or not await users.lock_if_current(transaction, user):
                raise InvalidToken
            previous = await listing.find_name(transaction, user.id, factor_id)
            renamed = await listing.rename(transaction, user.id, factor_id, name)
            if renamed is None:
                raise NotFound
            if name != previous:
                details = {"factor": factor_id, "name": name, "sid": access.sid}
                act = Act.of_user(user.id, now, caller)
                await self._events.record(transaction, EventName.FACTOR_RENAMED, user.id, act, **details)
        return renamed

    async def replace_recovery_codes(self, access: AccessClaims) -> tuple[str, ...]:
        """Return ten new recovery codes and delete all others.

        Raises `MfaNotEnabled`; `InvalidToken` if the account is disabled, or changed at the same time.
        """
        now = self._clock()
        user = await users.find_by_id(self._database, access.sub)
        if user is None or user.is_disabled:
            raise InvalidToken
        if user.mfa != "confirmed":
            raise MfaNotEnabled
        async with self._database.begin() as transaction:
            if not await users.lock_if_current(transaction, user):
                raise InvalidToken  # the account changed at the same time: the token's proofs may be outdated
            codes = await self._second_factors.recovery_codes.replace_all(transaction, user.id, now)
            act = Act.of_user(user.id, now)
            await self._events.record(transaction, EventName.RECOVERY_CODES_REPLACED, user.id, act, sid=access.sid)
        return codes

    async def disable(self, username: str, password: str, proof: Proof, caller: Caller) -> None:
        """Remove the factors of the user who gives the password and a proof of the second factor.

        A wrong username, password or proof raises `InvalidCredentials`, and so does a user without a second factor.
        With a wrong password the proof is neither checked nor counted. Also raises `Busy`, and `TooManyAttempts` for
        the password or, only if the password is right, for the proof.
        """
        proved = await self._credentials.prove(username, password, caller)
        user, now = proved.user, proved.at
        if user.mfa == "off":
            emit(LogName.LOGIN_REFUSED, reason="no_second_factor", sub=user.id, address=caller.address)
            raise InvalidCredentials
        act, kind = Act.of_user(user.id, now, caller), self._second_factors.kind_of(proof)
        candidates = await self._second_factors.totp.list_usable(user)
        try:
            checked = await kind.check(user, candidates, proof, act)
        except (InvalidCode, CodeOutOfStep, InvalidToken):
            raise InvalidCredentials from None
        async with kind.released_if_unavailable(checked), self._database.begin() as transaction:
            # The user's row is locked first, as everywhere; then the proof is consumed at the new credential version.
            changed = await users.increment_credential_version(transaction, user)
            if changed is None:
                raise account_changed(user, caller)
            if not await kind.consume(transaction, changed, checked, now):
                emit(LogName.LOGIN_REFUSED, reason="proof_used", sub=user.id, address=caller.address)
                raise InvalidCredentials
            await self._second_factors.remove_all(transaction, user.id)
            await sessions.end_all(transaction, user.id, reason="mfa_disabled", now=now)
            await self._events.record(transaction, EventName.MFA_DISABLED, user.id, act)


def _check_id(factor_id: str) -> None:
    if not (factor_id.isascii() and factor_id.isprintable()):
        raise NotFound  # PostgreSQL takes no NUL, and no id has such a character
