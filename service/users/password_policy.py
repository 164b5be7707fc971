"""Which passwords a user may choose (NIST SP 800-63B-4 section 3.1.1.2)."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from service.errors import WeakPassword
from service.users.breached.check import BreachedPasswords
from service.users.mfa_policy import MfaPolicy
from service.users.users import User


@dataclass(frozen=True)
class PasswordPolicy:
    """Decides which passwords may be chosen. Every operation that sets a password calls it."""

    mfa: MfaPolicy
    with_second_factor: int
    """Characters that a password needs beside a second factor: one that the user has, has begun to enrol, or must
    enrol at the next login."""
    alone: int
    """Characters that a password needs otherwise: never fewer than `with_second_factor`, which the settings check."""
    breached: BreachedPasswords | None = None
    """The list of leaked passwords, if there is one."""

    async def check_breached(self, password: str) -> None:
        """Raise `BreachedPassword` if the list of leaked passwords has it.

        This may take a second and ask another service: call it after `check` and after the limits have been charged,
        outside any transaction, and before a statement that finds out whether a username exists.
        """
        if self.breached is not None:
            await self.breached.check(password)

    async def close(self) -> None:
        if self.breached is not None:
            await self.breached.close()

    async def check_for(self, user: User, password: str) -> None:
        """Raise `WeakPassword` unless the user may choose this password, given their second factor and roles now.

        A user whose password has fewer characters than `alone` may turn their second factor off: nothing keeps users
        from that. The next change of the password then needs `alone`.
        """
        await self.check(password, username=user.username, has_second_factor=user.mfa != "off", roles=user.roles)

    async def check(
        self, password: str, *, username: str, has_second_factor: bool, roles: Sequence[str] = ()
    ) -> None:
        """Raise `WeakPassword` unless a user with this username, second factor and roles may choose the password.

        Characters are Unicode code points of the normal form. The whole password is compared with the list of common
        passwords. No kind of character, such as digits, is required.
        """
        needed = self.with_second_factor if has_second_factor or self.mfa.applies_to(roles) else self.alone
        too_short = f"The password needs at least {needed} characters."
        if len(password) < self.with_second_factor:
            raise WeakPassword(too_short)
        if password.casefold() == username.casefold():
            raise WeakPassword("The password must not be the username.")
        if await asyncio.to_thread(_is_common, password):
            raise WeakPassword("This is a commonly used password.")
        if len(password) < needed:  # last, so that the advice is given only if nothing else is wrong
            raise WeakPassword(f"{too_short} With a second factor, {self.with_second_factor} are enough.")


_common: frozenset[str] = frozenset()
_common_once = threading.Lock()


def _is_common(password: str) -> bool:
    """Return whether the password is on the list of zxcvbn, a package that rates passwords.

    Of the 30,000 on the list only those of 8 characters or more are compared: shorter passwords are refused before.
    The first call reads the list, off the event loop.
    """
    global _common  # noqa: PLW0603 -- constant after the first call; reading the list at import would take 50 ms
    with _common_once:
        if not _common:
            from zxcvbn.frequency_lists import FREQUENCY_LISTS

            _common = frozenset(word for word in FREQUENCY_LISTS["passwords"] if len(word) >= 8)
    return password.casefold() in _common
