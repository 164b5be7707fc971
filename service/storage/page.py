"""Pages of long lists, and the opaque cursors between them.

A cursor holds the sort key of the last row that was read, never an offset: rows that are added or removed meanwhile
make no other row appear twice or get lost. It is sealed, because it travels in URLs and the key may be a username. It
is bound to its list and filters: a cursor of another list or with other filters is refused, and so is a forged one.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.errors import InvalidRequest
from service.storage.sealing import Sealer, UnsealError

Item = TypeVar("Item")

_PURPOSE = "cursor"


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some items of a list, in its order."""

    items: tuple[Item, ...]
    """They may be fewer than were asked for, or none, although more pages follow: see `next_cursor`."""
    next_cursor: str | None
    """Where the next page begins; `None` after the last page."""


class Cursors:
    """Writes and reads the cursors of one list."""

    def __init__(self, sealer: Sealer, name: str) -> None:
        self._sealer = sealer
        self._name = name

    def write(self, key: str, *, filters: str) -> str:
        """Return the cursor after the row with this sort key."""
        sealed = self._sealer.seal(key.encode(), purpose=_PURPOSE, table=self._name, row=filters)
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def read(self, cursor: str, *, filters: str) -> str:
        """Return the sort key of a cursor of this list with the same filters, or raise `InvalidRequest`."""
        try:
            sealed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            return self._sealer.open(sealed, purpose=_PURPOSE, table=self._name, row=filters).decode()
        except (binascii.Error, ValueError, UnsealError):
            raise InvalidRequest(
                (("cursor", "This is no cursor of this list with these filters. Begin again without a cursor"),)
            ) from None
