"""Slow clients: the service must disconnect them, and other clients must not wait for them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from service.attack.campaign import Attack, Context
from service.attack.lines import RawConnection, ask_on_new_connection, connected, head
from service.attack.report import Broken, NotTried
from service.attack.target import JWKS, Answer, Target

CONNECTION_COUNT = 150
MAX_ANSWER_SECONDS = 2.0
"""Seconds within which the service must answer other clients during the attack."""
DRIP_INTERVAL_SECONDS = 0.5
"""Seconds between the bytes of a slow client."""

Drip = Callable[[Target], AsyncIterator[bytes]]


async def silent(_target: Target) -> AsyncIterator[bytes]:
    return
    yield b""


async def head_by_bytes(target: Target) -> AsyncIterator[bytes]:
    for byte in head(target, "GET", "/me", "X-Slow: " + "a" * 4000):
        yield bytes([byte])


async def headers_by_lines(target: Target) -> AsyncIterator[bytes]:
    """Slowloris: send complete headers without end."""
    yield head(target, "GET", "/me")[:-2]
    for number in range(1000):
        yield b"X-%d: a\r\n" % number


async def body_by_bytes(target: Target) -> AsyncIterator[bytes]:
    yield head(target, "POST", "/login", "Content-Type: application/json", "Content-Length: 4000")
    for _ in range(4000):
        yield b" "


async def chunks(target: Target) -> AsyncIterator[bytes]:
    yield head(
        target, "POST", "/token", "Content-Type: application/x-www-form-urlencoded", "Transfer-Encoding: chunked"
    )
    for _ in range(4000):
        yield b"1\r\na\r\n"


async def idle_after_an_answer(target: Target) -> AsyncIterator[bytes]:
    yield head(target, "GET", JWKS)


async def disconnected_after(context: Context, drip: Drip) -> float:
    """Return the seconds until the service closes such a connection."""
    patience = context.options.patience
    if context.target.budget.left < patience:
        raise NotTried(f"the attack takes {patience:.0f} s, and the budget has less left (--budget-seconds)")
    started = time.monotonic()
    async with connected(context.target) as connection:
        feeding = asyncio.create_task(_feed(connection, drip(context.target)))
        try:
            _, has_ended = await connection.receive(within=patience)
        finally:
            feeding.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await feeding
    if not has_ended:
        raise Broken(f"the connection is still open after {patience:.0f} s")
    return time.monotonic() - started


async def every_kind(context: Context) -> str:
    """Try all kinds at the same time, because each takes as long as the deadline."""
    kinds: dict[str, Drip] = {
        "silence": silent,
        "a head, byte by byte": head_by_bytes,
        "endless headers": headers_by_lines,
        "a body, byte by byte": body_by_bytes,
        "endless chunks": chunks,
        "silence after an answer": idle_after_an_answer,
    }
    ended = await asyncio.gather(
        *(disconnected_after(context, drip) for drip in kinds.values()), return_exceptions=True
    )
    lasting = [name for name, one in zip(kinds, ended, strict=True) if isinstance(one, Broken)]
    if lasting:
        raise Broken(f"after {context.options.patience:.0f} s still connected: {', '.join(lasting)}")
    slowest = 0.0
    for one in ended:
        if isinstance(one, BaseException):
            raise one
        slowest = max(slowest, one)
    return f"{len(kinds)} kinds, all disconnected after {slowest:.0f} s at most"


async def many_slow_clients(context: Context) -> str:
    """Many slow clients at once must not delay other clients."""
    target = context.target
    async with contextlib.AsyncExitStack() as stack:
        try:
            connections = [await stack.enter_async_context(connected(target)) for _ in range(CONNECTION_COUNT)]
        except (OSError, TimeoutError):
            raise Broken(f"fewer than {CONNECTION_COUNT} slow clients exhaust the connections") from None
        for number, connection in enumerate(connections):
            whole = head(target, "POST", "/login", "Content-Type: application/json", "Content-Length: 900")
            await connection.send(whole if number % 2 else whole[:40])
        slowest = 0.0
        for _ in range(10):
            answer = await _within(ask_on_new_connection(target, JWKS), MAX_ANSWER_SECONDS)
            if answer is None:
                raise Broken(
                    f"with {CONNECTION_COUNT} slow clients, others wait for more than {MAX_ANSWER_SECONDS:.0f} s"
                )
            slowest = max(slowest, answer)
    return f"{CONNECTION_COUNT} slow clients, other clients answered within {slowest * 1000:.0f} ms"


async def unread(context: Context) -> str:
    """A client that sends requests and reads no answers must cost no more than its connection."""
    target, slowest = context.target, 0.0
    async with connected(target, receive_buffer=4096) as connection:
        asking = asyncio.create_task(_feed(connection, _many_requests(target), pause=0))
        try:
            for _ in range(6):  # it takes some time until all buffers between the two are full
                await asyncio.sleep(0.15)
                answer = await _within(ask_on_new_connection(target, JWKS), MAX_ANSWER_SECONDS)
                if answer is None:
                    raise Broken(
                        f"with a client that does not read, others wait for more than {MAX_ANSWER_SECONDS:.0f} s"
                    )
                slowest = max(slowest, answer)
        finally:
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking
    return f"other clients answered within {slowest * 1000:.0f} ms"


async def _many_requests(target: Target) -> AsyncIterator[bytes]:
    for _ in range(2000):
        target.budget.spend()
        yield head(target, "GET", JWKS)


async def _within(asking: Awaitable[Answer], seconds: float) -> float | None:
    """Return the seconds that the answer took; `None` if there was none in time."""
    started = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            answer = await asking
    except TimeoutError:
        return None
    return time.monotonic() - started if answer.status == 200 else None


async def _feed(
    connection: RawConnection, drip: AsyncIterator[bytes], *, pause: float = DRIP_INTERVAL_SECONDS
) -> None:
    async for data in drip:
        if not await connection.send(data):
            return
        await asyncio.sleep(pause)


ATTACKS = (
    Attack("Many slow clients", many_slow_clients),
    Attack("A client that does not read", unread),
    Attack("Silent, slow and endless requests", every_kind),
)
