"""uvicorn's HTTP protocol with deadlines and limits, against clients that are slow, silent or send too much.

Law 13: input is validated at the edge, strictly.

The protocol has a deadline for the whole request (a client that sends slowly gets 408, the connection of a silent one
is closed), a limit on headers (431), and only one way to split a stream of bytes into requests.
"""

import asyncio
import fcntl
import struct
import termios
from typing import Any, Literal

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.telemetry import metrics
from service.web import problems
from service.web.cors import Cors

MAX_HEADER_BYTES = 16 * 1024
DEADLINE_SECONDS = 10.0
"""Seconds for a request to arrive completely, from the connection or from the first byte of a later request."""
MAX_KEEP_ALIVE_CONNECTIONS = 2000
"""Open connections above which an idle one is closed after the deadline at the latest, also with a longer
`KEYTURN_KEEP_ALIVE`."""
LINGER_SECONDS = 2.0
"""Seconds that a client gets to read its last answer after the server has closed its side of the connection."""
READ_DELAY_SECONDS = 0.05
"""Seconds within which the event loop reads what has arrived."""
DRAIN_IDLE_SECONDS = 1.0
"""Seconds that a connection without a request stays open during a drain: the client may be sending a request."""
ORIGIN_TIMEOUT_SECONDS = 0.25
"""Seconds that a 431 waits for the `Origin` header, which may arrive after the headers that were too large."""
DRAINING_KEY = "is_draining"
"""Key in the state of the lifespan, and so in that of every request: whether this process closes its connections."""
STOPPING_KEY = "is_leaving"
"""Key in the same state: whether the whole service stops, not only one worker. `/readyz` then answers 503."""
REFUSED_KEY = "is_refused"
"""Key in the state of a request: whether this protocol answers it, and no longer the application."""
MAX_PIPELINED = 16
"""Requests that may wait in one connection for the answer to the previous request."""


class DeadlineProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with deadlines and limits, also against requests that are ambiguous on purpose.

    Each connection has one timer. It runs while the connection waits for the client: to send the rest of a request,
    to send the next request, or to read answers. A request that this class refuses is answered after the requests
    before it, and no later bytes are parsed, because it is not certain where the next request begins.

    During a drain every answer has `Connection: close`, and a connection without the complete head of a request is
    closed after `DRAIN_IDLE_SECONDS`. A connection is never closed while the kernel holds unread bytes of the client:
    that would reset it, and so lose a request, or an answer that the client has not received yet.
    """

    _timer: asyncio.TimerHandle | None = None
    _reading: Literal["nothing", "head", "body"] = "nothing"
    _head_bytes = 0
    _kept_bytes = 0
    """Bytes given to the parser since its last callback. The parser itself does not limit the size of a header."""
    _unanswered = 0
    """Requests with a complete head and an incomplete answer. Only the newest of them may have an incomplete body."""
    _running: RequestResponseCycle | None = None
    _fault = 400
    """The status of the refusal if the parser fails."""
    _refusal: int | None = None
    """The status of the refusal, to be sent after the answers before it. Once set, nothing more is parsed."""
    _seen: bytes | None = None
    """While a 431 waits for the `Origin` header: the last bytes that have arrived."""
    _origin: bytes | None = None
    """The allowed origin that was found in those bytes."""
    _is_over = False
    _is_last = False
    """The current answer has `Connection: close`."""
    _has_answered = False

    def __init__(
        self,
        *arguments: Any,
        cors: Cors | None = None,
        deadline: float = DEADLINE_SECONDS,
        max_keep_alive: int = MAX_KEEP_ALIVE_CONNECTIONS,
        **named: Any,
    ) -> None:
        """Make the protocol of one connection. `deadline` is the number of seconds for a request; tests have less.

        With more open connections than `max_keep_alive`, an idle one is closed after the deadline at the latest.
        """
        super().__init__(*arguments, **named)
        self._deadline = deadline
        self._max_keep_alive = max_keep_alive
        self._cors = cors if cors is not None and cors.is_on else None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_timer()

    @property
    def _is_draining(self) -> bool:
        """Whether the server drains: the next answer is the last. True for newly accepted connections, too."""
        return bool(self.app_state.get(DRAINING_KEY))

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timer()
        if self._running is not None:
            self._running.disconnected = (
                True  # uvicorn sets it for the newest request only, which may be a waiting one
            )
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Begin to end this connection, because the server stops.

        A running request is answered. A connection without a request is closed after `DRAIN_IDLE_SECONDS`: closing it
        at once could reset it while the client sends a request, and the client would not know whether the request was
        processed.
        """
        self.app_state[DRAINING_KEY] = True
        if not self._unanswered:
            self._set_timer()
        elif not self.cycle.response_started:  # else the head already sent keeps the connection open
            self.cycle.keep_alive = False

    def data_received(self, data: bytes) -> None:
        if self._seen is not None:
            self._look_for_origin(data)
        if self._refusal is not None or self._is_over:
            return
        self._kept_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._ignore_upgrade(data[offer.args[0] :])
        except httptools.HttpParserError:
            self._refuse(self._fault, data)
        else:
            if self._kept_bytes > MAX_HEADER_BYTES:
                self._refuse(431, data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._reading = "head"
        self._head_bytes = self._kept_bytes = 0
        if self._has_answered and not self._owes_answer:
            self._set_timer()  # the connection is no longer idle: the deadline of a request begins

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + len(": \r\n"))
        if self._reading == "head":  # a trailer is not a header (RFC 9110 section 6.5.1): no proxy has checked it
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # data_received parses the request again, without the upgrade
        version = self.parser.get_http_version()
        hosts = sum(name == b"host" for name, _ in self.headers)
        if version not in {"1.0", "1.1"} or (version == "1.1" and hosts != 1):
            raise ValueError  # RFC 9112 section 3.2
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError
        super().on_headers_complete()
        self._reading = "body"
        self._unanswered += 1
        if self._is_draining:
            self.cycle.keep_alive = False
            self._set_timer()  # a request has begun: its body gets the usual deadline

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle

        async def run_unless_disconnected(scope: Any, receive: Any, send: Any) -> None:
            async def send_and_keep_open(message: Any) -> None:
                if not cycle.keep_alive and message["type"] == "http.response.body" and not message.get("more_body"):
                    # uvicorn would close the connection after the last byte; on_response_complete does that instead.
                    self._is_last = cycle.keep_alive = True
                await send(message)

            # The body may be malformed. A handler that reads no body would otherwise act on a refused request.
            if not cycle.disconnected:
                try:
                    await app(scope, receive, send_and_keep_open)
                except asyncio.CancelledError:  # the shutdown does not wait for this request any longer
                    cycle.disconnected = True
                    self.transport.abort()

        super()._start_asgi_task(cycle, run_unless_disconnected)

    def on_body(self, body: bytes) -> None:
        self._kept_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._kept_bytes = 0
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self._reading = "nothing"
        self._set_timer()

    def on_response_complete(self) -> None:
        self._unanswered -= 1
        self._has_answered = True
        if self._is_last:  # requests after it are not started
            self.server_state.total_requests += 1
            if self._reading == "body" or self._has_unread_bytes():
                self._close_gracefully()
            else:
                self.transport.close()
                self._set_timer()
            return
        super().on_response_complete()  # starts the next request, if it has arrived
        self._unset_keepalive_if_required()  # _set_timer covers that deadline
        if not self._owes_answer and not self.transport.is_closing():
            if self._refusal is not None:
                self._write_refusal()
            elif self._unanswered == 0 and self._reading == "body" and self.expect_100_continue:
                # The client may send that body or not, so the next bytes are not certainly a request.
                self._close_gracefully()
        self._set_timer()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._set_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._set_timer()

    @property
    def _owes_answer(self) -> bool:
        """Whether a completely received request waits for its answer."""
        return self._unanswered > (1 if self._reading == "body" else 0)

    def _set_timer(self) -> None:
        if self._is_over or self._seen is not None or self.parser is None:  # None: uvicorn has lost the connection
            return
        self._cancel_timer()
        if not self._owes_answer or self.flow.write_paused or self.transport.is_closing():
            self._timer = self.loop.call_later(self._timeout_seconds, self._on_timeout)

    @property
    def _timeout_seconds(self) -> float:
        """Seconds that the client has for its next action."""
        if self._is_draining and not self._unanswered:
            return DRAIN_IDLE_SECONDS
        is_idle = self._reading == "nothing" and self._has_answered and not self.flow.write_paused
        if not is_idle:
            return self._deadline
        if len(self.connections) <= self._max_keep_alive:
            return float(self.timeout_keep_alive)
        return float(min(self._deadline, self.timeout_keep_alive))

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timeout(self) -> None:
        if self.flow.write_paused or self.transport.is_closing():
            self.transport.abort()  # the client does not read, so no answer can be sent
        elif self._reading == "nothing" or (self._is_draining and self._reading == "head"):
            if self._has_unread_bytes():  # timers run before the loop reads arrived bytes
                self._timer = self.loop.call_later(READ_DELAY_SECONDS, self._on_timeout)
            else:
                self.transport.close()
                self._set_timer()
        else:
            self._refuse(408)

    def _has_unread_bytes(self) -> bool:
        """Return whether the kernel holds unread bytes of the client: closing the connection now would reset it."""
        descriptor = self.transport.get_extra_info("socket").fileno()
        (unread,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))
        return bool(unread)

    def _count(self, size: int) -> None:
        self._kept_bytes = 0
        self._head_bytes += size
        if self._head_bytes > MAX_HEADER_BYTES:
            self._fault = 431
            raise ValueError

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Parse the request as if it offered no upgrade (RFC 9110 section 7.8).

        The parser has skipped the body and would take it for the next request. Java's HTTP client offers HTTP/2 with
        every first POST, and an attacker could smuggle a request in this way.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if method == b"CONNECT":
            self._refuse(400)
            return
        head = [b"%s %s HTTP/%s\r\n" % (method, self.url, version.encode())]
        head += [b"%s: %s\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"".join([*head, b"\r\n", rest]))

    def _refuse(self, status: int, data: bytes = b"") -> None:
        """Answer instead of the application, after the answers to the requests before this one.

        `data` is what has just been received. If CORS is on, a 431 waits up to `ORIGIN_TIMEOUT_SECONDS` for the
        `Origin` header.
        """
        self._refusal = status
        if status == 431 and self._cors is not None and self._request_origin() is None:
            self._seen = b""
            self._cancel_timer()
            self._timer = self.loop.call_later(ORIGIN_TIMEOUT_SECONDS, self._stop_looking)
            self._look_for_origin(data)
        elif not self._owes_answer and not self.transport.is_closing():
            self._write_refusal()

    def _look_for_origin(self, data: bytes) -> None:
        assert self._seen is not None
        assert self._cors is not None
        text = self._seen + data
        self._origin = self._cors.origin_in(text)
        self._seen = text[-1024:]  # an origin is shorter
        if self._origin is not None or b"\r\n\r\n" in text:
            self._stop_looking()

    def _stop_looking(self) -> None:
        self._seen = None
        self._cancel_timer()
        if not self._owes_answer and not self._is_over and not self.transport.is_closing():
            self._write_refusal()

    def _request_origin(self) -> bytes | None:
        """Return the `Origin` header of the request that is being received."""
        given = () if self._reading == "nothing" else self.headers
        return next((value for name, value in given if name == b"origin"), self._origin)

    def _cors_headers(self) -> list[tuple[bytes, bytes]]:
        if self._cors is None:
            return []
        path = "" if self._reading == "nothing" else self.url.decode("latin-1")
        return self._cors.answer_headers(path, self._request_origin())

    def _write_refusal(self) -> None:
        assert self._refusal is not None
        if self._reading == "body":
            self.cycle.disconnected = True  # an application that waits for the body gets a disconnect
            self.cycle.scope["state"][REFUSED_KEY] = not self.cycle.response_started
            self.cycle.message_event.set()
        if self._reading != "body" or not self.cycle.response_started:
            answer = problems.wire_problem(self._refusal)
            metrics.count_request("refused on the wire", "", self._refusal)
            lines = [b"HTTP/1.1 %d \r\n" % self._refusal]
            headers = self.server_state.default_headers + answer.raw_headers + self._cors_headers()
            lines += [b"%s: %s\r\n" % header for header in headers]
            lines += [b"cache-control: no-store\r\n", b"connection: close\r\n\r\n", bytes(answer.body)]
            self.transport.write(b"".join(lines))
        self._close_gracefully()

    def _close_gracefully(self) -> None:
        """Close our side, and for `LINGER_SECONDS` read and discard what the client sends (RFC 9112 section 9.6).

        Closing completely while the client still sends would reset the connection and lose the answer.
        """
        self._is_over = True
        self._cancel_timer()
        self.flow.resume_reading()
        self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)
