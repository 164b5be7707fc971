"""The words of the code, the documentation and the messages are plain; docs/reference/glossary.md has the terms.

The patterns are few, so that none of them hits a sentence that is right.
"""

import re
import subprocess
from functools import cache

import pytest

from tests.harness.servers import REPOSITORY

BANNED = {
    "users are 'they'": r"\b(?:[Hh]e|[Hh]is|[Hh]im|[Hh]imself|[Ss]he|[Hh]ers|[Hh]erself)\b",
    "'who' needs a noun before it": r"(?i)(?:\b(?:for|of|to|by|from|with|than|as|and|but)|[;,:]) who\b(?![^.!]*\?)",
    "'who' is no subject": r"(?:^|[.(] )Who (?!\w+ (?:is|am|are)\b)(?![^.]*\?)",
    "'whoever' is no subject": r"(?i)\b(?:whoever|whomever|whosoever)\b",
    "archaic": r"(?i)\b(?:anew|hence|whence|thence|lest|whither|thereof|therein)\b",
    "a metaphor": r"(?i)\b(?:turnstiles?|storms?|crowds?|census|chorus|sang|sings|law book|riddles?|the door)\b",
    "a login has two steps": r"(?i)\b(?:first|second|both|two|other) (?:turns?|keys? turned)\b",
    "a condition begins with 'if'": r"(?:^|[.:;(] )(?:Was|Does|Did|Is|Has) (?:it|they|that|there) not\b(?![^.]*\?)",
    "'accepted' or 'admitted'": r"(?i)\b(?:is|are|was|were|be) let in\b|\blets? (?:it|them|nobody|somebody) in\b",
    "'checked' or 'read'": r"(?i)\b(?:is|are|was|were|be|been|being) looked at\b",
    "'valid'": r"(?i)\b(?:is|are|was|were) good for\b|\b(?:is|are) (?:no longer|not) good\b",
    "'reported'": r"(?i)\b(?:is|are|was|were|be|been) told (?:of|once|as such|that)\b",
}
"""What to write, and the pattern that is banned."""

TEXTS = (
    "*.py", "*.md", "*.yaml", "*.yml", "*.toml", "*.json", "*.js", "*.mjs", "*.ts", "*.tsx", "*.css", "*.html",
    "*.txt", "*.sh", "*.conf", "*file", ".ci/*",
)  # fmt: skip
EXEMPT = {"tests/docs/test_language.py", "CODE_OF_CONDUCT.md"} | {
    f"service/web/account_page/static/i18n/{language}.json" for language in ("de", "fr", "es")
}
"""Files that hold the patterns themselves, the words of others, or another language."""


@cache
def lines() -> list[tuple[str, str]]:
    """Return every line of every text of the repository, with its place."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *TEXTS], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    names = [name for name in listed.stdout.split("\0") if name and name not in EXEMPT]
    return [
        (f"{name}:{number}", line.strip())
        for name in names
        if (REPOSITORY / name).is_file()
        for number, line in enumerate((REPOSITORY / name).read_text("utf-8").splitlines(), 1)
    ]


@pytest.mark.parametrize("instead", BANNED)
def test_no_line_has_a_banned_pattern(instead: str) -> None:
    """The failure lists the lines."""
    pattern = re.compile(BANNED[instead])
    assert [] == [f"{place}: {line}" for place, line in lines() if pattern.search(line)]


def test_the_patterns_find_what_they_ban() -> None:
    """One sentence for each, from the repository's past."""
    past = [
        "a code of his",
        "for who lost everything",
        "Who comes alone waits for nothing",
        "whoever fails a million times",
        "the decision is made anew",
        "a storm of logins",
        "the second turn",
        "Is it not, the key is old",
        "nobody is let in",
        "the code was looked at",
        "the token is good for one use",
        "a clock that is told once",
    ]
    assert len(BANNED) == len(past)
    for pattern, sentence in zip(BANNED.values(), past, strict=True):
        assert re.search(pattern, sentence), sentence
