"""Several worker processes of one service, and their parent, which starts, replaces and stops them.

All workers accept at the parent's listening sockets and so share the connections that wait there: when a single
worker stops, the others accept them. When all stop, the parent makes them announce the drain, refuses new
connections, and then stops the workers, which accept the connections that still wait.

A worker ignores the signals that stop a service, because a supervisor or a terminal sends them to the whole process
group: a worker that stopped by itself would leave the parent's sockets open with no process that accepts. The parent
sends its orders through a pipe. The end of the pipe tells a worker that the parent is gone.
"""

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from typing import TYPE_CHECKING, Literal

from service.errors import ConfigurationError, ServiceError
from service.telemetry import log, metrics
from service.telemetry.event_names import LogName
from service.web.listening import refuse_new_connections

if TYPE_CHECKING:
    from service.web.server import Server

START_TIMEOUT_SECONDS = 60.0
"""Seconds after which a worker that is not ready has failed to start."""

STOP_TIMEOUT_SECONDS = 30.0
"""Seconds after which a worker that was told to stop is killed: it has ended long before, unless it hangs."""

PING_SECONDS = 0.5
"""Seconds between two checks of the workers."""

MAX_UNANSWERED_PINGS = 10
"""Checks in a row without an answer after which a worker is killed. Checks, not seconds: the parent may be paused."""

MAX_BACK_OFF_SECONDS = 60
"""The longest pause between two attempts to start a worker. The first is 1 s, and each is twice the one before."""

