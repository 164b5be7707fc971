"""Seal every secret at rest again with the first master secret of the list.

The other master secrets must stay listed a while longer, because refresh tokens, pending tokens, device tokens and
the tokens of links that were issued under them need them: docs/guides/rotate-secrets.md, step 4 of "The master
secret", says how long.

Law 10: secrets at rest are sealed and bound to their row.
"""

from dataclasses import dataclass

from service.factors import second_factor
from service.storage.database import Database
from service.storage.sealing import SealedColumn, Sealer, UnsealError
from service.tokens import keys

SEALED_COLUMNS = (*second_factor.SEALED_COLUMNS, keys.SEALED_COLUMN)
_PAGE = 500


@dataclass(frozen=True, slots=True)
class ResealResult:
    """The result for one column: values sealed again, and values that no listed master secret opens."""

    table: str
    changed: int
    broken: int


async def reseal(database: Database, sealer: Sealer, sealed_column: SealedColumn) -> ResealResult:
    """Seal the values of one column with the first master secret. It may be repeated, also while the service runs."""
    after, changed, broken = "", 0, 0
    while rows := await database.fetch_all(
        f"SELECT {sealed_column.row} AS id, {sealed_column.column} AS sealed FROM {sealed_column.table}"
        f" WHERE {sealed_column.row} > $1 AND {sealed_column.column} IS NOT NULL"
        f" ORDER BY {sealed_column.row} LIMIT {_PAGE}",
        after,
    ):
        after = rows[-1]["id"]
        for row in rows:
            sealed = bytes(row["sealed"])
            try:
                value = sealed_column.open(sealer, sealed, row=row["id"])
            except UnsealError:
                broken += 1
                continue
            if sealer.is_current(sealed):
                continue
            # Replace only the value that was read: the user may have started a new enrolment since.
            replaced = await database.write_one(
                f"UPDATE {sealed_column.table} SET {sealed_column.column} = $1"
                f" WHERE {sealed_column.row} = $2 AND {sealed_column.column} = $3 RETURNING 1 AS done",
                sealed_column.seal(sealer, value, row=row["id"]), row["id"], sealed,
            )  # fmt: skip
            changed += replaced is not None
    return ResealResult(sealed_column.table, changed, broken)
