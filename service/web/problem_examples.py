"""The problems that each operation may answer, as examples for the OpenAPI document.

The examples are built from the errors and from the tables of `problems.py`, so that their sentences are those that
the service sends.
"""

from datetime import UTC, datetime
from typing import Any

from service import errors
from service.errors import OAuthError, ServiceError
from service.web.admin_examples import Example
from service.web.problems import OAUTH_PATHS, STATUS, WIRE, Problem, details_of

_HASHES = {
    "signup", "login", "enableMfa", "disableMfa", "askRecovery", "changePassword", "qrcode", "changeEmail",
    "removeEmail", "resetPassword", "deleteMe", "restoreMe", "adminCreateUser",
}  # fmt: skip
"""Operations that may answer `busy`."""

_PROBLEMS: dict[tuple[str, int], tuple[ServiceError, ...]] = {
    ("token", 400): (
        errors.InvalidGrant(),
        errors.InvalidOAuthRequest("grant_type is missing"),
        errors.UnauthorizedClient(),
        errors.InvalidScope(),
        errors.UnsupportedGrantType(),
    ),
    ("revoke", 400): (errors.InvalidOAuthRequest("token is missing"), errors.UnsupportedTokenType()),
    ("introspect", 400): (errors.InvalidOAuthRequest("token is missing"),),
    ("verify", 401): (errors.InvalidToken(), errors.InsufficientAuthentication(acr="aal2", max_age=300)),
    ("verify", 422): (errors.InvalidRequest((("acr", "This must be one of aal1, aal2"),)),),
    ("login", 401): (errors.InvalidCredentials(),),
    ("login2fa", 401): (
        errors.InvalidCode(),
        errors.CodeOutOfStep(offset=240, server_time=datetime(2026, 11, 24, 12, tzinfo=UTC), retry_after=12.0),
        errors.InvalidToken(),
    ),
    ("enableMfa", 401): (
        errors.InvalidToken(),
        errors.InvalidCredentials(),
        errors.InsufficientAuthentication(acr="aal2", max_age=300),
    ),
    ("renameFactor", 401): (errors.InvalidToken(), errors.InsufficientAuthentication(acr="aal2", max_age=300)),
    ("renameFactor", 422): (errors.InvalidRequest((("name", "Field required"),)),),
    ("removeFactor", 401): (errors.InvalidToken(), errors.InsufficientAuthentication(acr="aal2", max_age=300)),
    ("replaceRecoveryCodes", 401): (
        errors.InvalidToken(),
        errors.InsufficientAuthentication(acr="aal2", max_age=300),
    ),
    ("disableMfa", 401): (errors.InvalidCredentials(),),
    ("changePassword", 401): (errors.InvalidToken(), errors.InvalidCredentials()),
    ("signup", 403): (errors.SignupClosed(), errors.InvalidInvitation()),
    ("signup", 409): (errors.UsernameTaken(), errors.EmailTaken()),
    ("changeEmail", 401): (errors.InvalidToken(), errors.InvalidCredentials()),
    ("confirmEmail", 409): (errors.EmailTaken(),),
    ("removeEmail", 401): (
        errors.InvalidToken(),
        errors.InvalidCredentials(),
        errors.InsufficientAuthentication(acr="aal2", max_age=300),
    ),
    ("deleteMe", 401): (
        errors.InvalidToken(),
        errors.InvalidCredentials(),
        errors.InsufficientAuthentication(acr="aal2", max_age=300),
    ),
    ("restoreMe", 401): (errors.InvalidCredentials(),),
    ("exportMe", 401): (errors.InvalidToken(), errors.InsufficientAuthentication(acr="aal2", max_age=300)),
    ("adminCreateUser", 409): (errors.UsernameTaken(),),
    ("adminCreateUser", 422): (
        errors.InvalidRequest((("email", "This service sends no messages: leave the address out"),)),
        errors.WeakPassword("This is a commonly used password."),
        errors.BreachedPassword(),
    ),
    ("adminChangeUser", 409): (errors.LastAdministrator(), errors.AccountDisabled()),
    ("deleteMe", 409): (errors.LastAdministrator(),),
    ("adminDeleteUser", 409): (errors.LastAdministrator(),),
    ("adminResetPassword", 409): (errors.AccountDisabled(),),
    ("adminCreateClient", 409): (errors.ClientIdTaken(),),
    ("stepUp", 409): (errors.MfaNotEnabled(),),
    ("replaceRecoveryCodes", 409): (errors.MfaNotEnabled(),),
    ("enableMfa", 409): (errors.MfaAlreadyEnabled(), errors.TooManyFactors()),
    ("removeFactor", 409): (errors.LastFactor(),),
}

