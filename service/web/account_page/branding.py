"""The operator's style for the account page: a file of CSS variables (`KEYTURN_ACCOUNT_STYLE`), and nothing else.

A style sheet with other contents could show a false text, or load a picture from another host and so tell that host
what a user types. So the file has custom properties of `:root` only: a block for every screen, and a block for dark
screens. Their values are made of characters and functions that load nothing. Colours are not judged: a text in
the colour of its background cannot be read, and avoiding that is up to the operator.
"""

import re
from pathlib import Path

from service.errors import ConfigurationError

MAX_BYTES = 16 * 1024

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_DARK = re.compile(r"@media\s*\(\s*prefers-color-scheme\s*:\s*dark\s*\)\s*\{\s*(:root\s*\{[^{}]*\})\s*\}")
_ROOT = re.compile(r":root\s*\{([^{}]*)\}")
_DECLARATION = re.compile(r"(--[A-Za-z0-9-]+)\s*:\s*(.+)", re.DOTALL)
_VALUE = re.compile(r"""[A-Za-z0-9 \t\r\n#%.,()+*/'"_-]*""")
_STRING = re.compile(r"'[^'\r\n]*'|" r'"[^"\r\n]*"')
_FUNCTION = re.compile(r"([A-Za-z-]+)\(")
_FUNCTIONS = frozenset(
    {"rgb", "rgba", "hsl", "hsla", "hwb", "lab", "lch", "oklab", "oklch", "color", "color-mix", "light-dark"}
    | {"var", "calc", "min", "max", "clamp", "rem"}
)
"""Functions of colours and lengths. None of them loads anything, as `url()` and `image-set()` would."""


def read_style(file: Path) -> str:
    """Return the style, without its comments.

    Raises `ConfigurationError` for a file that cannot be read, is too large or has anything but custom properties.
    """
    try:
        if file.stat().st_size > MAX_BYTES:
            raise _refused(file, "it is larger than 16 KiB")
        text = file.read_text("utf-8-sig")  # an editor may have written a byte order mark
    except OSError as error:
        raise _refused(file, f"it cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _refused(file, "it is not UTF-8") from None
    text = _COMMENT.sub("", text)
    light, dark = _DARK.sub("", text), "".join(_DARK.findall(text))
    written = "".join(f"{_read_block(file, block)}\n" for block in _blocks(file, light))
    for block in _blocks(file, dark):
        written += f"@media (prefers-color-scheme: dark) {{ {_read_block(file, block)} }}\n"
    return written


def _blocks(file: Path, text: str) -> list[str]:
    rest = _ROOT.sub("", text).strip()
    if rest:
        raise _refused(file, f"{rest.splitlines()[0][:40]!r} is outside of a :root block")
    return _ROOT.findall(text)


def _read_block(file: Path, block: str) -> str:
    """Return the block, made again from the declarations that were read."""
    declarations = []
    for part in filter(None, map(str.strip, block.split(";"))):
        match = _DECLARATION.fullmatch(part)
        if match is None:
            raise _refused(file, f"{part.splitlines()[0][:40]!r} is no custom property like --accent: #0a5")
        name, value = match[1], match[2].strip()
        unknown = [function for function in _FUNCTION.findall(value) if function.lower() not in _FUNCTIONS]
        if unknown:
            raise _refused(file, f"{name} has {unknown[0]}(), which is not a function of colours or lengths")
        if _VALUE.fullmatch(value) is None or "/*" in value:
            raise _refused(file, f"{name} has a character that no colour, length or font name has")
        if not _is_balanced(value):
            raise _refused(file, f"{name} has unbalanced brackets or quotation marks")
        declarations.append(f"{name}: {value};")
    return f":root {{ {' '.join(declarations)} }}"


def _is_balanced(value: str) -> bool:
    """Return whether all quotation marks and brackets of the value are closed in it.

    An open one would take in the declarations that follow, up to the dark block.
    """
    depth = 0
    for character in _STRING.sub("", value):
        depth += (character == "(") - (character == ")")
        if depth < 0 or character in "'\"":
            return False
    return depth == 0


def _refused(file: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"KEYTURN_ACCOUNT_STYLE ({file}): {why}. The file has custom properties only: :root {{ --accent: #0a5; }}, "
        "and the same within @media (prefers-color-scheme: dark) { ... }"
    )
