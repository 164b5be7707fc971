"""The form of language tags (RFC 5646). Whether a tag is registered is not checked."""

import re

LANGUAGE_TAG = "[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*"
"""The form of a language tag: 2 to 8 letters, then subtags of 1 to 8 letters and digits (RFC 5646 section 2.1)."""

MAX_LANGUAGE_TAG_LENGTH = 35
"""RFC 5646 section 4.4.1: enough for every tag in use."""


def is_language_tag(text: str) -> bool:
    return len(text) <= MAX_LANGUAGE_TAG_LENGTH and re.fullmatch(LANGUAGE_TAG, text) is not None


def check_language_tag(text: str) -> str:
    """Return the language tag. Raises `ValueError` for another text."""
    if not is_language_tag(text):
        raise ValueError("Write a language as its tag, such as de or pt-BR")
    return text
