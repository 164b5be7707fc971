"""Moving every secret at rest to the first master secret, so that the ones listed after it can go.

Law 10: secrets at rest are sealed and bound to their row.
"""

from dataclasses import dataclass

from service import factors, keys, recovery_codes
from service.database import Database
from service.sealing import SealBroken, Sealed, Sealer

PLACES = (factors.SEALED, recovery_codes.SEALED, keys.SEALED)
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Resealed:
    """What became of one column: values sealed anew, and values that no listed master secret opens."""

    table: str
    changed: int
    broken: int


async def reseal(database: Database, sealer: Sealer, place: Sealed) -> Resealed:
    """Seal the values of one column with the first master secret. May run beside a serving service, and twice."""
    after, changed, broken = "", 0, 0
    while rows := await database.fetch_all(
        f"SELECT {place.row} AS id, {place.column} AS sealed FROM {place.table}"
        f" WHERE {place.row} > $1 AND {place.column} IS NOT NULL ORDER BY {place.row} LIMIT {_PAGE}",
        after,
    ):
        after = rows[-1]["id"]
        for row in rows:
            sealed = bytes(row["sealed"])
            try:
                value = place.open(sealer, sealed, row=row["id"])
            except SealBroken:
                broken += 1
                continue
            if sealer.is_current(sealed):
                continue
            # Only what was read is replaced: a person may be enrolling anew at this moment.
            replaced = await database.write_one(
                f"UPDATE {place.table} SET {place.column} = $1"
                f" WHERE {place.row} = $2 AND {place.column} = $3 RETURNING 1 AS done",
                place.seal(sealer, value, row=row["id"]), row["id"], sealed,
            )  # fmt: skip
            changed += replaced is not None
    return Resealed(place.table, changed, broken)