_USUAL: dict[int, tuple[ServiceError, ...]] = {
    401: (errors.InvalidToken(),),
    403: (errors.SignupClosed(),),
    404: (errors.NotFound(),),
    422: (errors.InvalidRequest((("password", "Field required"),)),),
    429: (errors.TooManyAttempts(30.0),),
    503: (errors.StoreUnavailable(),),
}
"""The errors of a status for an operation that `_PROBLEMS` does not list."""

_USUAL_OF_ADMINISTRATORS: dict[int, tuple[ServiceError, ...]] = {
    **_USUAL,
    401: (errors.InvalidToken(), errors.InsufficientAuthentication(acr="aal2", max_age=300)),
    403: (errors.InsufficientScope("keyturn:users.read"), errors.Forbidden()),
    422: (errors.InvalidRequest((("limit", "This must be 1 to 200"),)),),
}
"""The same for the operations below `/admin`."""

_OAUTH_BODY = "The body must be a form: Content-Type: application/x-www-form-urlencoded."


def problem_examples(operation: str, path: str, status: int) -> Example:
    """Return the examples of one answer; every documented problem has at least one."""
    if path in OAUTH_PATHS:
        return _oauth_examples(operation, status)
    usual = _USUAL_OF_ADMINISTRATORS if path.startswith("/admin/") else _USUAL
    found = list(_PROBLEMS.get((operation, status), usual.get(status, ())))
    if status == 422 and operation in {"signup", "changePassword", "resetPassword"}:
        found += [errors.WeakPassword("This is a commonly used password."), errors.BreachedPassword()]
    if status == 422 and operation == "logout":
        found = [errors.InvalidRequest((("query.everywhere", "Input should be a valid boolean"),))]
    if status == 503 and operation in _HASHES:
        found.append(errors.Busy())
    if not found:
        code, title = WIRE[status]
        return {code: _example(title, _problem(status, code, title))}
    return {
        error.code: _example(error.message, _problem(STATUS[type(error)], error.code, error.message, error))
        for error in found
    }


def _problem(status: int, code: str, title: str, error: ServiceError | None = None) -> dict[str, Any]:
    details = {} if error is None else details_of(error)
    body = Problem(type=f"urn:keyturn:problem:{code}", title=title, status=status, code=code, **details)
    return body.model_dump(exclude_none=True)


def _oauth_examples(operation: str, status: int) -> Example:
    """Return the examples in the form of RFC 6749 section 5.2."""
    if status == 503:
        error: ServiceError = errors.StoreUnavailable()
        return {"temporarily_unavailable": _oauth_example("temporarily_unavailable", error.message)}
    if status in {413, 415}:
        return {"invalid_request": _oauth_example("invalid_request", _OAUTH_BODY if status == 415 else WIRE[413][1])}
    refusals = (errors.InvalidClient(),) if status == 401 else _PROBLEMS[operation, status]
    return {error.code: _oauth_example(error.code, _description(error)) for error in refusals}


def _description(error: ServiceError) -> str:
    assert isinstance(error, OAuthError)
    return error.reason if isinstance(error, errors.InvalidOAuthRequest) else error.message


def _oauth_example(code: str, description: str) -> dict[str, Any]:
    return _example(description, {"error": code, "error_description": description})


def _example(summary: str, value: Any) -> dict[str, Any]:
    return {"summary": summary, "value": value}
