"""The fresh proof that removing an address or an account requires: a second factor, or else the password.

The password suffices only for a user without a confirmed second factor. A user with one may have to give the password
as well: the operation decides.
"""

from service.clock import Clock
from service.errors import InvalidRequest, InvalidToken
from service.origin import Caller
from service.sessions.bearers import check_fresh
from service.storage.database import Database
from service.tokens.access import AccessClaims
from service.users import users
from service.users.credentials import Credentials, Proved


class FreshProof:
    def __init__(self, *, clock: Clock, database: Database, credentials: Credentials) -> None:
        self._clock = clock
        self._database = database
        self._credentials = credentials

    async def require(self, access: AccessClaims, password: str | None, caller: Caller) -> Proved:
        """Return the bearer and the time of the check, if their proof is the one that their account requires.

        A confirmed second factor must be fresh (RFC 9470); the password is then checked only if it is given. Without
        a confirmed one the password must be given. Raises `InsufficientAuthentication`, `InvalidCredentials`,
        `InvalidRequest` without a password that is needed, `InvalidToken`, `TooManyAttempts` or `Busy`.
        """
        user = await users.find_by_id(self._database, access.sub)
        if user is None or user.is_disabled:
            raise InvalidToken
        if user.mfa == "confirmed":
            check_fresh(access, self._clock())
        elif password is None:
            raise InvalidRequest((("password", "Field required without a second factor"),))
        if password is None:
            return Proved(user, self._clock())
        proved = await self._credentials.prove(user.username, password, caller)
        if proved.user.id != user.id:
            raise InvalidToken
        return proved
