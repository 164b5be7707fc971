"""The files of the account page, in memory, compressed once, under names that change with their content.

All files of one version are below one folder whose name is a digest of them all, so that browsers may keep them for
ever, and a module imports its neighbours by their plain names. Only the document itself has a fixed address.
"""

import gzip
import html
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
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


Compress = Callable[[bytes], bytes]
gzipped: Compress = partial(gzip.compress, mtime=0)


@dataclass(frozen=True)
class PageFile:
    """One file, as it is and compressed."""

    content: bytes = field(repr=False)
    media_type: str
    compressed: bytes = field(repr=False)

    @cached_property
    def digest(self) -> str:
        return sha256(self.content).hexdigest()[:32]

    def etag(self, *, is_compressed: bool) -> str:
        """Return the strong entity tag (RFC 9110 section 8.8.3). The two forms differ, and so do their tags."""
        return f'"{self.digest}-gzip"' if is_compressed else f'"{self.digest}"'


class PageFiles:
    """The document, and the files that it loads."""

    def __init__(
        self, *, name: str, config: Mapping[str, Any], style: str | None, compress: Compress = gzipped
    ) -> None:
        """`name` is that of the service, `config` what the page's code reads, `style` the operator's variables.

        All files are compressed here, at the start, which takes some 10 ms: no request waits for it.
        """
        files = dict(_read_static(compress))
        if style is not None:
            files["brand.css"] = _make(style.encode(), ".css", compress)
        self.files: Mapping[str, PageFile] = files
        summary = sha256()
        for path, file in files.items():
            summary.update(f"{path} {file.digest}\n".encode())
        self.folder = summary.hexdigest()[:16]
        links = ['<link rel="stylesheet" href="{}/brand.css">'] if style is not None else []
        # Without these preloads the browser would find a module only after it has read the one that imports it.
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
        self.document = _make(document.encode(), ".html", compress)


def _make(content: bytes, suffix: str, compress: Compress) -> PageFile:
    return PageFile(content, MEDIA_TYPES[suffix], compress(content))


@cache
def _read_static(compress: Compress) -> Mapping[str, PageFile]:
    """Return the files of this folder by their paths. A process reads and compresses them once."""
    return {
        str(path.relative_to(STATIC)): _make(path.read_bytes(), path.suffix, compress)
        for path in sorted(STATIC.rglob("*.*"))
        if path.name != DOCUMENT
    }
