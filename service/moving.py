"""Moving people in from other systems, and out again: one JSON object a line, so that any size will do.

| field         | what it is                                                                                 |
|---------------|--------------------------------------------------------------------------------------------|
| username      | as at signup                                                                               |
| password_hash | argon2, bcrypt, scrypt or PBKDF2, in their usual text forms; hashed anew at the next login |
| totp_secret   | base32 of 112 bits or more (SHA-1, six digits, 30 s); absent: no second factor             |
| authenticators | in place of `totp_secret`, for several or named ones: `[{"name": ..., "totp_secret": ...}]` |
| mfa           | `off`, `asked` or `confirmed`; by default `confirmed` with a secret and `off` without      |
| roles         | a list; by default none                                                                    |
| disabled      | by default false                                                                           |
| sub           | the opaque id in tokens; by default a new one                                              |

A second factor never gets lost on the way: a record that speaks of one and has no secret is refused.
"""

import base64
import binascii
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from time import monotonic
from typing import Annotated, Any, Literal, Self, TextIO

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from service import clients, passwords, users
from service.clock import Clock
from service.database import PATIENCE, Database, Transaction
from service.factors import DEFAULT_NAME, MOST, Factor, Factors, check_name
from service.sealing import SealBroken
from service.users import User

LONGEST_LINE = 16 * 1024
_AT_ONCE = 100
_LONGEST = PATIENCE / 3
"""Seconds after which a transaction takes no further line, however far away the database is."""


def _base32(secret: str) -> str:
    text = secret.upper().replace(" ", "").rstrip("=") if secret.isascii() else "not base32"
    try:
        size = len(base64.b32decode(text + "=" * (-len(text) % 8)))
    except binascii.Error:
        raise ValueError("is not base32") from None
    if not 14 <= size <= 128:  # NIST SP 800-63B-4 section 3.1.4: 112 bits; pyotp holds to it
        raise ValueError("needs 112 to 1,024 bits: with less, enrol anew")
    return text


def _readable(password_hash: str) -> str:
    passwords.check_foreign(password_hash)
    return password_hash


TotpSecret = Annotated[str, AfterValidator(_base32)]
_STRICT = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)


class Authenticator(BaseModel):
    """One of somebody's authenticators, by the name he gave it."""

    model_config = _STRICT

    name: Annotated[str, AfterValidator(check_name)] = DEFAULT_NAME
    totp_secret: TotpSecret


class Record(BaseModel):
    """One person, on the way."""

    model_config = _STRICT

    username: Annotated[str, AfterValidator(users.fold)]
    password_hash: Annotated[str, AfterValidator(_readable)]
    totp_secret: TotpSecret | None = None
    authenticators: list[Authenticator] = Field([], max_length=MOST)
    mfa: Literal["off", "asked", "confirmed"] | None = None
    roles: Annotated[list[str], AfterValidator(lambda roles: list(users.check_roles(tuple(roles))))] = []
    disabled: bool = False
    sub: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{16,64}$")

    @model_validator(mode="after")
    def _keeps_its_second_factor(self) -> Self:
        if self.totp_secret is not None and self.authenticators:
            raise ValueError("there are both totp_secret and authenticators")
        if not self.factors and self.mfa in {"asked", "confirmed"}:
            raise ValueError(
                "there is a second factor and no totp_secret: export it with its secret, or say mfa: off"
            )
        if self.factors and self.mfa == "off":
            raise ValueError("there is a totp_secret and mfa is off")
        if len(self.factors) > 1 and self.mfa == "asked":
            raise ValueError("there are several authenticators and mfa is asked: one is enrolled at a time")
        return self

    @property
    def factors(self) -> list[Authenticator]:
        """However they were written."""
        if self.totp_secret is None:
            return self.authenticators
        return [Authenticator(totp_secret=self.totp_secret)]


@dataclass(frozen=True, slots=True)
class Refused:
    """A line that was not imported, and why; never what stands in it."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Unexportable:
    """Somebody whose secret no listed master secret opens."""

    username: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import has come, and what it refused since the last word of it."""

    lines: int
    imported: int
    refused: tuple[Refused, ...]


