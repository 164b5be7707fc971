"""Markdown: tables, and paragraphs of at most 120 characters a line."""

import textwrap
from collections.abc import Iterable, Sequence

GENERATED = "<!-- Generated from the code by `make reference`. Change the code, not this page. -->"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; line breaks within a cell become spaces."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def paragraph(text: str) -> str:
    """One paragraph of running text."""
    return textwrap.fill(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False) + "\n"


def page(title: str, *parts: str) -> str:
    """A page: its title, the notice that it is generated, and its parts with an empty line between them."""
    return "\n".join([f"# {title}\n", GENERATED + "\n", *parts])


def code(words: Iterable[str]) -> str:
    """The words as code, with commas between them."""
    return ", ".join(f"`{word}`" for word in words)