IGNORED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Signals that a worker ignores: the process group gets them as well as the parent, which acts on them."""

_PARENT_SIGNALS = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU,
    signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH,
)  # fmt: skip
"""Signals that the parent handles in place of their default action. The last four then have no effect."""

Order = Literal["ping", "drain", "stop", "stop at once"]

_spawn = multiprocessing.get_context("spawn")
_log = logging.getLogger("uvicorn.error")


class StartFailed(Exception):
    """The server could not start. The text is a sentence for the log."""


@dataclass(frozen=True)
class Failure:
    """Why a worker could not start."""

    sentence: str
    is_configuration: bool = False


class Worker:
    """A worker process, as its parent sees it."""

    def __init__(self, make_server: "Callable[[], Server]", sockets: Sequence[socket.socket]) -> None:
        self.has_started = False
        self._failure: Failure | None = None
        self._began = self._pinged_at = time.monotonic()
        self._unanswered_pings = 0
        self._stopped_at: float | None = None
        self._is_cut = False
        self._pipe, other_end = multiprocessing.Pipe()
        self._process = _spawn.Process(target=run_worker, args=(make_server, list(sockets), other_end))
        resource_tracker.ensure_running()  # it unblocks signals when it starts
        # The worker inherits the mask. It must not be ended by a signal to the group before it ignores those.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED_SIGNALS)
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        other_end.close()  # so that each end closes with the process that has it

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.is_alive()

    @property
    def is_late(self) -> bool:
        """Whether it is not ready although it started more than `START_TIMEOUT_SECONDS` ago."""
        return not self.has_started and time.monotonic() - self._began > START_TIMEOUT_SECONDS

    @property
    def hangs(self) -> bool:
        """Whether it has not answered for a long time, or has not stopped in time."""
        if self._stopped_at is not None:
            return time.monotonic() - self._stopped_at > STOP_TIMEOUT_SECONDS
        return self.has_started and self._unanswered_pings > MAX_UNANSWERED_PINGS

    @property
    def waitables(self) -> list[connection.Connection | int]:
        """What becomes readable when it sends a message or ends."""
        return [self._process.sentinel] if self._is_cut else [self._process.sentinel, self._pipe]

    def check(self) -> None:
        """Read its messages, and send the next ping when it is due."""
        while not self._is_cut and self._pipe.poll():
            try:
                message = self._pipe.recv()
            except (EOFError, OSError):
                self._is_cut = True
                return
            if isinstance(message, Failure):
                self._failure = message
            else:
                self._unanswered_pings = 0
                self.has_started = self.has_started or message
        if time.monotonic() - self._pinged_at >= PING_SECONDS:
            self._pinged_at = time.monotonic()
            self._unanswered_pings += 1
            self._send("ping")

    def announce_drain(self) -> None:
        """Make it announce the drain and serve until it is told to stop; a worker that is not ready yet may end."""
        self._send("drain")

    def stop(self, *, at_once: bool = False) -> None:
        """Tell it to stop: after its running requests, or at once."""
        self._stopped_at = self._stopped_at or time.monotonic()
        self._send("stop at once" if at_once else "stop")

    def kill(self) -> None:
        self._process.kill()

    def explain(self) -> Failure:
        """Return why it is not running, or not ready in time."""
        status = self._process.exitcode
        if self._failure is not None:
            return self._failure
        if status is None:
            return Failure(f"The worker was not ready within {START_TIMEOUT_SECONDS:.0f} seconds.")
        if status < 0:
            return Failure(f"The worker was ended by signal {-status} ({signal.strsignal(-status)}).")
        return Failure(f"The worker ended with exit status {status}.")

    def close(self) -> None:
        """Release what the parent holds for it. It must have ended."""
        self._process.join()
        self._process.close()
        self._pipe.close()

    def _send(self, order: Order) -> None:
        with suppress(OSError):  # it has ended
            self._pipe.send(order)


class Workers:
    """The parent of several workers."""

    def __init__(
        self,
        make_server: "Callable[[], Server]",
        sockets: Sequence[socket.socket],
        *,
        count: int,
        drain_delay: int,
    ) -> None:
        self._make_server = make_server
        self._sockets = sockets
        self._count = count
        self._drain_delay = drain_delay
        self._workers: list[Worker] = []
        self._leaving: list[Worker] = []
        """Workers that were told to stop."""
        self._outdated: list[Worker] = []
        """Workers that SIGHUP replaces: another becomes ready first, then one of these is stopped."""
        self._has_started = False
        """Whether all workers were ready at one time. Until then a failure ends the service."""
        self._back_off = 0
        """Seconds between the last two attempts to start a worker; 0 if the last start did not fail."""
        self._start_at = 0.0
        self._is_stopping = False
        self._signals: deque[int] = deque()
        self._wakeup, self._writer = socket.socketpair()
        for end in (self._wakeup, self._writer):
            end.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in _PARENT_SIGNALS:
            signal.signal(number, lambda number, _frame: self._signals.append(number))

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises `ConfigurationError` or `StartFailed` if a worker fails before all workers were ready.
        """
        try:
            while not self._is_stopping:
                self._adjust()
                everyone = [*self._workers, *self._leaving]
                self._wait(PING_SECONDS, [waitable for worker in everyone for waitable in worker.waitables])
                if not self._is_stopping:
                    self._check()
        except (ConfigurationError, StartFailed):
            self._drain_delay = 0  # the service was never completely ready
            raise
        finally:
            self._stop()

    def _adjust(self) -> None:
        """Start workers that are missing, and stop one that is too many."""
        self._outdated = [worker for worker in self._outdated if worker in self._workers]
        started = [worker for worker in self._workers if worker.has_started]
        if self._outdated and len(started) > self._count:
            self._retire(self._outdated[0])
        elif not self._outdated and len(self._workers) > self._count:
            self._retire(self._workers[-1])
        wanted = self._count + bool(self._outdated and not self._leaving)
        while len(self._workers) < wanted and time.monotonic() >= self._start_at:
            if self._back_off and any(not worker.has_started for worker in self._workers):
                break  # one attempt at a time
            self._workers.append(Worker(self._make_server, self._sockets))

    def _check(self) -> None:
        for worker in [*self._workers]:
            had_started = worker.has_started
            is_running = worker.is_running  # before check(), which then reads all that an ended worker wrote
            worker.check()
            if worker.has_started and not had_started:
                self._back_off = 0
                _log.info("Worker %s is ready.", worker.pid)
            if not is_running or worker.hangs or worker.is_late:
                self._replace(worker)
        self._has_started = self._has_started or sum(worker.has_started for worker in self._workers) >= self._count
        self._reap()

    def _replace(self, worker: Worker) -> None:
        """Take a worker out that has died, hangs or is not ready in time. `_adjust` starts another."""
        failure = worker.explain()
        self._workers.remove(worker)
        self._leaving.append(worker)
        if worker.has_started:
            if worker.is_running:
                worker.kill()
                failure = Failure(f"The worker did not answer for {MAX_UNANSWERED_PINGS * PING_SECONDS:.0f} seconds.")
            _log.warning("Worker %s is replaced. %s", worker.pid, failure.sentence)
            return
        worker.stop()  # not killed: it may just have become ready, and have accepted connections
        if not self._has_started:
            raise (ConfigurationError if failure.is_configuration else StartFailed)(failure.sentence)
        self._outdated.clear()
        retry: int | None = None
        if len(self._workers) < self._count:
            retry = self._back_off = min(MAX_BACK_OFF_SECONDS, max(1, 2 * self._back_off))
            self._start_at = time.monotonic() + retry
        log.warn(LogName.WORKER_NOT_STARTED, reason=failure.sentence, retry_seconds=retry)

    def _retire(self, worker: Worker) -> None:
        self._workers.remove(worker)
        self._leaving.append(worker)
        worker.stop()

    def _reap(self) -> None:
        for worker in [*self._leaving]:
            if not worker.is_running:
                self._leaving.remove(worker)
                worker.close()
            elif worker.hangs:
                worker.kill()

    def _stop(self) -> None:
        for worker in self._workers:
            worker.announce_drain()
        began = time.monotonic()
        while (left := began + self._drain_delay - time.monotonic()) > 0:
            self._wait(left, [])
        refuse_new_connections(self._sockets)
        for listener in self._sockets:
            listener.close()
        for worker in [*self._workers]:
            self._retire(worker)
        self._reap()
        while self._leaving:
            self._wait(PING_SECONDS, [worker.waitables[0] for worker in self._leaving])
            self._reap()

    def _wait(self, seconds: float, waitables: list[connection.Connection | int]) -> None:
        """Wait for a signal, or until one of the objects is readable. Then act on the signals."""
        connection.wait([self._wakeup, *waitables], seconds)
        with suppress(BlockingIOError):
            self._wakeup.recv(1024)
        while self._signals:
            self._obey(self._signals.popleft())

    def _obey(self, number: int) -> None:
        _log.info("Received %s.", signal.Signals(number).name)
        match number:
            case signal.SIGINT | signal.SIGTERM:
                if number == signal.SIGINT:  # an operator waits at a terminal
                    self._drain_delay = 0
                    if self._is_stopping:
                        for worker in (*self._workers, *self._leaving):
                            worker.stop(at_once=True)
                self._is_stopping = True
            case signal.SIGHUP:
                self._outdated = [*self._workers]
                self._back_off, self._start_at = 0, 0.0
            case signal.SIGTTIN:
                self._count += 1
            case signal.SIGTTOU:
                self._count = max(1, self._count - 1)


