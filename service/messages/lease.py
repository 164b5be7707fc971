"""The lease of deliveries: one replica at a time delivers what is in the outbox.

It is the only row of the table `deliverer`. The replica that holds it renews it before each round.
"""

import secrets
from contextlib import suppress
from datetime import datetime, timedelta

from service.clock import unix_seconds
from service.errors import StoreUnavailable
from service.storage.database import Database

LEASE = timedelta(seconds=10)
"""The time for which the delivering replica may be silent before another one takes over: longer than a round."""

MAX_PLAUSIBLE_LEASE = timedelta(minutes=10)
"""A lease that ends later than this from now is ignored: the clock of the replica that wrote it was wrong."""


class Lease:
    """The lease, as one process sees it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._name = secrets.token_hex(8)

    async def hold(self, now: datetime) -> bool:
        """Take or extend the lease; return whether this process delivers."""
        row = await self._database.write_one(
            "UPDATE deliverer SET holder = $1, holds_until = $2"
            " WHERE id = 1 AND (holder = $1 OR holds_until <= $3 OR holds_until > $4) RETURNING id",
            self._name, unix_seconds(now + LEASE), unix_seconds(now), unix_seconds(now + MAX_PLAUSIBLE_LEASE),
        )  # fmt: skip
        return row is not None

    async def release(self) -> None:
        """Give up the lease, so that another replica can deliver at once."""
        with suppress(StoreUnavailable):
            await self._database.write_one(
                "UPDATE deliverer SET holds_until = 0 WHERE id = 1 AND holder = $1 RETURNING id", self._name
            )
