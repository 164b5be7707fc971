"""The target: the proof that the operator controls it, and the requests to it.

- Control is proved first: every address of the host is loopback, or the service publishes the hash of the attack
  proof that the operator has (`KEYTURN_ATTACK_PROOF`).
- The host is resolved once, and all connections go to the first of its addresses that answers. Redirects are not
  followed, and proxies are not used.
- Every request is charged to the budget before it is sent; a raw connection (`lines`) counts as one request.
  `slow` charges the further ones that it sends on such a connection.
"""

import asyncio
import hmac
import ipaddress
import json
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from hashlib import sha256
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2

from service.attack.report import NotTried
from service.clock import system_clock
from service.errors import ConfigurationError

METADATA = "/.well-known/oauth-authorization-server"
JWKS = "/.well-known/jwks.json"
MIN_PROOF_LENGTH = 32
OTHER_LOOPBACK = "127.0.0.2"
"""Source address for attacks on a service on this machine, which may rightly trust a proxy at 127.0.0.1."""
ANSWER_TIMEOUT_SECONDS = 15.0
"""Seconds that a request may take, with its connection and its answer; less if the budget has less left, but at least
one. On a raw connection (`lines`) connecting, sending and receiving may take so long each, unless an attack gives
another time."""
MAX_ANSWER_BYTES = 1 << 20
"""Bytes of an answer that are read. The longest answer, the OpenAPI document, has about a third of that."""


async def _read(answer: httpx2.Response) -> bytes:
    """Read the body. Raises `TimeoutError` if it is longer than `MAX_ANSWER_BYTES`."""
    received = bytearray()
    async for piece in answer.aiter_bytes():
        received += piece
        if len(received) > MAX_ANSWER_BYTES:
            raise TimeoutError
    return bytes(received)


class Budget:
    """The time and the number of requests that a run may use."""

    def __init__(self, *, seconds: float, requests: int) -> None:
        self.seconds, self.requests = seconds, requests
        self.spent = 0
        self._started = time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._started

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return max(0.0, self.seconds - self.elapsed)

    def spend(self, requests: int = 1) -> None:
        """Charge requests. Raises `NotTried` if fewer are left."""
        if self.spent + requests > self.requests:
            raise NotTried(f"the budget of {self.requests:,} requests is used up (--budget-requests)")
        self.spent += requests

    def give_more(self, *, seconds: float, requests: int) -> None:
        """Extend the budget for the clean-up."""
        self.seconds = max(self.seconds, self.elapsed + seconds)
        self.requests = max(self.requests, self.spent + requests)