def run_worker(
    make_server: "Callable[[], Server]", sockets: list[socket.socket], pipe: "connection.Connection"
) -> None:
    """Serve in this process until the parent orders a stop or has ended."""
    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED_SIGNALS)
    server = make_server()
    is_orphan = threading.Event()
    threading.Thread(target=_obey_parent, args=(server, pipe, is_orphan), daemon=True).start()
    failure = None
    try:
        server.run(sockets)
    except ConfigurationError as error:
        failure = Failure(str(error), is_configuration=True)
    except ServiceError as error:
        failure = Failure(f"{error} {getattr(error, 'why', '')}".rstrip())
    except StartFailed as error:
        failure = Failure(str(error))
    except SystemExit:
        failure = Failure("A defect ended the start; the lines above say where.")
    except Exception as error:  # noqa: BLE001 -- the parent goes on, and needs a reason
        _log.exception("A worker ended because of a defect.")
        failure = Failure(f"A defect ended the worker: {type(error).__name__}.")
    if is_orphan.is_set():
        metrics.leave_shared_folder()
    if failure is not None:
        with suppress(OSError):
            pipe.send(failure)


def _obey_parent(server: "Server", pipe: "connection.Connection", is_orphan: threading.Event) -> None:
    """Follow the parent's orders, in a thread, because the modules of the application may still be imported."""
    while not is_orphan.is_set():
        try:
            order: Order = pipe.recv()
        except (EOFError, OSError):
            is_orphan.set()
            server.stop_without_parent()
        else:
            match order:
                case "ping":
                    with suppress(OSError):
                        pipe.send(server.started)
                case "drain":
                    server.announce_drain() if server.has_begun else server.stop()
                case "stop" | "stop at once":
                    server.stop(at_once=order == "stop at once")
        # A stop precedes this check, and the server checks for the stop before it begins: see `Server.startup`.
        if not server.has_begun and (is_orphan.is_set() or order != "ping"):
            if is_orphan.is_set():
                metrics.leave_shared_folder()
            os._exit(0)  # nothing was accepted, and the rest of the imports would take seconds
