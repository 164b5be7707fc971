"""`keyturn attack --only slow`: the report says what other clients got, also where no connection can be opened."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import pytest

from service.attack import slow
from service.attack.campaign import Attack, Campaign, Context, Options
from service.attack.people import People
from service.attack.report import Finding, Report
from service.attack.target import Budget, Target

pytestmark = pytest.mark.heavy

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
YES = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
NO = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}"


@contextlib.asynccontextmanager
async def serving(talk: Talk) -> AsyncIterator[asyncio.Server]:
    """Serve each connection with `talk`, until the connection or the block ends."""
    talks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            await talk(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server
    finally:
        server.close()
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks)


def url_of(server: asyncio.Server) -> str:
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def report_of(url: str, *attacks: Attack, requests: int = 20_000) -> Report:
    """Try these attacks only."""
    async with Target(url, "127.0.0.1", control="loopback", budget=Budget(seconds=60, requests=requests)) as target:
        report = Report(url, target.control, datetime.now(UTC))
        context = Context(target, People(target), Options(patience=1))
        await Campaign(context, report, {"slow": attacks}, lambda _line: None).run()
    return report


def finding_of(report: Report) -> Finding:
    (finding,) = report.findings
    return finding


async def test_a_service_that_accepts_no_new_connection_is_broken() -> None:
    """It still serves the connection that it has; the run ends with a report of every attack."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.close()
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(YES)

    async with serving(talk) as server:
        report = await report_of(url_of(server), *slow.ATTACKS)
    many, *others = report.findings
    assert ("broken", "fewer than 150 slow clients exhaust the connections") == (many.verdict, many.said)
    said = "no new connection can be opened (ConnectionRefusedError)"
    assert [("broken", said)] * 2 == [(other.verdict, other.said) for other in others]


async def test_a_connection_that_fails_does_not_end_the_run() -> None:
    """The attack is not tried, the report names the error, and the clean-up follows."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(YES)

    async def fails(_context: Context) -> str:
        raise TimeoutError

    async with serving(talk) as server:
        report = await report_of(url_of(server), Attack("It fails", fails))
    finding = finding_of(report)
    assert ("not tried", "a connection failed (TimeoutError)") == (finding.verdict, finding.said)
    assert ["No account was made."] == report.left_behind


async def test_another_answer_than_200_is_no_wait() -> None:
    """The evidence is the answer that other clients got."""
    count = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        answer = NO if count > 100 else YES
        while b"Connection: close" not in await reader.readuntil(b"\r\n\r\n"):
            writer.write(answer)
        writer.write(answer)

    async with serving(talk) as server:
        finding = finding_of(await report_of(url_of(server), slow.ATTACKS[0]))
    assert ("broken", "with 150 slow clients, others get 503") == (finding.verdict, finding.said)


async def test_a_service_that_lets_others_wait_is_broken_also_when_no_request_is_left() -> None:
    """The client that does not read spends the rest of the budget while another client waits."""
    another = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        piece = await reader.readuntil(b"\r\n\r\n")
        if b"Connection: close" in piece:
            another.set()
        elif b"Accept:" in piece:  # the question whether the service is alive
            writer.write(YES)
        await another.wait()
        while await reader.read(1 << 20):  # only now, when the buffers are full
            pass

    async with serving(talk) as server:
        # Long requests: a few hundred fill all buffers.
        url = f"{url_of(server)}/{'a' * 40_000}"
        finding = finding_of(await report_of(url, slow.ATTACKS[1], requests=500))
    assert "with a client that does not read, others wait for more than 2 s" == finding.said
    assert ("broken", 500) == (finding.verdict, finding.requests)
