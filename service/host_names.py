"""What is wrong with the name of a host, its port or the path of a socket, by rules that need no query.

Each fault is the rest of a sentence that begins with the setting or with "it". It quotes no part of the name, which
can be a part of a password.
"""

import ipaddress
import re

MAX_SOCKET_PATH_BYTES = 107
"""The maximum length of the path of a Unix socket on Linux, without the zero byte at its end (unix(7))."""

_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9_.])?")


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


def read_host(text: str, *, default: str = "", several_colons: str, port_example: str) -> tuple[str, int | None]:
    """Read the host and the port of a URL; `None` if it has no port. `default` replaces an empty host.

    An IPv6 address is in brackets (RFC 3986 section 3.2.2). Raises `ValueError` with a fault: `several_colons` says
    what to write in place of a host with several colons, and `port_example` is a URL with a password and a port.
    """
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", text)
    if bracketed is not None:
        host, port = bracketed[1], bracketed[2]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError("has brackets around something that is not an IPv6 address") from None
    else:
        host, _, port = text.partition(":")
        if ":" in port:
            raise ValueError(f"has a host with several colons: {several_colons}")
        host = host or default
        if not _HOST.fullmatch(host):
            raise ValueError(
                "has a host that is empty or has a character that no host name has; in a user name or password "
                "percent-encode @, /, ?, # and [ ]"
            )
        if (fault := host_fault(host)) is not None:
            raise ValueError(fault)
    if not port:
        return host, None
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError(
            "has a port that is not a number from 1 to 65535; if that is part of a password, write it as "
            f"{port_example} and percent-encode @, /, ? and # in it"
        )
    return host, int(port)


def socket_fault(path: str) -> str | None:
    """Return what is wrong with the path of a Unix socket; `None` if nothing is."""
    if len(path.encode()) <= MAX_SOCKET_PATH_BYTES:
        return None
    return (
        f"has a path of a socket that is longer than {MAX_SOCKET_PATH_BYTES} bytes. Use a folder with a shorter path"
    )
