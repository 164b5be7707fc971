"""The lease of deliveries: for each transport one replica at a time delivers what is in the outbox.

It is the row of the transport in the table `deliverer`. The replica that holds it renews it before each round.
"""

import secrets
from contextlib import suppress
from datetime import datetime, timedelta

from service.clock import unix_seconds
from service.errors import StoreUnavailable
from service.storage.database import Database

MAX_PLAUSIBLE_LEASE = timedelta(minutes=10)
"""A lease that ends later than this from now is ignored: the clock of the replica that wrote it was wrong."""


class Lease:
    """The lease of one transport, as one process sees it."""

    def __init__(self, database: Database, transport: str, length: timedelta) -> None:
        """`length` is the time for which this process may be silent before another one takes over."""
        self._database = database
        self._transport = transport
        self._length = length
        self._name = secrets.token_hex(8)

    async def hold(self, now: datetime) -> bool:
        """Take or extend the lease; return whether this process delivers."""
        row = await self._database.write_one(
            "UPDATE deliverer SET holder = $1, holds_until = $2"
            " WHERE transport = $5 AND (holder = $1 OR holds_until <= $3 OR holds_until > $4) RETURNING id",
            self._name, unix_seconds(now + self._length), unix_seconds(now), unix_seconds(now + MAX_PLAUSIBLE_LEASE),
            self._transport,
        )  # fmt: skip
        return row is not None

    async def release(self) -> None:
        """Give up the lease, so that another replica can deliver at once."""
        with suppress(StoreUnavailable):
            await self._database.write_one(
                "UPDATE deliverer SET holds_until = 0 WHERE transport = $2 AND holder = $1 RETURNING id",
                self._name, self._transport,
            )  # fmt: skip
