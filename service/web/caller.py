"""Who calls: the address behind a connection (law 14), and the bearer of a token (RFC 6750)."""

import ipaddress

from fastapi import Request

from service.errors import InvalidToken, MissingToken
from service.sessions import Caller

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Callers:
    """Finds the caller of a request. `X-Forwarded-For` counts only behind proxies that the operator names."""

    def __init__(self, trusted_proxies: tuple[str, ...]) -> None:
        self._trusted: tuple[Network, ...] = tuple(
            ipaddress.ip_network(proxy, strict=False) for proxy in trusted_proxies
        )

    def of(self, request: Request) -> Caller:
        address = request.client.host if request.client else "unknown"
        if self._trusted and self._is_trusted(address):
            # Each proxy appends whom it saw: the last address that is none of ours is the caller's.
            hops = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
            for hop in reversed(hops):
                candidate = _parse(hop.strip())
                if candidate is None:
                    break  # what stands before a broken entry is the client's own invention
                address = str(candidate)
                if not self._is_trusted(address):
                    break
        user_agent = request.headers.get("user-agent", "")[:256]
        return Caller(address, "".join(filter(str.isprintable, user_agent)))

    def _is_trusted(self, address: str) -> bool:
        ip = _parse(address)
        return ip is not None and any(ip in network for network in self._trusted)


def bearer(request: Request) -> str | None:
    """The token of the Authorization header, if there is exactly one of the form `Bearer <token>`."""
    given = request.headers.getlist("authorization")
    if len(given) != 1:
        return None
    scheme, _, token = given[0].partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def need_bearer(request: Request) -> str:
    """The bearer token; `MissingToken` if there is none, `InvalidToken` if it is not one of that form."""
    token = bearer(request)
    if token is None:
        raise InvalidToken if "authorization" in request.headers else MissingToken
    return token


def _parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip
