"""Ports for the servers of tests, which no other process takes before the server listens."""

import itertools
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

FIRST = 10240
"""The first port that is given: browsers refuse several below it (WHATWG Fetch, section 2.9)."""


def free_port() -> int:
    """Return a port that nothing listens on. A process gets each port once.

    Port 0 would give one of those that the kernel also gives to outgoing connections: between this call and the start
    of the server, or while a test has it stopped, any connection of the machine could take the port.
    """
    for port in _candidates:
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


def _ports_of_this_process() -> range:
    """Return the ports that are not for outgoing connections; each process of a test run has a share of its own."""
    outgoing = Path("/proc/sys/net/ipv4/ip_local_port_range")
    end = int(outgoing.read_text().split()[0]) if outgoing.exists() else 49152  # RFC 6335, section 6
    if end < FIRST + 10_000:
        end = 65536
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return range(FIRST + worker % count, end, count)


def _from_a_random_one(ports: range) -> Iterator[int]:
    start = secrets.randbelow(len(ports))  # another test run on this machine begins elsewhere
    return itertools.chain(ports[start:], ports[:start])


_candidates = _from_a_random_one(_ports_of_this_process())
