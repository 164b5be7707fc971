"""The names of roles."""

import re

MAX_ROLES = 16
EVERYONE = "everyone"
"""Stands for all users in place of roles, and so cannot name a role."""

_ROLE = re.compile(r"[a-z0-9._:-]{1,64}")


def check_roles(roles: tuple[str, ...]) -> tuple[str, ...]:
    """Return the roles.

    Raises `ValueError` if a role is not 1 to 64 of `a-z 0-9 . _ : -`, if one is `EVERYONE`, and for more than
    `MAX_ROLES` roles.

    There is a maximum because every access token has all roles of its user.
    """
    if any(_ROLE.fullmatch(role) is None for role in roles):
        raise ValueError("A role needs 1 to 64 characters of a-z, 0-9 and . _ : -")
    if EVERYONE in roles:
        raise ValueError(f"A role cannot be named {EVERYONE}: that name stands for all users")
    if len(roles) > MAX_ROLES:
        raise ValueError(f"A user has {MAX_ROLES} roles at most")
    return roles
