"""Services in this process, and the clients that speak to them."""

import contextlib
from typing import Any, Protocol

import httpx2
from fastapi import FastAPI

from service.components import Components
from service.operations.tracing import Tracing
from service.storage.timeouts import StoreTimeouts
from service.waits import WAITS, Waits
from tests.harness.canaries import Watch
from tests.harness.databases import PATIENT
from tests.harness.people import MovableClock

SECRET = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
"""The master secret of a service with production settings."""

PEER = "203.0.113.7"
"""The address of a client that has no reason for another one."""

AT_ONCE = Waits(settle=0.0, answer=0.0)
"""The waits of a service whose test measures no time and commits one transaction after the other."""


class Client(httpx2.AsyncClient):
    """A client of a service in this process; the canaries of its requests and answers are collected."""

    def __init__(self, app: FastAPI, clock: MovableClock, watch: Watch, *, peer: str = PEER) -> None:
        transport = httpx2.ASGITransport(app, client=(peer, 40000))
        super().__init__(transport=transport, base_url="http://localhost:8000")
        watch.attach(self)
        self.app, self.clock, self.watch = app, clock, watch

    @property
    def parts(self) -> Components:
        """The components of the service, for an operator's commands and for what no endpoint shows."""
        parts: Components = self.app.state.parts
        return parts

    def at(self, address: str) -> "Client":
        """Return a client of the same service with another address."""
        return Client(self.app, self.clock, self.watch, peer=address)


class Opener(Protocol):
    """A function that opens a service with the given settings in this process and yields a client of it."""

    def __call__(
        self,
        settings: dict[str, Any],
        *,
        peer: str = PEER,
        tracing: Tracing | None = None,
        timeouts: StoreTimeouts = PATIENT,
        waits: Waits = WAITS,
    ) -> contextlib.AbstractAsyncContextManager[Client]: ...
