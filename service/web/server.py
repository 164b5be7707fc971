"""The HTTP server around the application: uvicorn, with our deadlines, which loses no request when it stops.

A stop has three parts. For `drain_delay` seconds after SIGTERM everything is served as before, but `/readyz` answers
503 and every answer has `Connection: close`, so that load balancers choose other replicas. Then the server accepts
the connections that wait at the listening sockets, and closes those. Then each connection gets its last answer (see
`wire`), within `SHUTDOWN_GRACE_SECONDS`.
"""

import asyncio
import ctypes
import logging
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import multiprocess

from service.web.cors import Cors
from service.web.wire import DRAINING_KEY, STOPPING_KEY, DeadlineProtocol

SHUTDOWN_GRACE_SECONDS = 10
"""Seconds that running requests get to finish after the listening sockets are closed."""

SETTLE_SECONDS = 0.25
"""Seconds for TCP handshakes that have begun to complete: longer than most round trips."""

START_TIMEOUT_SECONDS = 60.0
"""Seconds after which a worker that has not started counts as dead."""

DRAIN_SIGNAL = signal.SIGUSR1
"""The parent sends it before it stops all workers: they announce the drain, and serve until SIGTERM."""

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
    """Serve at bound sockets until SIGTERM or SIGINT. Returns false if the server could not start.

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
        access_log=False,  # the log has one event per decision; see log.py
        proxy_headers=False,  # law 14: the address is the peer's. Callers reads headers of named proxies only
        server_header=False,
        timeout_keep_alive=keep_alive,
        timeout_graceful_shutdown=SHUTDOWN_GRACE_SECONDS,
    )
    try:
        if workers == 1:
            server = Server(config, drain_delay=drain_delay, is_only_process=True)
            server.run(list(sockets))
            return server.started
        parent = Workers(config, list(sockets), drain_delay=drain_delay)
        parent.run()
    except SystemExit as end:  # from uvicorn if the start failed, and from our SIGTERM handler
        return end.code == 0
    return parent.has_started


class Server(uvicorn.Server):
    """uvicorn's server, changed so that it loses no request when it stops."""

    def __init__(self, config: uvicorn.Config, *, drain_delay: int = 0, is_only_process: bool = False) -> None:
        super().__init__(config)
        self._drain_delay = drain_delay
        self._is_only_process = is_only_process
        """Whether no other process accepts at the same listening sockets."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        with suppress(ValueError, RuntimeError):  # outside the main thread; no parent sends the signal there
            asyncio.get_running_loop().add_signal_handler(DRAIN_SIGNAL, self.announce_drain)
        try:
            await super().startup(sockets)
        except OSError as error:  # two processes may bind one port, but only one can listen
            _log.error("The port cannot be listened on: %s", error.strerror)
            await self.lifespan.shutdown()
            sys.exit(STARTUP_FAILURE)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._is_only_process:
            self.announce_drain()
        if sig == signal.SIGINT:  # an operator waits at a terminal
            self._drain_delay = 0
        super().handle_exit(sig, frame)

    def announce_drain(self) -> None:
        """Make `/readyz` answer 503, and add `Connection: close` to every answer."""
        if hasattr(self, "lifespan"):  # else nothing was served yet
            self.lifespan.state |= {STOPPING_KEY: True, DRAINING_KEY: True}

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.lifespan.state[DRAINING_KEY] = True
        await self._wait(lambda: self._drain_delay)
        if self._is_only_process:
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


def accept_all(sockets: Sequence[socket.socket]) -> list[socket.socket]:
    """Accept the connections that the kernel holds for these sockets. Closing the sockets would reset them."""
    accepted = []
    for listener in sockets:
        with suppress(OSError):  # EAGAIN: no connection is left
            while True:
                accepted.append(listener.accept()[0])
    return accepted


_SO_ATTACH_FILTER = 26
_ONLY_SYN = ((0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
"""Classic BPF: load the flags of the TCP header; drop the packet if of SYN and ACK only SYN is set; else pass it."""


def refuse_new_connections(sockets: Sequence[socket.socket]) -> None:
    """Make the kernel start no new connections at listening sockets, and complete those that have begun.

    A client whose SYN is dropped repeats it after a second. By then it is refused, or it reaches a successor. Without
    this function a connection made between the last `accept` and `close` would be reset. Only Linux supports it; on
    other systems that gap of a few microseconds remains.
    """
    if sys.platform != "linux":
        return
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in _ONLY_SYN)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HP", len(_ONLY_SYN), ctypes.addressof(buffer))
    for listener in sockets:
        with suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


class Worker(multiprocess.Process):
    """A worker process of uvicorn that runs our server, and has more time to start when there is little CPU."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self._asked_at: float | None = None
        self._has_answered = False

    def is_alive(self, timeout: float = 5) -> bool:
        """Return whether it answers within `timeout`, or is still starting: during its imports it cannot answer."""
        if self._has_answered:
            return super().is_alive(timeout)
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            self.parent_conn.send(b"ping")
        elif self.parent_conn.poll(0):
            self.parent_conn.recv()
            self._has_answered = True
        return self.process.is_alive() and time.monotonic() - self._asked_at < START_TIMEOUT_SECONDS

    @property
    def server(self) -> Server:
        if self._server is None:
            self._server = Server(self.config)
        assert isinstance(self._server, Server)
        return self._server


# `Multiprocess` looks up the class of its workers by this name.
multiprocess.Process = Worker  # type: ignore[misc]


class Workers(multiprocess.Multiprocess):
    """uvicorn's parent of several workers.

    All workers accept at the parent's listening sockets and so share the connections that wait there: when a single
    worker stops, the others accept them. When all stop, the parent makes them announce the drain, refuses new
    connections, and then stops the workers, which accept the connections that still wait.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], *, drain_delay: int) -> None:
        super().__init__(config, sockets)
        self._drain_delay = drain_delay
        self._wakeup, writer = socket.socketpair()
        self._wakeup.setblocking(False)
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._writer = writer

    @property
    def has_started(self) -> bool:
        """Whether every worker started."""
        return all(process.exitcode != STARTUP_FAILURE for process in self.processes)

    def run(self) -> None:
        self.init_processes()
        while not self.should_exit.is_set():
            self._wait_for_signal(0.5)
            self.handle_signals()
            self.keep_subprocess_alive()
        self._drain()
        self.terminate_all()
        self.join_all()

    def _drain(self) -> None:
        for process in self.processes:
            if process.pid is not None and process.process.is_alive():
                os.kill(process.pid, DRAIN_SIGNAL)
        end = time.monotonic() + self._drain_delay
        while (left := end - time.monotonic()) > 0 and signal.SIGINT not in self.signal_queue:
            self._wait_for_signal(left)
        refuse_new_connections(self.sockets)
        for listener in self.sockets:
            listener.close()

    def handle_int(self) -> None:
        self._drain_delay = 0  # an operator waits at a terminal
        super().handle_int()

    def _wait_for_signal(self, seconds: float) -> None:
        select.select([self._wakeup], [], [], seconds)
        with suppress(BlockingIOError):
            self._wakeup.recv(1024)


def _allow_many_connections() -> None:
    """Raise the limit of file descriptors to the maximum that the system allows.

    The usual 1,024 would be exhausted by a hundred silent connections a second, each of which stays open for 10 s.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems report an unlimited hard limit and refuse to set it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
