"""Fair start: no request waits behind many requests of another kind."""

import asyncio
import itertools

import pytest
from starlette.types import Message, Receive, Scope, Send

from service.web.edge import EdgeMiddleware
from service.web.fair_start import FairStart, FairStarts

PATHS = ("/login", "/verify", "/qrcode/{username}", "/.well-known/jwks.json")


async def begin(order: list[str], fair_starts: FairStarts, path: str) -> None:
    await fair_starts.wait(path)
    order.append(path)


async def test_one_request_of_a_kind_begins_per_iteration_of_the_loop() -> None:
    """They begin in the order of arrival; a request of another kind waits for one of them at most."""
    order: list[str] = []
    fair_starts = FairStarts(PATHS)
    many = [asyncio.create_task(begin(order, fair_starts, f"/qrcode/{number}")) for number in range(20)]
    other = asyncio.create_task(begin(order, fair_starts, "/verify"))
    await other
    assert ["/qrcode/0", "/verify"] == order
    begun = []
    while len(order) < 21:
        await asyncio.sleep(0)
        begun.append(len(order))
    assert {0, 1} >= {after - before for before, after in itertools.pairwise(begun)}, "one per iteration"
    assert [f"/qrcode/{number}" for number in range(20)] == [path for path in order if path != "/verify"]
    await asyncio.gather(*many)


async def test_cheap_requests_begin_at_once() -> None:
    """All of them begin in one iteration, whatever their path has after its prefix, and delay no other kind long."""
    order: list[str] = []
    fair_starts = FairStarts(PATHS, unqueued=["/verify"])
    many = [asyncio.create_task(begin(order, fair_starts, f"/verify/{number}")) for number in range(20)]
    other = asyncio.create_task(begin(order, fair_starts, "/login"))
    await asyncio.sleep(0)
    assert 21 == len(order)
    await asyncio.gather(*many, other)


async def test_a_single_request_does_not_wait() -> None:
    """It does not wait for a single iteration, and after many requests the queue is empty again."""
    fair_start = FairStart()
    for _ in range(3):
        with pytest.raises(StopIteration):
            fair_start.wait().send(None)
        await asyncio.gather(*(fair_start.wait() for _ in range(5)))
        for _ in range(2):
            await asyncio.sleep(0)


async def test_a_cancelled_request_delays_no_other() -> None:
    """The requests behind it move up in the iteration in which it would have begun."""
    fair_start = FairStart()
    await fair_start.wait()
    leaving = [asyncio.create_task(fair_start.wait()) for _ in range(10)]
    staying = asyncio.create_task(fair_start.wait())
    await asyncio.sleep(0)
    for task in leaving[1:]:
        task.cancel()
    async with asyncio.timeout(5):
        await staying
    assert not leaving[0].cancelled()
    assert all(task.cancelled() for task in leaving[1:])


@pytest.mark.parametrize(
    ("one", "another", "are_of_a_kind"),
    [
        ("/qrcode/alice", "/qrcode/bob", True),
        ("/login", "/login", True),
        ("/verify", "/verify/whatever/a/gateway/adds", True),
        ("/no/such/thing", "/nor/this", True),
        ("/no/such/thing", "/login", False),
        ("/login", "/verify", False),
        ("/", "/nothing", True),
    ],
)
async def test_the_kind_of_a_request_is_its_route(one: str, another: str, *, are_of_a_kind: bool) -> None:
    """An unknown path is no kind of its own: clients could otherwise make any number of kinds."""
    order: list[str] = []
    fair_starts = FairStarts(PATHS)
    await asyncio.gather(*(begin(order, fair_starts, path) for path in (*[one] * 5, another)))
    place = len(order) - 1 - order[::-1].index(another)
    assert (place >= 5) is are_of_a_kind


async def test_the_application_starts_requests_fairly() -> None:
    """Two hundred logins arrive first; /verify is the second request that begins."""
    begun: list[str] = []

    async def application(scope: Scope, _receive: Receive, _send: Send) -> None:
        begun.append(scope["path"])

    async def ask(path: str) -> None:
        async def receive() -> Message:
            raise AssertionError("no body is read")

        async def send(_message: Message) -> None:
            raise AssertionError("nothing is answered")

        await edge({"type": "http", "method": "POST", "path": path, "headers": []}, receive, send)

    edge = EdgeMiddleware(application, paths=PATHS)
    await asyncio.gather(*(ask("/login") for _ in range(200)), ask("/verify"))
    assert 1 == begun.index("/verify")
    assert 201 == len(begun)
