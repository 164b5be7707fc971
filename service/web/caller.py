"""The caller: the address behind a connection, and the bearer of a token (RFC 6750).

Law 14: the address is the peer's.
"""

import re
from collections.abc import Iterator

from fastapi import Request

from service.errors import InvalidToken, MissingToken
from service.origin import Caller, parse_address
from service.values import Network, read_network

MAX_ELEMENT_LENGTH = 512
"""Characters of one element of `Forwarded`: a longer one is malformed. The limit keeps the search linear."""

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
# Some proxies omit the quotes that RFC 7239 section 4 requires for an address with a port: [ ] and : are accepted.
_VALUE = rf"(?:[\[\]:!#$%&'*+.^_`|~0-9A-Za-z-]+|{_QUOTED})"
_ELEMENT = re.compile(rf"{_NAME}={_VALUE}(?:[ \t]*;[ \t]*{_NAME}={_VALUE})*")
_PAIR = re.compile(rf"({_NAME})=({_VALUE})")
_PORT = re.compile(r":(?:[0-9]{1,5}|_[A-Za-z0-9._-]+)$")  # a number, or an obfuscated one (RFC 7239 section 6)


class Callers:
    """Finds the caller of a request. Forwarded addresses count only from proxies that the operator names.

    `header` is the one header that is read: `x-forwarded-for`, or `forwarded` (RFC 7239).
    """

    def __init__(self, trusted_proxies: tuple[str, ...], header: str = "x-forwarded-for") -> None:
        self._trusted: tuple[Network, ...] = tuple(map(read_network, trusted_proxies))
        self._header = header
        self._hops = _forwarded_hops if header == "forwarded" else _x_forwarded_for_hops

    def of(self, request: Request) -> Caller:
        address = request.client.host if request.client else "unknown"
        if self._trusted and self._is_trusted(address):
            # Each proxy appends the address of its peer. The caller's is the last that is not a trusted proxy's.
            for hop in self._hops(",".join(request.headers.getlist(self._header))):
                candidate = None if hop is None else parse_address(hop)
                if candidate is None:
                    break  # the client may have forged everything before a malformed entry
                address = str(candidate)
                if not self._is_trusted(address):
                    break
        user_agent = request.headers.get("user-agent", "")[:256]
        return Caller(address, "".join(filter(str.isprintable, user_agent)))

    def _is_trusted(self, address: str) -> bool:
        ip = parse_address(address)
        return ip is not None and any(ip in network for network in self._trusted)


def _x_forwarded_for_hops(value: str) -> Iterator[str | None]:
    """Yield the addresses of `X-Forwarded-For` from the last to the first, without ports, brackets and quotes."""
    for entry in reversed(value.split(",")):
        hop = entry.strip()
        if len(hop) > 1 and hop[0] == hop[-1] == '"':
            hop = hop[1:-1]
        yield _without_port(hop)


def _forwarded_hops(value: str) -> Iterator[str | None]:
    """Yield the `for` nodes of `Forwarded` (RFC 7239 section 4) from the last to the first.

    A malformed element is `None`, and ends the search. The elements are parsed from the end, where the trusted
    proxies appended theirs. So a client that opens a quoted string in its own part cannot hide what a proxy appended.
    """
    end = len(value)
    while end >= 0:
        comma = end
        while True:
            comma = value.rfind(",", max(0, end - MAX_ELEMENT_LENGTH), comma)
            element = value[comma + 1 : end].strip(" \t")
            if comma < 0 or _ELEMENT.fullmatch(element):
                break
        is_whole = len(element) <= MAX_ELEMENT_LENGTH and _ELEMENT.fullmatch(element) is not None
        pairs = _PAIR.findall(element) if is_whole else []
        nodes = [node for name, node in pairs if name.lower() == "for"]
        if len(nodes) != 1:  # each parameter occurs once at most
            yield None
            return
        node = re.sub(r"\\(.)", r"\1", nodes[0][1:-1]) if nodes[0].startswith('"') else nodes[0]
        yield _without_port(node)
        end = comma


def _without_port(node: str) -> str:
    """Return the address of `address`, `address:port`, `[address]` or `[address]:port`; any other text unchanged."""
    if node.startswith("["):
        inner, bracket, port = node[1:].partition("]")
        is_whole = bracket and ":" in inner and (not port or _PORT.fullmatch(port))
        return inner if is_whole else node
    return _PORT.sub("", node) if node.count(":") == 1 else node


def bearer(request: Request) -> str | None:
    """Return the token if there is exactly one Authorization header and it is `Bearer <token>`, otherwise `None`."""
    given = request.headers.getlist("authorization")
    if len(given) != 1:
        return None
    scheme, _, token = given[0].partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def require_bearer(request: Request) -> str:
    """Return the bearer token. Raises `MissingToken` without the header, `InvalidToken` if it has another form."""
    token = bearer(request)
    if token is None:
        raise InvalidToken if "authorization" in request.headers else MissingToken
    return token
