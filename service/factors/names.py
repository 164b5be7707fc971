"""The names that users give to their authenticators."""

import unicodedata

MAX_NAME_LENGTH = 64
_JOINERS = "\u200c\u200d"
"""Invisible characters that a name may have: emojis and some scripts are written with them."""


def check_name(name: str) -> str:
    """Return the name. Raises `ValueError` unless it is 1 to 64 characters that a log and a terminal can show.

    Refused are control characters, line separators, characters that change the direction of the text around them, and
    names that show nothing.
    """
    shown = [one for one in name if one not in _JOINERS]
    if len(name) > MAX_NAME_LENGTH or not any(one.isprintable() and not one.isspace() for one in shown):
        raise ValueError(f"A name needs 1 to {MAX_NAME_LENGTH} characters, and at least one that is visible")
    if not all(one.isprintable() or unicodedata.category(one) == "Zs" for one in shown):
        raise ValueError("A name must not have control characters or other invisible characters")
    return name
