"""Guessing: codes, recovery codes and passwords, in parallel, in sequence, at every route and in every spelling.

What counts is how many guesses were checked (401), not how many were sent: a refusal without a check (429, or a token
that is not valid any more) tells the attacker nothing about the guess.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from service.attack.campaign import Attack, Context
from service.attack.lines import Post, burst
from service.attack.people import WRONG, Person, post_until_not_busy
from service.attack.report import Broken, NotTried
from service.attack.target import Answer

GUESSES = 40
MAX_CHECKED = 10
"""Codes that may be checked. After five the service demands a wait of 30 s, which SQL keeps for all replicas. A slow
run may outlast that wait, and then one more code is checked."""

PASSWORDS = 30
FEW_PASSWORDS = 20
"""Wrong passwords in a row that may be checked; the operator sets the limit, which is five by default."""

_CHECKED_CODES = {"invalid_code", "code_out_of_step", "invalid_credentials"}


@dataclass
class ThrottledUser:
    """A username that gets wrong passwords until it must wait."""

    person: Person
    statuses: list[int] = field(default_factory=list)
    """Statuses of the answers up to the first wait."""
    _paid_at: float = 0.0
    _until: float = 0.0

    @property
    def username(self) -> str:
        return self.person.username

    @property
    def checked(self) -> int:
        return self.statuses.count(401)

    async def guess(self) -> int:
        """Send one more wrong password, and return the status."""
        sent = time.monotonic()
        answer = await self.person.give_password(WRONG)
        if answer.status == 401:
            self._paid_at = sent
        elif answer.status == 429:
            wait = float(answer.headers.get("retry-after", "0"))
            # Retry-After is exact directly after a charge; later it is rounded up to whole seconds.
            self._until = max(self._until, self._paid_at + wait if self._paid_at else time.monotonic() + wait - 1)
            self._paid_at = 0.0
        return answer.status

    async def while_it_waits(self, act: Callable[[], Awaitable[Sequence[Answer]]]) -> Sequence[Answer]:
        """Return the result of `act`, made while the username certainly must wait."""
        for _ in range(PASSWORDS):
            if time.monotonic() > self._until - 0.4:
                if await self.guess() == 429 and time.monotonic() > self._until - 0.4:
                    await asyncio.sleep(0.5)
                continue
            answers = await act()
            if time.monotonic() < self._until:
                return answers  # else the wait may have ended during `act`; the next wait is twice as long
        raise NotTried("the service does not limit wrong passwords, or the waits are shorter than the attack")


async def exhausted_username(context: Context) -> ThrottledUser:
    """Return the one username that all attacks share, because each further one would cost failures of this address.

    Raises `NotTried` if the service does not limit wrong passwords, or if this address had to wait from the start.
    """
    waiting = await wrong_passwords(context)
    if 429 not in waiting.statuses:
        raise NotTried("the service does not limit wrong passwords")
    if waiting.checked == 0:
        raise NotTried("this address had too many failures before: set KEYTURN_LIMIT_LOGIN_ADDRESS=off, or wait")
    return waiting


async def wrong_passwords(context: Context) -> ThrottledUser:
    """Give wrong passwords for a known username until it must wait or enough were checked."""
    waiting = context.notes.get("waiting")
    if not isinstance(waiting, ThrottledUser):
        waiting = ThrottledUser(await context.people.sign_up(mfa=False))
        while len(waiting.statuses) < PASSWORDS and 429 not in waiting.statuses:
            waiting.statuses.append(await waiting.guess())
        context.notes["waiting"] = waiting
    return waiting


def judge(answers: Sequence[Answer], what: str) -> str:
    """Return the figures. Raises `Broken` if too many guesses were checked or a wrong one was accepted."""
    if any(answer.is_yes for answer in answers):
        raise Broken(f"a wrong {what} was accepted")
    failed = [answer for answer in answers if answer.is_failure]
    if failed:
        raise Broken(f"{len(failed)} of {len(answers)} guesses were answered with a failure ({failed[0]})")
    checked = sum(answer.status == 401 and answer.code in _CHECKED_CODES for answer in answers)
    if checked > MAX_CHECKED:
        raise Broken(f"{checked} of {len(answers)} guesses at a {what} were checked")
    return f"{checked} of {len(answers)} checked"


async def codes(context: Context) -> str:
    """Guess under one pending token. Afterwards a right code must wait too, or the next token would allow more."""
    person = await context.people.make_enrolled_user()
    token = await person.pending()
    posts = [Post("/login-2fa", {"mfa_token": token, "otp": otp}) for otp in person.wrong_codes(GUESSES)]
    said = judge(await burst(context.target, posts), "code")
    answer = await person.give_code(await person.unused_code(), await person.pending())
    if answer.is_yes:
        raise Broken(f"{said}, and then the right code was accepted at once: guessing may continue without a wait")
    return f"{said}, then a wait"


async def codes_everywhere(context: Context) -> str:
    """Guess under many pending tokens and at /disable-mfa: the factor has one budget, not one for each route."""
    person, target = await context.people.make_enrolled_user(), context.target
    tokens = [await person.pending() for _ in range(5)]
    wrong = person.wrong_codes(GUESSES)
    posts = [Post("/login-2fa", {"mfa_token": tokens[n % 5], "otp": otp}) for n, otp in enumerate(wrong[:25])]
    answers = list(await burst(target, posts))
    for otp in wrong[25:]:
        body = {"username": person.username, "password": person.password, "token": otp}
        answers.append(await post_until_not_busy(target, "/disable-mfa", body))
    return judge(answers, "code")


async def recovery_codes(context: Context) -> str:
    person = await context.people.make_enrolled_user()
    tokens = [await person.pending() for _ in range(5)]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    guesses = [f"AAAA-AAAA-AAAA-AA{letters[n // 32]}{letters[n % 32]}" for n in range(GUESSES)]
    posts = [
        Post("/login-2fa", {"mfa_token": tokens[n % 5], "recovery_code": code}) for n, code in enumerate(guesses)
    ]
    return judge(await burst(context.target, posts), "recovery code")


async def passwords(context: Context) -> str:
    waiting = await wrong_passwords(context)
    if waiting.checked == 0:
        raise NotTried("this address had too many failures before: set KEYTURN_LIMIT_LOGIN_ADDRESS=off, or wait")
    if waiting.checked > FEW_PASSWORDS:
        raise Broken(f"{waiting.checked} wrong passwords in a row were checked without a wait")
    return f"{waiting.checked} of {len(waiting.statuses)} checked, then a wait"


async def other_routes(context: Context) -> str:
    """Try the username in capitals, with an invented device token, and at two other routes that check a password."""
    waiting, target = await exhausted_username(context), context.target
    name: dict[str, object] = {"username": waiting.username, "password": WRONG}
    tries: list[tuple[str, dict[str, object]]] = [
        ("/login", {**name, "username": waiting.username.upper()}),
        ("/login", {**name, "username": waiting.username.title()}),
        ("/login", {**name, "device_token": "ktd_" + "A" * 200}),
        ("/login", {**name, "device_token": "none", "remember_device": True}),
        ("/disable-mfa", {**name, "token": "123456"}),
        ("/recovery", name),
    ]

    async def probe() -> Sequence[Answer]:
        return await asyncio.gather(*(target.post(path, body) for path, body in tries))

    answers = await waiting.while_it_waits(probe)
    for (path, _), answer in zip(tries, answers, strict=True):
        if answer.status not in {404, 429, 503}:  # 404: this service has no /recovery
            raise Broken(f"{path} checked a password of a username that must wait ({answer})")
    return f"{len(tries)} other requests, all must wait"


ATTACKS = (
    Attack("Codes under one pending token, at once", codes),
    Attack("Codes under many pending tokens and elsewhere", codes_everywhere),
    Attack("Recovery codes", recovery_codes),
    Attack("Passwords of one username", passwords),
    Attack("A username that must wait, at other routes", other_routes),
)
