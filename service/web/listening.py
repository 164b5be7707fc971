"""The sockets that the service listens on: one for each address that `KEYTURN_HOST` names.

They are the same for one worker and for several. `::` means every address of the machine, IPv6 and IPv4, on two
sockets, so that the address of an IPv4 client is not an IPv4-mapped one. `localhost` means 127.0.0.1 and ::1, because
clients differ in which of the two they try first.
"""

import errno
import os
import socket
from contextlib import ExitStack

from service.errors import ConfigurationError

Address = tuple[socket.AddressFamily, str]

_BOTH: dict[str, list[Address]] = {
    "::": [(socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")],  # noqa: S104 -- the operator asked for it
    "localhost": [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")],
}
_ABSENT_FAMILY = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}


def bind(host: str, port: int) -> list[socket.socket]:
    """Bind a socket for each address of `host`, without listening yet. Port 0 chooses a free port, the same for all.

    Raises `ConfigurationError` if an address does not belong to this machine or its port is taken.
    """
    is_pair = host in _BOTH
    with ExitStack() as stack:
        bound: list[socket.socket] = []
        absent: OSError | None = None
        for family, address in _addresses(host):
            try:
                listener = stack.enter_context(_bind(family, address, bound[0].getsockname()[1] if bound else port))
            except OSError as error:
                if not is_pair or error.errno not in _ABSENT_FAMILY:
                    raise ConfigurationError(_sentence(error, address, port)) from None
                absent = error  # this machine has one of the two families only
            else:
                bound.append(listener)
        if not bound and absent is not None:
            raise ConfigurationError(_sentence(absent, host, port))
        stack.pop_all()
    return bound


def urls(sockets: list[socket.socket]) -> list[str]:
    """Return the URLs of the sockets, for example `http://[::1]:8000`."""
    names = [listener.getsockname()[:2] for listener in sockets]
    return [f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}" for host, port in names]


def _addresses(host: str) -> list[Address]:
    if host in _BOTH:
        return _BOTH[host]
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise ConfigurationError(
            f"KEYTURN_HOST: no address of {host!r} is known. Write an address of this machine, like 127.0.0.1, or "
            "0.0.0.0 or :: for all of them."
        ) from None
    scoped = [(family, f"{at[0]}%{at[3]}" if len(at) == 4 and at[3] else str(at[0])) for family, _, _, _, at in found]
    return list(dict.fromkeys(scoped))


def _bind(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
    except OSError:
        listener.close()
        raise
    return listener


def _sentence(error: OSError, address: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"KEYTURN_PORT: another program has port {port} of {address}. Stop that program, or choose another "
                "port; without a proxy in front, KEYTURN_ISSUER must have the same port."
            )
        case errno.EACCES | errno.EPERM:
            return (
                f"KEYTURN_PORT: user {os.getuid()} may not listen on port {port}. Choose a port above 1023, and let "
                f"a proxy or a port mapping forward port {port} to it."
            )
        case _:
            return (
                f"KEYTURN_HOST: {address} cannot be listened on ({error.strerror}). Write an address of this "
                "machine, like 127.0.0.1, or 0.0.0.0 or :: for all of them."
            )
