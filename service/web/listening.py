"""The sockets that the service listens on: one for each address that `KEYTURN_HOST` names.

They are the same for one worker and for several. `::` means every address of the machine, IPv6 and IPv4, on two
sockets, so that the address of an IPv4 client is not an IPv4-mapped one. `localhost` means 127.0.0.1 and ::1, because
clients differ in which of the two they try first.
"""

import ctypes
import errno
import os
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from service.errors import ConfigurationError

Address = tuple[socket.AddressFamily, str]

_BOTH: dict[str, list[Address]] = {
    "::": [(socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")],  # noqa: S104 -- the operator asked for it
    "localhost": [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")],
}
_ABSENT_FAMILY = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}
"""Errors of a family of addresses that this machine does not have."""

MAX_REPETITIONS = 10
"""How often another free port is chosen after one that is not free at every address of the host."""


class _PortTaken(ConfigurationError):
    """Another program has the port."""


def bind(host: str, port: int) -> list[socket.socket]:
    """Bind a socket for each address of `host`, without listening yet. Port 0 chooses a free port, the same for all.

    Of `::` and `localhost`, a family that this machine does not have is left out.

    Raises `ConfigurationError` if an address is unknown or does not belong to this machine, or if its port is taken
    or not permitted.
    """
    addresses = _addresses(host)
    for _ in range(MAX_REPETITIONS if port == 0 else 0):
        with suppress(_PortTaken):  # the system chose it at the first address, and a later one does not have it
            return _bind_all(host, addresses, port)
    return _bind_all(host, addresses, port)


def _bind_all(host: str, addresses: list[Address], port: int) -> list[socket.socket]:
    """Bind a socket for each address. The port that 0 chooses at the first address is that of all."""
    is_pair = host in _BOTH
    with ExitStack() as stack:
        bound: list[socket.socket] = []
        absent: OSError | None = None
        for family, address in addresses:
            tried = bound[0].getsockname()[1] if bound else port
            try:
                listener = stack.enter_context(_bind(family, address, tried))
            except OSError as error:
                if not is_pair or error.errno not in _ABSENT_FAMILY:
                    refusal = _PortTaken if error.errno == errno.EADDRINUSE else ConfigurationError
                    raise refusal(_sentence(error, address, tried)) from None
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


def accept_all(sockets: Sequence[socket.socket]) -> list[socket.socket]:
    """Accept the connections that the kernel holds for these sockets. Closing the sockets would reset them."""
    accepted = []
    for listener in sockets:
        while True:
            try:
                accepted.append(listener.accept()[0])
            except ConnectionAbortedError:  # its client has left; others may wait behind it
                continue
            except OSError:  # EAGAIN: none is left. Others, such as EMFILE, would be the same at the next attempt
                break
    return accepted


_SO_ATTACH_FILTER = 26
_ONLY_SYN = ((0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
"""Classic BPF (bytecode by which the kernel filters packets): load the flags of the TCP header; drop the packet if
SYN is set and ACK is not; else pass it."""


def refuse_new_connections(sockets: Sequence[socket.socket]) -> None:
    """Make the kernel start no new connections at listening sockets, and complete those that have begun.

    A client whose SYN is dropped repeats it after a second. By then it is refused, or it reaches a successor. Without
    this function a connection made between the last `accept` and `close` would be reset. Only Linux supports it; on
    other systems that gap of a few microseconds remains.
    """
    if sys.platform != "linux":
        return
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in _ONLY_SYN)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HP", len(_ONLY_SYN), ctypes.addressof(buffer))
    for listener in sockets:
        with suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


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
