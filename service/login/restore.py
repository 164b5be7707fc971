"""Restore: a user takes back the scheduled deletion of their account, and is logged in.

The proofs are those of a login: the password, then the second factor of a user who has one (law 1: a password alone
yields no more than a pending token). The pending token is of a kind of its own, and only a login with such a
token restores the account; a known device does not stand in for the second factor. The operator's policy applies as
at a login.

An unknown user, a wrong password, a disabled user and an account without a scheduled deletion get the same answer as
at a login (law 8: no answer reveals who exists).
"""

from service.login.admission import Admission, LoginTokens
from service.login.enrolment import Enrolment
from service.login.pending import PendingTokens, SecondFactorRequired
from service.origin import Act, Caller
from service.sessions.sessions import PASSWORD
from service.storage.database import Database
from service.telemetry.event_names import LogName
from service.telemetry.log import emit
from service.users.credentials import Credentials, account_changed


class Restore:
    def __init__(
        self,
        *,
        database: Database,
        credentials: Credentials,
        enrolment: Enrolment,
        pending_tokens: PendingTokens,
        admission: Admission,
    ) -> None:
        self._database = database
        self._credentials = credentials
        self._enrolment = enrolment
        self._pending_tokens = pending_tokens
        self._admission = admission

    async def with_password(self, username: str, password: str, caller: Caller) -> LoginTokens | SecondFactorRequired:
        """Restore the account of a user without a second factor; any other user gets a pending token.

        Raises `InvalidCredentials`, `TooManyAttempts`, `Busy` or `StoreUnavailable`.
        """
        proved = await self._credentials.prove(username, password, caller, for_restore=True)
        now = proved.at
        user = await self._enrolment.start_if_required(proved.user, now, caller, for_restore=True)
        if user.mfa != "off":
            emit(LogName.LOGIN_SECOND_FACTOR_REQUIRED, sub=user.id)
            return self._pending_tokens.write(user, now, restores=True)
        act = Act.of_user(user.id, now, caller)
        key = await self._admission.get_signing_key(now)
        async with self._database.begin() as transaction:
            restored = await self._admission.restore(transaction, user, act)
            if restored is None:
                raise account_changed(user, caller)
            session = await self._admission.admit(transaction, restored, act, amr=PASSWORD)
        return self._admission.issue(restored, session, key, now)
