"""The types of the fields of requests. They are strict, and unknown fields are refused.

Law 13: input is validated at the edge, strictly.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from service.factors import recovery_codes, totp
from service.factors.names import check_name
from service.language_tags import LANGUAGE_TAG, MAX_LANGUAGE_TAG_LENGTH
from service.typed_text import trim, without_separators
from service.users import normalisation, users
from service.users.addresses import ADDRESS_PATTERN, MAX_LENGTH, check_address

_PRINTABLE = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"


def _normalised(password: SecretStr) -> SecretStr:
    return SecretStr(normalisation.normalise(password.get_secret_value()))


def _trimmed(value: Any) -> Any:
    return trim(value) if isinstance(value, str) else value  # pydantic refuses a value of another type


def _six_digits(otp: str) -> str:
    # `123 456` is accepted. Full-width and circled digits are not converted, and so they are refused.
    normalised = without_separators(otp)
    if not totp.is_code(normalised):
        raise ValueError("A code needs six digits of 0-9")
    return normalised


def _recovery_code(code: str) -> str:
    normalised = recovery_codes.normalise(code)
    if normalised is None:
        raise ValueError("A recovery code needs sixteen letters and digits")
    return normalised


Username = Annotated[
    str,
    Field(
        min_length=3,
        max_length=users.MAX_USERNAME_LENGTH,
        description="3 to 64 of a-z 0-9 . _ - @ +, or an e-mail address of at most 128; folded to lower case; "
        "white space around it is ignored.",
        json_schema_extra={"pattern": f"^{users.USERNAME_PATTERN}$"},
        examples=["alice"],
    ),
    BeforeValidator(_trimmed),
    AfterValidator(users.normalise),
]
Email = Annotated[
    str,
    Field(
        min_length=3,
        max_length=MAX_LENGTH,
        description="An e-mail address of at most 128 ASCII characters, used for nothing until it is confirmed.",
        json_schema_extra={"pattern": f"^{ADDRESS_PATTERN}$", "format": "email"},
        examples=["alice@example.com"],
    ),
    BeforeValidator(_trimmed),
    AfterValidator(check_address),
]
Locale = Annotated[
    str,
    Field(
        max_length=MAX_LANGUAGE_TAG_LENGTH,
        pattern=f"^{LANGUAGE_TAG}$",
        description="The language of messages to the user (RFC 5646). One that is not available is stored as well.",
        examples=["de-CH"],
    ),
]
LinkToken = Annotated[
    str,
    Field(
        min_length=1,
        max_length=2048,
        description="The token of a link: what follows the last = in the link.",
        examples=["ktl_AbC..."],
    ),
]
Password = Annotated[
    SecretStr,
    Field(
        min_length=1,
        max_length=normalisation.MAX_BYTES,
        description="At most 1,024 bytes of UTF-8 after NFKC, no control characters.",
        json_schema_extra={"pattern": _PRINTABLE},
        examples=["correct horse battery staple"],
    ),
    AfterValidator(_normalised),
]
NewPassword = Annotated[
    Password,
    Field(
        description="At least 15 characters, or 8 with a second factor (operators may set other lengths), at most "
        "1,024 bytes of UTF-8 after NFKC, no control characters, not the username and not a commonly used password.",
        json_schema_extra={"pattern": _PRINTABLE, "minLength": 8},  # a short one gets weak_password, with the reason
    ),
]
Otp = Annotated[
    str,
    Field(
        description="The verification code: the six digits of the authenticator. White space and dashes are ignored.",
        json_schema_extra={"minLength": 6, "pattern": r"^[\s-]*([0-9][\s-]*){6}$"},
        examples=["492039"],
    ),
    AfterValidator(_six_digits),
]
RecoveryCode = Annotated[
    str,
    Field(
        description="One of the ten recovery codes of the account. Case, white space and dashes are ignored; 0 is "
        "read as O, and 1, I and L are interchangeable.",
        json_schema_extra={"minLength": 16, "pattern": r"^[\s._-]*([A-Za-z0-7][\s._-]*){16}$"},
        examples=["ABCD-EFGH-IJKL-MNOP"],
    ),
    AfterValidator(_recovery_code),
]
MfaToken = Annotated[
    str,
    Field(
        min_length=1,
        max_length=4096,
        description="A pending token: of /login, /me/restore, /signup, /enable-mfa or /step-up.",
    ),
]
MAX_DEVICE_TOKEN_LENGTH = 1024
DeviceToken = Annotated[str, Field(min_length=1, max_length=MAX_DEVICE_TOKEN_LENGTH)]
FactorName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=64,
        description="The user's name for the authenticator: 1 to 64 characters, no control characters.",
        json_schema_extra={"pattern": _PRINTABLE},
        examples=["Tablet"],
    ),
    AfterValidator(check_name),
]


class Body(BaseModel):
    """The base of every request body."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)
