"""One account of an import: which fields its line may have, and how they are checked.

A reason for refusing a line names the field and what to do, and quotes no value: a hash or a secret may be in the
wrong field. An unknown field is named only if it looks like a name and not like a value.
"""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from service.factors import totp
from service.factors.names import check_name
from service.factors.totp_authenticators import DEFAULT_NAME, MAX_AUTHENTICATORS
from service.language_tags import check_language_tag
from service.roles import check_roles
from service.static_claims import check_claims
from service.tokens.access import FIRST_PARTY
from service.users import addresses, foreign_hashes, subjects, users

MAX_LINE_LENGTH = 16 * 1024
_MAX_SECRET_BYTES = 128
_NAME = re.compile(r"[A-Za-z]+(?:[_-][A-Za-z]+)*")
_SEPARATORS = re.compile(r"[\s\u200b\u2010-\u2015\u2212\ufeff-]+")  # white space, and dashes of pasted text
_ENROL_AGAIN = "leave it out and write mfa: asked, and the user enrols at the next login"


def read_secret(text: str, *, allow_weak: bool) -> str:
    """Return the shared secret in base32 without padding, from base32 or an `otpauth://` URI. Raises `ValueError`.

    White space, dashes and padding are ignored. Bits at the end that do not make a byte are ignored as well, as
    authenticators do.
    """
    secret = _secret_of_uri(text) if text.strip().lower().startswith("otpauth") else text
    plain = _SEPARATORS.sub("", secret).rstrip("=")
    if not plain.isascii():
        raise ValueError("The secret is not base32")
    plain = plain.upper()
    if re.fullmatch(r"[A-Z2-7]*", plain) is None:
        if re.fullmatch(r"[0-9A-F]{20,}", plain):
            raise ValueError("The secret is not base32 but hexadecimal: write the same bytes in base32 (RFC 4648)")
        raise ValueError("The secret is not base32")
    if len(plain) % 8 in {1, 3, 6}:
        plain = plain[:-1]
    decoded = base64.b32decode(plain + "=" * (-len(plain) % 8))
    if len(decoded) < totp.MIN_SECRET_BYTES or len(decoded) > _MAX_SECRET_BYTES:
        raise ValueError(f"The secret needs 112 to 1,024 bits: {_ENROL_AGAIN}")
    canonical = base64.b32encode(decoded).decode().rstrip("=")
    if totp.is_weak(canonical) and not allow_weak:
        raise ValueError(
            "The secret needs 112 bits or more; with 80 or more it is imported by --allow-weak-secrets."
            f" Or {_ENROL_AGAIN}"
        )
    return canonical


def _secret_of_uri(text: str) -> str:
    """Return the secret of a Key URI with the supported parameters: SHA-1, six digits, 30 seconds."""
    try:
        uri = urlsplit(text.strip())
        parameters = parse_qs(uri.query, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        raise ValueError("The secret is an otpauth URI that cannot be read") from None
    if uri.scheme != "otpauth":
        raise ValueError(f"The secret is an export of Google Authenticator, which is not supported: {_ENROL_AGAIN}")
    if uri.netloc.lower() != "totp":
        raise ValueError(
            f"The secret is an otpauth URI of another kind than totp, which is not supported: {_ENROL_AGAIN}"
        )
    if any(len(values) > 1 for values in parameters.values()) or "secret" not in parameters:
        raise ValueError("The secret is an otpauth URI without a secret, or with a parameter twice")
    for name, supported, fault in (
        ("algorithm", {"SHA1", "HMACSHA1"}, "hash function is not SHA-1"),
        ("digits", {"6"}, "codes do not have six digits"),
        ("period", {"30"}, "codes do not change every 30 seconds"),
    ):
        given = parameters.get(name, [min(supported)])[0]
        if given.upper().replace("-", "") not in supported:
            raise ValueError(f"The secret is an otpauth URI whose {fault}, which is not supported: {_ENROL_AGAIN}")
    return parameters["secret"][0]


def _hmac_key(secret: str) -> bytes:
    """Return the key that HMAC-SHA-1 makes of a canonical secret (RFC 2104): equal keys have equal codes.

    A key that is longer than a block is replaced by its hash, and a shorter one is filled with zero bytes.
    """
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    if len(key) > hashlib.sha1(usedforsecurity=False).block_size:
        key = hashlib.sha1(key, usedforsecurity=False).digest()
    return key.rstrip(b"\0")


def _totp_secret(text: str, info: ValidationInfo) -> str:
    return read_secret(text, allow_weak=bool((info.context or {}).get("allow_weak")))


def _subject(sub: str) -> str:
    if sub == FIRST_PARTY:
        raise ValueError("This sub is the client_id of the tokens that users get: leave it out to get a new one")
    return subjects.check_subject(sub)


def _roles(roles: list[str]) -> list[str]:
    """Return the roles in their order, each once."""
    return list(check_roles(tuple(dict.fromkeys(roles))))


def _as_text(sub: object) -> object:
    """Accept a number: some systems number their users, so that 42 is the `sub` "42"."""
    return str(sub) if isinstance(sub, int) and not isinstance(sub, bool) else sub


def _as_number(seconds: object) -> object:
    """Accept a number that is a text, as every cell of a CSV file is."""
    return int(seconds) if isinstance(seconds, str) and re.fullmatch(r"[0-9]{1,15}", seconds) else seconds


Seconds = Annotated[int, BeforeValidator(_as_number), Field(ge=0, lt=2**53)]
TotpSecret = Annotated[str, AfterValidator(_totp_secret)]
_STRICT = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)


