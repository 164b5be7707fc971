"""The policy on second factors (`KEYTURN_REQUIRE_MFA`): which users need one, and which sessions satisfy it.

A session satisfies the policy if one of these is true:

- the policy does not name its user, by the roles that the user has now;
- its user proved a second factor at the login or at a step-up (`acr` is `aal2`);
- a known device stood in for the second factor, and the operator accepts that (`KEYTURN_REMEMBER_DEVICE_DAYS`).

A session of the third kind has `acr` `aal1`, as has a session that the password alone opened. The user's second
factor distinguishes them: a password alone opens a session only for a user without a second factor, and confirming
the first one ends every earlier session. So an `aal1` session of a user with a confirmed second factor was opened on
a known device.

A session that does not satisfy the policy counts as ended everywhere: the condition is part of the statements that
refresh and find sessions, so that no request can come between the check and what it allows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from service.roles import EVERYONE, check_roles
from service.users import mfa
from service.users.user_roles import role_pattern


@dataclass(frozen=True)
class MfaPolicy:
    """The users who must have a second factor: none, all (`EVERYONE` alone), or those with one of the roles."""

    required_of: tuple[str, ...] = ()
    accepts_known_devices: bool = False
    """Whether a known device may stand in for the second factor."""

    def __post_init__(self) -> None:
        if self.required_of != (EVERYONE,):
            check_roles(self.required_of)  # the roles become part of SQL

    @property
    def is_on(self) -> bool:
        return bool(self.required_of)

    def applies_to(self, roles: Sequence[str]) -> bool:
        """Return whether a user with these roles must have a second factor."""
        return EVERYONE in self.required_of or any(role in self.required_of for role in roles)

    def refuses(self, acr: str, roles: Sequence[str]) -> bool:
        """Return whether an access token with these claims cannot belong to a session that satisfies the policy.

        Always `False` if known devices are accepted, because their tokens have `aal1` too.
        """
        return not self.accepts_known_devices and acr != "aal2" and self.applies_to(roles)

    @cached_property
    def condition(self) -> str:
        """SQL: whether the row of `sessions` satisfies the policy, given what is stored about its user now."""
        if not self.is_on:
            return "(1 = 1)"
        ways = ["sessions.acr = 'aal2'"]
        if self.required_of != (EVERYONE,):
            named = " OR ".join(
                f"' ' || users.roles || ' ' LIKE '{role_pattern(role)}' ESCAPE '!'" for role in self.required_of
            )
            ways.append(f"NOT EXISTS (SELECT 1 FROM users WHERE users.id = sessions.user_id AND ({named}))")
        if self.accepts_known_devices:
            ways.append(mfa.is_confirmed_sql("sessions.user_id"))
        return f"({' OR '.join(ways)})"

    @cached_property
    def guard(self) -> str:
        """SQL to append to a WHERE; empty without a policy, so that it costs nothing."""
        return f" AND {self.condition}" if self.is_on else ""
