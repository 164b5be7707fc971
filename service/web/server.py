"""The HTTP server around the application: uvicorn with deadlines. It loses no request when it stops.

A stop has three parts. For `drain_delay` seconds after SIGTERM new connections are still accepted and served, but
`/readyz` answers 503 and every answer has `Connection: close`, so that load balancers choose other replicas. Then the
server accepts the connections that wait at the listening sockets, and closes the sockets. Then each connection gets
its last answer (see `wire`), within `SHUTDOWN_GRACE_SECONDS`.
"""

import asyncio
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.lifespan.on import LifespanOn

from service.errors import ConfigurationError, ServiceError
from service.web.cors import Cors
from service.web.listening import accept_all, refuse_new_connections
from service.web.wire import DRAINING_KEY, STOPPING_KEY, DeadlineProtocol
from service.web.workers import StartFailed, Workers

SHUTDOWN_GRACE_SECONDS = 10
"""Seconds that running requests get to finish after the listening sockets are closed."""

SETTLE_SECONDS = 0.25
"""Seconds that the server waits, after new connections are refused, so that TCP handshakes that have begun can
complete; longer than most round trips."""

_log = logging.getLogger("uvicorn.error")


def serve(
    make_app: Callable[[], ASGIApp],
    sockets: Sequence[socket.socket],
    *,
    workers: int = 1,
    keep_alive: int = 10,
    drain_delay: int = 0,
    cors: Cors | None = None,
) -> bool:
    """Serve at bound sockets until SIGTERM or SIGINT. Return `False` if the server could not start.

    Raises the `ConfigurationError` that `make_app` or the start of the application raised. With one worker it also
    raises a `ServiceError`, and `KeyboardInterrupt` after it has stopped for SIGINT. With several workers a
    `ServiceError` is logged, and the result is `False`.

    `make_app` is called in every worker. `keep_alive` is the number of seconds that a connection may be idle after an
    answer. `drain_delay` is the number of seconds after SIGTERM in which new connections are still accepted. `cors`
    is for answers that are given before the application is called.
    """
    _allow_many_connections()
    protocol: Any = partial(DeadlineProtocol, cors=cors)  # workers get it by pickle, which cannot take a local class
    config = uvicorn.Config(
        make_app,
        factory=True,
        workers=workers,
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,  # the process has configured logging already
        access_log=False,  # the log has decisions, not requests: see telemetry/log.py
        proxy_headers=False,  # law 14: the address is the peer's. Callers reads headers of named proxies only
        server_header=False,
        timeout_keep_alive=keep_alive,
        timeout_graceful_shutdown=SHUTDOWN_GRACE_SECONDS,
    )
    try:
        if workers == 1:
            with suppress(ValueError):  # outside the main thread
                signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # log rotation sends it; by default it kills
                if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup has it ignored
                    signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
            server = Server(config, drain_delay=drain_delay)
            server.run(list(sockets))
            return server.started
        Workers(partial(Server, config, is_worker=True), sockets, count=workers, drain_delay=drain_delay).run()
    except StartFailed as failure:
        _log.error("The server did not start. %s", failure)
        return False
    except SystemExit as end:  # from uvicorn if the start failed, and from our SIGTERM handler
        return end.code == 0
    return True


class Lifespan(LifespanOn):
    """uvicorn's side of the application's lifespan. It raises errors that have a sentence, and logs other errors."""

    _error: ConfigurationError | ServiceError | None = None

    async def startup(self) -> None:
        self._running = asyncio.create_task(self.main())
        await self.receive_queue.put({"type": "lifespan.startup"})
        await self.startup_event.wait()
        if self._error is not None:
            raise self._error
        self.should_exit = self.startup_failed or self.error_occurred

    async def send(self, message: Any) -> None:
        error = sys.exception()
        if message["type"] == "lifespan.startup.failed" and isinstance(error, ConfigurationError | ServiceError):
            self._error = error  # Starlette handles it at this moment; the message has its traceback
            message = {"type": message["type"], "message": ""}
        await super().send(message)


class Server(uvicorn.Server):
    """uvicorn's server, changed so that it loses no request when it stops.

    A worker handles no signals: see `workers`.
    """

    def __init__(self, config: uvicorn.Config, *, drain_delay: int = 0, is_worker: bool = False) -> None:
        super().__init__(config)
        self._drain_delay = drain_delay
        self._is_worker = is_worker
        self._closes_sockets = not is_worker
        """Whether this process decides when no more connections are accepted at the listening sockets."""

    @property
    def has_begun(self) -> bool:
        """Whether the application is made. It may be starting, or serving."""
        return hasattr(self, "lifespan")

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if self._is_worker:
            yield
        else:
            with super().capture_signals():
                yield

    async def _serve(self, sockets: list[socket.socket] | None = None) -> None:
        self.config.load()
        self.config.lifespan_class = Lifespan
        await super()._serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self.should_exit:  # the parent told this worker to stop; the process may end at any moment
            return
        try:
            await super().startup(sockets)
        except OSError as error:  # two processes may bind one port, but only one can listen
            await self.lifespan.shutdown()
            raise StartFailed(f"The port cannot be listened on: {error.strerror}.") from None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.announce_drain()
        if sig == signal.SIGINT:  # an operator waits at a terminal
            self._drain_delay = 0
        super().handle_exit(sig, frame)

    def stop(self, *, at_once: bool = False) -> None:
        """Make a worker stop, from another thread: after the running requests, or at once."""
        self.force_exit = self.force_exit or at_once
        self.should_exit = True

    def stop_without_parent(self) -> None:
        """Stop a worker after its parent has died; called from another thread.

        The worker also closes the listening sockets, because a successor may wait for the port.
        """
        self._closes_sockets = True
        self.announce_drain()
        self.stop()

    def announce_drain(self) -> None:
        """Make `/readyz` answer 503, and add `Connection: close` to every answer."""
        if self.has_begun:  # else nothing was served yet
            self.lifespan.state |= {STOPPING_KEY: True, DRAINING_KEY: True}

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.lifespan.state[DRAINING_KEY] = True
        await self._wait(lambda: self._drain_delay)
        if self._closes_sockets:
            refuse_new_connections(sockets or ())
        await self._wait(lambda: SETTLE_SECONDS)
        # The event loop does not run between the last accept and the close.
        accepted = accept_all(sockets or ())
        for listener in (*self.servers, *(sockets or ())):
            listener.close()
        for connection in accepted:
            with suppress(OSError):  # the client has disconnected
                await asyncio.get_running_loop().connect_accepted_socket(self._make_protocol, connection)
        await super().shutdown(sockets)
        if self.force_exit:  # else the end of the event loop would cancel the tasks and log them as errors
            for task in list(self.server_state.tasks):
                task.cancel()
            await self.lifespan.shutdown()

    async def _wait(self, seconds: Callable[[], float]) -> None:
        since = time.monotonic()
        # Polls instead of waiting for an event, because a signal handler ends the wait.
        while not self.force_exit and (left := since + seconds() - time.monotonic()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(min(0.1, left))

    def _make_protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(self.config, self.server_state, self.lifespan.state)
        return protocol


def _allow_many_connections() -> None:
    """Raise the limit of file descriptors to the maximum that the system allows.

    The usual 1,024 would be exhausted by a hundred silent connections a second, each of which stays open for 10 s.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems report an unlimited hard limit and refuse to set it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
