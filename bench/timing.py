"""Test whether the time of an answer reveals if a user exists: `python -m bench.timing [--logins 5000]`.

Law 8: no answer reveals who exists.

The program measures refusals of five kinds, one after the other in random order on one connection: of an unknown
username, of a user's wrong password, of the wrong password of a user with a second factor, and of an unknown and a
known e-mail address. Welch's t says by how many standard errors two means differ. Below 4.5, dudect's bound, that
many requests cannot distinguish the kinds.

It tests /login and /disable-mfa, but not a username at /signup, whose answer says that it is taken. Each kind
alternates between a hundred usernames of the same length, so that no kind is cached better than another. The service
and this process have a core each. Limits are off, else the service would soon refuse some kinds without a hash.

Two routes send links to e-mail addresses, and their answers are alike, too: /password-reset for an unknown user, a
known, a disabled one and one without an address, and /signup with an address of another account and with a new one.
Their limits cannot be switched off. So each request for a link comes from another network, by the header of a
trusted proxy, and names a user twice at most, so that a message is sent for every known one; a sign-up names an
address four times at most. As /password-reset takes a quarter of a second on purpose, its requests overlap: several
connections have one request each, begun at different times.
"""

import ipaddress
import random
import secrets
import socket
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import combinations
from statistics import fmean
from time import perf_counter_ns, sleep

from bench.board import Line, command, run, say
from bench.figures import cropped, standard_error, welch
from bench.load import post, without_pauses
from bench.worlds import PASSWORD, People, World, people_of, served

BOUND = 4.5
FINEST = 500.0
"""Microseconds of difference that the test must be able to detect. On a busier machine it proves nothing."""
KEPT = 0.9
"""Fraction that cropping keeps: the slowest tenth may have been interrupted."""
NAMES, WARM_UP = 100, 20

UNKNOWN, KNOWN, WITH_MFA = "unknown user", "known user", "user with MFA"
UNKNOWN_ADDRESS, KNOWN_ADDRESS = "unknown address", "known address"
PAIRS = ((UNKNOWN, KNOWN), (KNOWN, WITH_MFA), (UNKNOWN, WITH_MFA), (UNKNOWN_ADDRESS, KNOWN_ADDRESS))

DISABLED, NO_ADDRESS = "disabled user", "user without address"
TAKEN, FREE = "taken address", "new address"
OVERLAPPING = 8
"""Requests for a link that are under way at the same time."""
ANSWER_SECONDS = 0.25
"""The time that /password-reset takes at least."""
REQUESTS_OF_USER, REQUESTS_OF_ADDRESS = 2, 4
"""Fewer than the limits: three requests for a link in an hour, and five messages to an unconfirmed address."""

Kinds = Mapping[str, Sequence[bytes]]


async def measure(world: World, options: Namespace) -> list[Line]:
    with tempfile.TemporaryDirectory(prefix="keyturn-bench-") as folder:
        more = {"KEYTURN_DATA_DIR": folder, **world.environment, "KEYTURN_TRUSTED_PROXIES": "127.0.0.1"}
        return await measure_all(replace(world, environment=more), options)