def read_record(line: str) -> Record:
    """Raises `ValueError` with a reason that quotes nothing."""
    if len(line) > LONGEST_LINE:
        raise ValueError(f"it is longer than {LONGEST_LINE} characters")
    try:
        return Record.model_validate(json.loads(line, object_pairs_hook=_each_once))
    except ValidationError as error:
        mistake = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(str(part) for part in mistake["loc"]) if mistake["type"] != "extra_forbidden" else "a field"
        sentence = mistake["msg"].removeprefix("Value error, ")
        raise ValueError(f"{name} {sentence}".strip()) from None
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON object, or has a member twice") from None


async def import_people(
    database: Database, factors: Factors, lines: Iterable[str], clock: Clock
) -> AsyncIterator[Progress]:
    """Import line by line, a hundred in a transaction at most; what is told of is committed.

    It may be run again after an interruption: who is there already is refused as taken, and left as he is.
    """
    numbered = _numbered(lines)
    imported = line = 0
    waiting: deque[tuple[int, Record] | Refused] = deque()
    while waiting or (waiting := deque(islice(numbered, _AT_ONCE))):
        refused: list[Refused] = []
        added = 0
        async with database.begin() as transaction:
            now, started = clock(), monotonic()
            while waiting and monotonic() - started < _LONGEST:
                entry = waiting.popleft()
                line = entry.line if isinstance(entry, Refused) else entry[0]
                if isinstance(entry, Refused):
                    refused.append(entry)
                elif await _bring_in(transaction, factors, entry[1], now):
                    added += 1
                else:
                    refused.append(Refused(line, "the username or the sub is taken"))
        imported += added
        yield Progress(line, imported, tuple(refused))


async def _bring_in(transaction: Transaction, factors: Factors, record: Record, now: datetime) -> bool:
    """False if the username or the `sub` is somebody's already; a client's counts too, for tokens name both alike."""
    if record.sub is not None and await clients.exists(transaction, record.sub):
        return False
    user = await users.bring_in(
        transaction,
        record.username,
        record.password_hash,
        now,
        user_id=record.sub,
        roles=tuple(record.roles),
        is_disabled=record.disabled,
    )
    if user is None:
        return False
    is_confirmed = record.mfa != "asked"
    for factor in record.factors:
        await factors.bring_in(
            transaction, user, factor.totp_secret, name=factor.name, is_confirmed=is_confirmed, now=now
        )
    return True


async def export_people(
    database: Database, factors: Factors, *, with_secrets: bool
) -> AsyncIterator[str | Unexportable]:
    """Every account as a line that `import_people` takes; with a second factor only if its secret is there."""
    after = ""
    while page := await users.export_page(database, after=after):
        after = page[-1].username
        secrets = await factors.list_secrets(page[0].username, after) if with_secrets else {}
        for user in page:
            try:
                yield json.dumps(_record(user, secrets.get(user.id, [])))
            except SealBroken:
                yield Unexportable(user.username)


def _record(user: User, sealed: Sequence[Callable[[], Factor]]) -> dict[str, Any]:
    """Raises `SealBroken`."""
    record: dict[str, Any] = {
        "username": user.username,
        "password_hash": user.password_hash,
        "mfa": user.mfa,
        "roles": list(user.roles),
        "disabled": user.is_disabled,
        "sub": user.id,
    }
    match [open_it() for open_it in sealed]:
        case []:
            pass
        case [factor] if factor.name == DEFAULT_NAME:
            record["totp_secret"] = factor.secret
        case several:
            record["authenticators"] = [{"name": f.name, "totp_secret": f.secret} for f in several]
    return record


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError
    return members


def lines_of(file: TextIO) -> Iterator[str]:
    """Its lines, none longer than what `read_record` refuses: a file without line ends must not fill the memory."""
    while line := file.readline(LONGEST_LINE + 1):
        yield line
        while not line.endswith("\n") and (line := file.readline(LONGEST_LINE + 1)):
            pass  # the rest of a line that was too long


def _numbered(lines: Iterable[str]) -> Iterator[tuple[int, Record] | Refused]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield number, read_record(line)
        except ValueError as error:
            yield Refused(number, str(error))
