"""What `make docs` does beside the defaults, so that a page reads on the site as it does on GitHub.

- A link to a file of the repository outside docs/ becomes plain text: the site does not have the file.
  `tests/docs/test_readme.py` checks that it exists.
- A list that follows a line of text gets the blank line that Python-Markdown needs to see a list there.
"""

import posixpath
import re
from typing import Any

_LINK = re.compile(r"\[([^\]]+)\]\((\.\./[^)\s#]*)[^)\s]*\)")
_ITEM = re.compile(r"(?:[-*]|\d+\.) ")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by MkDocs with each page's source."""
    folder = posixpath.dirname(page.file.src_uri)

    def replaced(link: re.Match[str]) -> str:
        is_outside = posixpath.normpath(posixpath.join(folder, link[2])).startswith("../")
        return link[1] if is_outside else link[0]

    return _separate_lists(_LINK.sub(replaced, markdown))


def _separate_lists(markdown: str) -> str:
    lines: list[str] = []
    is_code = is_list = False
    for line in markdown.split("\n"):
        if line.lstrip().startswith("```"):
            is_code = not is_code
        elif not is_code and _ITEM.match(line):
            if not is_list and lines and lines[-1].strip():
                lines.append("")
            is_list = True
        elif not line.strip():
            is_list = False
        lines.append(line)
    return "\n".join(lines)
