"""Values of the administration: what to change on an account, and the result of a change of roles."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from service.static_claims import Value


class Unchanged(Enum):
    """Stands for a field that a change leaves as it is, where `None` has a meaning of its own."""

    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Changes:
    """What to change on an account, in one transaction. Nothing else changes."""

    roles: tuple[str, ...] | None = None
    """All roles that the account has from now on; `None`: they stay."""
    disabled: bool | None = None
    email: str | Unchanged | None = Unchanged.UNCHANGED
    """A new address, which the user confirms by the link that is sent there; `None` removes the address."""
    claims: Mapping[str, Value] | None = None
    """All static claims that the account has from now on; `None`: they stay."""
    locale: str | Unchanged | None = Unchanged.UNCHANGED
    """The language of messages to the user; `None`: that of the service."""


@dataclass(frozen=True, slots=True)
class RoleChange:
    """The roles that a user has now, and how many sessions ended because the policy requires a second factor.

    `ended` is `None` if the policy does not apply to the user.
    """

    roles: tuple[str, ...]
    ended: int | None