@dataclass(frozen=True)
class Answer:
    """An answer; status 0 if there was none."""

    status: int
    headers: Mapping[str, str]
    """The headers by their names in lower case."""
    body: bytes = b""
    seconds: float = 0.0

    @property
    def is_yes(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_failure(self) -> bool:
        """Whether it shows a defect, a crash or a hang. A 503 with Retry-After only says that the service is busy."""
        return self.status == 0 or (self.status >= 500 and not (self.status == 503 and "retry-after" in self.headers))

    @cached_property
    def members(self) -> dict[str, Any]:
        """The members of the JSON object in the body; empty if the body is not one."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def code(self) -> str:
        """The code of a refusal."""
        return str(self.members.get("code") or self.members.get("error") or "")

    def __str__(self) -> str:
        if self.status == 0:
            return "no answer"
        return f"{self.status} {self.code}".rstrip()


NOTHING = Answer(0, {})


class Target:
    """The service under attack, at one address."""

    def __init__(self, url: str, address: str, *, control: str, budget: Budget) -> None:
        parts = urlsplit(url)
        self.url = url.rstrip("/")
        self.host = parts.hostname or ""
        self.address = address
        self.control = control
        self.source = _other_source_address(address)
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.netloc = parts.netloc
        self.path = parts.path.rstrip("/")
        self.budget = budget
        self.tls = httpx2.create_ssl_context() if parts.scheme == "https" else None
        self._offset = timedelta(0)
        place = f"[{address}]" if ":" in address else address
        self._client = httpx2.AsyncClient(
            base_url=f"{parts.scheme}://{place}:{self.port}",
            transport=httpx2.AsyncHTTPTransport(
                verify=self.tls or True, trust_env=False, local_address=self.source, limits=httpx2.Limits()
            ),
            trust_env=False,
            follow_redirects=False,
            timeout=ANSWER_TIMEOUT_SECONDS,
            headers={"Host": self.netloc, "User-Agent": "keyturn-attack"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    def now(self) -> datetime:
        """Return the time of the service, estimated from its answers."""
        return system_clock() + self._offset

    async def send(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
        bearer: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        """Send one request. Returns `NOTHING` if no answer came in time, or a longer one than `MAX_ANSWER_BYTES`.

        Raises `NotTried` if no request is left.
        """
        self.budget.spend()
        lines = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]
        if body is not None:
            content = json.dumps(body).encode()
            lines.append((b"Content-Type", b"application/json"))
        if bearer is not None:
            lines.append((b"Authorization", b"Bearer " + bearer.encode("utf-8", "surrogatepass")))
        started = time.perf_counter()
        try:
            async with (
                asyncio.timeout(min(ANSWER_TIMEOUT_SECONDS, max(1.0, self.budget.left))),
                self._client.stream(
                    method,
                    self.path + path,
                    data=form,
                    content=content,
                    headers=lines,
                    extensions={"sni_hostname": self.host},
                ) as answer,
            ):
                received = await _read(answer)
        except httpx2.LocalProtocolError:
            raise  # a mistake of the attack: such a request needs a raw connection
        except (httpx2.TransportError, httpx2.DecodingError, TimeoutError):
            return NOTHING
        self._read_clock(answer.headers.get("date", ""))
        known = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status_code, known, received, time.perf_counter() - started)

    async def post(self, path: str, body: Mapping[str, object], *, bearer: str | None = None) -> Answer:
        return await self.send("POST", path, body=body, bearer=bearer)

    async def is_alive(self) -> bool:
        """Return whether the service answers the request for its key set with 200."""
        return (await self.send("GET", JWKS)).status == 200

    def _read_clock(self, date: str) -> None:
        """Estimate by how much the service's clock differs from ours: codes are computed for its time.

        `Date` has whole seconds, and an answer takes time. So an offset of up to 3 s counts as none.
        """
        try:
            said = parsedate_to_datetime(date).astimezone(UTC)
        except ValueError:
            return
        offset = said - system_clock()
        self._offset = offset if abs(offset) > timedelta(seconds=3) else timedelta(0)


def _other_source_address(address: str) -> str | None:
    """Return a second loopback address to connect from.

    `None` if the system has none, or if the target is not in 127.0.0.0/8.
    """
    if not address.startswith("127."):
        return None
    with socket.socket() as probe:
        try:
            probe.bind((OTHER_LOOPBACK, 0))
        except OSError:
            return None
    return OTHER_LOOPBACK


async def open_target(url: str, *, proof: str | None, budget: Budget) -> Target:
    """Return the target at `url`, at the first of its addresses that answers.

    Raises `ConfigurationError` if the URL or the proof is malformed, if nothing answers, or if control is not proved.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise ConfigurationError(f"The URL is not valid: {error}.") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or "@" in url:
        raise ConfigurationError("The URL must be http(s)://host[:port][/path], without user, query or fragment.")
    if proof is not None and len(proof) < MIN_PROOF_LENGTH:
        raise ConfigurationError(
            f"The proof must have {MIN_PROOF_LENGTH} characters or more, like that of the service."
        )
    try:
        found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        raise ConfigurationError(f"The host {parts.hostname} does not exist.") from None
    addresses = list(dict.fromkeys(str(place[0]) for *_, place in found))
    is_loopback = all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses)
    if not is_loopback and proof is None:
        raise ConfigurationError(
            f"{parts.hostname} is not a loopback address. To attack your own service there, set its "
            "KEYTURN_ATTACK_PROOF to the output of `openssl rand -hex 32` and pass the same value here: --proof "
            "FILE, or this variable."
        )
    control = "loopback" if is_loopback else "by proof"
    for address in addresses:
        target = Target(url, address, control=control, budget=budget)
        try:
            said = await target.send("GET", METADATA, headers=[("Cache-Control", "no-cache")])
        except NotTried as reason:  # an address before this one used the budget up
            await target.__aexit__()
            raise ConfigurationError(f"Nothing answers at {url}: {reason}.") from None
        if said.status == 0:
            await target.__aexit__()
            continue
        if not is_loopback:
            published = said.members.get("keyturn_attack_proof")
            expected = sha256((proof or "").encode()).hexdigest()
            if not isinstance(published, str) or not hmac.compare_digest(published.encode(), expected.encode()):
                await target.__aexit__()
                raise ConfigurationError(
                    f"{url}{METADATA} does not have the hash of this proof: control is not proved."
                )
        return target
    raise ConfigurationError(f"Nothing answers at {url}.")
