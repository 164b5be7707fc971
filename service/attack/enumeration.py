"""Enumeration: no answer, wait or duration may reveal whether a username has an account."""

import random
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from itertools import cycle
from math import log, sqrt
from statistics import fmean, variance

from service.attack.campaign import Attack, Context
from service.attack.guessing import wrong_passwords
from service.attack.people import WRONG, post_until_not_busy
from service.attack.report import Broken, NotTried
from service.attack.target import Answer, Target

T_THRESHOLD = 4.5
"""Standard deviations from which a difference is reported: the 4.5 of side-channel tests, there a value of Welch's t
(see `normal_deviate`). About one run in 100,000 exceeds it by chance."""
MIN_SAMPLES = 8
"""Samples of each kind that a comparison needs."""
WARM_UP = 1
KEPT_FRACTION = 0.9
"""Fraction of the durations that is compared: the shortest. The network and the scheduler delay the others."""
Ask = Callable[[], Awaitable[Answer]]
_VARIES = {"date", "x-request-id", "content-length", "connection", "keep-alive"}
_COMPARED = {"cache-control", "content-type", "vary", "www-authenticate"}
"""Headers whose values are compared. Proxies add others, with another value in each answer."""
_REMEDY = "set KEYTURN_LIMIT_LOGIN_ADDRESS=off, or wait, and allow at least three free failures (KEYTURN_LIMIT_LOGIN)"


def unknown_username() -> str:
    """Return a username without an account, in the form of the usernames that the run made."""
    return f"attack-{secrets.token_hex(4)}-{secrets.randbelow(9) + 1}"


def said(answer: Answer) -> tuple[int, bytes, frozenset[str], frozenset[tuple[str, str]]]:
    """Return the status, the body, and the headers: the names, except those that vary, and values of `_COMPARED`."""
    values = frozenset((name, value) for name, value in answer.headers.items() if name in _COMPARED)
    return answer.status, answer.body, frozenset(answer.headers) - _VARIES, values


async def bodies(context: Context) -> str:
    enrolled_user, password_user, target = (
        await context.people.enrolled_user(),
        await context.people.password_user(),
        context.target,
    )
    no_code = enrolled_user.wrong_codes(1)[0]

    def login(name: str) -> Ask:
        return partial(post_until_not_busy, target, "/login", {"username": name, "password": WRONG})

    def disable(name: str, password: str) -> Ask:
        return partial(
            post_until_not_busy, target, "/disable-mfa", {"username": name, "password": password, "token": no_code}
        )

    def recovery(name: str, password: str) -> Ask:
        return partial(post_until_not_busy, target, "/recovery", {"username": name, "password": password})

    def restore(name: str, password: str) -> Ask:
        return partial(post_until_not_busy, target, "/me/restore", {"username": name, "password": password})

    def picture(name: str) -> Ask:
        return partial(target.send, "GET", f"/qrcode/{name}", bearer=unconfirmed_user.mfa_token)

    unconfirmed_user = await context.people.unconfirmed_user()
    groups: dict[str, list[tuple[str, Ask]]] = {
        "/login": [
            ("an unknown user", login(unknown_username())),
            ("a wrong password", login(password_user.username)),
            ("a wrong password, with a second factor", login(enrolled_user.username)),
        ],
        "/disable-mfa": [
            ("an unknown user", disable(unknown_username(), WRONG)),
            ("a wrong password", disable(enrolled_user.username, WRONG)),
            ("no second factor", disable(password_user.username, password_user.password)),
            ("a wrong code", disable(enrolled_user.username, enrolled_user.password)),
        ],
        "/recovery": [
            ("an unknown user", recovery(unknown_username(), WRONG)),
            ("a wrong password", recovery(password_user.username, WRONG)),
            ("no second factor", recovery(password_user.username, password_user.password)),
        ],
        "/me/restore": [
            ("an unknown user", restore(unknown_username(), WRONG)),
            ("no scheduled deletion", restore(password_user.username, password_user.password)),
        ],
        "/qrcode": [
            ("an unknown user", picture(unknown_username())),
            ("another user", picture(password_user.username)),
            ("another user's confirmed factor", picture(enrolled_user.username)),
        ],
    }
    answers = [(route, case, await ask()) for route, asks in groups.items() for case, ask in asks]
    for person in (enrolled_user, password_user):
        person.failures += 3
    for route in groups:
        (first, expected), *others = [(case, answer) for where, case, answer in answers if where == route]
        for case, answer in others:
            if 429 in {expected.status, answer.status}:
                raise NotTried(f"{route} is limited for this address or username: {_REMEDY}")
            if said(answer) != said(expected):
                raise Broken(f"{route} distinguishes {first!r} ({expected}) from {case!r} ({answer})")
    return f"{len(answers)} answers at {len(groups)} routes, equal where they must be"


