"""Durations in settings: a whole number and one of `s`, `m`, `h`, `d`, such as `10m`; or a plain number.

What a plain number means depends on the setting: seconds, or days where the name of the setting ends with `_DAYS`.
`KEYTURN_RECOVERY_DELAY` refuses a plain number.
"""

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_FORM = re.compile(r"(-?)0*([0-9]+)\s*([smhd]?)")  # not \d: it matches the digits of every script
_MAX_DIGITS = 15
"""A longer number is cut to this length, which is above every bound: Python reads at most 4,300 digits."""


def read_seconds(text: str, *, plain: Literal["s", "d"] | None, like: str) -> int:
    """Return the seconds of a duration, which may be negative.

    `plain` is the unit of a plain number; `None` if a plain number is refused. Raises `ValueError` with a sentence
    that contains `like`, an example.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"write it like {like}: a whole number and one of s m h d")
    sign, digits, unit = match.groups()
    if not unit and plain is None:
        raise ValueError(f"write it like {like}: it needs the unit, one of s m h d, after the number")
    return int(sign + digits[:_MAX_DIGITS]) * UNITS[unit or plain or "s"]


def as_text(seconds: int) -> str:
    """Return a duration as an operator writes it, with the longest unit that has a whole number: `90s`, `2h`."""
    unit = next(unit for unit in reversed(UNITS) if seconds % UNITS[unit] == 0)
    return f"{seconds // UNITS[unit]}{unit}" if seconds else "0"


@dataclass(frozen=True, slots=True)
class InSeconds:
    """In the type of a setting, `Annotated[int, InSeconds(...)]`: a number of seconds within these bounds."""

    least: int
    most: int
    like: str
    """An example of a value, for the error."""

    unit: ClassVar[Literal["s", "d"]] = "s"
    name: ClassVar[str] = "seconds"

    def read(self, value: object) -> object:
        """Return the number of units in a text; leave another value as it is. Raises `ValueError`."""
        if not isinstance(value, str):
            return value
        seconds = read_seconds(value, plain=self.unit, like=self.like)
        if seconds % UNITS[self.unit]:
            raise ValueError(f"it must be a whole number of {self.name}. Write it like {self.like}")
        return seconds // UNITS[self.unit]

    def check(self, number: int) -> int:
        """Raise `ValueError` unless the number of units is within the bounds."""
        if not self.least <= number <= self.most:
            least, most = (as_text(bound * UNITS[self.unit]) for bound in (self.least, self.most))
            raise ValueError(
                f"it must be {self.least} to {self.most} {self.name} ({least} to {most}). Write it like {self.like}"
            )
        return number

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        before = core_schema.no_info_before_validator_function(self.read, handler(source))
        return core_schema.no_info_after_validator_function(self.check, before)


class InDays(InSeconds):
    """A number of days. A text with another unit must be a whole number of days: `48h`."""

    __slots__ = ()
    unit: ClassVar[Literal["s", "d"]] = "d"
    name: ClassVar[str] = "days"
