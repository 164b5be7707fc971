"""What `make docs` does beside the defaults: a link to a file of the repository outside docs/ becomes plain text.

On GitHub such a link leads to the file; the site does not have it. tests/test_readme.py checks that the file exists.
"""

import posixpath
import re
from typing import Any

_LINK = re.compile(r"\[([^\]]+)\]\((\.\./[^)\s#]*)[^)\s]*\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by MkDocs with each page's source."""
    folder = posixpath.dirname(page.file.src_uri)

    def replaced(link: re.Match[str]) -> str:
        is_outside = posixpath.normpath(posixpath.join(folder, link[2])).startswith("../")
        return link[1] if is_outside else link[0]

    return _LINK.sub(replaced, markdown)
