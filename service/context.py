"""The context: the values from which every package builds its part.

The context holds what several packages use and none owns: the settings, the clock, both stores, the sealer of
secrets, the rate limits, and the waits that the service makes on purpose. `components` makes it.
"""

from dataclasses import dataclass

from service.clock import Clock
from service.settings import Settings
from service.storage.database import Database
from service.storage.ephemeral import Ephemeral
from service.storage.sealing import Sealer
from service.storage.throttle import Throttle
from service.waits import Waits


@dataclass(frozen=True)
class Context:
    """What every package may use when it builds its part."""

    settings: Settings
    clock: Clock
    sealer: Sealer
    database: Database
    ephemeral: Ephemeral
    throttle: Throttle
    waits: Waits
