"""Guesses while Redis is unavailable: the number of checked passwords and codes stays bounded.

Law 5: password failures slow down, they never lock out. Law 6: codes are budgeted per factor in SQL. Law 7: no
fail-open, no hang.
"""

import asyncio
import time
from dataclasses import dataclass

from tests.faults.history import Exchange, History, Recorder
from tests.faults.load import Life
from tests.faults.world import World

AT_ONCE = 8


@dataclass(frozen=True)
class Guesses:
    """How many guesses were sent, and how many of them were checked: answered with anything but a wait."""

    passwords: int
    passwords_checked: int
    codes: int
    codes_checked: int


async def guess(world: World, seconds: float) -> Guesses:
    """Send guesses as fast as answers come, to both replicas, from one address, while Redis is stopped."""
    history = History()
    recorder = Recorder(history, *world.urls)
    victim = Life(recorder, "victim", time.time, world.shared)
    other = Life(recorder, "other", time.time, world.shared)
    try:
        await victim.sign_up()
        await other.sign_up()
        pending = [(await victim.give_password()).body["mfa_token"] for _ in range(AT_ONCE)]
        history.phase = "fault"
        world.redis.freeze()
        end = time.monotonic() + seconds

        async def wrong_passwords() -> None:
            while time.monotonic() < end:
                body = {"username": "other", "password": "a guess, and a wrong one"}
                await recorder.send("other", "POST", "/login", json=body)

        async def wrong_codes(nth: int) -> None:
            for number in range(100_000):
                if time.monotonic() > end:
                    return
                body = {"mfa_token": pending[nth], "otp": f"{(nth * 100_000 + number) % 1_000_000:06d}"}
                await recorder.send("victim", "POST", "/login-2fa", json=body)

        await asyncio.gather(
            *(wrong_passwords() for _ in range(AT_ONCE)), *(wrong_codes(nth) for nth in range(AT_ONCE))
        )
    finally:
        world.redis.thaw()
        await recorder.close()
    during = history.during("fault")
    passwords = [exchange for exchange in during if exchange.act == "/login"]
    codes = [exchange for exchange in during if exchange.act == "/login-2fa"]
    return Guesses(len(passwords), _checked(passwords), len(codes), _checked(codes))


def most_passwords(seconds: float, *, replicas: int) -> int:
    """Return how many passwords the replicas' own limiters admit: one, and one more after 1, 2, 4 ... s (law 5)."""
    checked, waited, wait = 1, 0.0, 1.0
    while waited + wait <= seconds:
        waited, wait, checked = waited + wait, min(60.0, 2 * wait), checked + 1
    return checked * replicas


def most_codes(seconds: float) -> int:
    """Return how many codes all replicas together check: five, and one more after 30, 60 ... whole s (law 6)."""
    checked, waited, wait = 5, 0.0, 30.0
    while waited + wait - 1 <= seconds:
        waited, wait, checked = waited + wait, 2 * wait, checked + 1
    return checked


def _checked(exchanges: list[Exchange]) -> int:
    return sum(exchange.code in {"invalid_credentials", "invalid_code", "code_out_of_step"} for exchange in exchanges)
