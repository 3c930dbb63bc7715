"""The nearest vectors in PostgreSQL.

HNSW does not lead to each and every point: not to what lies behind many equal ones, and it gives
up where few of those that it comes to may be seen. So the index is asked only where much is in
scope; little is compared one by one, and so is all where the index found less than was wanted.
"""

from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from servers.domain.embeddings import Vector
from servers.kernel.postgres import Connection
from servers.kernel.vectors import pgvector_rows as rows

EXACT: Final = 2_000  # points in scope that are compared one by one
_INDEXABLE: Final = 2_000  # numbers of a vector that HNSW takes
# Relaxed, as the strict order drops what comes late, however near it is. A scan that gives up
# costs no answer, so that what it may take is bounded: 32 times work_mem is 128 MB.
_SCANNING: Final = (
    "SET LOCAL hnsw.ef_search = {ef}; SET LOCAL hnsw.iterative_scan = relaxed_order; "
    "SET LOCAL hnsw.max_scan_tuples = 100000; SET LOCAL hnsw.scan_mem_multiplier = 32"
)


def can_be_indexed(dimension: int) -> bool:
    return dimension <= _INDEXABLE


@dataclass(frozen=True, slots=True)
class Nearest:
    """A search."""

    records: str  # tables
    points: str
    type: str  # the schema of the extension
    column: str  # what is told of the vector
    condition: str  # on the records `r`
    values: list[Any]  # of the condition
    vector: Vector
    limit: int

    async def found(
        self, connection: Connection, exact: int, indexed: bool
    ) -> list[asyncpg.Record]:
        """Each row is a similarity, the vector and `pgvector_rows.POINT`."""
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            if indexed and await self._in_scope(connection, exact + 1) > exact:
                found = await self._by_index(connection)
                if len(found) == self.limit:
                    return found
            return await self._one_by_one(connection)

    async def _in_scope(self, connection: Connection, most: int) -> int:
        """How many points, of the first `most` records."""
        few = (
            f"SELECT r.points FROM {self.records} r WHERE {self.condition} "
            f"LIMIT ${len(self.values) + 1}"
        )
        count = f"SELECT coalesce(sum(points), 0) FROM ({few}) few"
        return int(await connection.fetchval(count, *self.values, most))

    async def _by_index(self, connection: Connection) -> list[asyncpg.Record]:
        await connection.execute(_SCANNING.format(ef=min(1000, max(100, self.limit))))
        near = (
            f"SELECT p.number, {self._distance()} AS distance FROM {self.points} p "
            f"JOIN {self.records} r ON r.number = p.record "
            f"WHERE p.tenant = $1 AND {self.condition} ORDER BY {self._distance()} "
            f"LIMIT ${len(self.values) + 2}"
        )
        return await self._fetch(connection, f"best AS MATERIALIZED ({near})")

    async def _one_by_one(self, connection: Connection) -> list[asyncpg.Record]:
        # Materialized before it is ordered: no index has that order.
        every = (
            f"SELECT p.number, {self._distance()} AS distance FROM {self.records} r "
            f"JOIN {self.points} p ON p.record = r.number WHERE {self.condition}"
        )
        best = f"SELECT * FROM every ORDER BY distance, number LIMIT ${len(self.values) + 2}"
        return await self._fetch(connection, f"every AS MATERIALIZED ({every}), best AS ({best})")

    def _distance(self) -> str:
        asked = f"${len(self.values) + 1}::{self.type}.vector"
        return f"p.vector OPERATOR({self.type}.<=>) {asked}"

    async def _fetch(self, connection: Connection, best: str) -> list[asyncpg.Record]:
        # `+ 0`: since version 17 PostgreSQL believes that the index has put them in order.
        return await connection.fetch(
            f"WITH {best} SELECT 1 - best.distance, {self.column}, {rows.POINT} FROM best "
            f"JOIN {self.points} p ON p.number = best.number "
            f"JOIN {self.records} r ON r.number = p.record "
            "ORDER BY best.distance + 0, r.id, p.position",
            *(*self.values, rows.vector(self.vector), self.limit),
        )
