"""Ends of runs that webhooks are to be told of, in the PostgreSQL of the runs."""

from collections.abc import Sequence
from math import isinf
from typing import Final

from servers.agents.adapters.postgres.statements import NOW
from servers.agents.adapters.run_codec import run_from
from servers.domain.runs import Run
from servers.kernel.postgres import Postgres

_DUE: Final = f"""
WITH due AS MATERIALIZED (
    SELECT run_id FROM astromesh_run WHERE webhook_at <= {NOW}
    ORDER BY webhook_at, run_id LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE astromesh_run AS run SET webhook_at = {NOW} + $2, webhook_tries = run.webhook_tries + 1
FROM due WHERE run.run_id = due.run_id RETURNING run.body, run.webhook_tries - 1 AS tries
"""


class PostgresOutbox:
    """Satisfies `Outbox`. The tables are there."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def undelivered(self, limit: int, lease: float) -> Sequence[tuple[Run, int]]:
        found = await self._postgres.fetch(_DUE, limit, lease)
        return [(run_from(row["body"]), row["tries"]) for row in found]

    async def delivered(self, run_id: str) -> None:
        await self._due(run_id, "NULL")

    async def try_again(self, run_id: str, after: float) -> None:
        if isinf(after):
            await self._due(run_id, "NULL")
        else:
            await self._due(run_id, f"{NOW} + $2", after)

    async def _due(self, run_id: str, at: str, *values: float) -> None:
        sql = (
            f"UPDATE astromesh_run SET webhook_at = {at} "
            "WHERE run_id = $1 AND webhook_at IS NOT NULL"
        )
        await self._postgres.fetch(sql, run_id, *values)
