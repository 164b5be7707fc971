"""What is wrong with the name of a host or the path of a socket, by rules that need no query.

Each fault is the rest of a sentence that begins with the setting or with "it". It quotes no part of the name, which
can be a part of a password.
"""

import re

MAX_SOCKET_PATH_BYTES = 107
"""The maximum length of the path of a Unix socket on Linux, without the zero byte at its end (unix(7))."""

_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")


def is_host_name(text: str) -> bool:
    """Return whether `text` is an ASCII name of at most 253 characters, labels of 1 to 63 (RFC 1035 section 2.3.4).

    Underscores are accepted, because names of containers have them, and a dot at the end.
    """
    name = text.removesuffix(".")
    return len(name) <= 253 and all(map(_LABEL.fullmatch, name.split(".")))


def host_fault(text: str) -> str | None:
    """Return what is wrong with a host name; `None` if nothing is."""
    if not text.isascii():
        return "has a character that is not ASCII. Write the host name in its xn-- form"
    if is_host_name(text):
        return None
    return (
        "has a host name of more than 253 characters, with two dots in a row, with more than 63 characters between "
        "dots, or with a character that no host name has. Correct the name"
    )


def socket_fault(path: str) -> str | None:
    """Return what is wrong with the path of a Unix socket; `None` if nothing is."""
    if len(path.encode()) <= MAX_SOCKET_PATH_BYTES:
        return None
    return (
        f"has a path of a socket that is longer than {MAX_SOCKET_PATH_BYTES} bytes. Use a folder with a shorter path"
    )
