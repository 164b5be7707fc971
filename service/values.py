"""How a setting's text becomes a value: rates, durations, lists, and the users a policy names.

Each parser raises `ValueError` with a sentence that says how to write the value. Pydantic adds the setting's name.
"""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator

from service.throttle import Rate
from service.users import EVERYONE, check_roles

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _rate(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.strip().lower() == "off":
        return None
    match = re.fullmatch(r"\s*([1-9][0-9]{0,8})\s*/\s*([1-9][0-9]{0,5})\s*([smhd])\s*", value)
    if match is None:
        raise ValueError("write it like 5/15m (count, slash, number and one of s m h d), or off")
    return Rate(int(match[1]), int(match[2]) * _UNITS[match[3]])


def _duration(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.strip().lower() == "off":
        return None
    match = re.fullmatch(r"\s*([1-9][0-9]{0,5})\s*([smhd])\s*", value)
    if match is None:
        raise ValueError("write it like 72h (a number and one of s m h d), or off")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def _words(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(word for word in re.split(r"[,\s]+", value) if word)


def _whom(value: object) -> object:
    """`off`: nobody; `everyone`; or the roles that are named."""
    if not isinstance(value, str):
        return value
    words = tuple(re.split(r"[,\s]+", value.strip()))
    if words == ("off",):
        return ()
    if {"off", EVERYONE} & set(words) and len(words) > 1:
        raise ValueError("write off, everyone, or a list of roles")
    return words if words == (EVERYONE,) else check_roles(words)


Limit = Annotated[Rate | None, BeforeValidator(_rate)]
Duration = Annotated[timedelta | None, BeforeValidator(_duration)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Whom = Annotated[tuple[str, ...], BeforeValidator(_whom)]