class Authenticator(BaseModel):
    """One authenticator of a user, with the name the user gave it."""

    model_config = _STRICT

    name: Annotated[str, AfterValidator(check_name)] = DEFAULT_NAME
    totp_secret: TotpSecret


class Record(BaseModel):
    """One account."""

    model_config = _STRICT

    username: Annotated[str, AfterValidator(users.normalise)]
    password_hash: Annotated[str, AfterValidator(lambda text: foreign_hashes.read(text).text)]
    totp_secret: TotpSecret | None = None
    authenticators: list[Authenticator] = Field([], max_length=MAX_AUTHENTICATORS)
    mfa: Literal["off", "asked", "confirmed"] | None = None
    email: Annotated[str, AfterValidator(addresses.check_address)] | None = None
    locale: Annotated[str, AfterValidator(check_language_tag)] | None = None
    roles: Annotated[list[str], AfterValidator(_roles)] = []
    claims: Annotated[dict[str, Any], AfterValidator(check_claims)] = {}
    disabled: bool = False
    deletion_due_at: Seconds | None = None
    password_reset_at: Seconds | None = None
    sub: Annotated[str, BeforeValidator(_as_text), AfterValidator(_subject)] | None = None

    @model_validator(mode="after")
    def _check_second_factor(self) -> Self:
        if self.totp_secret is not None and self.authenticators:
            raise ValueError("there are both totp_secret and authenticators: leave one of them out")
        if not self.factors and self.mfa == "confirmed":
            raise ValueError(
                "there is a second factor and no totp_secret: export it with its secret, or write mfa: asked, and "
                "the user enrols at the next login"
            )
        if self.factors and self.mfa == "off":
            raise ValueError("there is a totp_secret and mfa is off: leave one of them out")
        if len(self.factors) > 1 and self.mfa == "asked":
            raise ValueError("there are several authenticators and mfa is asked: one is enrolled at a time")
        if len({_hmac_key(secret) for _name, secret in self.factors}) < len(self.factors):
            raise ValueError(
                "two authenticators have the same totp_secret, so that one code could be used twice: leave one of "
                "them out"
            )
        return self

    @property
    def factors(self) -> list[tuple[str, str]]:
        """Name and secret of each authenticator, from either of the two fields."""
        if self.totp_secret is not None:
            return [(DEFAULT_NAME, self.totp_secret)]
        return [(one.name, one.totp_secret) for one in self.authenticators]

    @property
    def requires_enrolment(self) -> bool:
        """Whether the user asked for a second factor whose secret is not in the record."""
        return self.mfa == "asked" and not self.factors


def read_record(line: str, *, allow_weak: bool = False) -> Record:
    """Read a JSON object. Raises `ValueError` with a reason that quotes no value."""
    if len(line) > MAX_LINE_LENGTH:
        raise ValueError(f"it is longer than {MAX_LINE_LENGTH} characters")
    try:
        members = json.loads(line, object_pairs_hook=_unique_members)
    except (ValueError, RecursionError):
        raise ValueError("it is not a JSON object, or has a member twice") from None
    return check_record(members, allow_weak=allow_weak)


def check_record(members: object, *, allow_weak: bool = False) -> Record:
    """Check the members of a line. Raises `ValueError` with a reason that quotes no value."""
    try:
        return Record.model_validate(members, context={"allow_weak": allow_weak})
    except ValidationError as error:
        mistake = error.errors(include_input=False, include_url=False)[0]
        if mistake["type"] == "extra_forbidden":
            raise ValueError(unknown_field(mistake["loc"])) from None
        name = ".".join(str(part) for part in mistake["loc"])
        sentence = mistake["msg"].removeprefix("Value error, ")
        raise ValueError(f"{name}: {sentence}" if name else sentence) from None


def unknown_field(place: Sequence[str | int]) -> str:
    """Return a sentence about an unknown field.

    Its name is quoted only if it looks like the name of a field: at most 40 letters, underscores and dashes.
    """
    *_, name = place
    known = ", ".join(Record.model_fields if len(place) == 1 else Authenticator.model_fields)
    is_a_name = isinstance(name, str) and len(name) <= 40 and _NAME.fullmatch(name) is not None
    return f"a field{f' {name}' if is_a_name else ''} is unknown: remove it, the fields are {known}"


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError
    return members