async def waits(context: Context) -> str:
    """Wrong passwords must delay a username with an account and one without in the same way."""
    known, name = await wrong_passwords(context), unknown_username()

    async def give_password(username: str) -> int:
        body = {"username": username, "password": WRONG}
        return (await post_until_not_busy(context.target, "/login", body)).status

    statuses = [await give_password(name) for _ in known.statuses]
    if statuses != known.statuses:
        # A username without failures must wait only if the address must.
        if 429 in {statuses[0], known.statuses[0], await give_password(unknown_username())}:
            raise NotTried("this address had too many failures before: set KEYTURN_LIMIT_LOGIN_ADDRESS=off, or wait")
        raise Broken(f"of {len(statuses)} wrong passwords {known.checked} were checked for an account, and "
                     f"{statuses.count(401)} for a username without one")  # fmt: skip
    return f"{len(statuses)} wrong passwords, the same answers"


def welch(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Return Welch's t of two samples and its degrees of freedom. t is 0 if nothing varies."""
    parts = [variance(kind) / len(kind) for kind in (one, other)]
    if sum(parts) == 0:
        return 0.0, float(len(one) + len(other) - 2)
    freedom = sum(parts) ** 2 / sum(part**2 / (len(kind) - 1) for part, kind in zip(parts, (one, other), strict=True))
    return (fmean(one) - fmean(other)) / sqrt(sum(parts)), freedom


def normal_deviate(t: float, freedom: float) -> float:
    """Convert `t` to standard deviations of the normal distribution (D. L. Wallace, 1959).

    With a thousand samples the result is almost t. With ten samples, a t above 4.5 occurs by chance far too often.
    """
    return sqrt(freedom * log(1 + t * t / freedom)) * (8 * freedom + 1) / (8 * freedom + 3)


def compare(known: Sequence[float], unknown: Sequence[float]) -> str:
    """Return t, both means and the number of samples. Raises `Broken` if the durations distinguish the two kinds."""
    samples = min(len(known), len(unknown))
    if samples < MIN_SAMPLES:
        raise NotTried(f"only {samples} samples of each kind before a limit: {_REMEDY}")
    bound = sorted([*known, *unknown])[int(KEPT_FRACTION * (len(known) + len(unknown))) - 1]
    one, other = ([value for value in kind if value <= bound] for kind in (known, unknown))
    t, freedom = welch(one, other)
    figures = f"t = {t:.1f}, {fmean(one) * 1000:.1f} and {fmean(other) * 1000:.1f} ms, {samples} of each"
    if normal_deviate(t, freedom) >= T_THRESHOLD:
        raise Broken(f"durations reveal whether an account exists: {figures}")
    return figures


async def measure(samples: int, known: Ask, unknown: Ask) -> tuple[list[float], list[float]]:
    """Return the durations of requests of each kind.

    The requests are sent in pairs, one of each kind in random order, until there are `samples` pairs after the
    warm-up, or a rate limit applies.
    """
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


async def login_times(context: Context) -> str:
    """A wrong password must take the same time for a username with an account and for one without."""
    target, samples = context.target, context.options.timing_samples
    waiting = await wrong_passwords(context)
    people = [person for person in context.people.made if person is not waiting.person]
    names: Iterator[str] = cycle(person.username for person in people)
    if 429 in waiting.statuses:  # an account may fail a few times before it must wait: stop one failure earlier
        free = waiting.checked - 1
        if free < 1:  # no number of accounts would be enough
            raise NotTried(f"the free failures of a username ({waiting.checked}) are too few: {_REMEDY}")
        while sum(max(0, free - person.failures) for person in people) < samples + WARM_UP:
            try:
                people.append(await context.people.sign_up(mfa=False))
            except NotTried:
                break  # measure with the accounts that exist
        left = [person.username for person in people for _ in range(max(0, free - person.failures))]
        samples, names = min(samples, len(left) - WARM_UP), iter(left)
    return compare(
        *await measure(samples, lambda: _login(target, next(names)), lambda: _login(target, unknown_username()))
    )


async def disable_times(context: Context) -> str:
    """/disable-mfa must take the same time for the right password without a second factor and an unknown user."""
    password_user, target = await context.people.password_user(), context.target

    def disable(name: str, password: str) -> Awaitable[Answer]:
        return target.post("/disable-mfa", {"username": name, "password": password, "token": "123456"})

    samples = max(MIN_SAMPLES, context.options.timing_samples // 2)
    return compare(
        *await measure(
            samples,
            lambda: disable(password_user.username, password_user.password),
            lambda: disable(unknown_username(), WRONG),
        )
    )


async def _login(target: Target, name: str) -> Answer:
    return await target.post("/login", {"username": name, "password": WRONG})


ATTACKS = (
    Attack("Bodies and headers of refusals", bodies),
    Attack("Waits after wrong passwords", waits),
    Attack("Durations of /login", login_times),
    Attack("Durations of /disable-mfa", disable_times),
)
