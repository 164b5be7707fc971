"""The files of the account page, in memory, compressed once, under names that change with their content.

All files of one version are below one folder whose name is a digest of them all, so that browsers may keep them for
ever, and a module imports its neighbours by their plain names. Only the document itself has a fixed address.
"""

import gzip
import html
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from string import Template
from typing import Any

STATIC = Path(__file__).parent / "static"
DOCUMENT = "index.html"

MEDIA_TYPES: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class PageFile:
    """One file, as it is and compressed."""

    content: bytes = field(repr=False)
    media_type: str
    compressed: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # At the start, where it takes some 10 ms for all files: no request waits for it.
        object.__setattr__(self, "compressed", gzip.compress(self.content, mtime=0))

    @cached_property
    def digest(self) -> str:
        return sha256(self.content).hexdigest()[:32]

    def etag(self, *, is_compressed: bool) -> str:
        """Return the strong entity tag (RFC 9110 section 8.8.3). The two forms differ, and so do their tags."""
        return f'"{self.digest}-gzip"' if is_compressed else f'"{self.digest}"'


class PageFiles:
    """The document, and the files that it loads."""

    def __init__(self, *, name: str, config: Mapping[str, Any], style: str | None) -> None:
        """`name` is that of the service, `config` what the page's code reads, `style` the operator's variables."""
        files = {
            str(path.relative_to(STATIC)): PageFile(path.read_bytes(), MEDIA_TYPES[path.suffix])
            for path in sorted(STATIC.rglob("*.*"))
            if path.name != DOCUMENT
        }
        if style is not None:
            files["brand.css"] = PageFile(style.encode(), MEDIA_TYPES[".css"])
        self.files: Mapping[str, PageFile] = files
        summary = sha256()
        for path, file in files.items():
            summary.update(f"{path} {file.digest}\n".encode())
        self.folder = summary.hexdigest()[:16]
        links = ['<link rel="stylesheet" href="{}/brand.css">'] if style is not None else []
        # Without them the browser would find each module only after it has read the one that imports it.
        links += [
            f'<link rel="modulepreload" href="{{}}/{path}">'
            for path in files
            if path.endswith(".js") and path != "main.js"
        ]
        document = Template((STATIC / DOCUMENT).read_text("utf-8")).substitute(
            name=html.escape(name),
            config=html.escape(json.dumps(config, separators=(",", ":"))),
            links="\n".join(links).format(*[self.folder] * len(links)),
            folder=self.folder,
        )
        self.document = PageFile(document.encode(), MEDIA_TYPES[".html"])
