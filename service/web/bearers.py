"""Bearer authentication of operations (RFC 6750): the one place that reads and checks the token of a request.

An operation that needs a bearer has one of these decorators below the decorator of its route:

    @router.get("/me", ...)
    @bearers.user
    async def get_me(access: AccessClaims) -> AccountAnswer: ...

The claims of the token are the first argument of the operation, so that it cannot run without them. The same
decorator names the security scheme, which `StrictJsonRoute` writes into the OpenAPI document. `/verify` and
`/login-2fa` read their token themselves: the first is a `RawRoute`, and the second takes its token from the body as
well.

The token is checked after the fields of the request, so that a malformed request gets its 422 without a query. (A
dependency of FastAPI runs before the fields are checked.)
"""

import inspect
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from fastapi import Request

from service.origin import Actor
from service.sessions.bearers import BearerAuth
from service.tokens.access import AccessClaims, ClientAccessClaims
from service.web.caller import require_bearer

_Fields = ParamSpec("_Fields")
_Answer = TypeVar("_Answer")


class Bearers:
    """Decorators for operations. Without a valid token of the right kind the answer is 401, with a challenge."""

    def __init__(self, bearer_auth: BearerAuth) -> None:
        self._bearer_auth = bearer_auth

    def user(
        self, operation: Callable[Concatenate[AccessClaims, _Fields], Awaitable[_Answer]]
    ) -> Callable[..., Awaitable[_Answer]]:
        """Require an access token of a user whose session is live."""
        return _authenticated(operation, self._bearer_auth.authenticate, security={"accessToken": []})

    def recent_user(
        self, operation: Callable[Concatenate[AccessClaims, _Fields], Awaitable[_Answer]]
    ) -> Callable[..., Awaitable[_Answer]]:
        """Like `user`, and the second factor must be fresh (RFC 9470)."""
        return _authenticated(operation, self._bearer_auth.authenticate_recent, security={"accessToken": []})

    def client(
        self, scope: str
    ) -> Callable[
        [Callable[Concatenate[ClientAccessClaims, _Fields], Awaitable[_Answer]]], Callable[..., Awaitable[_Answer]]
    ]:
        """Require an access token of a registered client with this scope; without the scope the answer is 403."""
        authenticate = partial(self._bearer_auth.authenticate_client, scope=scope)
        return lambda operation: _authenticated(operation, authenticate, security={"accessToken": [scope]})

    def administrator(
        self, scope: str, *, writes: bool
    ) -> Callable[[Callable[Concatenate[Actor, _Fields], Awaitable[_Answer]]], Callable[..., Awaitable[_Answer]]]:
        """Require a registered client with this scope, or a user who is an administrator: see `BearerAuth`.

        The first argument of the operation is the actor.
        """
        authenticate = partial(self._bearer_auth.authenticate_administrator, scope=scope, writes=writes)
        return lambda operation: _authenticated(operation, authenticate, security={"accessToken": [scope]})


def pending_token(
    operation: Callable[Concatenate[str, _Fields], Awaitable[_Answer]],
) -> Callable[..., Awaitable[_Answer]]:
    """Require a pending token, and pass on its text: the operation reads it together with the rows that it names."""

    async def unread(token: str) -> str:
        return token

    return _authenticated(operation, unread, security={"mfaToken": []})


def _authenticated(
    operation: Callable[..., Awaitable[_Answer]],
    authenticate: Callable[[str], Awaitable[Any]],
    *,
    security: dict[str, list[str]],
) -> Callable[..., Awaitable[_Answer]]:
    """Return the operation as FastAPI calls it: with the request in place of the first argument."""
    signature = inspect.signature(operation)
    _, *fields = signature.parameters.values()
    has_request = any(field.name == "request" for field in fields)

    @wraps(operation)
    async def authenticated(request: Request, **values: Any) -> _Answer:
        proved = await authenticate(require_bearer(request))
        if has_request:
            values["request"] = request
        return await operation(proved, **values)

    given = [field for field in fields if field.name != "request"]
    given.append(inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY, annotation=Request))
    authenticated.__signature__ = signature.replace(parameters=given)  # type: ignore[attr-defined]
    authenticated.security = [security]  # type: ignore[attr-defined]
    return authenticated
