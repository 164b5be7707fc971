"""A range service of leaked passwords on loopback."""

import hashlib
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread


def sha1(password: str) -> str:
    """Return the SHA-1 of the password in capital hexadecimal digits."""
    return hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper()


@dataclass
class Ranges:
    """A service that knows some passwords, and keeps the requests that it gets."""

    url: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    """The leaked passwords with their counts."""
    status: int = 200
    body: bytes | None = None
    """The answer to every request in place of the range."""
    headers: dict[str, str] = field(default_factory=dict)
    may_answer: Event = field(default_factory=Event)
    asked: list[str] = field(default_factory=list)
    """The paths of the requests."""
    seen: list[dict[str, str]] = field(default_factory=list)
    """Their headers."""

    def range_of(self, prefix: str) -> bytes:
        """Return the lines of a range, with padding before and after."""
        digests = [(sha1(password), count) for password, count in self.counts.items()]
        lines = [f"{digest[5:]}:{count}" for digest, count in digests if digest.startswith(prefix)]
        return "\r\n".join([f"{'0' * 34}1:0", *lines, f"{'F' * 34}E:0"]).encode()


@contextmanager
def answering(leaked: Iterable[str] = (), *, certificate: Path | None = None) -> Iterator[Ranges]:
    """Run a range service, with TLS if there is a certificate."""
    ranges = Ranges(counts=dict.fromkeys(leaked, 3))
    ranges.may_answer.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ranges.asked.append(self.path)
            ranges.seen.append({name.lower(): value for name, value in self.headers.items()})
            ranges.may_answer.wait(20)
            body = ranges.range_of(self.path.rpartition("/")[2]) if ranges.body is None else ranges.body
            self.send_response(ranges.status)
            for name, value in {"Content-Length": str(len(body)), **ranges.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:  # a client closes the connection at its deadline
            return

    server = Server(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    ranges.url = f"http{'' if certificate is None else 's'}://127.0.0.1:{server.server_port}/range"
    try:
        yield ranges
    finally:
        ranges.may_answer.set()
        server.shutdown()
        server.server_close()
        thread.join()
