"""Webhooks: receivers on loopback, and a service whose deliveries a test makes by itself."""

import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

from service.components import Components, open_components
from service.messages.delivery import Delivery
from service.messages.webhook import Webhook
from service.settings import Settings
from service.users.passwords import CHEAPEST
from tests.harness.databases import PATIENT
from tests.harness.people import PASSWORD, MovableClock
from tests.harness.servers import make_schema

WEBHOOK = {"webhook_url": "http://127.0.0.1:9/", "webhook_secret": "whsec_" + "a" * 43 + "="}
"""Settings of a service whose receiver of webhooks does not answer."""


KEY = b"k" * 32


SECRET = f"whsec_{base64.b64encode(KEY).decode()}"


@dataclass
class Receiver:
    """An endpoint that keeps what it receives and answers with a status that the test sets."""

    url: str = ""
    status: int = 204
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    may_answer: Event = field(default_factory=Event)

    @property
    def accepted(self) -> list[dict[str, Any]]:
        """The accepted bodies with their ids, in the order of arrival, each once."""
        first = {headers["webhook-id"]: json.loads(body) for headers, body in reversed(self.received)}
        ids = dict.fromkeys(headers["webhook-id"] for headers, _ in self.received)
        return [{"id": name, **first[name]} for name in ids]


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    """Run a receiver on loopback until the block ends."""
    receiver = Receiver()
    receiver.may_answer.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.may_answer.wait(20)
            if 200 <= receiver.status < 300:
                receiver.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(receiver.status)
            self.send_header("Content-Length", "0")
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

    server = Server(("127.0.0.1", port), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_port}/events"
    try:
        yield receiver
    finally:
        receiver.may_answer.set()
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Ticks:
    """A clock of its own for the time that an event needs to settle."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Outbox:
    """A service without background tasks, its receiver, and a deliverer that works when a test calls it."""

    parts: Components
    receiver: Receiver
    clock: MovableClock
    ticks: Ticks = field(default_factory=Ticks)

    def deliverer(self, ticks: Ticks | None = None) -> Delivery:
        webhook = Webhook(url=self.receiver.url, key=KEY)
        return Delivery(self.parts.database, webhook, ticks=ticks or self.ticks)

    async def deliver(self, webhook: Delivery) -> int:
        """Read the events, wait until they have settled, deliver them, and return how many arrived."""
        arrived = await webhook.deliver(self.clock())
        self.ticks.now += 1
        return arrived + await webhook.deliver(self.clock())

    async def sign_up(self, *names: str) -> None:
        for name in names:
            await self.parts.sign_up.sign_up(name, PASSWORD, enable_mfa=False, caller=None)


@asynccontextmanager
async def without_background(world: dict[str, Any], clock: MovableClock) -> AsyncIterator[Components]:
    settings = Settings(**world, webhook_secret=SECRET)
    if settings.database_url is None:
        make_schema(settings)
    async with open_components(settings, clock, hash_cost=CHEAPEST, timeouts=PATIENT) as parts:
        yield parts
