"""Where a request comes from. Law 14: the address is the peer's; `web/caller` finds it."""

import ipaddress
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Caller:
    """The client at the other end of the connection, as the network shows it."""

    address: str
    user_agent: str = ""
    """At most 256 printable characters of the `User-Agent` header."""

    @cached_property
    def network(self) -> str:
        """The network that rate limits count for, or `unknown` if the address is no IP address.

        It is the IPv4 address itself, or the /64 that one IPv6 household or server has.
        """
        ip = parse_address(self.address)
        if ip is None:
            return "unknown"
        if isinstance(ip, ipaddress.IPv4Address):
            return str(ip)
        return str(ipaddress.IPv6Network((ip, 64), strict=False).network_address) + "/64"


def parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address without its zone, an IPv4-mapped one as IPv4; `None` if the text is no address."""
    try:
        ip = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip
