"""Enumeration: no answer, wait or duration tells whether there is an account of a name."""

import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle
from math import sqrt
from statistics import fmean, variance

from service.attack.campaign import Attack, Scene
from service.attack.guessing import wrong_passwords
from service.attack.people import WRONG, patiently
from service.attack.report import Broken, NotTried
from service.attack.target import Answer, Target

TELLS = 4.5
"""Of Welch's t: what side-channel testing calls a leak (one run in ten thousand says so of nothing)."""
ENOUGH = 8
"""Samples of each kind below which nothing is said."""
WARM_UP = 1
CROPPED = 0.9
"""The part of all durations that counts: what the network and the scheduler delay tells nothing."""
FREE_FAILURES = 4
_VARIES = {"date", "x-request-id", "content-length", "connection", "keep-alive", "retry-after"}


def nobody() -> str:
    """A name that nobody has, as long as those of the accounts that were made."""
    return f"attack-{secrets.token_hex(4)}-{secrets.randbelow(9) + 1}"


def said(answer: Answer) -> tuple[int, bytes, frozenset[str]]:
    """What an answer tells."""
    return answer.status, answer.body, frozenset(answer.headers) - _VARIES


async def bodies(scene: Scene) -> str:
    alice, bob, target = await scene.people.alice(), await scene.people.bob(), scene.target
    no_code = alice.wrong_codes(1)[0]

    def login(name: str) -> Awaitable[Answer]:
        return patiently(target, "/login", {"username": name, "password": WRONG})

    def disable(name: str, password: str) -> Awaitable[Answer]:
        return patiently(target, "/disable-mfa", {"username": name, "password": password, "token": no_code})

    def recovery(name: str, password: str) -> Awaitable[Answer]:
        return patiently(target, "/recovery", {"username": name, "password": password})

    dora = await scene.people.dora()
    groups: dict[str, list[tuple[str, Awaitable[Answer]]]] = {
        "/login": [
            ("nobody", login(nobody())),
            ("a wrong password", login(bob.username)),
            ("a wrong password, with a second factor", login(alice.username)),
        ],
        "/disable-mfa": [
            ("nobody", disable(nobody(), WRONG)),
            ("a wrong password", disable(alice.username, WRONG)),
            ("no second factor", disable(bob.username, bob.password)),
            ("a wrong code", disable(alice.username, alice.password)),
        ],
        "/recovery": [
            ("nobody", recovery(nobody(), WRONG)),
            ("a wrong password", recovery(bob.username, WRONG)),
            ("no second factor", recovery(bob.username, bob.password)),
        ],
        "/qrcode": [
            ("nobody", target.send("GET", f"/qrcode/{nobody()}", bearer=dora.mfa_token)),
            ("another", target.send("GET", f"/qrcode/{bob.username}", bearer=dora.mfa_token)),
            ("another's confirmed factor", target.send("GET", f"/qrcode/{alice.username}", bearer=dora.mfa_token)),
        ],
    }
    asked = [(route, who, await answer) for route, answers in groups.items() for who, answer in answers]
    for person in (alice, bob):
        person.failures += 3
    for route in groups:
        (first, expected), *others = [(who, answer) for where, who, answer in asked if where == route]
        for who, answer in others:
            if 429 in {expected.status, answer.status}:
                raise NotTried(f"{route} is limited for this address: KEYTURN_LIMIT_LOGIN_ADDRESS, or wait")
            if said(answer) != said(expected):
                raise Broken(f"{route} tells {first!r} ({expected}) from {who!r} ({answer})")
    return f"{len(asked)} answers at {len(groups)} routes, alike where they must be"


async def waits(scene: Scene) -> str:
    """Wrong passwords make a name wait whether there is an account or not."""
    known, name = await wrong_passwords(scene), nobody()
    statuses: list[int] = []
    while len(statuses) < len(known.statuses):
        statuses.append((await patiently(scene.target, "/login", {"username": name, "password": WRONG})).status)
    if statuses != known.statuses and 429 in {statuses[0], known.statuses[0]}:
        raise NotTried("this address has had too many failures before: KEYTURN_LIMIT_LOGIN_ADDRESS, or wait")
    if statuses != known.statuses:
        raise Broken(f"of {len(statuses)} wrong passwords {known.looked_at} were looked at for an account, and "
                     f"{statuses.count(401)} for a name that nobody has")  # fmt: skip
    return f"{len(statuses)} wrong passwords, the same answers"


def welch(one: Sequence[float], other: Sequence[float]) -> float:
    """Welch's t of two samples; 0 if nothing varies."""
    spread = sqrt(variance(one) / len(one) + variance(other) / len(other))
    return 0.0 if spread == 0 else (fmean(one) - fmean(other)) / spread


def compare(known: Sequence[float], unknown: Sequence[float]) -> str:
    """The figures, unless the durations tell the two apart."""
    if min(len(known), len(unknown)) < ENOUGH:
        raise NotTried(f"only {min(len(known), len(unknown))} samples of each kind before a limit: "
                       "KEYTURN_LIMIT_LOGIN_ADDRESS, or wait")  # fmt: skip
    bound = sorted([*known, *unknown])[int(CROPPED * (len(known) + len(unknown))) - 1]
    one, other = ([value for value in kind if value <= bound] for kind in (known, unknown))
    # Infinite: nearly all of one kind are slower than nearly all of the other.
    t = float("inf") if min(len(one), len(other)) < 2 else welch(one, other)
    figures = f"t = {t:.1f}, {fmean(known) * 1000:.1f} and {fmean(unknown) * 1000:.1f} ms, {len(known)} of each"
    if abs(t) >= TELLS:
        raise Broken(f"durations tell an account from none: {figures}")
    return figures


async def measure(
    samples: int, known: Callable[[], Awaitable[Answer]], unknown: Callable[[], Awaitable[Answer]]
) -> tuple[list[float], list[float]]:
    """Durations of both kinds, in turn and in no order, until there are enough or a limit speaks."""
    durations: tuple[list[float], list[float]] = ([], [])
    for number in range(samples + WARM_UP):
        pair = [(durations[0], known), (durations[1], unknown)]
        random.shuffle(pair)
        for kept, ask in pair:
            answer = await ask()
            if answer.status == 429:
                return durations
            if number >= WARM_UP and answer.status != 503:
                kept.append(answer.seconds)
    return durations


async def login_times(scene: Scene) -> str:
    """A wrong password of an account and of nobody: the same work."""
    target, samples = scene.target, scene.wishes.timing_samples
    is_limited = 429 in (await wrong_passwords(scene)).statuses
    while is_limited and _free(scene) < samples + WARM_UP:
        await scene.people.sign_up(mfa=False)
    turns = cycle([person for person in scene.people.made if not is_limited or person.failures < FREE_FAILURES])

    async def known() -> Answer:
        person = next(turns)
        while is_limited and person.failures >= FREE_FAILURES:
            person = next(turns)
        person.failures += 1
        return await _login(target, person.username)

    return compare(*await measure(samples, known, lambda: _login(target, nobody())))


async def disable_times(scene: Scene) -> str:
    """At /disable-mfa: an account without a second factor (and the right password), and nobody."""
    bob, target = await scene.people.bob(), scene.target

    def disable(name: str, password: str) -> Awaitable[Answer]:
        return target.post("/disable-mfa", {"username": name, "password": password, "token": "123456"})

    samples = max(ENOUGH, scene.wishes.timing_samples // 2)
    return compare(
        *await measure(samples, lambda: disable(bob.username, bob.password), lambda: disable(nobody(), WRONG))
    )


def _free(scene: Scene) -> int:
    """Failures that the accounts have before one of them must wait."""
    return sum(max(0, FREE_FAILURES - person.failures) for person in scene.people.made)


async def _login(target: Target, name: str) -> Answer:
    return await target.post("/login", {"username": name, "password": WRONG})


ATTACKS = (
    Attack("Bodies and headers of refusals", bodies),
    Attack("Waits after wrong passwords", waits),
    Attack("Durations of /login", login_times),
    Attack("Durations of /disable-mfa", disable_times),
)