async def measure_all(world: World, options: Namespace) -> list[Line]:
    lines: list[Line] = []
    async with served(world) as running, people_of(world) as people:
        names = {
            UNKNOWN: [secrets.token_hex(8) for _ in range(NAMES)],
            KNOWN: await people.make_without_factor(NAMES),
            WITH_MFA: [person.username for person in await people.make(NAMES)],
            UNKNOWN_ADDRESS: [people.address_of(secrets.token_hex(8)) for _ in range(NAMES)],
            KNOWN_ADDRESS: [people.address_of(name) for name in await people.make_with_addresses(NAMES)],
        }
        for path, more in (("/login", {}), ("/disable-mfa", {"token": "000000"})):
            kinds = {
                kind: [post(path, username=name, password="this is not it", **more) for name in those]  # noqa: S106
                for kind, those in names.items()
            }
            took = microseconds(running.port, kinds, options.logins // 2)
            lines += [compared(world, path, pair, took) for pair in PAIRS]
        requests = await signups(people, options.logins // 2)
        took = microseconds(running.port, requests, options.logins // 2, status=201)
        lines += [compared(world, "/signup", pair, took) for pair in combinations(requests, 2)]
        requests = await resets(people, options.logins // 2)
        took = overlapped(running.port, requests, 202)
        lines += [compared(world, "/password-reset", pair, took) for pair in combinations(requests, 2)]
    return lines


async def resets(people: People, of_each: int) -> Kinds:
    """Return the requests for a link, of every kind."""
    count = -(-(of_each + WARM_UP) // REQUESTS_OF_USER)
    names = {
        UNKNOWN: [secrets.token_hex(8) for _ in range(count)],
        KNOWN: await people.make_with_addresses(count),
        DISABLED: await people.make_with_addresses(count, are_disabled=True),
        NO_ADDRESS: await people.make_without_factor(count),
    }
    networks = (ipaddress.IPv6Address((0x20010DB8 << 96) + (n << 64) + 1) for n in range(1 << 32))

    def request(name: str) -> bytes:
        return from_address(post("/password-reset", username=name), next(networks))

    return {kind: [request(name) for name in those * REQUESTS_OF_USER] for kind, those in names.items()}


async def signups(people: People, of_each: int) -> Kinds:
    """Return the sign-ups of new users with an address that another account has, and with one that nobody has."""
    count = -(-(of_each + WARM_UP) // REQUESTS_OF_ADDRESS)
    owners = await people.make_with_addresses(count)
    addresses = {
        TAKEN: [people.address_of(name) for name in owners],
        FREE: [people.address_of(secrets.token_hex(8)) for _ in range(count)],
    }
    return {
        kind: [
            post("/signup", username=secrets.token_hex(8), password=PASSWORD, email=address)
            for address in those * REQUESTS_OF_ADDRESS
        ]
        for kind, those in addresses.items()
    }


def from_address(request: bytes, address: ipaddress.IPv6Address) -> bytes:
    """Return the request as a trusted proxy forwards it."""
    line, _, rest = request.partition(b"\r\n")
    return b"%s\r\nX-Forwarded-For: %s\r\n%s" % (line, str(address).encode(), rest)


def overlapped(port: int, kinds: Kinds, status: int) -> dict[str, list[float]]:
    """Return the microseconds of requests of each kind, which overlap. Each round has all kinds, in random order."""
    shuffled = random.Random(2)
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    rounds = min(len(requests) for requests in kinds.values())
    order = [(n, kind) for n in range(rounds) for kind in shuffled.sample(list(kinds), len(kinds))]
    under_way: list[tuple[int, str, int] | None] = [None] * OVERLAPPING
    with ExitStack() as stack, without_pauses():
        lines = [stack.enter_context(connection(port)) for _ in range(OVERLAPPING)]
        for place, (n, kind) in enumerate([*order, *[(0, "")] * OVERLAPPING]):
            line, earlier = lines[place % OVERLAPPING], under_way[place % OVERLAPPING]
            if earlier is not None:
                number, of_kind, begun = earlier
                if (given := answered(line)) != status:
                    raise RuntimeError(f"the service answered {given} to a request for a link")
                if number >= WARM_UP:
                    took[of_kind].append((perf_counter_ns() - begun) / 1000)
            else:
                sleep(ANSWER_SECONDS / OVERLAPPING)  # so that answers come one after the other
            if kind:
                under_way[place % OVERLAPPING] = (n, kind, perf_counter_ns())
                line.sendall(kinds[kind][n])
    return took


def microseconds(port: int, kinds: Kinds, of_each: int, *, status: int = 401) -> dict[str, list[float]]:
    """Return the microseconds of requests of each kind. Each round has all kinds, in random order."""
    shuffled = random.Random(1)
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    with connection(port) as line, without_pauses():
        for n in range(-WARM_UP, of_each):
            for kind in shuffled.sample(list(kinds), len(kinds)):
                request = kinds[kind][n % NAMES if status == 401 else n + WARM_UP]
                begun = perf_counter_ns()
                given = ask(line, request)
                ended = perf_counter_ns()
                if given != status:
                    raise RuntimeError(f"the service answered {given}, and {status} was expected")
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
    return answered(line)


def answered(line: socket.socket) -> int:
    """Return the status of the next answer, once it is complete."""
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
