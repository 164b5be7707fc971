"""`docs/reference/errors.md`: every code of a problem, its status, its sentence and what a caller does."""

from service import errors
from service.errors import OAuthError, ServiceError
from service.web.problems import STATUS, WIRE
from tests.reference.markdown import page, paragraph, table

ADVICE: dict[str, tuple[str, str]] = {
    "malformed_request": (
        "The request is not HTTP, or the body is not UTF-8, is not a JSON object, has a key twice, or has `NaN` or "
        "a lone surrogate.",
        "Repair the client.",
    ),
    "invalid_credentials": (
        "Unknown user, wrong password or disabled account, at `/disable-mfa` a wrong code or no second factor, and "
        "at `/me/restore` no scheduled deletion: one answer for all.",
        "Ask the user to try again.",
    ),
    "invalid_code": (
        "A wrong, used or expired verification code (one answer for all three), or a wrong or used recovery code "
        "(one answer for both).",
        "Ask for the next verification code; `Retry-After` says when it is shown. A recovery code has no next one.",
    ),
    "code_out_of_step": (
        "The code belongs to a time step `offset_seconds` away from `server_time`: the authenticator's clock is "
        "off. If that step is in the ordinary window, the clock was corrected: it differs from the stored "
        "offset, and the sentence says so. The code is used up.",
        "Ask the user to enter the very next code. If the clock is off, correcting it helps too.",
    ),
    "invalid_token": (
        "The token is missing, forged, expired, used up, revoked or of another kind.",
        "Refresh the session; if that fails, or for a pending token, send the user to the login. For a link, offer "
        "to request another one.",
    ),
    "insufficient_user_authentication": (
        "The token is valid, but the user proved less than is needed, or too long ago (RFC 9470).",
        "Begin a step-up at `/step-up` and repeat the request with the new access token. A user without a "
        "second factor cannot step up: at `/me/export`, log them in again.",
    ),
    "signup_closed": (
        "The operator closed sign-up (`KEYTURN_SIGNUP`): the same answer for every request. With `invited`: for "
        "every request without an invitation.",
        "Tell the user to ask the operator for an account or an invitation.",
    ),
    "not_found": (
        "The path or the object does not exist. At `/qrcode` also: the username is not that of the token's user, or "
        "the authenticator is confirmed. At `POST /recovery` also: recovery is off. At `POST /email` and `POST "
        "/password-reset` also: the service sends no messages.",
        "Do not repeat the request.",
    ),
    "method_not_allowed": ("The path exists, but not with this method.", "Use a method that `Allow` names."),
    "not_acceptable": ("`/qrcode` has no form that `Accept` allows.", "Accept `image/png`."),
    "request_timeout": ("The request did not arrive whole within 10 s.", "Send it again."),
    "insufficient_scope": (
        "The access token of a registered client does not have the scope that `WWW-Authenticate` names.",
        "Request the scope at `/token`. If the client does not have it, register a client that has: the scopes of a "
        "registered client do not change.",
    ),
    "forbidden": (
        "At `/admin`: the user does not have the role `keyturn-admin`, or a registered client would change an "
        "administrator, give that role, or add or change a client that has a scope beginning with `keyturn:`.",
        "Let an administrator do it, or use the command `keyturn`.",
    ),
    "account_disabled": (
        "A link for a new password, or a new address, was requested for a disabled account.",
        "Enable it first.",
    ),
    "client_id_taken": ("Another client has this id, or a user has it as `sub`.", "Choose another one."),
    "last_administrator": (
        "The last enabled user with the role `keyturn-admin` would lose it, or be disabled or deleted.",
        "Give another user the role first.",
    ),
    "username_taken": (
        "The username belongs to an account or belonged to a deleted one, or is the confirmed address of an account.",
        "Ask for another username.",
    ),
    "email_taken": (
        "The address that a link confirms, or that of an invitation, names another account.",
        "Ask for another address, or offer to log in with this one.",
    ),
    "invalid_invitation": (
        "The invitation is forged, expired, used, revoked, or for another address.",
        "Tell the user to ask for a new one.",
    ),
    "mfa_already_enabled": (
        "The account has a confirmed second factor, and the request has no `name`.",
        "Send a `name` to add another authenticator.",
    ),
    "too_many_factors": (
        "The account has five confirmed authenticators. One with a secret of less than 112 bits does not count.",
        "Ask the user to remove one.",
    ),
    "last_factor": (
        "The last authenticator cannot be removed here.",
        "Use `/disable-mfa`, or add another one first.",
    ),
    "mfa_not_enabled": ("The account has no confirmed second factor.", "Begin an enrolment at `/enable-mfa`."),
    "content_too_large": ("The body is larger than 16 KiB.", "Repair the client."),
    "unsupported_media_type": ("The body is not `application/json`.", "Send `Content-Type: application/json`."),
    "invalid_request": (
        "A field is missing, unknown or malformed. `errors` names it, never its value; an unknown field is named "
        "only if its name looks like one, because clients send secrets as names by mistake. With `Keyturn-Session` "
        "also: its value is not `cookie` (`errors` names `Keyturn-Session`), or the `Origin` is not allowed.",
        "Repair the field, or add the origin to `KEYTURN_CORS_ORIGINS`.",
    ),
    "breached_password": (
        "`KEYTURN_BREACHED_PASSWORDS` names a list of leaked passwords, and the list has the password.",
        "Ask the user for another password, and show `title`.",
    ),
    "weak_password": ("The password policy refuses the password; `detail` says why.", "Show `detail` to the user."),
    "too_many_attempts": (
        "A rate limit or the budget of codes refuses the attempt. The right password or code is refused too.",
        "Wait for `Retry-After` seconds.",
    ),
    "headers_too_large": ("The headers are larger than 16 KiB.", "Send fewer headers."),
    "internal_error": (
        "A defect of the service. The log has it under the `X-Request-Id` of the answer.",
        "Report it with that id.",
    ),
    "busy": (
        "Every hashing thread is taken and the queue is full. At `/qrcode`: the thread that draws QR codes is taken "
        "and its queue is full.",
        "Send the request again after `Retry-After` seconds.",
    ),
    "store_unavailable": (
        "The database cannot be used. Nothing was granted.",
        "Send the request again after `Retry-After` seconds.",
    ),
}

