"""Slow clients: the service must disconnect them, and other clients must not wait for them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from service.attack.campaign import Attack, Context
from service.attack.lines import RawConnection, ask_on_new_connection, connected, head
from service.attack.report import Broken, NotTried
from service.attack.target import JWKS, Target

CONNECTION_COUNT = 150
MAX_ANSWER_SECONDS = 2.0
"""Seconds within which the service must answer other clients during the attack."""
DRIP_INTERVAL_SECONDS = 0.5
"""Seconds between two pieces that a slow client sends."""

Drip = Callable[[Target], AsyncIterator[bytes]]
"""What a slow client sends, piece by piece, with `DRIP_INTERVAL_SECONDS` between two pieces."""


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


async def disconnected_after(context: Context, drip: Drip) -> float | None:
    """Return the seconds until the service closes a connection that sends what `drip` yields.

    `None` if it is still open after `options.patience`.
    """
    patience = context.options.patience
    if context.target.budget.left < patience:
        raise NotTried(f"the attack takes {patience:.0f} s, and the budget has less left (--budget-seconds)")
    started = time.monotonic()
    async with _new_connection(context.target) as connection, _feeding(connection, drip(context.target)):
        _, has_ended = await connection.receive(within=patience)
    return time.monotonic() - started if has_ended else None


async def every_kind(context: Context) -> str:
    """Try all kinds at the same time, because each lasts until the service disconnects it, or `options.patience`."""
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
    lasting = [name for name, one in zip(kinds, ended, strict=True) if one is None]
    if lasting:
        raise Broken(f"after {context.options.patience:.0f} s still connected: {', '.join(lasting)}")
    slowest = 0.0
    for one in ended:
        if isinstance(one, BaseException):
            raise one
        slowest = max(slowest, one or 0.0)
    return f"{len(kinds)} kinds, all disconnected after {slowest:.0f} s at most"


async def many_slow_clients(context: Context) -> str:
    """Many slow clients at once must not delay other clients."""
    target = context.target
    async with contextlib.AsyncExitStack() as stack:
        try:
            connections = [await stack.enter_async_context(connected(target)) for _ in range(CONNECTION_COUNT)]
        except OSError:
            raise Broken(f"fewer than {CONNECTION_COUNT} slow clients exhaust the connections") from None
        for number, connection in enumerate(connections):
            whole = head(target, "POST", "/login", "Content-Type: application/json", "Content-Length: 900")
            await connection.send(whole if number % 2 else whole[:40])
        slowest = 0.0
        for _ in range(10):
            slowest = max(slowest, await _ask_as_another(target, f"with {CONNECTION_COUNT} slow clients"))
    return f"{CONNECTION_COUNT} slow clients, other clients answered within {slowest * 1000:.0f} ms"


async def unread(context: Context) -> str:
    """A client that sends requests and reads no answers must cost no more than its connection."""
    target, slowest = context.target, 0.0
    async with (
        _new_connection(target, receive_buffer=4096) as connection,
        _feeding(connection, _many_requests(target), pause=0),
    ):
        for _ in range(6):  # it takes some time until all buffers between the two are full
            await asyncio.sleep(0.15)
            slowest = max(slowest, await _ask_as_another(target, "with a client that does not read"))
    return f"other clients answered within {slowest * 1000:.0f} ms"


async def _many_requests(target: Target) -> AsyncIterator[bytes]:
    for _ in range(2000):
        target.budget.spend()
        yield head(target, "GET", JWKS)


async def _ask_as_another(target: Target, during: str) -> float:
    """Send a request as another client; return the seconds until its answer. Raises `Broken` unless that is a 200."""
    started = time.monotonic()
    try:
        async with asyncio.timeout(MAX_ANSWER_SECONDS):
            answer = await ask_on_new_connection(target, JWKS)
    except TimeoutError:
        raise Broken(f"{during}, others wait for more than {MAX_ANSWER_SECONDS:.0f} s") from None
    if answer.status != 200:
        raise Broken(f"{during}, others get {answer}")
    return time.monotonic() - started


@contextlib.asynccontextmanager
async def _new_connection(target: Target, *, receive_buffer: int | None = None) -> AsyncIterator[RawConnection]:
    """Open a connection, as `connected` does. Raises `Broken` if the service accepts none."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(connected(target, receive_buffer=receive_buffer))
        except OSError as error:
            raise Broken(f"no new connection can be opened ({type(error).__name__})") from None
        yield connection


@contextlib.asynccontextmanager
async def _feeding(
    connection: RawConnection, drip: AsyncIterator[bytes], *, pause: float = DRIP_INTERVAL_SECONDS
) -> AsyncIterator[None]:
    """Send what `drip` yields until the block ends. Raises its error only if the block raises none."""
    feeding = asyncio.create_task(_feed(connection, drip, pause))
    try:
        yield
    finally:
        feeding.cancel()
        (ended,) = await asyncio.gather(feeding, return_exceptions=True)
    if isinstance(ended, Exception):
        raise ended


async def _feed(connection: RawConnection, drip: AsyncIterator[bytes], pause: float) -> None:
    async for data in drip:
        if not await connection.send(data):
            return
        await asyncio.sleep(pause)


ATTACKS = (
    Attack("Many slow clients", many_slow_clients),
    Attack("A client that does not read", unread),
    Attack("Silent, slow and endless requests", every_kind),
)
