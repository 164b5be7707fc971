"""Which passwords a user may choose (NIST SP 800-63B-4 section 3.1.1.2)."""

import asyncio
import threading

from service.errors import WeakPassword


async def check_policy(password: str, *, username: str, min_length: int) -> None:
    """Raise `WeakPassword` unless the password may be chosen by `username`."""
    if len(password) < min_length:
        raise WeakPassword(f"The password needs at least {min_length} characters.")
    if password.casefold() == username.casefold():
        raise WeakPassword("The password must not be the username.")
    if await asyncio.to_thread(_is_common, password):
        raise WeakPassword("This is a commonly used password.")


_common: frozenset[str] = frozenset()
_common_once = threading.Lock()


def _is_common(password: str) -> bool:
    """Return whether the password is on the list of 30,000 in zxcvbn, a package that rates passwords.

    The first call reads the list, off the event loop.
    """
    global _common  # noqa: PLW0603 -- constant after the first call; reading the list at import would take 50 ms
    with _common_once:
        if not _common:
            from zxcvbn.frequency_lists import FREQUENCY_LISTS

            _common = frozenset(word for word in FREQUENCY_LISTS["passwords"] if len(word) >= 8)
    return password.casefold() in _common
