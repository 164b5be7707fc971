"""Who guesses while Redis is away: what is checked is bounded all the same.

Law 5: password failures slow down, they never lock out. Law 6: codes are budgeted per factor in SQL. Law 7: no
fail-open, no hang.
"""

import asyncio
import time
from dataclasses import dataclass

from tests.faults.crowd import Life
from tests.faults.history import Exchange, History, Recorder
from tests.faults.world import World

AT_ONCE = 8


@dataclass(frozen=True)
class Guesses:
    """How many were sent, and how many of them were looked at: answered other than with a wait."""

    passwords: int
    passwords_looked_at: int
    codes: int
    codes_looked_at: int


async def guess(world: World, seconds: float) -> Guesses:
    """As fast as answers come, at both replicas, from one address, while Redis is stopped."""
    history = History()
    recorder = Recorder(history, *world.urls)
    victim = Life(recorder, "victim", time.time, world.client_secret)
    other = Life(recorder, "other", time.time, world.client_secret)
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
    return Guesses(len(passwords), _looked_at(passwords), len(codes), _looked_at(codes))


def most_passwords(seconds: float, *, replicas: int) -> int:
    """What each replica's own limiter lets through: one free, and one more after 1, 2, 4 ... seconds (law 5)."""
    looked_at, waited, wait = 1, 0.0, 1.0
    while waited + wait <= seconds:
        waited, wait, looked_at = waited + wait, min(60.0, 2 * wait), looked_at + 1
    return looked_at * replicas


def most_codes(seconds: float) -> int:
    """What SQL lets all replicas together look at: five, and one more after 30, 60 ... whole seconds (law 6)."""
    looked_at, waited, wait = 5, 0.0, 30.0
    while waited + wait - 1 <= seconds:
        waited, wait, looked_at = waited + wait, 2 * wait, looked_at + 1
    return looked_at


def _looked_at(exchanges: list[Exchange]) -> int:
    return sum(exchange.code in {"invalid_credentials", "invalid_code", "code_out_of_step"} for exchange in exchanges)
