"""The errors of the service.

Each class is one fact, with a stable `code` for machines and one sentence for users. Whatever else an answer needs is
an attribute of the error. `web/problems.py` maps each class to an HTTP status.
"""

from datetime import datetime
from typing import ClassVar


class ServiceError(Exception):
    """The base of all errors that become an answer. Any other exception in a request is a defect."""

    code: ClassVar[str]
    message: ClassVar[str]

    def __str__(self) -> str:
        return self.message


class InvalidRequest(ServiceError):
    """A field is missing, unknown or malformed. `fields` names the fields; values are never repeated."""

    code = "invalid_request"
    message = "A field of the request is missing, unknown or malformed."

    def __init__(self, fields: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__()
        self.fields = fields


class WeakPassword(ServiceError):
    """The policy refuses the password; `reason` tells the user why."""

    code = "weak_password"
    message = "The password does not meet the policy."

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


class BreachedPassword(ServiceError):
    """The list of leaked passwords (`KEYTURN_BREACHED_PASSWORDS`) has the password."""

    code = "breached_password"
    message = "This password is in a list of leaked passwords. Choose another one."


class SignupClosed(ServiceError):
    """The operator closed sign-up (`KEYTURN_SIGNUP`): one answer for every request, whatever it contains."""

    code = "signup_closed"
    message = "Sign-up is closed. Ask the operator of this service for an account."


class UsernameTaken(ServiceError):
    code = "username_taken"
    message = "This username is taken."


class InvalidCredentials(ServiceError):
    """Unknown user, wrong password, disabled user: one answer (law 8: no answer reveals who exists).

    Also, at `/disable-mfa`, a wrong code or no second factor, and, at `/me/restore`, no scheduled deletion.
    """

    code = "invalid_credentials"
    message = "The credentials are not valid."


class InvalidCode(ServiceError):
    """A wrong, used or expired code: one answer. `retry_after`: seconds until the next verification code."""

    code = "invalid_code"
    message = "The code is not valid. Wait for the next one and try again."

    def __init__(self, retry_after: float | None = None) -> None:
        super().__init__()
        self.retry_after = retry_after


class InvalidRecoveryCode(InvalidCode):
    """A wrong or used recovery code. It has the `code` of `InvalidCode`, but there is no next code to wait for."""

    message = "The recovery code is not valid. Each code works once: check the spelling, or use another code."


class CodeOutOfStep(ServiceError):
    """A code for another time, because the authenticator's clock is wrong (RFC 6238 section 6).

    The code is refused and used up. `offset` is by how many seconds the authenticator's clock is ahead of ours
    (negative: behind).
    """

    code = "code_out_of_step"
    message = "The authenticator's clock is wrong. Correct it, or enter the next code to continue with this offset."

    def __init__(self, *, offset: int, server_time: datetime, retry_after: float) -> None:
        super().__init__()
        self.offset = offset
        self.server_time = server_time
        self.retry_after = retry_after


class CodeOutOfStoredStep(CodeOutOfStep):
    """A code of the ordinary window, of an authenticator with another stored offset: its clock was corrected."""

    message = "The authenticator's clock differs from the stored offset. Enter the next code to store the new one."


class InvalidToken(ServiceError):
    """A token that is forged, expired, used up, revoked, or of another kind (RFC 6750 section 3.1)."""

    code = "invalid_token"
    message = "The token is missing, expired or not valid here."


class MissingToken(InvalidToken):
    """No token at all: the same code, but the challenge names no error (RFC 6750 section 3.1)."""


class InsufficientAuthentication(ServiceError):
    """A valid token whose authentication is too weak or too old for the request (RFC 9470)."""

    code = "insufficient_user_authentication"
    message = "This request needs a stronger or a more recent authentication."

    def __init__(self, *, acr: str | None, max_age: int | None) -> None:
        super().__init__()
        self.acr = acr
        self.max_age = max_age


class InsufficientScope(ServiceError):
    """A valid access token of a registered client that does not have the scope `scope` (RFC 6750 section 3.1)."""

    code = "insufficient_scope"
    message = "This request needs a scope that the access token does not have."

    def __init__(self, scope: str) -> None:
        super().__init__()
        self.scope = scope


class Forbidden(ServiceError):
    """The token is valid, and its user or client may not do this: see `users/administrators`."""

    code = "forbidden"
    message = "The user or the client of the access token may not do this."


class LastAdministrator(ServiceError):
    """Without this administrator, no enabled user could use the admin API."""

    code = "last_administrator"
    message = "This is the last enabled administrator. Give another user the role first."


class AccountDisabled(ServiceError):
    """An operation of the admin API or of a command needs an enabled account. No other caller learns of its state."""

    code = "account_disabled"
    message = "The account is disabled. Enable it first."


class ClientIdTaken(ServiceError):
    code = "client_id_taken"
    message = "This client_id is taken."


class EmailTaken(ServiceError):
    """The address that a link confirms, or that of an invitation, names another account.

    Only the holder of the link learns that.
    """

    code = "email_taken"
    message = "This e-mail address belongs to another account."


class InvalidInvitation(ServiceError):
    """An invitation that is forged, expired, used, revoked, or for another address: one answer."""

    code = "invalid_invitation"
    message = "The invitation is not valid, or not for this address. Ask for a new one."


class MfaAlreadyEnabled(ServiceError):
    code = "mfa_already_enabled"
    message = "A second factor is confirmed already. To add another authenticator, give it a name."


class TooManyFactors(ServiceError):
    code = "too_many_factors"
    message = "The account has as many authenticators as it may have. Remove one first."


class LastFactor(ServiceError):
    code = "last_factor"
    message = "This is the last authenticator. To do without a second factor, disable it with a code."


class MfaNotEnabled(ServiceError):
    code = "mfa_not_enabled"
    message = "There is no confirmed second factor. Enable one first."


class NotFound(ServiceError):
    code = "not_found"
    message = "Not found."


class TooManyAttempts(ServiceError):
    """A limit is reached; after `retry_after` seconds another attempt is checked."""

    code = "too_many_attempts"
    message = "Too many attempts. Wait before the next one."

    def __init__(self, retry_after: float) -> None:
        super().__init__()
        self.retry_after = retry_after


class Busy(ServiceError):
    """All threads for hashing (law 9: hashing is a bounded resource) or for QR codes are busy; the queue is full."""

    code = "busy"
    message = "The service is at its capacity. Try again shortly."
    retry_after: ClassVar[float] = 1.0


class StoreUnavailable(ServiceError):
    """The database cannot be used; nothing was granted (law 7: no fail-open, no hang).

    `why` is for operators: the log, `doctor`, the command line and `/readyz`. No other answer has it. `is_lasting`
    means that a setting or a permission is wrong, so that waiting does not help.
    """

    code = "store_unavailable"
    message = "The service cannot reach its database. Try again shortly."
    retry_after: ClassVar[float] = 1.0

    def __init__(self, why: str = "", *, is_lasting: bool = False) -> None:
        super().__init__()
        self.why = why
        self.is_lasting = is_lasting


class MissingTable(StoreUnavailable):
    """A table does not exist: the schema was never made, or it is outside the search path of the role."""


class OAuthError(ServiceError):
    """A refusal by the OAuth 2.0 endpoints; its code is the `error` of RFC 6749 section 5.2."""


class InvalidOAuthRequest(OAuthError):
    """A parameter is missing, given twice, or malformed; `reason` says which, without its value."""

    code = "invalid_request"
    message = "A parameter of the request is missing, repeated or malformed."

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


class InvalidGrant(OAuthError):
    code = "invalid_grant"
    message = "The refresh token is not valid, or its session has ended."


class InvalidClient(OAuthError):
    code = "invalid_client"
    message = "The client is unknown or did not authenticate."


class UnauthorizedClient(OAuthError):
    code = "unauthorized_client"
    message = "The client has no scope, and so gets no token of its own."


class InvalidScope(OAuthError):
    code = "invalid_scope"
    message = "The client may not have this scope."


class UnsupportedGrantType(OAuthError):
    code = "unsupported_grant_type"
    message = "This grant_type is not supported."


class UnsupportedTokenType(OAuthError):
    """RFC 7009 section 2.2.1."""

    code = "unsupported_token_type"
    message = (
        "A client's access token cannot be revoked: it expires by itself. Remove the client, or rotate its secret."
    )


class ConfigurationError(Exception):
    """The service must not start with this configuration; the sentence says what to do. Shown to operators only."""
