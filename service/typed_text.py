"""Clean text that users type and paste: remove white space, invisible characters and separators.

A phone's keyboard appends a space to a completed word, apps show codes in groups, and text copied from a web page or
a document may contain no-break spaces, zero-width spaces and byte-order marks. None of them is part of a username or
a code. The remaining text is validated strictly (law 13: input is validated at the edge, strictly).
"""

_WHITE_SPACE = "".join(filter(str.isspace, map(chr, range(0x3001))))  # Unicode has none beyond U+3000
# Soft hyphen, Arabic letter mark, Mongolian vowel separator; zero-width characters and direction marks; word joiner
# and invisible operators; byte-order mark.
_INVISIBLE = "\u00ad\u061c\u180e" + "".join(
    map(chr, [*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2065), *range(0x2066, 0x2070), 0xFEFF])
)
# Full stop and underscore; the hyphen, every dash, the minus sign and the tildes that serve as dashes.
_SEPARATORS = "._-\u058a\u05be\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2e3a\u2e3b\u301c\u3030\ufe58\ufe63\uff0d"

_AROUND = _WHITE_SPACE + _INVISIBLE
_ANYWHERE = dict.fromkeys(map(ord, _AROUND + _SEPARATORS))


def trim(text: str) -> str:
    """Return `text` without white space and invisible characters at its beginning and end."""
    return text.strip(_AROUND)


def without_separators(text: str) -> str:
    """Return `text` without white space, invisible characters, dashes, full stops and underscores anywhere."""
    return text.translate(_ANYWHERE)
