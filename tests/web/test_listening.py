"""The addresses the service listens on: IPv4 and IPv6, one worker or many, and invalid addresses."""

import contextlib
import errno
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.environment import read_settings
from service.errors import ConfigurationError
from service.web.listening import accept_all, bind, urls
from tests.harness.ports import free_port
from tests.harness.servers import REPOSITORY, keyturn


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@contextlib.contextmanager
def bound(host: str, port: int = 0) -> Iterator[list[socket.socket]]:
    sockets = bind(read_settings({"KEYTURN_HOST": host}).host, port)
    try:
        for listener in sockets:
            listener.listen()
        yield sockets
    finally:
        for listener in sockets:
            listener.close()


def listening_addresses(port: int) -> set[str]:
    """Return the loopback addresses that accept connections at the port."""
    found = set()
    for address in ("127.0.0.1", "::1"):
        with contextlib.suppress(OSError), socket.create_connection((address, port), 1):
            found.add(address)
    return found


@needs_ipv6
@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", {"127.0.0.1"}),
        ("0.0.0.0", {"127.0.0.1"}),  # noqa: S104
        ("::1", {"::1"}),
        ("[::1]", {"::1"}),
        ("::", {"127.0.0.1", "::1"}),
        ("[::]", {"127.0.0.1", "::1"}),
        ("0:0:0:0:0:0:0:0", {"127.0.0.1", "::1"}),
        ("localhost", {"127.0.0.1", "::1"}),
        (" LocalHost\n", {"127.0.0.1", "::1"}),
    ],
)
def test_the_service_listens_on_all_addresses_of_a_host(host: str, expected: set[str]) -> None:
    """`::` is both families, `localhost` is both loopback addresses, brackets are ignored; all share one port."""
    with bound(host) as sockets:
        (port,) = {listener.getsockname()[1] for listener in sockets}
        assert expected == listening_addresses(port)
        assert all(str(port) in url for url in urls(sockets))


@needs_ipv6
def test_an_ipv4_client_keeps_its_own_address() -> None:
    """This holds at `::`, too: limits, events and trusted proxies do not see IPv4-mapped addresses."""
    with bound("::") as sockets:
        port = sockets[0].getsockname()[1]
        for listener in sockets:
            family_address = "::1" if listener.family == socket.AF_INET6 else "127.0.0.1"
            with socket.create_connection((family_address, port)):
                accepted, peer = listener.accept()
                accepted.close()
            assert family_address == peer[0]


@needs_ipv6
def test_ipv6_works_with_workers_and_the_health_check(tmp_path: Path, production: dict[str, Any]) -> None:
    """With one worker and with two, `::` accepts both families; the image's check works with every kind of host."""
    environment = {f"KEYTURN_{name.upper()}": str(value) for name, value in production.items()}
    embedded = {"KEYTURN_DATA_DIR": str(tmp_path / "data")}
    for settings, workers in ((embedded, "1"), (environment, "2")):
        port = free_port()
        with keyturn({**settings, "KEYTURN_HOST": "::"}, "--workers", workers, port=port, ready_within=60):
            assert {"127.0.0.1", "::1"} == listening_addresses(port)
            for host in ("127.0.0.1", "[::1]"):
                assert 200 == httpx2.get(f"http://{host}:{port}/readyz", timeout=5).status_code
            for host in ("::", "[::]", "0.0.0.0", "", "::1", "[::1]", "127.0.0.1", "localhost"):  # noqa: S104
                assert 0 == health_check(host, port), host
    assert 0 != health_check("::", port)


def health_check(host: str, port: int) -> int:
    """Return the exit status of the Dockerfile's HEALTHCHECK."""
    found = re.search(r'CMD \["python", "-ISc", "(.*)"\]', (REPOSITORY / "Dockerfile").read_text("utf-8"))
    assert found is not None
    environment = {**os.environ, "KEYTURN_HOST": host, "KEYTURN_PORT": str(port)}
    checked = subprocess.run([sys.executable, "-ISc", found[1]], env=environment, capture_output=True, check=False)
    return checked.returncode


def refusal(host: str, port: int) -> str:
    with pytest.raises(ConfigurationError) as refused, bound(host, port):
        pass
    sentence = str(refused.value)
    assert "\n" not in sentence
    return sentence


def test_a_port_in_use_is_refused_with_a_sentence() -> None:
    """It names the setting, the port and the address, also if only the second address is in use."""
    with bound("127.0.0.1") as (listener,):
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "localhost", "::"):
            assert re.match(rf"KEYTURN_PORT: another program has port {port} of ", refusal(host, port)), host


@contextlib.contextmanager
def another_program(monkeypatch: pytest.MonkeyPatch, *, takes: int) -> Iterator[list[int]]:
    """Let another program take the port at ::1 before the service binds it, so many times. Yield these ports."""
    bind_socket, taken = socket.socket.bind, list[int]()

    def bind_after_the_other(listener: socket.socket, address: Any) -> None:
        if listener.family == socket.AF_INET6 and len(taken) < takes:
            bind_socket(others.enter_context(socket.socket(socket.AF_INET6)), address)
            taken.append(address[1])
        bind_socket(listener, address)

    with contextlib.ExitStack() as others, monkeypatch.context() as patched:
        patched.setattr(socket.socket, "bind", bind_after_the_other)
        yield taken


@needs_ipv6
def test_port_0_chooses_a_port_that_is_free_at_each_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """If another program has the chosen port at the second address, the service chooses again."""
    with another_program(monkeypatch, takes=3) as taken, bound("localhost") as sockets:
        (port,) = {listener.getsockname()[1] for listener in sockets}
        assert (3, 2) == (len(taken), len(sockets))
        assert port not in taken


@needs_ipv6
def test_a_port_that_was_chosen_is_named_if_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """After some attempts the service does not start; the sentence has the last port that it tried, not 0."""
    with another_program(monkeypatch, takes=1000) as taken:
        sentence = refusal("localhost", 0)
    assert sentence.startswith(f"KEYTURN_PORT: another program has port {taken[-1]} of ::1.")
    assert 0 not in taken
    assert len(taken) < 100


class FailingListener(socket.socket):
    """A listening socket at which the kernel reports errors before it gives a connection."""

    def __init__(self, *errors: int) -> None:
        super().__init__()
        self.errors = list(errors)
        self.bind(("127.0.0.1", 0))
        self.listen()
        self.setblocking(False)

    def accept(self) -> tuple[socket.socket, Any]:
        if self.errors:
            raise OSError((error := self.errors.pop(0)), os.strerror(error))
        return super().accept()


@pytest.mark.parametrize(
    ("errors", "accepted"),
    [
        ([], 2),
        ([errno.ECONNABORTED, errno.ECONNABORTED], 2),
        ([errno.EMFILE] * 1000, 0),
        ([errno.ECONNABORTED, errno.EMFILE], 0),
    ],
    ids=["none", "aborted", "no_descriptors", "both"],
)
def test_a_connection_that_its_client_aborted_hides_no_other(errors: list[int], accepted: int) -> None:
    """The connections after it are accepted. Any other error ends the listener's turn at once, and no other's."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(FailingListener(*given)) for given in (errors, [])]
        for listener in listeners:
            for _ in range(2):
                stack.enter_context(socket.create_connection(listener.getsockname()))
        found = [stack.enter_context(connection) for connection in accept_all(listeners)]
        ports = [connection.getsockname()[1] for connection in found]
        assert [accepted, 2] == [ports.count(listener.getsockname()[1]) for listener in listeners]
        assert len(listeners[0].errors) in {0, 999}


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "nowhere.invalid"])
def test_an_address_of_another_machine_is_refused_with_a_sentence(host: str) -> None:
    """The sentence does not advise another port."""
    sentence = refusal(host, 0)
    assert sentence.startswith("KEYTURN_HOST: ")
    assert host in sentence
    assert "0.0.0.0 or ::" in sentence


def test_a_privileged_port_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel reports EACCES; ports above 1023 need no privilege."""

    def refuse(_self: socket.socket, _address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    assert "Choose a port above 1023" in refusal("127.0.0.1", 80)


@pytest.mark.parametrize("host", [" ", "\n", "\u200b"])
def test_a_host_of_white_space_is_refused(host: str) -> None:
    """The error says that the setting holds white space only."""
    with pytest.raises(ConfigurationError, match="KEYTURN_HOST: it has white space only"):
        read_settings({"KEYTURN_HOST": host})


@pytest.mark.parametrize(
    "host",
    ["[]", "[::1", "::1]", "127.0.0.1:8000", "http://localhost", "local host", "a/b", "*", "local\u00a0host"],
)
def test_an_invalid_host_is_refused(host: str) -> None:
    """An empty address, one with its port, a URL, a list or a wildcard gets one sentence with the setting's name."""
    with pytest.raises(ConfigurationError, match="KEYTURN_HOST: write an address"):
        read_settings({"KEYTURN_HOST": host})
    with pytest.raises(ConfigurationError, match="KEYTURN_HOST: write an address"):
        read_settings({}, host="")


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False),
        ("10.0.0.1", False),
        ("keyturn.internal", False),
    ],
)
def test_docs_are_served_on_loopback(host: str, is_loopback: bool) -> None:
    """Every spelling of a loopback address counts."""
    assert is_loopback == read_settings({"KEYTURN_HOST": host}).serves_docs
