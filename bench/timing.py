"""Test whether the time of a refusal reveals if a user exists: `python -m bench.timing [--logins 5000]`.

Law 8: no answer reveals who exists.

The program measures refusals of three kinds, one after the other in random order on one connection: of an unknown
username, of a user's wrong password, and of the wrong password of a user with a second factor. Welch's t says by how
many standard errors two means differ. Below 4.5, dudect's bound, that many requests cannot distinguish the kinds.

It tests /login and /disable-mfa, but not /signup, whose answer says that a username is taken. Each kind alternates
between a hundred usernames of the same length, so that no kind is cached better than another. The service and this
process have a core each. Limits are off, else the service would soon refuse some kinds without a hash.
"""

import random
import secrets
import socket
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean
from time import perf_counter_ns

from bench.board import Line, command, run, say
from bench.figures import cropped, standard_error, welch
from bench.load import post, without_pauses
from bench.worlds import World, people_of, served

BOUND = 4.5
FINEST = 500.0
"""Microseconds of difference that the test must be able to detect. On a busier machine it proves nothing."""
KEPT = 0.9
"""Fraction that cropping keeps: the slowest tenth may have been interrupted."""
NAMES, WARM_UP = 100, 20

UNKNOWN, KNOWN, WITH_MFA = "unknown user", "known user", "user with MFA"
PAIRS = ((UNKNOWN, KNOWN), (KNOWN, WITH_MFA), (UNKNOWN, WITH_MFA))

Kinds = Mapping[str, Sequence[bytes]]


async def measure(world: World, options: Namespace) -> list[Line]:
    lines: list[Line] = []
    async with served(world) as running, people_of(world) as people:
        names = {
            UNKNOWN: [secrets.token_hex(8) for _ in range(NAMES)],
            KNOWN: await people.make_without_factor(NAMES),
            WITH_MFA: [person.username for person in await people.make(NAMES)],
        }
        for path, more in (("/login", {}), ("/disable-mfa", {"token": "000000"})):
            kinds = {
                kind: [post(path, username=name, password="this is not it", **more) for name in those]  # noqa: S106
                for kind, those in names.items()
            }
            took = microseconds(running.port, kinds, options.logins // 2)
            lines += [compared(world, path, pair, took) for pair in PAIRS]
    return lines


def microseconds(port: int, kinds: Kinds, of_each: int) -> dict[str, list[float]]:
    """Return the microseconds of requests of each kind. Each round has all kinds, in random order."""
    shuffled = random.Random(1)
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    with connection(port) as line, without_pauses():
        for n in range(-WARM_UP, of_each):
            for kind in shuffled.sample(list(kinds), len(kinds)):
                begun = perf_counter_ns()
                status = ask(line, kinds[kind][n % NAMES])
                ended = perf_counter_ns()
                if status != 401:
                    raise RuntimeError(f"the service answered {status} in place of a refusal")
                if n >= 0:
                    took[kind].append((ended - begun) / 1000)
    return took


def compared(world: World, path: str, pair: tuple[str, str], took: Mapping[str, Sequence[float]]) -> Line:
    a, b = (took[kind] for kind in pair)
    few_a, few_b = cropped(a, b, keep=KEPT)
    raw, trimmed = welch(a, b), welch(few_a, few_b)
    say(
        f"  {world.name} {path}: {pair[0]} {fmean(a):.1f} µs, {pair[1]} {fmean(b):.1f} µs, difference"
        f" {fmean(a) - fmean(b):+.1f} (of the faster nine tenths {fmean(few_a) - fmean(few_b):+.1f})"
    )
    visible = BOUND * standard_error(few_a, few_b)
    reached = (
        f"t {raw:+.2f}, cropped {trimmed:+.2f}; {len(a) + len(b):,} requests, {visible:.0f} µs would be detected"
    )
    what = f"{path}: {pair[0]} against {pair[1]} ({world.name})"
    is_same = max(abs(raw), abs(trimmed)) < BOUND
    return Line(what, f"|t| < {BOUND}", reached, None if is_same and visible > FINEST else is_same, command())


@contextmanager
def connection(port: int) -> Iterator[socket.socket]:
    """Open a blocking connection, because an event loop would add noise."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield line


def ask(line: socket.socket, request: bytes) -> int:
    """Send a request, and return the status of its complete answer."""
    line.sendall(request)
    data = line.recv(65536)
    while not _is_whole(data):
        more = line.recv(65536)
        if not more:
            raise RuntimeError("the service closed the connection")
        data += more
    return int(data[9:12])


def _is_whole(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return bool(end) and len(body) >= int(length or 0)


def main() -> int:
    parser = ArgumentParser(
        prog="python -m bench.timing", description="Test whether response times reveal who exists."
    )
    parser.add_argument(
        "--logins", type=int, default=5000, help="number of requests for each comparison of two kinds"
    )
    return run(parser, measure)


if __name__ == "__main__":
    sys.exit(main())