OAUTH_ADVICE: dict[str, tuple[str, str]] = {
    "invalid_request": (
        "A parameter is missing, given twice or malformed. (Status 405: not a POST; 413: the body is too large; "
        "415: the body is not a form.) With `Keyturn-Session` also: its value is not `cookie`, the `Origin` is not "
        "allowed, or is missing beside the cookie, or there are two refresh cookies. At any of these endpoints: a "
        "client authenticates in two ways.",
        "Repair the client, or add the origin to `KEYTURN_CORS_ORIGINS`.",
    ),
    "invalid_grant": (
        "The refresh token is forged, was replaced more than ten seconds ago or twice, or is expired, or its "
        "session ended; or there is no refresh cookie.",
        "Send the user to the login.",
    ),
    "invalid_client": ("The client is unknown, or the secret is not its secret.", "Repair the configuration."),
    "unauthorized_client": (
        "A client without a scope requests an access token of its own.",
        "Register a client with a scope.",
    ),
    "invalid_scope": (
        "A client requests a scope that it does not have, or a refresh names a scope.",
        "Request a subset of its scopes.",
    ),
    "unsupported_grant_type": (
        "`grant_type` is neither `refresh_token` nor `client_credentials`.",
        "Use one of them.",
    ),
    "unsupported_token_type": (
        "`/revoke` got the access token of a client, which belongs to no session.",
        "Remove the client, or rotate its secret.",
    ),
}


def codes() -> list[tuple[int, str, str]]:
    """Status, code and sentence of every problem, by status and code."""
    found = {
        (status, error.code, error.message)
        for error, status in STATUS.items()
        if not issubclass(error, OAuthError) and error not in _VARIANTS
    }
    found |= {(status, code, sentence) for status, (code, sentence) in WIRE.items()}
    return sorted(found)


_VARIANTS: set[type[ServiceError]] = {
    errors.InvalidRecoveryCode,
    errors.CodeOutOfStoredStep,
    errors.MissingToken,
    errors.MissingTable,
}
"""Errors with the code of another one."""


def oauth_codes() -> list[tuple[int, str, str]]:
    """Status, error and description of every error in the form of RFC 6749."""
    return sorted(
        (status, error.code, error.message) for error, status in STATUS.items() if issubclass(error, OAuthError)
    )


def write() -> str:
    """The page as Markdown."""
    heads = ("status", "code", "sentence", "when", "what a caller does")
    return page(
        "Errors",
        paragraph(
            "An error is a problem document (RFC 9457, `application/problem+json`) with `type`, `title`, `status` "
            "and `code`. Programs compare `code`: the sentence in `title` may change. No problem repeats a value of "
            "the request."
        ),
        table(
            heads,
            [(str(status), f"`{code}`", sentence, *ADVICE[code]) for status, code, sentence in codes()],
        ),
        "## OAuth 2.0 endpoints\n",
        paragraph(
            "At `/token`, `/revoke` and `/introspect` an error has the form of RFC 6749 section 5.2: `error` and "
            "`error_description`. The exceptions are problem documents: 400 for a request that is not HTTP, 408, "
            "431 and 500."
        ),
        table(
            ("status", "error", *heads[2:]),
            [(str(status), f"`{code}`", sentence, *OAUTH_ADVICE[code]) for status, code, sentence in oauth_codes()],
        ),
        paragraph("503 is `temporarily_unavailable` there, with `Retry-After`."),
    )
