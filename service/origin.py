"""Where a request comes from, and the actor of an operation.

Law 14: the address is the peer's; `web/caller` finds it.
"""

import ipaddress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal, Self


@dataclass(frozen=True)
class Caller:
    """The program that sends a request, as the network shows it."""

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


@dataclass(frozen=True, slots=True)
class Actor:
    """The actor of an operation: a user, a registered client, or the operator, by a command.

    An actor is anonymous where nothing proves an identity, as at a sign-up.
    """

    kind: Literal["user", "client", "operator", "anonymous"]
    id: str = ""
    """The `sub` of the user or the id of the client."""

    @classmethod
    def user(cls, sub: str) -> Self:
        return cls("user", sub)

    @classmethod
    def client(cls, client_id: str) -> Self:
        return cls("client", client_id)

    def by(self, user_id: str | None) -> str | None:
        """Return the detail `by` of an event about this user; `None` for the user's own act and an anonymous one."""
        match self:
            case Actor("operator"):
                return "operator"
            case Actor("client") | Actor("user") if self != Actor("user", user_id or ""):
                return f"{self.kind}:{self.id}"
            case _:
                return None


OPERATOR = Actor("operator")
ANONYMOUS = Actor("anonymous")


@dataclass(frozen=True, slots=True)
class Act:
    """One operation as it is carried out: the actor, the time and the caller, which is `None` without a request."""

    actor: Actor
    at: datetime
    caller: Caller | None = None

    @classmethod
    def of_user(cls, sub: str, at: datetime, caller: Caller | None = None) -> Self:
        """The act of a user on their own account."""
        return cls(Actor.user(sub), at, caller)

    @property
    def address(self) -> str | None:
        return None if self.caller is None else self.caller.address


def parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address without its zone, an IPv4-mapped one as IPv4; `None` if the text is no address."""
    try:
        ip = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip
