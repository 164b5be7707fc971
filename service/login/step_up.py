"""Step-up: a second factor is proved again in a running session, before an operation that requires a fresh one."""

from service.clock import Clock
from service.errors import InvalidToken, MfaNotEnabled
from service.login.pending import PendingTokens, SecondFactorRequired
from service.sessions import sessions
from service.storage.database import Database
from service.telemetry.event_names import LogName
from service.telemetry.log import emit
from service.tokens.access import AccessClaims
from service.users import users
from service.users.mfa_policy import MfaPolicy


class StepUp:
    def __init__(self, *, clock: Clock, database: Database, pending_tokens: PendingTokens, policy: MfaPolicy) -> None:
        self._clock = clock
        self._database = database
        self._pending_tokens = pending_tokens
        self._policy = policy

    async def start(self, access: AccessClaims) -> SecondFactorRequired:
        """Return a pending token for one step-up of the bearer's own session by a second factor.

        Raises `InvalidToken` if the session ended, and `MfaNotEnabled` if the user has no confirmed authenticator.
        """
        now = self._clock()
        session = await sessions.find_live(self._database, access.sid, policy=self._policy, now=now)
        user = await users.find_by_id(self._database, access.sub)
        if session is None or user is None or user.is_disabled:
            raise InvalidToken
        if user.mfa != "confirmed":
            raise MfaNotEnabled
        emit(LogName.SESSION_STEP_UP_ASKED, sub=user.id, sid=session.id)
        return self._pending_tokens.write(user, now, session=session)
